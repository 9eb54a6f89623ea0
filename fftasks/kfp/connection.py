"""Errors of Kubeflow Pipelines' REST interface, each said once, with the setting to look at.

One way to talk to Kubeflow Pipelines: JSON over HTTP, each request sent once.

Not kfp.Client: to import it takes half a second, it keeps files in ~/.config/kfp, and loses what its version
does not know of an answer. How it proves who somebody is, is used: see kfp_access.py.
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

_NOT_FOUND = 5  # gRPC's code in KFP's answers, as opposed to the 404 of some other server
_HTML = re.compile(r"<(!doctype )?html", re.IGNORECASE)
_LOGIN_TIP = "set kfp.token, kfp.token_file or kfp.cookies; what is set may have expired"
_HOST_TIP = "is kfp.host the address of Kubeflow Pipelines, without a path of its page?"
_TLS_TIP = (
    "kfp.ca_cert names the file of your own CA, kfp.verify_ssl: false trusts anyone; "
    "or does kfp.host speak http://?"
)
_TIPS = {
    401: _LOGIN_TIP,
    403: "look at kfp.namespace: the account of the token or cookies may not do this there",
    404: _HOST_TIP,
    409: "somebody made the same at this moment: run it again",
    413: "the server takes no pipeline of this size: use fewer nodes or shorter constants",
    429: "the server is busy: run it again later",
}


@dataclass(frozen=True)
class KFPAnswer:
    """An answer over HTTP.

    Attributes:
        status: The HTTP status.
        reason: What the server calls it.
        headers: The headers; names in any case.
        data: The content, decompressed.
        is_cut: Whether the content is only the beginning.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes
    is_cut: bool = False


class NoAnswerError(ToolError):
    """A request that may have been carried out, and may have not."""


class UnavailableError(ToolError):
    """Nobody answers at the moment; later somebody may."""


class LostAnswerError(NoAnswerError, UnavailableError):
    """Both: it was sent, and whoever should answer it cannot."""


class NotFoundError(ToolError):
    """Kubeflow Pipelines knows no such run, version or the like."""


def explain_status(access: Access, attempted: str, answer: KFPAnswer) -> ToolError:
    """Return the error for an HTTP status beyond 2xx."""
    status = answer.status
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP
        return _explain_redirect(access, attempted, status, answer.headers.get("Location", ""))
    body = answer.data.decode("utf-8", "replace")
    message = _read_message(body)
    found = [f"{access.host} answered HTTP {status} {answer.reason}", message]
    if status == 404 and _read_code(body) == _NOT_FOUND:  # noqa: PLR2004 - HTTP
        return NotFoundError(attempted, found=found, tip=_HOST_TIP)
    if status >= 500:  # noqa: PLR2004 - HTTP
        tip = "the server has trouble: look at the log of its ml-pipeline pod, and run it again"
        return LostAnswerError(attempted, found=found, tip=tip)
    tip = _TIPS.get(status, "look at kfp.namespace" if "namespace" in message.lower() else "")
    kind = UnavailableError if status == 429 else ToolError  # noqa: PLR2004 - HTTP
    return kind(attempted, found=found, tip=tip)


def _explain_redirect(access: Access, attempted: str, status: int, location: str) -> ToolError:
    """Return the error for a redirect; it shows the target without the query, which may be secret."""
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
    """Return the error for an urllib3 exception: there was no answer."""
    from urllib3 import exceptions

    never_sent = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
    kind = UnavailableError if isinstance(error, never_sent) else LostAnswerError
    # a refused connection is a TimeoutError too, in urllib3
    refused = isinstance(error, exceptions.NewConnectionError)
    if isinstance(error, exceptions.TimeoutError) and not refused:
        found = f"{access.host} did not answer within {access.timeout_s:g} s"
        tip = "is kfp.host right, and reachable from here? kfp.timeout_s is how long to wait"
    else:
        found = f"no connection to {access.host}: {_name_cause(error)}"
        tip = "is kfp.host right, and is `kubectl port-forward` running if you use one?"
    return kind(attempted, found=[found], tip=tip)


def explain_late(access: Access, attempted: str, seconds: float) -> ToolError:
    """Return the error for an answer that kept coming and was not complete in time."""
    found = f"{access.host} did not complete its answer within {seconds:g} s"
    tip = "a slow connection needs a larger kfp.timeout_s: an answer may take four times as long"
    return LostAnswerError(attempted, found=[found], tip=tip)


def _name_cause(error: Exception) -> str:
    """Return why there was no answer, in the words of whoever has noticed it."""
    cause = error.args[-1] if error.args else ""
    if isinstance(cause, Exception):  # a connection that broke
        return getattr(cause, "strerror", None) or str(cause)
    # what comes before the last colon is the repr of a connection
    return str(error).rpartition(": ")[2]


def explain_tls(access: Access, attempted: str, reason: str) -> ToolError:
    """Return the error for a TLS handshake that failed."""
    return ToolError(attempted, found=[f"TLS to {access.host}: {reason}"], tip=_TLS_TIP)


