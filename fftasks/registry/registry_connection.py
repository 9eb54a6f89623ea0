"""The HTTP connection to one registry: authentication, redirects, time limits and retries.

It must be used by one thread at a time. oras-py is no alternative: it reads whole layers into memory, uses
one token for all scopes, has no time limits, and does not announce its retries.
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
from fftasks.http.retry import TransientFailure, call_with_retries
from fftasks.registry.failures import (
    RequestFailedError,
    check_response,
    find_root_cause,
    find_transient_failure,
    make_invalid_response_error,
    make_registry_error,
)
from fftasks.registry.reference import DOCKER_HUB
from fftasks.registry.registry_auth import RegistryAuth, RegistryLogin

if TYPE_CHECKING:
    from requests import Response, Session


def open_session(ca_cert: Path | None, watch: ResponseTimer, *, is_local: bool) -> Session:
    """Return a session that sends no credentials by itself and keeps no cookies.

    Args:
        ca_cert: File with CA certificates (PEM) that are trusted in addition to those of requests.
        watch: Limits the time of answers.
        is_local: Whether the registry is on this machine.

    Raises:
        SettingsError: ca_cert contains no certificates.
    """
    import requests

    session = requests.Session()
    session.trust_env = not is_local  # a proxy cannot reach this machine
    # compressed blobs must arrive as they are stored
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "fftasks"})
    # a function, because requests would otherwise look for a login in .netrc
    session.auth = _send_no_login
    # Harbor treats a request with its cookie as a browser's, and requires a CSRF token
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("http://", _make_adapter(watch))
    session.mount("https://", _make_adapter(watch, ca_cert))
    return session


def _send_no_login(request: Any) -> Any:
    return request


def _make_adapter(watch: ResponseTimer, ca_cert: Path | None = None) -> Any:
    """Return an adapter that limits the time of answers and trusts the CA of ca_cert."""
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
            tip="set registry.ca_cert to a file with the CA certificate (PEM)",
        ) from exc
    return context


T = TypeVar("T")
OpenRequestBody = Callable[[], AbstractContextManager[Any]]

_HUB_NAMES = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", f"registry-1.{DOCKER_HUB}"})
_HUB_ADDRESS = f"registry-1.{DOCKER_HUB}"
_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?")
_CONNECT_S = 10.0
_READ_S = 60.0
_READ_SENT_S = (
    300.0  # after an upload: a registry checks a blob, and may move it, before it answers
)
_TIMEOUT_FACTOR = 4  # total time of an answer that keeps coming, as a multiple of these
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
    """A connection to one registry, opened with the first request.

    Attributes:
        host: Host and port of the registry; "docker.io" for all names of Docker Hub.
        origin: URL of the registry without a path.
    """

    def __init__(  # noqa: PLR0913 - the same as those of Registry
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
        """Create a connection; see Registry for the arguments.

        Plain http is used if `insecure` is set, and for this machine unless there is a `ca_cert`.
        """
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

    def retry_request(self, attempted: str, action: Callable[[], T]) -> T:
        """Return the result of an action that sends requests; transient failures are retried.

        Args:
            attempted: The first words of the error: what failed.
            action: May be called several times.

        Raises:
            ToolError: A permanent failure, or one after the last retry.
        """
        with self.explain(attempted):
            return call_with_retries(action, _classify, say=self._say, pause=self._pause)

    @contextmanager
    def explain(self, attempted: str) -> Iterator[None]:
        """Turn a RequestFailedError into a ToolError that begins with `attempted`."""
        try:
            yield
        except RequestFailedError as exc:
            # from None: the exceptions below may contain URLs with keys
            raise self._explain(attempted, exc) from None

    @contextmanager
    def request(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        url: str,
        scopes: Sequence[str] = (),
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | OpenRequestBody | None = None,
        stream: bool = False,
    ) -> Iterator[Response]:
        """Send one request, and close the answer at the end of the `with` block.

        Args:
            method: The HTTP method.
            url: Absolute URL, or a path such as "/v2/…".
            scopes: Scopes that a token must have, such as "repository:path:pull".
            headers: HTTP headers.
            body: The content, or a function that opens it. It is opened twice if the registry asks for
                authentication first.
            stream: Whether the caller reads the content of the answer.

        Yields:
            The answer; its status is 2xx.

        Raises:
            RequestFailedError: There was no answer, or it is an error.
        """
        request = _Request(method, tuple(scopes), headers or {}, body, stream)
        try:
            with self._follow(request, urljoin(self.origin, url)) as answer:
                with wrap_network_errors():  # the error of a streamed answer is only read here
                    check_response(answer)
                yield answer
        except RequestFailedError as exc:
            if (
                not exc.host
            ):  # otherwise the request failed at the registry that the body comes from
                exc.host, exc.username = self.host, self._auth.username
                # shortened after the secrets are removed: the beginning of a token would not be found
                exc.message = self._auth.hide(exc.message)[:_LONGEST]
            raise

    def look(
        self, url: str, scopes: Sequence[str], headers: Mapping[str, str] | None = None
    ) -> Mapping[str, str] | None:
        """Send a HEAD request; return the headers of the answer, None if the URL was not found."""
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
            raise make_invalid_response_error("it has no header Location")
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
            raise make_invalid_response_error("it contains an invalid URL") from exc
        parts, own = urlsplit(url), urlsplit(self.origin)
        if parts.netloc.lower() == own.netloc.lower():
            # a registry behind a proxy may redirect to http:// although clients use HTTPS
            return parts._replace(scheme=own.scheme).geturl()
        if ours.scheme == "https" != theirs.scheme:
            raise RequestFailedError("it redirects from https to plain http")
        return url

    def _is_ours(self, url: str) -> bool:
        try:
            return is_same_origin(url, parse_origin(self.origin))
        except ValueError:
            return False

    def _check_registry(self) -> None:
        """Check that the host is a registry; raise RequestFailedError if it is not."""
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
        raise make_invalid_response_error("it redirects too often")

    def _authorize(self, request: _Request, url: str) -> Response:
        """Send a request, with credentials if it goes to our registry and that asks for them."""
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
                allow_redirects=False,  # requests would send the login to another port too
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
            tip="the token server must use https://"
            if is_plain
            else "if the token server belongs to the registry, set registry.token_server to its host",
        )


def _classify(error: Exception) -> TransientFailure | None:
    if not isinstance(error, RequestFailedError):
        return None
    return find_transient_failure("registry", error.message, error.wait_s)


@contextmanager
def wrap_network_errors() -> Iterator[None]:
    """Turn exceptions of requests and urllib3 into RequestFailedError.

    ValueError is one of them: an invalid URL.
    """
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (RequestException, HTTPError, OSError, ValueError, ResponseTimeoutError) as exc:
        raise RequestFailedError(find_root_cause(exc)) from exc


def _read_content(answer: Response) -> None:
    """Read the content of an answer up to a limit, and replace the stream that requests would read."""
    try:
        content, is_cut = read_body(answer.raw)
    except UnreadableResponseError as exc:
        raise make_invalid_response_error(str(exc)) from exc
    if is_cut:
        raise make_invalid_response_error(f"it is larger than {MAX_RESPONSE_BYTES // 1_000_000} MB")
    answer.raw = io.BytesIO(content)


def _open_request_body(body: bytes | OpenRequestBody | None) -> AbstractContextManager[Any]:
    return body() if callable(body) else nullcontext(body)
