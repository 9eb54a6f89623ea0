"""What a registry's refusal means, as the engine or the registry itself words it.

What a registry answered, or why it did not: in words that ports/refusal.py knows.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.http.response import ResponseTimeoutError, parse_json

if TYPE_CHECKING:
    from requests import Response


@dataclass(frozen=True)
class FailureKind:
    """One kind of refusal.

    passing: the same request may well succeed a moment later; tip: with {server} and {login}
    """

    pattern: str
    meaning: str
    tip: str
    is_transient: bool = False


# the first row whose sign is found holds
_FAILURES = (
    FailureKind(
        "server gave HTTP response to HTTPS client",
        "the registry speaks plain http",
        'add "{server}" to "insecure-registries" in the daemon.json of the engine, and restart it',
    ),
    FailureKind(
        "wrong.version.number|record.layer.failure",
        "the registry speaks plain http",
        "check the port in registry.server; if it is meant so, set registry.insecure: true",
    ),
    FailureKind(
        "HTTP request to an HTTPS server|HTTP request was sent to HTTPS",
        "the registry speaks https",
        "set registry.insecure: false, and registry.ca_cert to the CA of its certificate",
    ),
    FailureKind(
        "tunnel connection failed|unable to connect to proxy|proxyconnect",
        "the proxy on the way to the registry does not let it through",
        "check HTTPS_PROXY, and name the registry in NO_PROXY if it needs no proxy",
    ),
    FailureKind(
        "certificate has expired|not yet valid",
        "the registry's certificate is out of date",
        "have it renewed, and check the clock of this machine",
    ),
    FailureKind(
        "hostname mismatch|ip address mismatch",
        "the registry's certificate is for another name",
        "set registry.server to the name in the certificate",
    ),
    FailureKind(
        "certificate.verify.failed",
        "nobody here knows the CA of the registry's certificate",
        "set registry.ca_cert to a file with that CA",
    ),
    FailureKind(
        "not a registry's answer",
        "what answers there is no registry",
        "check registry.server, and whether a proxy or a login page is in the way",
    ),
    FailureKind(
        "x509:|certificate",
        "the engine does not trust the registry's certificate",
        "put your CA into /etc/docker/certs.d/{server}/ca.crt on the engine's machine",
    ),
    FailureKind(
        "no such host|server misbehaving|name resolution|lookup .* timeout|name or service not known"
        "|nodename nor servname|no address associated",
        "there is no such host",
        "check registry.server, and that the engine's machine can resolve it",
    ),
    FailureKind(
        "toomanyrequests|too many requests|HTTP status: 429",
        "the registry is asked too often",
        "run it again later",
        is_transient=True,
    ),
    FailureKind(
        "no basic auth credentials|unauthorized|authentication required|incorrect username"
        "|HTTP status: 401",
        "the registry does not accept the login",
        "{login}",
    ),
    FailureKind(
        "denied|forbidden|insufficient_scope|HTTP status: 403",
        "the registry does not allow it",
        "ask for the right to it, or set registry.repository to one that is yours ({login})",
    ),
    FailureKind(
        "name unknown|name_unknown|repository .* (not found|does not exist)",
        "the registry has no such repository and does not make one",
        "make it there first, or check registry.repository",
    ),
    FailureKind(
        "no space left|quota|HTTP status: 507",
        "the registry has no space left",
        "make room there; what has been sent is not sent again",
    ),
    FailureKind(
        "HTTP status: 413|entity too large",
        "something that is sent is too large for the registry, or for a proxy before it",
        "raise its limit (nginx: client_max_body_size)",
    ),
    FailureKind(
        "plain http",
        "the registry leads from https to plain http",
        "have the registry's own address set to https in its configuration",
    ),
    FailureKind(
        "connection refused",
        "nothing answers there",
        "check registry.server, and that the registry runs",
        is_transient=True,
    ),
    FailureKind(
        "HTTP status: (5..|408)|EOF|connection reset|broken pipe|timeout|timed out|blob upload"
        "|unreachable|use of closed network connection|TLS handshake|closed connection|aborted"
        "|incomplete ?read|connection broken",
        "the registry broke off",
        "run it again: what has been sent is not sent again; else look at the registry's log",
        is_transient=True,
    ),
    FailureKind(
        "manifest.unknown|blob.unknown|HTTP status: 404",
        "the registry does not have it",
        "check the name, and whether it was deleted there; {login}",
    ),
)
_UNKNOWN_FAILURE = FailureKind("", "the registry refused", "look at the registry's log")


def classify_failure(message: str) -> FailureKind:
    """Return the kind of a refusal."""
    return next(
        (r for r in _FAILURES if re.search(r.pattern, message, re.IGNORECASE)), _UNKNOWN_FAILURE
    )


def make_registry_error(attempted: str, message: str, *, server: str, username: str) -> ToolError:
    """Return the error for a refusal.

    username: that of the login that was used, "" for Docker's own, or none.
    """
    refusal = classify_failure(message)
    login = (
        f"check registry.username ({username!r}) and registry.password"
        if username
        else f"set registry.username and registry.password, or run `docker login {server}`"
    )
    return ToolError(
        f"{attempted}: {refusal.meaning}",
        found=[message],
        tip=refusal.tip.format(server=server, login=login),
    )


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


def check_response(answer: Response) -> None:
    """Raise RequestFailedError unless this is a registry's answer, and a yes."""
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status_code >= 300:  # noqa: PLR2004  (a redirect is followed before)
        status = answer.status_code
        message = f"HTTP status: {status} {answer.reason}{_read_errors(answer)}"
        raise RequestFailedError(
            message, status=status, wait_s=_read_retry_after(answer), is_page=is_page
        )
    if is_page:
        raise make_invalid_response_error("a web page came")


def make_invalid_response_error(found: str) -> RequestFailedError:
    """Return the error for an answer that no registry gives."""
    return RequestFailedError(f"{_UNKNOWN_API}: {found}")


def parse_json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object that content holds; raise RequestFailedError if it is none."""
    try:
        value = parse_json(content)
    except ValueError as exc:
        raise make_invalid_response_error("it is no JSON") from exc
    if not isinstance(value, dict):
        raise make_invalid_response_error("it is no JSON object")
    return value


def find_root_cause(exc: BaseException) -> str:
    """Return the innermost reason of an exception of requests; the outer ones show addresses."""
    from requests.exceptions import ProxyError

    prefix = "unable to connect to proxy: " if isinstance(exc, ProxyError) else ""
    if isinstance(exc, ResponseTimeoutError):
        return str(exc)
    inner: BaseException | None = exc
    while inner is not None:
        exc, inner = inner, _find_inner_exception(inner)
    text = str(exc.strerror if isinstance(exc, OSError) and exc.strerror else exc)
    return prefix + _ADDRESS.sub("<address>", text)


def _find_inner_exception(exc: BaseException) -> BaseException | None:
    # not __context__: that may be what a caller was busy with
    candidates = (getattr(exc, "reason", None), *exc.args, exc.__cause__)
    return next((c for c in candidates if isinstance(c, BaseException)), None)


def _read_retry_after(answer: Response) -> float:
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
        content = parse_json_object(answer.content)
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
