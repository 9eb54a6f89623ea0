"""Explain failed requests to a registry: classify messages of registries, engines and the network."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.http.response import ResponseTimeoutError, parse_json
from fftasks.http.retry import TransientFailure

if TYPE_CHECKING:
    from requests import Response


@dataclass(frozen=True)
class FailureKind:
    """One kind of failure.

    Attributes:
        pattern: Regular expression that is searched in the message, case-insensitive.
        meaning: What happened, for the first line of the error.
        tip: The suggested fix; {server} and {login} are replaced.
        is_transient: Whether the same request may succeed later.
    """

    pattern: str
    meaning: str
    tip: str
    is_transient: bool = False


# the first row that matches is used
_FAILURES = (
    FailureKind(
        "server gave HTTP response to HTTPS client",
        "the registry uses plain http",
        'add "{server}" to "insecure-registries" in the daemon.json of the engine, and restart it',
    ),
    FailureKind(
        "wrong.version.number|record.layer.failure",
        "the registry uses plain http",
        "check the port in registry.server; if this is intended, set registry.insecure: true",
    ),
    FailureKind(
        "HTTP request to an HTTPS server|HTTP request was sent to HTTPS",
        "the registry uses https",
        "set registry.insecure: false, and registry.ca_cert to the CA of its certificate",
    ),
    FailureKind(
        "tunnel connection failed|unable to connect to proxy|proxyconnect",
        "no connection to the registry through the proxy",
        "check HTTPS_PROXY, and name the registry in NO_PROXY if it needs no proxy",
    ),
    FailureKind(
        "certificate has expired|not yet valid",
        "the registry's certificate has expired or is not valid yet",
        "renew it, and check the clock of this machine",
    ),
    FailureKind(
        "hostname mismatch|ip address mismatch",
        "the registry's certificate is for another name",
        "set registry.server to the name in the certificate",
    ),
    FailureKind(
        "certificate.verify.failed",
        "the CA of the registry's certificate is not trusted here",
        "set registry.ca_cert to a file with that CA",
    ),
    FailureKind(
        "not a registry's answer",
        "the server is not a registry",
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
        "the host was not found",
        "check registry.server, and that the engine's machine can resolve it",
    ),
    FailureKind(
        "toomanyrequests|too many requests|HTTP status: 429",
        "the registry's rate limit is reached",
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
        "permission denied by the registry",
        "ask for permission, or set registry.repository to one of your own ({login})",
    ),
    FailureKind(
        "name unknown|name_unknown|repository .* (not found|does not exist)",
        "the repository was not found, and the registry does not create it",
        "create it there first, or check registry.repository",
    ),
    FailureKind(
        "no space left|quota|HTTP status: 507",
        "the registry has no space left",
        "free some space there; layers that were sent are not sent again",
    ),
    FailureKind(
        "HTTP status: 413|entity too large",
        "the request is too large for the registry, or for a proxy in front of it",
        "raise its limit (nginx: client_max_body_size)",
    ),
    FailureKind(
        "from https to plain http",
        "the registry redirects from https to plain http",
        "set the external URL of the registry to https in its configuration",
    ),
    FailureKind(
        "connection refused",
        "connection refused",
        "check registry.server, and that the registry is running",
        is_transient=True,
    ),
    FailureKind(
        "HTTP status: (5..|408)|EOF|connection reset|broken pipe|timeout|timed out|blob upload"
        "|unreachable|use of closed network connection|TLS handshake|closed connection|aborted"
        "|incomplete ?read|connection broken",
        "the registry did not complete the request",
        "run it again: layers that were sent are not sent again; else look at the registry's log",
        is_transient=True,
    ),
    FailureKind(
        "manifest.unknown|blob.unknown|HTTP status: 404",
        "not found in the registry",
        "check the name, and whether it was deleted there; {login}",
    ),
)
_UNKNOWN_FAILURE = FailureKind("", "the registry refused the request", "look at the registry's log")


def classify_failure(message: str) -> FailureKind:
    """Return the kind of failure that a message describes."""
    return next(
        (kind for kind in _FAILURES if re.search(kind.pattern, message, re.IGNORECASE)),
        _UNKNOWN_FAILURE,
    )


def find_transient_failure(
    stage: str, message: str, retry_after_s: float = 0.0
) -> TransientFailure | None:
    """Return how to announce a retry; None if the failure is permanent.

    Args:
        stage: First word of the announcement, such as "push".
        message: The message of the failure.
        retry_after_s: Delay in seconds that the registry asked for; 0 if it did not.
    """
    kind = classify_failure(message)
    if not kind.is_transient:
        return None
    return TransientFailure(f"{stage}: {kind.meaning}", retry_after_s)


def make_registry_error(attempted: str, message: str, *, server: str, username: str) -> ToolError:
    """Return the error for a failed request.

    Args:
        attempted: The first words of the error: what failed.
        message: The message of the failure.
        server: Host and port of the registry.
        username: User name of the login from the settings; "" if another login or none was used.
    """
    kind = classify_failure(message)
    login = (
        f"check registry.username ({username!r}) and registry.password"
        if username
        else f"set registry.username and registry.password, or run `docker login {server}`"
    )
    return ToolError(
        f"{attempted}: {kind.meaning}",
        found=[message],
        tip=kind.tip.format(server=server, login=login),
    )


_ADDRESS = re.compile(r"[a-z]+://[^\s'\"]+", re.IGNORECASE)
_NGINX_TLS = "plain HTTP request was sent to HTTPS port"
_UNKNOWN_API = "not a registry's answer"


class RequestFailedError(Exception):
    """A request that was refused or not answered; RegistryConnection turns it into a ToolError.

    Attributes:
        message: The reason, without URLs, because a URL may contain a key.
        status: The HTTP status; 0 if there was no answer.
        wait_s: Delay in seconds that the registry asked for (Retry-After); 0 if it did not.
        is_display_output: Whether the answer was a web page, which a registry would not send.
        host: The registry that was asked.
        username: User name of the login that was used.
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
    """Check that an answer is a registry's, and reports success.

    Raises:
        RequestFailedError: It is an error or a web page.
    """
    is_page = answer.headers.get("Content-Type", "").startswith("text/html")
    if answer.status_code >= 300:  # noqa: PLR2004 - redirects were followed before
        status = answer.status_code
        message = f"HTTP status: {status} {answer.reason}{_read_errors(answer)}"
        raise RequestFailedError(
            message, status=status, wait_s=_read_retry_after(answer), is_page=is_page
        )
    if is_page:
        raise make_invalid_response_error("it is a web page")


