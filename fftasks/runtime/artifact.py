"""The file format of results: what a node returned, readable without a copy.

    bytes      what
    0-7        b"fftasks1"
    8-15       n, the number of parts, little-endian
    16-        n pairs (offset, length), 8 bytes each
    ...        the parts, each at a multiple of 64: a pickle (protocol 5), then its out-of-band buffers

Arrays, data frames and Arrow tables are out-of-band buffers: written once, mapped when read.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import mmap
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from fftasks.errors import StoreError

_MAGIC = b"fftasks1"
_ALIGNMENT = 64
_BIG = 1 << 22  # where a second thread is worth its start
_STEP = 1 << 24
_Bytes = bytes | memoryview


def write_artifact(path: Path, value: Any) -> str:
    """Write value to path and return the file's digest, "sha256:<64 hex>".

    Raises what pickling raises if the value cannot be stored, and OSError if the disk is full; the file is
    then not complete, so write to a temporary name and rename.
    """
    pieces = _lay_out(_dump(value))
    if sum(map(len, pieces)) < _BIG:
        data = b"".join(pieces)
        _write(path, [data])
        return "sha256:" + hashlib.sha256(data).hexdigest()
    return _write_and_digest(path, pieces)


def read_artifact(path: Path) -> Any:
    """Return the value in an artifact file.

    Its buffers are mapped copy-on-write: nothing is read before it is used, and a function may change
    what it was given without harm to the file. Raises StoreError if the file is no artifact.
    """
    with path.open("rb") as file:
        try:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            parts = _split(content)
        except (ValueError, struct.error) as error:
            raise StoreError(f"{path} is not an artifact of fftasks", found=[str(error)]) from error
    return pickle.loads(parts[0], buffers=parts[1:])


def _lay_out(parts: Sequence[_Bytes]) -> list[_Bytes]:
    """Return what stands in the file, piece by piece."""
    table, offset = [], len(_MAGIC) + 8 + 16 * len(parts)
    pieces: list[_Bytes] = []
    for part in parts:
        padding = -offset % _ALIGNMENT
        table += [offset + padding, len(part)]
        pieces += [bytes(padding), part]
        offset += padding + len(part)
    return [struct.pack(f"<8sQ{len(table)}Q", _MAGIC, len(parts), *table), *pieces]


def _write_and_digest(path: Path, pieces: Sequence[_Bytes]) -> str:
    """Write and digest at the same time: both take as long as copying the data, without Python's lock."""
    from threading import Thread

    hasher = hashlib.sha256()

    def digest() -> None:
        for piece in pieces:
            hasher.update(piece)

    thread = Thread(target=digest)
    thread.start()
    try:
        _write(path, pieces)
    finally:
        thread.join()
    return "sha256:" + hasher.hexdigest()


def _write(path: Path, pieces: Sequence[_Bytes]) -> None:
    # no file object: a trivial node would spend more on it than on its data
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left[:_STEP]) :]
    finally:
        os.close(descriptor)


def _dump(value: Any) -> Sequence[_Bytes]:
    try:
        return _dump_with(pickle.dumps, value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return _dump_with(_dump_further, value)


def _dump_with(dumps: Any, value: Any) -> Sequence[_Bytes]:
    buffers: list[pickle.PickleBuffer] = []
    stream: bytes = dumps(value, protocol=5, buffer_callback=buffers.append)
    return [stream, *(buffer.raw() for buffer in buffers)]


def _dump_further(value: Any, **options: Any) -> bytes:
    """Pickle also what pickle cannot find by its name, such as a lambda or a class inside a function."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            # by name, as any other: by value, the bytes would be others in each process
            if isinstance(value, type | FunctionType) and _find_undecorated(*_name(value)) is value:
                return _find_undecorated, _name(value)
            return super().reducer_override(value)

    stream = io.BytesIO()
    Pickler(stream, **options).dump(value)
    return stream.getvalue()


def _name(value: type | FunctionType) -> tuple[str, str]:
    return str(value.__module__), value.__qualname__


def _find_undecorated(module: str, qualname: str) -> Any:
    """Return what @workflow decorated, by its name; None if there is nothing of the kind."""
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return getattr(found, "func", None)


def _split(content: memoryview) -> list[memoryview]:
    magic, count = struct.unpack_from("<8sQ", content)
    if magic != _MAGIC:
        raise ValueError(f"it begins with {magic!r}, not with {_MAGIC!r}")
    table = struct.unpack_from(f"<{2 * count}Q", content, 16)
    parts = [
        content[start : start + length]
        for start, length in zip(table[::2], table[1::2], strict=True)
    ]
    if not parts or any(
        len(part) != length for part, length in zip(parts, table[1::2], strict=True)
    ):
        raise ValueError("it is shorter than its table says")
    return parts
