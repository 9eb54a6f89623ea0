"""How to reach Kubeflow Pipelines: the settings, checked, with what stands in the files that they name.

Does not import kfp. A secret is in no message and in no repr.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fftasks.errors import SettingsError
from fftasks.ports.kfp_identity import identify, read_token

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings


@dataclass(frozen=True)
class Access:
    """An address without a slash at its end, whom to trust, how long to wait, and who we are.

    page: where the page for people is; the host's own address if it is not known
    """

    host: str
    page: str
    ca_cert: str
    verify_ssl: bool
    timeout_s: float
    token: str = field(repr=False)
    cookies: str = field(repr=False)
    certificate: tuple[str, str] | None = field(default=None, repr=False)


def read_access(settings: KFPSettings) -> Access:
    """Check the settings and read the files that they name; raise SettingsError.

    With kfp.auth, whoever it names is asked; see kfp_identity.py. A token or cookies of the settings win.
    """
    token = (settings.token or _read_token(settings)).strip()
    found = None
    if settings.auth and not token:
        found = identify(settings)
    host = (found and found.host) or _check_host(settings.host)
    access = Access(
        host=host,
        page=_check_host(settings.page, "kfp.page") if settings.page else host,
        ca_cert=_check_ca_cert(settings.ca_cert),
        verify_ssl=settings.verify_ssl,
        timeout_s=settings.timeout_s,
        token=token,
        cookies=settings.cookies,
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


def _check_secrets(access: Access) -> None:
    for name, secret in (("token", access.token), ("cookies", access.cookies)):
        # else http.client says what it does not like, with the secret in the message
        if not re.fullmatch(r"[\x20-\x7e]*", secret):
            raise SettingsError(
                f"kfp.{name}: it has line breaks or letters that no header can carry"
            )


def make_headers(access: Access) -> dict[str, str]:
    """Return the headers of a GET request."""
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
    address = host.partition("#")[0].rstrip("/")  # the page's own address goes on with #/...
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    tip = "write http://HOST:PORT or https://HOST"
    if not valid:
        raise SettingsError(f"{key}: {host!r} is no address", tip=tip)
    if "@" in parts.netloc:
        raise SettingsError(
            f"{key}: a name or password stands in the address",
            tip=f"{tip}; who you are belongs into kfp.token, kfp.token_file or kfp.cookies",
        )
    return address


def _check_ca_cert(path: str) -> str:
    if not path:
        return ""
    file = Path(path).expanduser()
    if not file.is_file():
        raise SettingsError(f"kfp.ca_cert: there is no file {path}")
    return str(file)


def _read_token(settings: KFPSettings) -> str:
    path = settings.token_file
    if not path or settings.auth == "service-account":  # which reads it itself
        return ""
    return read_token(path, "kfp.token_file")
