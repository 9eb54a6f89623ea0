"""How to reach Kubeflow Pipelines: the settings, checked, with what stands in the files that they name.

Does not import kfp. A secret is in no message and in no repr.
"""

from __future__ import annotations

import functools
import re
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fftasks.errors import SettingsError
from fftasks.ports.credentials import (
    GOOGLE_DOMAINS,
    is_google,
    is_loopback,
    parse_address,
    parse_origin,
)
from fftasks.ports.kfp_identity import GOOGLE_TOKEN, identify, read_token

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings


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
    found = identify(settings, check) if settings.auth and not token else None
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
        return parse_address(address).url
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
