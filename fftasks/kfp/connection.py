"""HTTP connection to Kubeflow Pipelines (KFP), and the one mapping of HTTP failures to error messages.

Each request is sent once; the connection never retries. kfp.Client is not used, because importing it takes
half a second, it writes files to ~/.config/kfp, and it drops the fields of an answer that its own version
does not define. Its authentication code is used; see authentication.py.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from fftasks.errors import ToolError
from fftasks.http.origin import is_same_origin, parse_origin, parse_url
from fftasks.http.response import (
    MAX_PAGES,
    MAX_RESPONSE_BYTES,
    ResponseTimeoutError,
    ResponseTimer,
    UnreadableResponseError,
    filter_by_type,
    parse_json,
    read_body,
    time_pools,
)
from fftasks.kfp.authentication import Access, make_headers, make_tls_context, read_access

if TYPE_CHECKING:
    import urllib3

    from fftasks.config.tree import KFPSettings

API = "/apis/v2beta1"
Json = dict[str, Any]
Fields = Mapping[str, tuple[str, bytes, str]]  # name -> file name, content, media type

_OK = range(200, 300)
_PAGE_SIZE = 100
_COMPLETE_FACTOR = 4  # a response must be complete within this multiple of kfp.timeout_s
GRPC_NOT_FOUND = 5  # gRPC code in KFP's answers; a 404 of another server does not have it
_HTML = re.compile(r"<(!doctype )?html", re.IGNORECASE)
_LOGIN_TIP = "set kfp.token, kfp.token_file or kfp.cookies; the current value may have expired"
_HOST_TIP = "is kfp.host the address of Kubeflow Pipelines, without the path of a page?"
_TLS_TIP = (
    "set kfp.ca_cert to the file with the certificate of your own CA, or kfp.verify_ssl: false to accept"
    " any certificate; or does the server at kfp.host use http://?"
)
_TIPS = {  # by HTTP status
    401: _LOGIN_TIP,
    403: "permission denied: check kfp.namespace and the account of the token or cookies",
    404: _HOST_TIP,
    409: "the same object was created at the same time: run the command again",
    413: "the server rejects pipelines of this size: use fewer nodes or shorter constants",
    429: "the server is busy: run the command again later",
}


@dataclass(frozen=True)
class KFPAnswer:
    """An HTTP response.

    Attributes:
        status: HTTP status code.
        reason: Reason phrase of the status.
        headers: Response headers; names are case-insensitive.
        data: Decompressed body.
        is_cut: Whether the body was cut at the size limit.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes
    is_cut: bool = False


class NoAnswerError(ToolError):
    """There is no usable answer, so it is unknown whether the request was carried out."""


class UnavailableError(ToolError):
    """The server does not answer at the moment; the same request may succeed later."""


class LostAnswerError(NoAnswerError, UnavailableError):
    """The server failed after the request was sent; it may have been carried out."""


class NotFoundError(ToolError):
    """The requested run, pipeline version or other object does not exist in Kubeflow Pipelines."""


def explain_status(access: Access, attempted: str, answer: KFPAnswer) -> ToolError:
    """Return the error for an HTTP status other than 2xx.

    Args:
        access: Address of the server, for the message.
        attempted: What failed, as the first part of the message.
        answer: The response.

    Returns:
        NotFoundError if KFP itself reports that an object is missing, LostAnswerError for 5xx,
        UnavailableError for 429, else ToolError.
    """
    status = answer.status
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP
        return _explain_redirect(access, attempted, status, answer.headers.get("Location", ""))
    body = answer.data.decode("utf-8", "replace")
    fields = _parse_object(body)
    message = _shorten(str(fields.get("message") or fields.get("error") or body))
    found = [f"{access.host} answered HTTP {status} {answer.reason}", message]
    if status == 404 and fields.get("code") == GRPC_NOT_FOUND:  # noqa: PLR2004 - HTTP
        return NotFoundError(attempted, found=found, tip=_HOST_TIP)
    if status >= 500:  # noqa: PLR2004 - HTTP
        tip = "look at the log of the server's ml-pipeline pod, and run the command again"
        return LostAnswerError(attempted, found=found, tip=tip)
    tip = _TIPS.get(status, "look at kfp.namespace" if "namespace" in message.lower() else "")
    kind = UnavailableError if status == 429 else ToolError  # noqa: PLR2004 - HTTP
    return kind(attempted, found=found, tip=tip)


