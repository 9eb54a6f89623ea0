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
import mmap
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fftasks.errors import StoreError

_MAGIC = b"fftasks1"
_ALIGNMENT = 64


def write_artifact(path: Path, value: Any) -> str:
    """Write value to path and return the file's digest, "sha256:<64 hex>".

    Raises what pickling raises if the value cannot be stored, and OSError if the disk is full; the file is
    then not complete, so write to a temporary name and rename.
    """
    parts = _dump(value)
    table, offset = [], len(_MAGIC) + 8 + 16 * len(parts)
    for part in parts:
        offset += -offset % _ALIGNMENT
        table += [offset, len(part)]
        offset += len(part)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        head = struct.pack(f"<8sQ{len(table)}Q", _MAGIC, len(parts), *table)
        position = 0
        for piece, start in zip([head, *parts], [0, *table[::2]], strict=True):
            padding = bytes(start - position)
            for data in (padding, piece):
                hasher.update(data)
                file.write(data)
            position = start + len(piece)
    return "sha256:" + hasher.hexdigest()


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


def _dump(value: Any) -> Sequence[bytes | memoryview]:
    try:
        return _dump_with(pickle.dumps, value)
    except (pickle.PicklingError, AttributeError, TypeError):
        # what pickle finds by name only, such as a lambda or a class inside a function
        import cloudpickle

        return _dump_with(cloudpickle.dumps, value)


def _dump_with(dumps: Any, value: Any) -> Sequence[bytes | memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    stream: bytes = dumps(value, protocol=5, buffer_callback=buffers.append)
    return [stream, *(buffer.raw() for buffer in buffers)]


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
