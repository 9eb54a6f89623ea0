"""Errors of Kubeflow Pipelines' REST interface, each said once, with the setting to look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from fftasks.errors import ToolError
from fftasks.ports.answer import parse_json
from fftasks.ports.credentials import parse_address, parse_origin
from fftasks.ports.kfp_access import Access

_NOT_FOUND = 5  # gRPC's code in KFP's answers, as opposed to the 404 of some other server
_PAGE = re.compile(r"<(!doctype )?html", re.IGNORECASE)
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
class Answer:
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


class AwayError(ToolError):
    """Nobody answers at the moment; later somebody may."""


class LostAnswerError(NoAnswerError, AwayError):
    """Both: it was sent, and whoever should answer it cannot."""


class NotFoundError(ToolError):
    """Kubeflow Pipelines knows no such run, version or the like."""


def explain_status(access: Access, attempted: str, answer: Answer) -> ToolError:
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
    kind = AwayError if status == 429 else ToolError  # noqa: PLR2004 - HTTP
    return kind(attempted, found=found, tip=tip)


def _explain_redirect(access: Access, attempted: str, status: int, location: str) -> ToolError:
    """Return the error for a redirect; it shows the target without the query, which may be secret."""
    said = f"{access.host} answered HTTP {status}: go to"
    try:
        ours = parse_origin(access.host)
        theirs, url = parse_address(urljoin(access.host, location))
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
    kind = AwayError if isinstance(error, never_sent) else LostAnswerError
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


def explain_nonsense(access: Access, attempted: str, answer: str) -> ToolError:
    """Return the error for an answer that Kubeflow Pipelines would not give."""
    found = [f"{access.host} answered with what is not from Kubeflow Pipelines", _shorten(answer)]
    tip = _LOGIN_TIP if _PAGE.search(answer) else _HOST_TIP
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
    return f"a web page: {words[:100]!r}" if _PAGE.search(text) else words[:1000]