def _explain_redirect(access: Access, attempted: str, status: int, location: str) -> ToolError:
    """Return the error for a redirect; the message omits the query of the target, which may be secret."""
    said = f"{access.host} answered HTTP {status}: go to"
    try:
        ours = parse_origin(access.host)
        theirs, url = parse_url(urljoin(access.host, location))
    except ValueError:
        return ToolError(attempted, found=[f"{said} an invalid address"], tip=_HOST_TIP)
    path = urlsplit(url).path or "/"
    if theirs == ours:
        found = f"{said} {path}, which is a login page"
        return ToolError(attempted, found=[found], tip=_LOGIN_TIP)
    if theirs._replace(port=0) == ours._replace(scheme="https", port=0) and ours.scheme == "http":
        found = f"{said} {theirs}{path}"
        return ToolError(attempted, found=[found], tip=f"set kfp.host to the address at {theirs}")
    found = f"{said} {theirs}{path}, which is on another server; credentials are only for {ours}"
    tip = f"{_LOGIN_TIP}; if Kubeflow Pipelines has moved, set kfp.host to its new address"
    return ToolError(attempted, found=[found], tip=tip)


def explain_silence(access: Access, attempted: str, error: Exception) -> ToolError:
    """Return the error for an urllib3 exception, which means that there was no answer.

    Args:
        access: Address of the server, for the message.
        attempted: What failed, as the first part of the message.
        error: The exception.

    Returns:
        UnavailableError if the request was never sent, else LostAnswerError.
    """
    from urllib3 import exceptions

    never_sent = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
    kind = UnavailableError if isinstance(error, never_sent) else LostAnswerError
    # in urllib3, a refused connection is a TimeoutError as well
    refused = isinstance(error, exceptions.NewConnectionError)
    if isinstance(error, exceptions.TimeoutError) and not refused:
        found = f"{access.host} did not answer within {access.timeout_s:g} s"
        tip = "is kfp.host correct and reachable from this machine? kfp.timeout_s sets the timeout"
    else:
        found = f"no connection to {access.host}: {_name_cause(error)}"
        tip = "is kfp.host correct, and is `kubectl port-forward` running if you use it?"
    return kind(attempted, found=[found], tip=tip)


def explain_late(access: Access, attempted: str, seconds: float) -> ToolError:
    """Return the error for a response that was not complete in time although data kept arriving.

    Args:
        access: Address of the server, for the message.
        attempted: What failed, as the first part of the message.
        seconds: Time limit that was exceeded.
    """
    found = f"{access.host} did not complete its answer within {seconds:g} s"
    tip = (
        "set a larger kfp.timeout_s for a slow connection: an answer may take"
        f" {_COMPLETE_FACTOR} times as long"
    )
    return LostAnswerError(attempted, found=[found], tip=tip)


def _name_cause(error: Exception) -> str:
    """Return the cause of a urllib3 exception in one line."""
    cause = error.args[-1] if error.args else ""
    if isinstance(cause, Exception):  # a broken connection
        return getattr(cause, "strerror", None) or str(cause)
    # the text before the last colon is the repr of the connection
    return str(error).rpartition(": ")[2]


def explain_tls(access: Access, attempted: str, reason: str) -> ToolError:
    """Return the error for a failed TLS handshake or an unreadable certificate file."""
    return ToolError(attempted, found=[f"TLS to {access.host}: {reason}"], tip=_TLS_TIP)


