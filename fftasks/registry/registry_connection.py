"""The HTTP session with a registry: whom it trusts, which proxy it takes, and that it logs in nowhere.

The connection to one registry: asks, says who asks, follows redirects, and tries again.

It is for one thread. oras-py was looked at for this and does not hold up: it reads a layer into
memory, has one token whatever the scope, no time limits, and waits without a word.
"""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from fftasks.errors import SettingsError, ToolError
from fftasks.http.origin import is_same_origin, parse_origin
from fftasks.http.response import (
    MAX_RESPONSE_BYTES,
    ResponseTimeoutError,
    ResponseTimer,
    UnreadableResponseError,
    read_body,
    time_pools,
)
from fftasks.registry.failures import (
    RequestFailedError,
    check_response,
    classify_failure,
    find_root_cause,
    make_invalid_response_error,
    make_registry_error,
)
from fftasks.registry.reference import DOCKER_HUB
from fftasks.registry.registry_auth import RegistryAuth, RegistryLogin

if TYPE_CHECKING:
    from requests import Response, Session


def open_session(ca_cert: Path | None, watch: ResponseTimer, *, is_local: bool) -> Session:
    """Return a session that logs in nowhere by itself and keeps no cookies.

    Args:
        ca_cert: File of certificates that are trusted besides those that requests trusts.
        watch: Limits the time of answers.
        is_local_run: Whether the registry is on this machine.

    Raises:
        SettingsError: ca_cert holds no certificates.
    """
    import requests

    session = requests.Session()
    session.trust_env = not is_local  # a proxy has no way to this machine
    # compressed blobs are to come as they are stored
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "fftasks"})
    # a function, else requests looks for a login in .netrc
    session.auth = _send_no_login
    # Harbor takes a request with its cookie for a browser's, and wants a CSRF token
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", _make_adapter(watch))
    session.mount("https://", _make_adapter(watch, ca_cert))
    return session


def _send_no_login(request: Any) -> Any:
    return request


def _make_adapter(watch: ResponseTimer, ca_cert: Path | None = None) -> Any:
    """Return an adapter that limits the time of answers, and trusts a CA besides those of requests."""
    from requests.adapters import HTTPAdapter

    context: dict[str, Any] = {} if ca_cert is None else {"ssl_context": _make_context(ca_cert)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **{**options, **context})
            time_pools(self.poolmanager, watch)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            is_known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **{**options, **context})
            if not is_known:
                time_pools(manager, watch)
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


T = TypeVar("T")
OpenRequestBody = Callable[[], AbstractContextManager[Any]]

_HUB_NAMES = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", f"registry-1.{DOCKER_HUB}"})
_HUB_ADDRESS = f"registry-1.{DOCKER_HUB}"
_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?")
_WAITS_S = (1.0, 4.0, 9.0)
_CONNECT_S = 10.0
_READ_S = 60.0
_READ_SENT_S = 300.0  # a registry checks a blob, and may move it, before it answers
_TIMEOUT_FACTOR = 4  # times these, for an answer that keeps coming
_OK = range(200, 300)
_REDIRECTS = 5
_LONGEST = 400
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True)
class _Request:
    method: str
    scopes: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes | OpenRequestBody | None
    stream: bool = False


