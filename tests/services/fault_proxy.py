"""A proxy before a server: it counts what passes, and answers some requests as broken ones do."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PIECE = 65536


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int  # of its body, in bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """An answer that is given in the server's place; early: without reading the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    early: bool = False

    def __call__(self, exchange: Exchange) -> None:
        if not self.early:
            exchange.read_body()
        exchange.reply(self.status, self.headers, self.body, close=self.early)


@dataclass(frozen=True)
class Reset:
    """A connection that breaks when `after` bytes of the body have gone on to the server."""

    after: int = 0

    def __call__(self, exchange: Exchange) -> None:
        if self.after:
            exchange.send_part(self.after)
        exchange.reset()


@dataclass(frozen=True)
class Cut:
    """An answer that ends in the middle of its body."""

    after: int

    def __call__(self, exchange: Exchange) -> None:
        status, headers, body = exchange.ask()
        exchange.reply(status, headers, body, until=self.after)
        exchange.reset()


@dataclass(frozen=True)
class Silence:
    """No answer at all, until the proxy stops."""

    def __call__(self, exchange: Exchange) -> None:
        exchange.server.stopping.wait()
        exchange.close_connection = True


Answer = tuple[int, dict[str, str], bytes]
Fault = Callable[["Exchange"], None]


class FaultProxy:
    """A proxy on a port of its own, before the server at target, or before none.

    break_next() gives faults, each for one request; rewrite changes every answer that passes
    """

    def __init__(
        self, target: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.seen: list[Seen] = []
        self.rewrite: Callable[[Seen, Answer], Answer] = lambda _seen, answer: answer
        self.faults: list[tuple[re.Pattern[str], Fault]] = []
        self._server = _Server(self, target, (host, 0), tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def server(self) -> str:
        """host:port."""
        host, port = self._server.server_address[:2]
        return f"{host}:{port}"

    def break_next(self, request: str, *faults: Fault) -> None:
        """Answer the next requests that fit ("PUT .*/manifests/", as regular expression)."""
        self.faults += [(re.compile(request), fault) for fault in faults]

    def take_fault(self, seen: Seen) -> Fault | None:
        """Return the fault for a request, and forget it."""
        found = next((f for f in self.faults if f[0].match(str(seen))), None)
        if found is not None:
            self.faults.remove(found)
        return found and found[1]

    def count(self, request: str) -> int:
        """Return how many requests that fit have come."""
        return sum(bool(re.match(request, str(seen))) for seen in self.seen)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.break_connections()
        self._server.server_close()  # waits for its threads


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(
        self, proxy: FaultProxy, target: int, address: tuple[str, int], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(address, Exchange)
        self.proxy = proxy
        self.target = target
        self.tls = tls
        self.stopping = threading.Event()
        self.open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            # here and not at accept(), where one client that speaks http would stop all others
            request = self.tls.wrap_socket(request, server_side=True)
        self.open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.open.discard(request)
            if self.tls is not None:
                request.close()

    def break_connections(self) -> None:
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: connections that break are what this is for."""


class Exchange(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        seen = Seen(self.command, self.path, dict(self.headers), size)
        self.server.proxy.seen.append(seen)
        self.left = size
        fault = self.server.proxy.take_fault(seen)
        if fault is not None:
            fault(self)
            return
        self.reply(*self.server.proxy.rewrite(seen, self.ask()))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def do_CONNECT(self) -> None:
        """Let a client speak to whom it wants, as a proxy for https does; faults come before."""
        seen = Seen(self.command, self.path, dict(self.headers), 0)
        self.server.proxy.seen.append(seen)
        fault = self.server.proxy.take_fault(seen)
        if fault is not None:
            self.left = 0
            fault(self)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            self.send_response(200)
            self.end_headers()
            self.server.open.add(server)
            back = threading.Thread(target=_relay, args=(server, self.connection))
            back.start()
            _relay(self.connection, server)
            back.join()
            self.server.open.discard(server)
        self.close_connection = True

    def read_body(self) -> bytes:
        body = self.rfile.read(self.left)
        self.left = 0
        return body

    def ask(self) -> Answer:
        """Ask the server and return its answer."""
        server = http.client.HTTPConnection("127.0.0.1", self.server.target)
        server.request(self.command, self.path, self.read_body(), dict(self.headers))
        with server.getresponse() as answer:
            headers = {k: v for k, v in answer.getheaders() if k != "Connection"}
            content = (answer.status, headers, answer.read())
        server.close()
        return content

    def send_part(self, count: int) -> None:
        """Send the beginning of a request to the server, and break off."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        with socket.create_connection(("127.0.0.1", self.server.target)) as server:
            server.sendall(f"{self.command} {self.path} HTTP/1.1\r\n{head}\r\n".encode())
            server.sendall(self.rfile.read(count))

    def reply(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        until: int | None = None,
        close: bool = False,
    ) -> None:
        """Answer; until: send so many bytes of the body only."""
        self.send_response(status)
        lengths = (
            {}
            if any(k.lower() == "content-length" for k in headers)
            else {"Content-Length": str(len(body))}
        )
        for name, value in {**headers, **lengths}.items():
            self.send_header(name, value)
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:until])
        if close:
            # as Go's servers do: the answer is to be read before the connection breaks
            self.connection.shutdown(socket.SHUT_WR)
            while self.left and (piece := self.rfile.read1(_PIECE)):
                self.left -= len(piece)

    def reset(self) -> None:
        """Break the connection as a machine does that goes down."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # both, or the socket stays open until after a polite end
        self.rfile.close()
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def refuse(
    status: int, code: str = "", message: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """Return the answer of a registry that refuses."""
    errors = {"errors": [{"code": code, "message": message}]} if code else {}
    body = json.dumps(errors).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)