def explain_invalid_answer(access: Access, attempted: str, answer: str) -> ToolError:
    """Return the error for a response that cannot come from Kubeflow Pipelines.

    Args:
        access: Address of the server, for the message.
        attempted: What failed, as the first part of the message.
        answer: Text of the response, or a description of its fault.
    """
    found = [f"the answer of {access.host} is not from Kubeflow Pipelines", _shorten(answer)]
    tip = _LOGIN_TIP if _HTML.search(answer) else _HOST_TIP
    return NoAnswerError(attempted, found=found, tip=tip)


def _parse_object(body: str) -> Json:
    """Return the JSON object in an error response, {} for any other text."""
    try:
        answer = parse_json(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _shorten(text: str) -> str:
    """Return a text in one line of at most 1000 characters; of a web page, its title."""
    # no part of the pattern reads beyond the next "<", so that the time is proportional to the length
    title = re.search(r"<title[^<>]*>([^<]*)</title", text, re.IGNORECASE)
    words = " ".join((title[1] if title else text).split())
    return f"a web page: {words[:100]!r}" if _HTML.search(text) else words[:1000]


@dataclass(frozen=True)
class KFPRequest:
    """A request to the host of the settings.

    Attributes:
        method: HTTP method.
        path: Path below `base`; it begins with a slash.
        query: Query parameters.
        body: JSON body; None for none.
        fields: Form fields to send as multipart data; None for none.
        content: Media type and bytes of a raw body; None for none.
        base: Path on the same server that `path` is appended to, for services beside Kubeflow Pipelines; None
            for the path of kfp.host. A request cannot go to another server.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    fields: Fields | None = None
    content: tuple[str, bytes] | None = None
    base: str | None = None


class KFPConnection:
    """A connection to one server.

    Attributes:
        access: Address and credentials.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._pool: urllib3.PoolManager | None = None
        self._timer = ResponseTimer()

    def get(self, attempted: str, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Send a GET request to a path below /apis/v2beta1 and return the JSON answer.

        Args:
            attempted: What failed, for the error.
            path: Path that begins with a slash.
            query: Query parameters.

        Raises:
            ToolError: See `ask`.
        """
        return self.ask(attempted, KFPRequest("GET", API + path, query or {}))

    def post(self, attempted: str, path: str, body: Json, needed: str = "") -> Json:
        """Send JSON to a path below /apis/v2beta1 and return the JSON answer.

        Args:
            attempted: What failed, for the error.
            path: Path that begins with a slash.
            body: JSON to send.
            needed: Key that a valid answer has; "" to accept any JSON object.

        Raises:
            ToolError: See `ask`.
        """
        return self.ask(attempted, KFPRequest("POST", API + path, body=body), needed)

    def ask(self, attempted: str, question: KFPRequest, needed: str = "") -> Json:
        """Send a request and return the JSON answer.

        Args:
            attempted: What failed, for the error.
            question: The request.
            needed: Key that a valid answer has; "" to accept any JSON object.

        Raises:
            NotFoundError: The requested object does not exist.
            NoAnswerError: The request may have been carried out.
            UnavailableError: The server does not answer at the moment.
            ToolError: The server rejected the request.
        """
        response = self.send(attempted, question)
        try:
            answer = parse_json(response.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or (needed and not answer.get(needed)):
            text = response.data.decode("utf-8", "replace")
            raise explain_invalid_answer(self.access, attempted, text)
        return answer

    def send(
        self, attempted: str, question: KFPRequest, *, check: bool = True, most: int = 0
    ) -> KFPAnswer:
        """Send a request and return the response, whatever its content type is.

        Args:
            attempted: What failed, for the error.
            question: The request.
            check: Whether an HTTP status other than 2xx is an error.
            most: Number of bytes after which the body is cut; 0 to raise an error for a body that is larger
                than MAX_RESPONSE_BYTES.

        Raises:
            ToolError: See `ask`.
        """
        from urllib3.exceptions import HTTPError, SSLError

        try:
            response = self._send(question, most or MAX_RESPONSE_BYTES)
        except SSLError as error:
            raise explain_tls(self.access, attempted, str(error)) from error
        except ResponseTimeoutError as error:
            raise explain_late(self.access, attempted, error.seconds) from error
        except UnreadableResponseError as error:
            raise explain_invalid_answer(self.access, attempted, str(error)) from error
        except HTTPError as error:
            raise explain_silence(self.access, attempted, error) from error
        except OSError as error:  # the certificate file cannot be read
            raise explain_tls(self.access, attempted, str(error)) from error
        if response.is_cut and not most:
            found = f"an answer of more than {MAX_RESPONSE_BYTES // 1_000_000} MB"
            raise explain_invalid_answer(self.access, attempted, found)
        if check and response.status not in _OK:
            raise explain_status(self.access, attempted, response)
        return response

    def list_all(
        self, attempted: str, path: str, name: str, query: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Yield the objects of a list, one page after the other; pages are requested when they are needed.

        Args:
            attempted: What failed, for the error.
            path: Path of the list below /apis/v2beta1.
            name: Key of the list in the answer, such as "runs".
            query: Query parameters; `page_size` overrides the default of 100.

        Yields:
            The JSON objects; other items are skipped.

        Raises:
            ToolError: See `ask`. Also raised if the pages do not end.
        """
        token, seen = "", {""}
        while True:
            page = {"page_size": str(_PAGE_SIZE), **(query or {})}
            page |= {"page_token": token} if token else {}
            answer = self.get(attempted, path, page)
            yield from filter_by_type(answer.get(name), [dict]) or ()
            token = str(answer.get("next_page_token") or "")
            if not token:
                return
            if token in seen or len(seen) > MAX_PAGES:
                raise explain_invalid_answer(self.access, attempted, "an endless list of pages")
            seen.add(token)

    def close(self) -> None:
        """Close all open connections."""
        if self._pool is not None:
            self._pool.clear()

    def _send(self, question: KFPRequest, most: int) -> KFPAnswer:
        import urllib3

        access = self.access
        base = access.path if question.base is None else question.base
        url = access.host.removesuffix(access.path) + base + question.path
        if not is_same_origin(url, parse_origin(access.host)):
            raise ValueError("a request to Kubeflow Pipelines must stay at the origin of kfp.host")
        headers = make_headers(access)
        content: dict[str, Any] = {"fields": question.fields} if question.fields else {}
        if question.body is not None:
            headers["Content-Type"] = "application/json"
            content["body"] = json.dumps(question.body).encode()
        if question.content is not None:
            headers["Content-Type"], content["body"] = question.content
        query = f"?{urlencode(question.query)}" if question.query else ""
        seconds = _COMPLETE_FACTOR * access.timeout_s
        with warnings.catch_warnings(), self._timer.limit(seconds):
            # urllib3 warns about verify_ssl: false at each request, but the user has set it
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            response = self._open().request(
                question.method,
                url + query,
                headers=headers,
                redirect=False,  # a redirect leads to a login page, or sends credentials to another server
                retries=False,
                preload_content=False,
                **content,
            )
            data, is_cut = read_body(response, most)
        return KFPAnswer(response.status, response.reason or "", response.headers, data, is_cut)

    def _open(self) -> urllib3.PoolManager:
        import urllib3

        if self._pool is None:
            timeout = urllib3.Timeout(connect=self.access.timeout_s, read=self.access.timeout_s)
            options: dict[str, Any] = {"timeout": timeout}
            if self.access.host.startswith("https:"):
                options["ssl_context"] = make_tls_context(self.access)
            self._pool = urllib3.PoolManager(**options)
            time_pools(self._pool, self._timer)
        return self._pool


@contextmanager
def connect(settings: KFPSettings) -> Iterator[KFPConnection]:
    """Open a connection to the server in the settings, and close it at the end of the `with` block.

    Args:
        settings: Section `kfp` of the settings.

    Yields:
        The connection. No request has been sent yet.

    Raises:
        SettingsError: A setting is invalid, or there are no credentials; see read_access.
    """
    connection = KFPConnection(read_access(settings))
    try:
        yield connection
    finally:
        connection.close()
