"""Blobs on their way into a registry: read piece by piece, sent in one request."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from fftasks.errors import StoreError
from fftasks.ports.registry_answer import make_stranger
from fftasks.ports.registry_auth import name_scope
from fftasks.ports.registry_connection import Connection, OpenBody, blame_network
from fftasks.runtime.regular import open_regular


class Body:
    """A stream and its length, which is all that requests asks of a body.

    read: returns up to so many bytes; name: for the error if they end too early, else the registry
    would wait for the rest
    """

    def __init__(self, read: Callable[[int], bytes], size: int, name: str) -> None:
        self._read = read
        self._size = self._left = size
        self._name = name

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # pragma: no cover  (urllib3 calls read() instead)
        # what has this is a stream for requests
        return iter(lambda: self.read(io.DEFAULT_BUFFER_SIZE), b"")

    def read(self, count: int) -> bytes:
        """Return the next bytes; raise StoreError if they are fewer than the length says."""
        data = self._read(min(count, self._left))
        if self._left and not data:
            raise _blame_blob(self._name, f"{self._left} bytes are missing at its end")
        self._left -= len(data)
        return data


def send(connection: Connection, repository: str, digest: str, body: bytes | OpenBody) -> int:
    """Send a blob and return its size in bytes.

    In one request, from its beginning: registry 2.8 drops an upload that broke off, so that there
    is nothing to go on with, and pieces of a blob would only be more requests.
    """
    scopes = (name_scope(repository, "pull,push"),)
    with connection.ask("POST", f"/v2/{repository}/blobs/uploads/", scopes) as answer:
        location = connection.locate(answer)
    url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
    headers = {"Content-Type": "application/octet-stream"}
    with connection.ask("PUT", url, scopes, headers=headers, body=body) as answer:
        return int(answer.request.headers["Content-Length"])


def open_file(path: Path) -> OpenBody:
    """Return what opens a file as a body; StoreError if it cannot be read, or gets shorter."""

    @contextmanager
    def open_body() -> Iterator[Body | bytes]:
        try:
            file = open(open_regular(path), "rb")  # noqa: PTH123, SIM115 - a descriptor, closed below
        except OSError as exc:
            raise _blame_blob(str(path), str(exc)) from exc
        with file:
            yield _make_body(file.read, path.stat().st_size, str(path))

    return open_body


def open_blob(source: Connection, repository: str, digest: str) -> OpenBody:
    """Return what opens a blob of another registry as a body."""

    @contextmanager
    def open_body() -> Iterator[Body | bytes]:
        scopes = (name_scope(repository, "pull"),)
        with source.ask("GET", f"/v2/{repository}/blobs/{digest}", scopes, stream=True) as answer:
            size = answer.headers.get("Content-Length", "")
            if not size.isdigit():
                raise make_stranger("it does not say how long the blob is")

            def read(count: int) -> bytes:
                with blame_network():
                    return bytes(answer.raw.read(count, decode_content=False))

            yield _make_body(read, int(size), f"{repository}@{digest}")

    return open_body


def _make_body(read: Callable[[int], bytes], size: int, name: str) -> Body | bytes:
    # requests sends a stream without bytes as one of unknown length
    return Body(read, size, name) if size else b""


def _blame_blob(name: str, found: str) -> StoreError:
    return StoreError(
        f"registry: the blob {name} cannot be sent",
        found=[found],
        tip="run it again: it is made anew",
    )
