"""What a registry answered, or why it did not: in words that ports/refusal.py knows."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from fftasks.ports.answer import TooLongError, parse_json

if TYPE_CHECKING:
    from requests import Response

_ADDRESS = re.compile(r"[a-z]+://[^\s'\"]+", re.IGNORECASE)
_LONGEST_WAIT_S = 60.0
_NGINX_TLS = "plain HTTP request was sent to HTTPS port"
_UNKNOWN_API = "not a registry's answer"


class RequestFailedError(Exception):
    """One request that was refused, or got no answer; the owner of the connection explains it.

    message: without addresses, since an address may hold a key
    status: of HTTP, 0 if there was no answer; wait_s: what the registry asked to wait, 0 if nothing
    is_page: the answer was made for people, so maybe by no registry
    host, username: who was asked, and as whom
    """

    def __init__(
        self, message: str, *, status: int = 0, wait_s: float = 0.0, is_page: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.wait_s = wait_s
        self.is_page = is_page
        self.host = ""
        self.username = ""


def check_answer(answer: Response) -> None:
    """Raise RequestFailedError unless this is a registry's answer, and a yes."""
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status_code >= 300:  # noqa: PLR2004  (a redirect is followed before)
        status = answer.status_code
        message = f"HTTP status: {status} {answer.reason}{_read_errors(answer)}"
        raise RequestFailedError(message, status=status, wait_s=_read_wait(answer), is_page=is_page)
    if is_page:
        raise make_stranger("a web page came")


def make_stranger(found: str) -> RequestFailedError:
    """Return the error for an answer that no registry gives."""
    return RequestFailedError(f"{_UNKNOWN_API}: {found}")


def parse_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object that content holds; raise RequestFailedError if it is none."""
    try:
        value = parse_json(content)
    except ValueError as exc:
        raise make_stranger("it is no JSON") from exc
    if not isinstance(value, dict):
        raise make_stranger("it is no JSON object")
    return value


def read_cause(exc: BaseException) -> str:
    """Return the innermost reason of an exception of requests; the outer ones show addresses."""
    from requests.exceptions import ProxyError

    prefix = "unable to connect to proxy: " if isinstance(exc, ProxyError) else ""
    if isinstance(exc, TooLongError):
        return str(exc)
    inner: BaseException | None = exc
    while inner is not None:
        exc, inner = inner, _find_inner(inner)
    text = str(exc.strerror if isinstance(exc, OSError) and exc.strerror else exc)
    return prefix + _ADDRESS.sub("<address>", text)


def _find_inner(exc: BaseException) -> BaseException | None:
    # not __context__: that may be what a caller was busy with
    candidates = (getattr(exc, "reason", None), *exc.args, exc.__cause__)
    return next((c for c in candidates if isinstance(c, BaseException)), None)


def _read_wait(answer: Response) -> float:
    """Return the seconds of a Retry-After, which may be a number or a date; a minute at most."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        wait_s = Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0
    return min(wait_s, _LONGEST_WAIT_S)


def _read_errors(answer: Response) -> str:
    """Return ": " and what the answer says went wrong, or "" if it says nothing to print."""
    kind = answer.headers.get("Content-Type", "")
    if kind.startswith("text/plain"):
        return f": {answer.text.strip()}" if answer.text.strip() else ""
    try:
        content = parse_object(answer.content)
    except RequestFailedError:
        # the one thing in nginx's pages that is not in the status
        return f": {_NGINX_TLS}" if _NGINX_TLS.encode() in answer.content else ""
    errors = content.get("errors")
    known = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else [content]
    return "".join(f": {text}" for error in known if (text := _read_error(error)))


def _read_error(error: dict[str, Any]) -> str:
    # a token server has details, or OAuth2's error and error_description
    names = ("code", "message", "details", "error", "error_description")
    texts = [error[name] for name in names if isinstance(error.get(name), str)]
    return ": ".join(text for text in (*texts, _read_detail(error.get("detail"))) if text)


def _read_detail(detail: Any) -> str:
    """Return what a registry's disk said; not the path in it, which has the repository's name."""
    enclosed = detail.get("Enclosed") if isinstance(detail, dict) else None
    number = enclosed.get("Err") if isinstance(enclosed, dict) else None
    if number == errno.ENOSPC:
        return os.strerror(errno.ENOSPC)
    return detail.rpartition(": ")[2] if isinstance(detail, str) else ""