class RegistryConnection:
    """One host; connects when it is first asked, and stays connected.

    host: "registry.example.com:5000", docker.io is Docker's own. Plain http is spoken to a host
    that is insecure, and to this machine unless there is a ca_cert.
    Raises SettingsError when it connects if ca_cert holds no certificates.
    """

    def __init__(  # noqa: PLR0913  (as those of Registry)
        self,
        host: str,
        login: RegistryLogin | None,
        *,
        insecure: bool,
        ca_cert: Path | None,
        say: Callable[[str], None],
        pause: Callable[[float], None],
        token_server: str = "",
    ) -> None:
        self.host = DOCKER_HUB if host in _HUB_NAMES else host
        self._is_local = _LOCAL.fullmatch(host) is not None
        is_plain = insecure or (self._is_local and ca_cert is None)
        address = _HUB_ADDRESS if self.host == DOCKER_HUB else host
        self.origin = f"{'http' if is_plain else 'https'}://{address}"
        self._ca_cert = ca_cert
        self._say = say
        self._pause = pause
        self._auth = RegistryAuth(self.host, login, self.origin, self._fetch, token_server)
        self._session: Session | None = None
        self._watch = ResponseTimer()

    def retry_request(
        self, attempted: str, action: Callable[[], T], retry_delays_s: Sequence[float] = _WAITS_S
    ) -> T:
        """Return what action returns; try again, a few times and with a word, what may pass.

        attempted: the first words of the error. Raises ToolError.
        """
        try:
            return action()
        except RequestFailedError as exc:
            kind = classify_failure(exc.message)
            if not retry_delays_s or not kind.is_transient:
                # from None: what is below may show addresses with keys in them
                raise self._explain(attempted, exc) from None
            wait_s = exc.wait_s or retry_delays_s[0]
        self._say(f"registry: {kind.meaning}; trying again in {wait_s:g} s")
        self._pause(wait_s)
        return self.retry_request(attempted, action, retry_delays_s[1:])

    @contextmanager
    def explain(self, attempted: str) -> Iterator[None]:
        """Turn a request that failed into an error that begins with `attempted`."""
        try:
            yield
        except RequestFailedError as exc:
            raise self._explain(attempted, exc) from None

    @contextmanager
    def request(  # noqa: PLR0913  (they are what a request consists of)
        self,
        method: str,
        url: str,
        scopes: Sequence[str] = (),
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | OpenRequestBody | None = None,
        stream: bool = False,
    ) -> Iterator[Response]:
        """Send one request and give the answer, which is a yes.

        url: absolute, or "/v2/…"; scopes: what a token must allow
        body: bytes, or what opens it; it is opened anew if a login has to be shown first
        stream: the answer's content is read by the caller
        Raises RequestFailedError.
        """
        request = _Request(method, tuple(scopes), headers or {}, body, stream)
        try:
            with self._follow(request, urljoin(self.origin, url)) as answer:
                with wrap_network_errors():  # of a streamed answer, the refusal is read only now
                    check_response(answer)
                yield answer
        except RequestFailedError as exc:
            if not exc.host:  # else it is the failure of the registry that this one's body is from
                exc.host, exc.username = self.host, self._auth.username
                # cut after that: the beginning of a token is not recognized
                exc.message = self._auth.hide(exc.message)[:_LONGEST]
            raise

    def look(
        self, url: str, scopes: Sequence[str], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, str] | None:
        """Return the headers of what is at a url, or None if nothing is there."""
        try:
            with self.request("HEAD", url, scopes, headers=headers) as answer:
                return answer.headers
        except RequestFailedError as exc:
            if exc.status != _NOT_FOUND:
                raise
            if exc.is_page:
                self._check_registry()
            return None

    def locate(self, answer: Response) -> str:
        """Return the absolute URL in the header Location of an answer.

        Raises:
            RequestFailedError: The header is missing or invalid, or redirects from HTTPS to plain HTTP.
        """
        location = answer.headers.get("Location")
        if not location:
            raise make_invalid_response_error("it has no Location")
        return self._resolve(answer, location)

    def locate_next_page(self, answer: Response) -> str:
        """Return the absolute URL of the next page of a list, "" if there is none.

        Raises:
            RequestFailedError: The URL is invalid, or the next page is on another server.
        """
        link = re.match(r'<([^>]*)>\s*;.*rel="?next"?', answer.headers.get("Link", ""))
        if link is None:
            return ""
        url = self._resolve(answer, link[1])
        if not self._is_ours(url):
            raise make_invalid_response_error("the next page of the list is on another server")
        return url

    def _resolve(self, answer: Response, reference: str) -> str:
        try:
            url = urljoin(answer.url, reference)
            theirs, ours = parse_origin(url), parse_origin(self.origin)
        except ValueError as exc:
            raise make_invalid_response_error("an address in it is invalid") from exc
        parts, own = urlsplit(url), urlsplit(self.origin)
        if parts.netloc.lower() == own.netloc.lower():
            # a registry behind a proxy may not know that clients use HTTPS
            return parts._replace(scheme=own.scheme).geturl()
        if ours.scheme == "https" != theirs.scheme:
            raise RequestFailedError("it leads from https to plain http")
        return url

    def _is_ours(self, url: str) -> bool:
        try:
            return is_same_origin(url, parse_origin(self.origin))
        except ValueError:
            return False

    def _check_registry(self) -> None:
        """Raise RequestFailedError if the host does not speak a registry's language at all."""
        try:
            with self.request("GET", "/v2/"):
                pass
        except RequestFailedError as exc:
            if exc.status == _NOT_FOUND:
                raise make_invalid_response_error("it has no /v2/") from exc
            raise

    @contextmanager
    def _follow(self, request: _Request, url: str) -> Iterator[Response]:
        for _ in range(_REDIRECTS):
            with self._authorize(request, url) as answer:
                if request.method not in {"GET", "HEAD"} or not answer.is_redirect:
                    yield answer
                    return
                url = self.locate(answer)
        raise make_invalid_response_error("it leads in a circle")

    def _authorize(self, request: _Request, url: str) -> Response:
        """Send a request, with our login if it goes to our registry and that asks for it."""
        is_ours = self._is_ours(url)
        tried = self._auth.make_headers(request.scopes) if is_ours else {}
        answer = self._send(request, url, tried)
        if answer.status_code != _UNAUTHORIZED or not is_ours:
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        if not self._auth.answer(challenge, request.scopes, tried):
            return answer
        answer.close()
        return self._send(request, url, self._auth.make_headers(request.scopes))

    def _fetch(
        self, method: str, url: str, *, headers: Mapping[str, str], data: str | None
    ) -> Response:
        body = data.encode() if data else None
        return self._send(_Request(method, (), headers, body), url, {})

    def _send(self, request: _Request, url: str, login: Mapping[str, str]) -> Response:
        read_s = _READ_S if request.body is None else _READ_SENT_S
        with (
            wrap_network_errors(),
            _open_request_body(request.body) as data,
            self._watch.limit(_TIMEOUT_FACTOR * read_s),
        ):
            answer = self._connect().request(
                request.method,
                url,
                headers={**request.headers, **login},
                data=data,
                stream=True,
                timeout=(_CONNECT_S, read_s),
                allow_redirects=False,  # requests would take our login along to another port
            )
            if not request.stream or answer.status_code not in _OK:
                _read_content(answer)
            return answer

    def _connect(self) -> Session:
        if self._session is None:
            self._session = open_session(self._ca_cert, self._watch, is_local=self._is_local)
        return self._session

    def _explain(self, attempted: str, exc: RequestFailedError) -> Exception:
        is_login = exc.status in {_UNAUTHORIZED, _FORBIDDEN} and exc.host == self.host
        if is_login and self._auth.login_error is not None:
            return self._auth.login_error
        if is_login and self._auth.untrusted_token_server:
            return self._explain_withheld(attempted, exc)
        return make_registry_error(attempted, exc.message, server=exc.host, username=exc.username)

    def _explain_withheld(self, attempted: str, exc: RequestFailedError) -> ToolError:
        server = self._auth.untrusted_token_server
        is_plain = server.startswith("http:")
        why = "does not use TLS" if is_plain else "is in another domain than the registry"
        return ToolError(
            f"{attempted}: the registry does not accept a request without a login",
            found=[
                exc.message,
                f"the login was not sent to the token server that the registry names: {server} {why}",
            ],
            tip="the token server has to be reached by https://"
            if is_plain
            else "if the token server belongs to the registry, set registry.token_server to its host",
        )


@contextmanager
def wrap_network_errors() -> Iterator[None]:
    """Turn what requests and urllib3 raise into RequestFailedError; ValueError: no address."""
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (RequestException, HTTPError, OSError, ValueError, ResponseTimeoutError) as exc:
        raise RequestFailedError(find_root_cause(exc)) from exc


def _read_content(answer: Response) -> None:
    """Read the content of an answer up to a limit, so that requests has it without decoding it itself."""
    try:
        content, is_cut = read_body(answer.raw)
    except UnreadableResponseError as exc:
        raise make_invalid_response_error(str(exc)) from exc
    if is_cut:
        raise make_invalid_response_error(f"it has more than {MAX_RESPONSE_BYTES // 1_000_000} MB")
    answer.raw = io.BytesIO(content)


def _open_request_body(body: bytes | OpenRequestBody | None) -> AbstractContextManager[Any]:
    return body() if callable(body) else nullcontext(body)
