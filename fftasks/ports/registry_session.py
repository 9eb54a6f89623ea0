"""The HTTP session with a registry: whom it trusts, which proxy it takes, and that it logs in nowhere."""

from __future__ import annotations

import ssl
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError
from fftasks.ports.answer import Watch, watch_pools

if TYPE_CHECKING:
    from requests import Session


def open_session(ca_cert: Path | None, watch: Watch, *, is_local: bool) -> Session:
    """Return a session that logs in nowhere by itself and keeps no cookies.

    Args:
        ca_cert: File of certificates that are trusted besides those that requests trusts.
        watch: Limits the time of answers.
        is_local: Whether the registry is on this machine.

    Raises:
        SettingsError: ca_cert holds no certificates.
    """
    import requests

    session = requests.Session()
    session.trust_env = not is_local  # a proxy has no way to this machine
    # compressed blobs are to come as they are stored
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "fftasks"})
    # a function, else requests looks for a login in .netrc
    session.auth = _leave_alone
    # Harbor takes a request with its cookie for a browser's, and wants a CSRF token
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", _make_adapter(watch))
    session.mount("https://", _make_adapter(watch, ca_cert))
    return session


def _leave_alone(request: Any) -> Any:
    return request


def _make_adapter(watch: Watch, ca_cert: Path | None = None) -> Any:
    """Return an adapter that limits the time of answers, and trusts a CA besides those of requests."""
    from requests.adapters import HTTPAdapter

    context: dict[str, Any] = {} if ca_cert is None else {"ssl_context": _make_context(ca_cert)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **{**options, **context})
            watch_pools(self.poolmanager, watch)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            is_known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **{**options, **context})
            if not is_known:
                watch_pools(manager, watch)
            return manager

    return Adapter()


def _make_context(ca_cert: Path) -> ssl.SSLContext:
    from urllib3.util import create_urllib3_context

    context = create_urllib3_context()
    try:
        context.load_verify_locations(ca_cert)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(
            f"registry: the certificates in {ca_cert} cannot be read",
            found=[str(exc)],
            tip="set registry.ca_cert to a file with the CA in PEM form",
        ) from exc
    return context
