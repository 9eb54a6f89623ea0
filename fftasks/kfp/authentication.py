"""Access to Kubeflow Pipelines: check the address in the settings, and get credentials for it.

A token in the settings takes precedence over kfp.auth, which selects one of these authentication methods:

    service-account   the token that Kubernetes mounts into a pod for KFP, from a file that it renews
    in-cluster        the same if the file exists; the host is KFP's service in the pod's own cluster
    kubeconfig        the token, certificate or credential plugin that kubectl uses, through the cluster's API
                      server
    iap               Google's Identity-Aware Proxy, as a service account or as a user
    google            the Google account of this machine, for hosts of Google only

kfp.Client works in the same way, and its code is used where it exists, except for the code that writes to
~/.config. Credentials are cached for five minutes in this process, because a command that follows a run sends
a request every few seconds. `kfp` is imported only for iap and google. Secrets never appear in a message or a
repr.
"""

from __future__ import annotations

import functools
import os
import re
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fftasks.errors import SettingsError
from fftasks.http.origin import GOOGLE_DOMAINS, is_google, is_loopback, parse_origin, parse_url

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings

_CACHE_S = 300.0  # how long credentials are cached
# copies of constants in kfp.client, because importing it takes half a second
TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the name of a variable
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
SERVICE = "http://ml-pipeline.{}.svc.cluster.local:8888"
# description of the credential in messages; it may only be sent to hosts of Google
GOOGLE_TOKEN = "the Google access token of kfp.auth: google"  # noqa: S105 - a description
_PROXY = "{}/api/v1/namespaces/{}/services/ml-pipeline:http/proxy"


@dataclass(frozen=True)
class KFPCredentials:
    """Credentials from one of the methods of kfp.auth.

    Attributes:
        token: Bearer token; "" for none.
        host: URL of Kubeflow Pipelines; "" for kfp.host.
        ca_cert: File with certificates to trust; "" for the system's certificates.
        verify_ssl: Whether the certificate of the host is verified.
        certificate: Files with the client certificate and its key; None for none.
    """

    token: str = field(default="", repr=False)
    host: str = ""
    ca_cert: str = ""
    verify_ssl: bool = True
    certificate: tuple[str, str] | None = field(default=None, repr=False)


_cache: dict[tuple[object, ...], tuple[float, KFPCredentials]] = {}


# Takes the URL of a host ("" for kfp.host) and the description of a credential, and raises SettingsError
# unless the credential may be sent to the host.
Check = Callable[[str, str], None]


def read_credentials(settings: KFPSettings, check: Check) -> KFPCredentials:
    """Return the credentials that kfp.auth names.

    Args:
        settings: kfp.auth must be set.
        check: Called with the host and a description of the credential before the credential is requested.

    Raises:
        SettingsError: There is no credential, or check() raises this error.
    """
    credential = f"the token of kfp.auth: {settings.auth}"
    if settings.auth == "service-account":
        check("", credential)
        return KFPCredentials(read_token(_find_token_file(settings), "kfp.auth: service-account"))
    if settings.auth == "in-cluster":
        host = SERVICE.format(settings.kube_namespace)
        path = _find_token_file(settings)
        if not Path(path).is_file():
            return KFPCredentials("", host)
        check(host, credential)
        return KFPCredentials(read_token(path, "kfp.auth: in-cluster"), host)
    if settings.auth == "kubeconfig":
        found = _get_cached(settings, functools.partial(_read_kubeconfig, check=check))
        if found.token:
            check(found.host, credential)
        return found
    check("", GOOGLE_TOKEN if settings.auth == "google" else credential)
    request = {"iap": _request_iap_token, "google": _request_google_token}[settings.auth]
    return _get_cached(settings, request)


