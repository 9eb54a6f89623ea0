"""Read what a server answers up to limits of time, size and nesting, and check its types.

A server may be broken or hostile. It may send a byte now and then, never end its answer, send a gzip bomb,
nest JSON deeply, or send a number where a mapping is expected.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import urllib3

MAX_RESPONSE_BYTES = 64_000_000  # of an answer: a run of 2,000 nodes has about 10 MB
MAX_PAGES = 1_000  # of a list
_MAX_DEPTH = 100  # levels of JSON
_CHUNK_BYTES = 1 << 16
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 47  # for zlib: either header
_SURROGATE = re.compile(rb"\\ud[89a-f]", re.IGNORECASE)


class UnreadableResponseError(Exception):
    """An answer that is too large, or has an encoding that was not requested."""


class ResponseTimeoutError(Exception):
    """An answer that was not complete in time.

    Attributes:
        seconds: The time limit.
    """

    def __init__(self, seconds: float) -> None:
        """Create the error for a time limit in seconds."""
        super().__init__(f"the answer was not complete after {seconds:g} s")
        self.seconds = seconds


class ResponseTimer:
    """Limit the total time of an answer, from the end of the request to the end of the body.

    The timeout of a socket starts again with each byte, so a timer shuts the socket down. A ResponseTimer is
    for one request at a time.
    """

    def __init__(self) -> None:
        """Create a timer without a time limit; see limit()."""
        self._seconds = 0.0
        self._timer: threading.Timer | None = None
        self._is_over = False

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Limit the time of the answer to the request that is sent inside.

        Raises:
            ResponseTimeoutError: The answer was not complete in time.
        """
        self._seconds, self._is_over = seconds, False
        try:
            yield
        except Exception as error:
            if self._is_over:
                raise ResponseTimeoutError(seconds) from error
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if self._is_over:  # without a length, a truncated answer looks complete
            raise ResponseTimeoutError(seconds)

    def begin(self, connected: socket.socket | None) -> None:
        """Start the timer: the request was sent on this socket."""
        if connected is None:
            return
        self._timer = threading.Timer(self._seconds, self._end, [connected])
        self._timer.daemon = True
        self._timer.start()

    def _end(self, connected: socket.socket) -> None:
        self._is_over = True
        with suppress(OSError):  # closed meanwhile
            # not the method of SSLSocket, after which the reading thread would continue without TLS
            socket.socket.shutdown(connected, socket.SHUT_RDWR)


def time_pools(manager: urllib3.PoolManager, watch: ResponseTimer) -> None:
    """Let new connections of a PoolManager start a ResponseTimer."""

    def make(pool: Any) -> Any:
        return type(
            "Pool", (pool,), {"ConnectionCls": make_timed_connection(pool.ConnectionCls, watch)}
        )

    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: make(pool) for scheme, pool in pools.items()}


def make_timed_connection(connection: Any, watch: ResponseTimer) -> Any:
    """Return a subclass of an http.client connection class that starts a ResponseTimer."""

    def getresponse(self: Any) -> Any:
        watch.begin(self.sock)
        return connection.getresponse(self)

    return type("Connection", (connection,), {"getresponse": getresponse})


def read_body(response: Any, most: int = MAX_RESPONSE_BYTES) -> tuple[bytes, bool]:
    """Read the content of a response of urllib3.

    Args:
        response: A response that was not read yet.
        most: Maximum number of bytes, after decompression.

    Returns:
        The content, and whether it was truncated.

    Raises:
        UnreadableResponseError: The answer has a compression that was not requested, or is damaged.
    """
    pieces, size = [], 0
    for piece in _decode(response):
        pieces.append(piece[: most - size])
        size += len(piece)
        if size > most:
            response.close()
            return b"".join(pieces), True
    return b"".join(pieces), False


def _decode(response: Any) -> Iterator[bytes]:
    raw = iter(lambda: response.read(_CHUNK_BYTES, decode_content=False), b"")
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        yield from raw
        return
    if encoding not in _ENCODINGS:
        response.close()
        raise UnreadableResponseError(f"the answer has the encoding {encoding[:100]!r}")
    unzip = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for piece in raw:
            left = piece
            while left:
                yield unzip.decompress(left, _CHUNK_BYTES)
                left = unzip.unconsumed_tail
        yield unzip.flush(_CHUNK_BYTES)
    except zlib.error as error:
        response.close()
        raise UnreadableResponseError(f"the answer cannot be decompressed: {error}") from error


def parse_json(text: bytes | str) -> Any:
    """Parse JSON from a server.

    Raises:
        ValueError: The text is not JSON, or is nested more deeply than 100 levels.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            break
    else:
        raise ValueError("the JSON is nested too deeply")
    if _SURROGATE.search(data):  # half of a pair cannot be printed
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def filter_by_type(value: Any, shape: Any) -> Any:
    """Remove the parts of a JSON value that do not have the expected type.

    Args:
        value: JSON.
        shape: The expected type: a type (float for any number, object for anything); a list of one shape; or
            a mapping from keys to shapes, where the key `...` is for all other keys. Without `...`, other
            keys are kept unchanged.

    Returns:
        The value; None if it has another type itself. Lists and mappings are copied without the items that
        have another type.
    """
    if isinstance(shape, list):
        if not isinstance(value, list):
            return None
        fitted = (filter_by_type(one, shape[0]) for one in value)
        return [one for one in fitted if one is not None]
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return None
        others = shape.get(..., object)
        pairs = ((key, filter_by_type(one, shape.get(key, others))) for key, one in value.items())
        return {key: one for key, one in pairs if one is not None}
    if shape is float:
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return value if isinstance(value, shape) else None


def require_keys(rows: list[Any], *keys: str) -> list[Any]:
    """Return the mappings of a list that have all of the keys."""
    return [one for one in rows if all(key in one for key in keys)]
