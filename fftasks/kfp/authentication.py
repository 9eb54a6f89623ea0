"""Who we are to Kubeflow Pipelines, where kfp.auth names somebody who says so.

    service-account   the token that Kubernetes puts into a pod for KFP, from a file that it renews
    in-cluster        the same if it is there; and the address of the service in the pod's own cluster
    kubeconfig        whatever kubectl uses: token, certificate, program; through the cluster's API server
    iap               Google's identity-aware proxy, as a service account or as a user
    google            Google's account of this machine, for hosts of Google only

As kfp.Client does it, and by its code where it has some, but for what it writes into ~/.config. An answer
is kept for some minutes in this process: a run that is followed asks every few seconds.

How to reach Kubeflow Pipelines: the settings, checked, with what stands in the files that they name.

Does not import kfp. A secret is in no message and in no repr.
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

_KEPT_S = 300.0
# as kfp.client has them; to import it takes half a second
TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the name of a variable
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
SERVICE = "http://ml-pipeline.{}.svc.cluster.local:8888"
# description of the credential in messages; it may only be sent to hosts of Google
GOOGLE_TOKEN = "the Google access token of kfp.auth: google"  # noqa: S105 - a description
_PROXY = "{}/api/v1/namespaces/{}/services/ml-pipeline:http/proxy"


@dataclass(frozen=True)
class KFPCredentials:
    """What somebody says: a token or a certificate; and the host, "" for that of the settings."""

    token: str = field(default="", repr=False)
    host: str = ""
    ca_cert: str = ""
    verify_ssl: bool = True
    certificate: tuple[str, str] | None = field(default=None, repr=False)


_kept: dict[KFPSettings | tuple[object, ...], tuple[float, KFPCredentials]] = {}


# Raises SettingsError unless a credential, described in words, may be sent to a host; "" is kfp.host.
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
        found = _keep(settings, functools.partial(_ask_kubectl, check=check))
        if found.token:
            check(found.host, credential)
        return found
    check("", GOOGLE_TOKEN if settings.auth == "google" else credential)
    return _keep(settings, {"iap": _ask_proxy, "google": _ask_google}[settings.auth])


def read_token(path: str, key: str) -> str:
    """Return what a file holds; raise SettingsError with the setting's name, key."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        tip = "the token is read from this file: is its path right, seen from the project's folder?"
        raise SettingsError(f"{key}: cannot read {path}", found=[reason], tip=tip) from error


def _keep(settings: KFPSettings, ask: Callable[[KFPSettings], KFPCredentials]) -> KFPCredentials:
    key = (
        *(settings.auth, settings.kube_context, settings.kube_namespace, settings.iap_client_id),
        *(settings.iap_user_client_id, settings.iap_refresh_token, os.environ.get("KUBECONFIG")),
        os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"),
    )
    now = time.monotonic()
    if key not in _kept or now - _kept[key][0] > _KEPT_S:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp warns of itself on import
            _kept[key] = (now, ask(settings))
    return _kept[key][1]


def _find_token_file(settings: KFPSettings) -> str:
    return settings.token_file or os.environ.get(TOKEN_VARIABLE) or TOKEN_PATH


def _ask_kubectl(settings: KFPSettings, check: Check) -> KFPCredentials:
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
            # before the configuration is loaded, which may run a program that requests a token
            cluster = merged["clusters"].get_with_name(current["cluster"])["cluster"]
            check(cluster["server"], "the token of kfp.auth: kubeconfig")
        loader.load_and_set(found)
    except (config.ConfigException, OSError, ValueError) as error:
        raise SettingsError(
            "kfp.auth: kubeconfig: kubectl's file cannot be used",
            found=[str(error).splitlines()[0]],
            tip="does `kubectl get pods` work? kfp.kube_context and KUBECONFIG say which is taken",
        ) from error
    token = str(found.api_key.get("authorization", "")).removeprefix("Bearer ")
    return KFPCredentials(
        token=token,
        host=_PROXY.format(found.host.rstrip("/"), settings.kube_namespace),
        ca_cert=found.ssl_ca_cert or "",
        verify_ssl=bool(found.verify_ssl),
        certificate=(found.cert_file, found.key_file) if found.cert_file else None,
    )


def _ask_proxy(settings: KFPSettings) -> KFPCredentials:
    if not settings.iap_client_id:
        raise SettingsError("kfp.auth: iap: kfp.iap_client_id is not set")
    from kfp.client import auth

    client_id = settings.iap_client_id
    if settings.iap_refresh_token:
        user = (settings.iap_user_client_id, settings.iap_user_client_secret)

        def ask() -> Any:
            return auth.id_token_from_refresh_token(*user, settings.iap_refresh_token, client_id)

    else:

        def ask() -> Any:
            return auth.get_auth_token_from_sa(client_id)

    tip = (
        "GOOGLE_APPLICATION_CREDENTIALS names the file of a service account; a user sets "
        "kfp.iap_user_client_id, kfp.iap_user_client_secret and kfp.iap_refresh_token"
    )
    return KFPCredentials(_ask(ask, "kfp.auth: iap: Google gives no token", tip))


def _ask_google(settings: KFPSettings) -> KFPCredentials:  # noqa: ARG001 - one of three
    from kfp.client import auth

    tip = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    return KFPCredentials(
        _ask(auth.get_gcp_access_token, "kfp.auth: google: Google gives no token", tip)
    )


def _ask(ask: Callable[[], Any], attempted: str, tip: str) -> str:
    try:
        token = ask()
    except Exception as error:  # of google.auth, requests and kfp; none says what to do
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingsError(attempted, found=[problem[:300]], tip=tip) from error
    if not token or token == "None":  # noqa: S105 - kfp makes a text of what is missing
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
        token: Bearer token, "" for none.
        cookies: Value of the header Cookie, "" for none.
        certificate: Files with the client certificate and its key.
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
    for name, secret in (("token", access.token), ("cookies", access.cookies)):
        # else http.client says what it does not like, with the secret in the message
        if not re.fullmatch(r"[\x20-\x7e]*", secret):
            raise SettingsError(
                f"kfp.{name}: it has line breaks or letters that no header can carry"
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
    """Return whom to trust; raises OSError (SSLError is one) for a file that is no certificate."""
    context = ssl.create_default_context(cafile=access.ca_cert or None)
    if not access.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate:
        context.load_cert_chain(*access.certificate)
    return context


def _check_host(host: str, key: str = "kfp.host") -> str:
    """Return an address in normalised form; raise SettingsError if it is invalid."""
    address = host.partition("#")[0].rstrip("/")  # the page's own address goes on with #/...
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
        raise SettingsError(f"kfp.ca_cert: there is no file {path}")
    return str(file)