def read_token(path: str, key: str) -> str:
    """Return the text in a token file, without white space around it.

    Args:
        path: Path of the file; "~" is the home folder.
        key: Setting to name in the error.

    Raises:
        SettingsError: The file cannot be read.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        tip = (
            "the token is read from this file; is the path correct, relative to the project folder?"
        )
        raise SettingsError(f"{key}: cannot read {path}", found=[reason], tip=tip) from error


def _get_cached(
    settings: KFPSettings, request: Callable[[KFPSettings], KFPCredentials]
) -> KFPCredentials:
    """Return the credentials for some settings; request them if they are not cached or too old."""
    key = (
        *(settings.auth, settings.kube_context, settings.kube_namespace, settings.iap_client_id),
        *(settings.iap_user_client_id, settings.iap_refresh_token, os.environ.get("KUBECONFIG")),
        os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"),
    )
    now = time.monotonic()
    if key not in _cache or now - _cache[key][0] > _CACHE_S:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # importing kfp causes warnings
            _cache[key] = (now, request(settings))
    return _cache[key][1]


def _find_token_file(settings: KFPSettings) -> str:
    return settings.token_file or os.environ.get(TOKEN_VARIABLE) or TOKEN_PATH


def _read_kubeconfig(settings: KFPSettings, check: Check) -> KFPCredentials:
    """Return the credentials and the cluster's API server from kubectl's configuration."""
    from kubernetes import client, config
    from kubernetes.config import kube_config

    found = client.Configuration()
    context = settings.kube_context or None
    try:
        merged = kube_config.KubeConfigMerger(kube_config.KUBE_CONFIG_DEFAULT_LOCATION).config
        loader = kube_config.KubeConfigLoader(merged, context, config_base_path=None)
        current = loader.current_context["context"]
        user = merged["users"].get_with_name(current.get("user"), safe=True)
        if user and user.value.get("user"):
            # check first, because loading the configuration may run a program that requests a token
            cluster = merged["clusters"].get_with_name(current["cluster"])["cluster"]
            check(cluster["server"], "the token of kfp.auth: kubeconfig")
        loader.load_and_set(found)
    except (config.ConfigException, OSError, ValueError) as error:
        raise SettingsError(
            "kfp.auth: kubeconfig: kubectl's configuration cannot be used",
            found=[str(error).splitlines()[0]],
            tip="does `kubectl get pods` work? kfp.kube_context and KUBECONFIG select the configuration",
        ) from error
    token = str(found.api_key.get("authorization", "")).removeprefix("Bearer ")
    return KFPCredentials(
        token=token,
        host=_PROXY.format(found.host.rstrip("/"), settings.kube_namespace),
        ca_cert=found.ssl_ca_cert or "",
        verify_ssl=bool(found.verify_ssl),
        certificate=(found.cert_file, found.key_file) if found.cert_file else None,
    )


def _request_iap_token(settings: KFPSettings) -> KFPCredentials:
    """Request a token for Google's Identity-Aware Proxy."""
    if not settings.iap_client_id:
        raise SettingsError("kfp.auth: iap: kfp.iap_client_id is not set")
    from kfp.client import auth

    client_id = settings.iap_client_id
    if settings.iap_refresh_token:
        user = (settings.iap_user_client_id, settings.iap_user_client_secret)

        def request() -> Any:
            return auth.id_token_from_refresh_token(*user, settings.iap_refresh_token, client_id)

    else:

        def request() -> Any:
            return auth.get_auth_token_from_sa(client_id)

    tip = (
        "for a service account, set GOOGLE_APPLICATION_CREDENTIALS to its file; for a user, set "
        "kfp.iap_user_client_id, kfp.iap_user_client_secret and kfp.iap_refresh_token"
    )
    return KFPCredentials(_request_token(request, "kfp.auth: iap: no token from Google", tip))


def _request_google_token(settings: KFPSettings) -> KFPCredentials:  # noqa: ARG001 - as for iap
    """Request a token for the Google account of this machine."""
    from kfp.client import auth

    tip = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    attempted = "kfp.auth: google: no token from Google"
    return KFPCredentials(_request_token(auth.get_gcp_access_token, attempted, tip))


def _request_token(request: Callable[[], Any], attempted: str, tip: str) -> str:
    """Return the token that a function of kfp returns; raise SettingsError if there is none."""
    try:
        token = request()
    except Exception as error:  # from google.auth, requests and kfp; none contains a hint
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingsError(attempted, found=[problem[:300]], tip=tip) from error
    if not token or token == "None":  # noqa: S105 - kfp converts a missing token to a string
        raise SettingsError(attempted, tip=tip)
    return str(token)