def make_invalid_response_error(found: str) -> RequestFailedError:
    """Return the error for an answer that a registry would not send."""
    return RequestFailedError(f"{_UNKNOWN_API}: {found}")


def parse_json_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object; raise RequestFailedError if the content is anything else."""
    try:
        value = parse_json(content)
    except ValueError as exc:
        raise make_invalid_response_error("it is not JSON") from exc
    if not isinstance(value, dict):
        raise make_invalid_response_error("it is not a JSON object")
    return value


def find_root_cause(exc: BaseException) -> str:
    """Return the innermost message of an exception of requests; the outer ones contain URLs."""
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
    # not __context__, which may be an unrelated exception that a caller was handling
    candidates = (getattr(exc, "reason", None), *exc.args, exc.__cause__)
    return next((c for c in candidates if isinstance(c, BaseException)), None)


def _read_retry_after(answer: Response) -> float:
    """Return the delay in seconds of the header Retry-After, which may be a number or a date."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0


def _read_errors(answer: Response) -> str:
    """Return ": " and the error messages in an answer; "" if there are none."""
    kind = answer.headers.get("Content-Type", "")
    if kind.startswith("text/plain"):
        return f": {answer.text.strip()}" if answer.text.strip() else ""
    try:
        content = parse_json_object(answer.content)
    except RequestFailedError:
        # the only information in nginx's error pages that the status does not contain
        return f": {_NGINX_TLS}" if _NGINX_TLS.encode() in answer.content else ""
    errors = content.get("errors")
    known = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else [content]
    return "".join(f": {text}" for error in known if (text := _read_error(error)))


def _read_error(error: dict[str, Any]) -> str:
    # a token server sends details, or error and error_description of OAuth2
    names = ("code", "message", "details", "error", "error_description")
    texts = [error[name] for name in names if isinstance(error.get(name), str)]
    return ": ".join(text for text in (*texts, _read_detail(error.get("detail"))) if text)


def _read_detail(detail: Any) -> str:
    """Return the message of the registry's disk without the path, which contains the repository."""
    enclosed = detail.get("Enclosed") if isinstance(detail, dict) else None
    number = enclosed.get("Err") if isinstance(enclosed, dict) else None
    if number == errno.ENOSPC:
        return os.strerror(errno.ENOSPC)
    return detail.rpartition(": ")[2] if isinstance(detail, str) else ""