def explain_invalid_answer(access: Access, attempted: str, answer: str) -> ToolError:
    """Return the error for an answer that Kubeflow Pipelines would not give."""
    found = [f"{access.host} answered with what is not from Kubeflow Pipelines", _shorten(answer)]
    tip = _LOGIN_TIP if _HTML.search(answer) else _HOST_TIP
    return NoAnswerError(attempted, found=found, tip=tip)


def _read_code(body: str) -> object:
    try:
        answer = parse_json(body)
    except ValueError:
        return None
    return answer.get("code") if isinstance(answer, dict) else None


def _read_message(body: str) -> str:
    """Return what the server says about an error, in one line."""
    try:
        answer = parse_json(body)
    except ValueError:
        return _shorten(body)
    said = isinstance(answer, dict) and (answer.get("message") or answer.get("error"))
    return _shorten(str(said or body))


def _shorten(text: str) -> str:
    # no part reads beyond the next "<", so that the time is proportional to the length
    title = re.search(r"<title[^<>]*>([^<]*)</title", text, re.IGNORECASE)
    words = " ".join((title[1] if title else text).split())
    return f"a web page: {words[:100]!r}" if _HTML.search(text) else words[:1000]


API = "/apis/v2beta1"
_OK = range(200, 300)
_PAGE_SIZE = 100
_PATIENCE = 4  # times kfp.timeout_s, for an answer that keeps coming

Json = dict[str, Any]
Fields = Mapping[str, tuple[str, bytes, str]]  # name -> name of the file, content, type


@dataclass(frozen=True)
class KFPRequest:
    """A request to the host of the settings.

    Attributes:
        method: The HTTP method.
        path: Path below the base; it begins with a slash.
        query: Query parameters.
        body: JSON to send.
        fields: Fields of a form to send.
        content: Raw content to send: its type and its bytes.
        base: Path of the same server that `path` is appended to, for services beside Kubeflow Pipelines; None
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
    """An open way to one host."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._pool: urllib3.PoolManager | None = None
        self._watch = ResponseTimer()

    def get(self, attempted: str, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return what there is at a path below /apis/v2beta1; see `ask`."""
        return self.ask(attempted, KFPRequest("GET", API + path, query or {}))

    def post(self, attempted: str, path: str, body: Json, needed: str = "") -> Json:
        """Return what the host answers to JSON that is sent below /apis/v2beta1; see `ask`."""
        return self.ask(attempted, KFPRequest("POST", API + path, body=body), needed)

    def ask(self, attempted: str, question: KFPRequest, needed: str = "") -> Json:
        """Return the JSON that the host answers.

        attempted: for the error
        needed: a key without which an answer is none, "" for any

        Raises ToolError: as NoAnswerError if the request may have been carried out, as NotFoundError if
        Kubeflow Pipelines does not know what is asked for.
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
        """Return an answer of any kind.

        Args:
            attempted: What failed, for the error.
            question: The request.
            check: Whether an HTTP status other than 2xx is an error.
            most: Number of bytes after which the content is cut; 0 to refuse an answer that is too large.

        Raises:
            ToolError: As `ask` does.
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
        except OSError as error:  # the file of certificates
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
        """Yield what a list has, page by page, as far as somebody reads on; name: of the list's key."""
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
                raise explain_invalid_answer(
                    self.access, attempted, "a list of pages without an end"
                )
            seen.add(token)

    def close(self) -> None:
        """Close what is open."""
        if self._pool is not None:
            self._pool.clear()

    def _send(self, question: KFPRequest, most: int) -> KFPAnswer:
        import urllib3

        access = self.access
        base = access.path if question.base is None else question.base
        url = access.host.removesuffix(access.path) + base + question.path
        if not is_same_origin(url, parse_origin(access.host)):
            raise ValueError("a request of Kubeflow Pipelines may not leave the origin of kfp.host")
        headers = make_headers(access)
        content: dict[str, Any] = {"fields": question.fields} if question.fields else {}
        if question.body is not None:
            headers["Content-Type"] = "application/json"
            content["body"] = json.dumps(question.body).encode()
        if question.content is not None:
            headers["Content-Type"], content["body"] = question.content
        query = f"?{urlencode(question.query)}" if question.query else ""
        seconds = _PATIENCE * access.timeout_s
        with warnings.catch_warnings(), self._watch.limit(seconds):
            # urllib3 warns of verify_ssl: false at each request; the user has said so
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            response = self._open().request(
                question.method,
                url + query,
                headers=headers,
                redirect=False,  # it would lead to a login page, or send credentials to another server
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
            time_pools(self._pool, self._watch)
        return self._pool


@contextmanager
def connect(settings: KFPSettings) -> Iterator[KFPConnection]:
    """Give a connection to the host of the settings; raise SettingsError if they are not right."""
    connection = KFPConnection(read_access(settings))
    try:
        yield connection
    finally:
        connection.close()
