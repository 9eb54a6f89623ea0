"""The page as one file: markup, style, script and data, with nothing to fetch.

The policy in it names the digest of the one script, so that no markup that came from somewhere else could
run, even if it got in; data are text to the page's script. Documents of results are shown in frames, which
inherit the policy: their styles and pictures are seen, their scripts do not run, and nothing is fetched.

The server of `doit board`: a page and its data, for browsers on this machine only.

A request must name this machine as its host, so that a page on another host whose name leads here reads
nothing. It must also carry the token that `doit board` has printed in the address: other users of this
machine can reach the port as well. The token stays in the address: the page's script sends it with each of
its requests, and a reload has it. It is never in a cookie, because a browser sends the cookies of a host to
all of its ports, and another user's server may listen at one of them.
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
    """Return the HTML of a page with this content; see content.py."""
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
    for name in (
        "policy",
        "title",
        "style",
        "script",
        "data",
    ):  # the data last: it may hold anything
        before, _, after = markup.partition("{" + name + "}")
        markup = f"{before}{parts[name]}{after}"
    return markup


def format_page_data(content: Mapping[str, Any]) -> str:
    """Return content as JSON that no parser of HTML takes for markup."""
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
_PORT_TIP = "`doit board --port 0` takes a port that is free"

# open connections; if there are more, the connection that has been idle longest is closed
_MAX_CONNECTIONS = 64
_WAITRESS = {
    "threads": 4,
    "ident": "fftasks",
    "connection_limit": 4
    * _MAX_CONNECTIONS,  # is never reached; at its limit, waitress would accept no new connection
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
    """A WSGI application.

    describe: gives the content of the page as it is now, and may raise FFTasksError
    empty: what is shown until it does not
    token: value that the query of a request must contain; each board has a new one
    """

    def __init__(self, describe: Callable[[], dict[str, Any]], empty: dict[str, Any]) -> None:
        self.token = secrets.token_urlsafe(32)
        self._describe = describe
        self._lock = threading.Lock()
        self._content = empty
        self._made = -_MIN_REFRESH_S

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
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
            return "403 Forbidden", "text/plain", b"this board is for browsers on its own machine\n"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"there is nothing to change here\n"
        if not self._has_token(_read_query(environ)):
            return "403 Forbidden", "text/plain", _NEEDS_TOKEN
        path = environ.get("PATH_INFO", "")
        if path == "/data.json":
            return "200 OK", "application/json", format_page_data(self._read()).encode()
        if path == "/":
            return "200 OK", "text/html", format_page(self._read()).encode()
        return "404 Not Found", "text/plain", b"there is / and /data.json\n"

    def _read(self) -> dict[str, Any]:
        """Return the content, made anew at most once in a while, however many browsers ask."""
        with self._lock:
            if time.monotonic() - self._made > _MIN_REFRESH_S:
                try:
                    self._content = self._describe()
                except FFTasksError as error:  # for a moment, perhaps: what was known stays
                    self._content = {**self._content, "notice": str(error)}
                self._made = time.monotonic()
            return {**self._content, "live": True}


def is_loopback_host(host: str) -> bool:
    """Tell whether a request's Host names this machine, with any port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower() in _LOOPBACK_HOSTS


def _read_query(environ: dict[str, Any]) -> str:
    found = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])
    return found[-1]


def serve_board(board: BoardApplication, port: int, say: Callable[[str], None]) -> None:
    """Answer requests until Ctrl-C; port 0 takes a free one. Raises ToolError if it is taken, or none.

    say: Callback that receives the URL of the board, with its token; called with "" when it stops.
    """
    import logging

    from waitress.channel import HTTPChannel
    from waitress.server import create_server

    class Channel(HTTPChannel):  # type: ignore[misc]
        """A connection; if there are too many, it closes the one that has been idle longest."""

        def __init__(self, server: Any, *args: Any, **options: Any) -> None:
            super().__init__(server, *args, **options)
            others = [one for one in server.active_channels.values() if one is not self]
            waiting = [one for one in others if not one.requests and not one.will_close]
            for one in sorted(waiting, key=lambda one: one.creation_time)[: 1 - _MAX_CONNECTIONS]:
                one.will_close = True

    if not 0 <= port <= _MAX_PORT:
        found = [f"a port is a number up to {_MAX_PORT}"]
        raise ToolError(
            f"board: cannot listen at {LOOPBACK_ADDRESS}:{port}", found=found, tip=_PORT_TIP
        )
    logging.getLogger("waitress").setLevel(logging.ERROR)
    try:
        listener = socket.create_server((LOOPBACK_ADDRESS, port))
    except OSError as error:
        raise ToolError(
            f"board: cannot listen at {LOOPBACK_ADDRESS}:{port}",
            found=[error.strerror or str(error)],
            tip=_PORT_TIP,
        ) from error
    server = create_server(board, sockets=[listener], **_WAITRESS)
    server.channel_class = Channel
    say(f"http://{LOOPBACK_ADDRESS}:{listener.getsockname()[1]}/?token={board.token}")
    try:
        server.run()  # it returns at Ctrl-C
    finally:
        server.close()
        say("")