@dataclass(frozen=True)
class Access:
    """The address of Kubeflow Pipelines, and the credentials that belong to its origin.

    Attributes:
        host: URL without a slash at its end. Credentials are sent to its origin only.
        page: URL of the web UI, only for links. The default is the host.
        ca_cert: File with certificates to trust; "" for the system's certificates.
        verify_ssl: Whether the certificate of the host is verified.
        timeout_s: Request timeout in seconds.
        token: Bearer token; "" for none.
        cookies: Value of the header Cookie; "" for none.
        certificate: Files with the client certificate and its key; None for none.
    """

    host: str
    page: str
    ca_cert: str
    verify_ssl: bool
    timeout_s: float
    token: str = field(repr=False)
    cookies: str = field(repr=False)
    certificate: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The path of the host, "" for none."""
        return urlsplit(self.host).path


def read_access(settings: KFPSettings) -> Access:
    """Check the settings, read the files that they name, and get a token or certificate from kfp.auth.

    A token in the settings takes precedence over kfp.auth. The address is checked before a credential is read
    or requested.

    Returns:
        The access. It has no cookies if kfp.auth uses another host than kfp.host, because cookies belong to
        kfp.host.

    Raises:
        SettingsError: A setting is invalid, a file cannot be read, kfp.auth gives no credential, or a
            credential would be sent without encryption, or a Google token to a host that is not Google's.
    """
    check = functools.partial(_check_transport, settings)
    token = ""
    if settings.token:
        check("", "kfp.token")
        token = settings.token.strip()
    elif (
        settings.token_file and settings.auth != "service-account"
    ):  # service-account reads the file itself
        check("", "the token in kfp.token_file")
        token = read_token(settings.token_file, "kfp.token_file").strip()
    found = read_credentials(settings, check) if settings.auth and not token else None
    host = _check_host((found and found.host) or settings.host)
    cookies = "" if found and found.host else settings.cookies
    if cookies:
        check("", "kfp.cookies")
    access = Access(
        host=host,
        page=_check_host(settings.page, "kfp.page") if settings.page else host,
        ca_cert=_check_ca_cert(settings.ca_cert),
        verify_ssl=settings.verify_ssl,
        timeout_s=settings.timeout_s,
        token=token,
        cookies=cookies,
    )
    if found is not None:
        access = replace(
            access,
            token=found.token,
            ca_cert=access.ca_cert or found.ca_cert,
            verify_ssl=access.verify_ssl and found.verify_ssl,
            certificate=found.certificate,
        )
    _check_secrets(access)
    return access


def _check_transport(settings: KFPSettings, host: str, credential: str) -> None:
    """Raise SettingsError unless a credential may be sent to a host.

    Args:
        settings: kfp.insecure permits plain HTTP.
        host: URL to which the credential would be sent; "" for kfp.host.
        credential: Description of the credential for the message, not its value. For GOOGLE_TOKEN, the host
            must be a host of Google or this machine, and kfp.insecure is ignored.
    """
    origin = parse_origin(_check_host(host or settings.host))
    is_google_token = credential == GOOGLE_TOKEN
    if is_google_token and not (is_google(origin.host) or is_loopback(origin.host)):
        hosts = ", ".join(f"*.{domain}" for domain in GOOGLE_DOMAINS)
        raise SettingsError(
            f"kfp: {credential} would be sent to {origin}, which is not a host of Google",
            found=[f"it gives access to your Google Cloud projects, so it is sent only to {hosts}"],
            tip="for another host set kfp.token, or kfp.auth to iap (Google's identity-aware proxy) or"
            " kubeconfig",
        )
    if origin.is_protected or (settings.insecure and not is_google_token):
        return
    permit = "" if is_google_token else ", or set kfp.insecure: true if you trust the network"
    raise SettingsError(
        f"kfp: {credential} would be sent to {origin} without encryption",
        found=["everyone on the network between this machine and the host could read it"],
        tip=f"use an address that begins with https://{permit}",
    )


def _check_secrets(access: Access) -> None:
    """Raise SettingsError if the token or the cookies are not valid in an HTTP header."""
    for name, secret in (("token", access.token), ("cookies", access.cookies)):
        # http.client would raise an error with the secret in its message
        if not re.fullmatch(r"[\x20-\x7e]*", secret):
            raise SettingsError(
                f"kfp.{name}: invalid value: line breaks and non-ASCII characters are not allowed"
                " in an HTTP header"
            )


def make_headers(access: Access) -> dict[str, str]:
    """Return the headers of a GET request to the host; they contain its credentials."""
    headers = {"Accept": "application/json"}
    if access.token:
        headers["Authorization"] = f"Bearer {access.token}"
    if access.cookies:
        headers["Cookie"] = access.cookies
    return headers


def make_tls_context(access: Access) -> ssl.SSLContext:
    """Return the TLS configuration of an access.

    Raises:
        OSError: A file is not a valid certificate or cannot be read (ssl.SSLError is an OSError).
    """
    context = ssl.create_default_context(cafile=access.ca_cert or None)
    if not access.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate:
        context.load_cert_chain(*access.certificate)
    return context


def _check_host(host: str, key: str = "kfp.host") -> str:
    """Return a URL in normalised form.

    Args:
        host: URL, possibly copied from the address bar of the web UI.
        key: Setting to name in the error.

    Raises:
        SettingsError: The URL is invalid.
    """
    address = host.partition("#")[0].rstrip("/")  # URLs of pages of the web UI contain #/...
    try:
        return parse_url(address).url
    except ValueError as error:
        tip = "write http://HOST:PORT or https://HOST"
        if "@" in host:  # a password must not be shown
            tip += "; set credentials in kfp.token, kfp.token_file or kfp.cookies"
            raise SettingsError(f"{key}: the address is invalid: {error}", tip=tip) from None
        raise SettingsError(
            f"{key}: {host!r} is not a valid address", found=[str(error)], tip=tip
        ) from None


def _check_ca_cert(path: str) -> str:
    if not path:
        return ""
    file = Path(path).expanduser()
    if not file.is_file():
        raise SettingsError(f"kfp.ca_cert: file {path} not found")
    return str(file)
