"""The HTML page of a run as a single file, and the server of `doit board` for it.

The content security policy of the page names the digest of its only script, so that injected markup cannot
run scripts; the script handles data as text. Documents of results are shown in frames, which inherit the
policy: styles and pictures are shown, scripts do not run, and nothing is fetched.

The server listens on localhost only. A request must name localhost as its host, so that a page whose host
name resolves to this machine cannot read anything (DNS rebinding). It must also contain the token of the URL
that `doit board` prints, because other users of this machine can reach the port. The token stays in the URL,
so that the script of the page can send it and a reload keeps it. It is not a cookie, because browsers send
the cookies of a host to all of its ports, and a server of another user may listen on one of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fftasks.errors import FFTasksError, ToolError

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("table.js", "timeline.js", "page.js")


def format_page(content: Mapping[str, Any]) -> str:
    """Return the HTML of a page.

    Args:
        content: Content of the page; see page_content.py.
    """
    style = _read_asset("page.css")
    script = "\n".join(_read_asset(name) for name in _SCRIPTS)
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline';"
        f" script-src '{_digest_script(script)}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(str(content["title"])),
        "style": style,
        "data": format_page_data(content),
        "script": script,
    }
    markup = _read_asset("page.html")
    # The data comes last, because it may contain any text, including placeholders.
    for name in ("policy", "title", "style", "script", "data"):
        before, _, after = markup.partition("{" + name + "}")
        markup = f"{before}{parts[name]}{after}"
    return markup


def format_page_data(content: Mapping[str, Any]) -> str:
    """Return content as JSON without characters that an HTML parser could interpret as markup."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text("utf-8")


def _digest_script(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


LOOPBACK_ADDRESS = "127.0.0.1"
_LOOPBACK_HOSTS = (LOOPBACK_ADDRESS, "localhost", "[::1]")
_MIN_REFRESH_S = 0.9
_MAX_PORT = 65535
_PORT_TIP = "`doit board --port 0` selects a free port"

# open connections; if there are more, the connection that has been idle longest is closed
_MAX_CONNECTIONS = 64
_WAITRESS = {
    "threads": 4,
    "ident": "fftasks",
    # never reached; at this limit, waitress would not accept new connections
    "connection_limit": 4 * _MAX_CONNECTIONS,
    "channel_timeout": 30,
    "cleanup_interval": 5,
    "max_request_body_size": 1 << 10,
    "asyncore_use_poll": True,
}
_NEEDS_TOKEN = b"""\
403: this board needs its token.

Open the whole address that `doit board` printed: it ends with ?token=...
Each start of the board creates a new token.
"""
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class BoardApplication:
    """The WSGI application of `doit board`.

    Attributes:
        token: Value that the query of each request must contain; each board has a new one.
    """

    def __init__(self, describe: Callable[[], dict[str, Any]], empty: dict[str, Any]) -> None:
        """Create the application.

        Args:
            describe: Returns the current content of the page; it may raise FFTasksError.
            empty: Content that is shown until describe succeeds.
        """
        self.token = secrets.token_urlsafe(32)
        self._describe = describe
        self._lock = threading.Lock()
        self._content = empty
        self._made = -_MIN_REFRESH_S

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Respond to a request, as specified by WSGI.

        Args:
            environ: Variables of the request.
            start: Starts the response with status and headers.
        """
        status, kind, body = self._answer(environ)
        mark = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if status == "200 OK" and environ.get("HTTP_IF_NONE_MATCH") == mark:
            status, body = "304 Not Modified", b""
        headers = [
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("ETag", mark),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ]
        start(status, headers)
        return [body]

    def _has_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _answer(self, environ: dict[str, Any]) -> tuple[str, str, bytes]:
        if not is_loopback_host(environ.get("HTTP_HOST", "")):
            return (
                "403 Forbidden",
                "text/plain",
                b"the board can only be opened on its own machine\n",
            )
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"only GET and HEAD are allowed\n"
        if not self._has_token(_read_query(environ)):
            return "403 Forbidden", "text/plain", _NEEDS_TOKEN
        path = environ.get("PATH_INFO", "")
        if path == "/data.json":
            return "200 OK", "application/json", format_page_data(self._read()).encode()
        if path == "/":
            return "200 OK", "text/html", format_page(self._read()).encode()
        return "404 Not Found", "text/plain", b"not found; the paths are / and /data.json\n"

    def _read(self) -> dict[str, Any]:
        """Return the content. It is updated at most once per interval, whatever the number of requests."""
        with self._lock:
            if time.monotonic() - self._made > _MIN_REFRESH_S:
                try:
                    self._content = self._describe()
                except FFTasksError as error:  # possibly temporary: keep the last content
                    self._content = {**self._content, "notice": str(error)}
                self._made = time.monotonic()
            return {**self._content, "live": True}


def is_loopback_host(host: str) -> bool:
    """Return whether the Host header of a request names this machine, with any port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower() in _LOOPBACK_HOSTS


def _read_query(environ: dict[str, Any]) -> str:
    found = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])
    return found[-1]


def serve_board(board: BoardApplication, port: int, say: Callable[[str], None]) -> None:
    """Serve the board until Ctrl-C.

    Args:
        board: The application.
        port: TCP port on localhost; 0 selects a free port.
        say: Callback that receives the URL of the board with its token, and "" when the server stops.

    Raises:
        ToolError: The port is invalid or in use.
    """
    import logging

    from waitress.channel import HTTPChannel
    from waitress.server import create_server

    class Channel(HTTPChannel):  # type: ignore[misc]
        """A connection. If there are too many, it closes the connection that has been idle longest."""

        def __init__(self, server: Any, *args: Any, **options: Any) -> None:
            super().__init__(server, *args, **options)
            others = [one for one in server.active_channels.values() if one is not self]
            waiting = [one for one in others if not one.requests and not one.will_close]
            for one in sorted(waiting, key=lambda one: one.creation_time)[: 1 - _MAX_CONNECTIONS]:
                one.will_close = True

    if not 0 <= port <= _MAX_PORT:
        found = [f"a port is a number from 0 to {_MAX_PORT}"]
        raise ToolError(
            f"board: cannot listen on {LOOPBACK_ADDRESS}:{port}", found=found, tip=_PORT_TIP
        )
    logging.getLogger("waitress").setLevel(logging.ERROR)
    try:
        listener = socket.create_server((LOOPBACK_ADDRESS, port))
    except OSError as error:
        raise ToolError(
            f"board: cannot listen on {LOOPBACK_ADDRESS}:{port}",
            found=[error.strerror or str(error)],
            tip=_PORT_TIP,
        ) from error
    server = create_server(board, sockets=[listener], **_WAITRESS)
    server.channel_class = Channel
    say(f"http://{LOOPBACK_ADDRESS}:{listener.getsockname()[1]}/?token={board.token}")
    try:
        server.run()  # returns at Ctrl-C
    finally:
        server.close()
        say("")
