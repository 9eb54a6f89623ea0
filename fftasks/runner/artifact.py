"""The file format of results: what a node returned, readable without a copy.

    bytes      what
    0-7        b"fftasks1"
    8-15       n, the number of parts, little-endian
    16-        n pairs (offset, length), 8 bytes each
    ...        the parts, each at a multiple of 64: a pickle (protocol 5), then its out-of-band buffers

Arrays, data frames and Arrow tables are out-of-band buffers: written once, mapped when read.

The digest of a file of up to 16 MiB is its sha256; of a bigger one, the sha256 of the sha256 of each 16 MiB
of it, so that all cores can take part: one of them hashes half as fast as memory is written to a file.

The file format of a group's values: many artifacts in one file, each readable without the others.

    bytes      what
    0-7        b"fftaskpk"
    8-15       n, the length of the index, little-endian
    16-        the index, as JSON: {"group": …, "key": …, "told": {node: …},
               "values": {node: {output: [offset, length, digest]}}}
    ...        artifacts as in artifact.py, each at a multiple of 64; their offsets count from the first one

One file, and not a folder: an object store takes as long for a small object as for a page of them.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import mmap
import operator
import os
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import IO, Any, NamedTuple

from fftasks.errors import StoreError
from fftasks.state_folder import open_new, open_regular

MAGIC = b"fftasks1"
_ALIGNMENT = 64
_CHUNK = 1 << 24
_SHORT_DIGEST = len("sha256:") + 32
_PAGE = 1 << 12
_STEP = 1 << 18  # what stays in a core's cache between hashing and writing
_Bytes = bytes | memoryview


def write_artifact(path: Path, value: Any) -> str:
    """Write value to path and return the file's digest, "sha256:<64 hex>".

    Raises what pickling raises if the value cannot be stored, and OSError if the disk is full; the file is
    then not complete, so write to a temporary name and rename.
    """
    return write_parts(path, dump(value))


def write_parts(path: Path | str, parts: Sequence[_Bytes]) -> str:
    """Do the same with what dump gave."""
    pieces = _lay_out(parts)
    # no file object: a trivial node would spend more on it than on its data
    descriptor = open_new(path)
    try:
        if sum(map(len, pieces)) <= _CHUNK:
            pieces = [b"".join(pieces)]
        return _digest(partial(_write, descriptor, offset, parts) for offset, parts in _cut(pieces))
    finally:
        os.close(descriptor)


def digest_artifact(path: Path | str) -> str:
    """Return the current digest of an artifact file; raise OSError if it is not a regular file."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        return _digest(partial(_hash, descriptor, offset) for offset in range(0, size or 1, _CHUNK))
    finally:
        os.close(descriptor)


def shorten_digest(digest: str) -> str:
    """Shorten a digest to its first 128 bits, for the metadata of a run on the cluster.

    The metadata of a task's inputs are copied about eight times into Argo's workflow object, which is limited
    to 1 MiB, and a digest does not compress. 128 bits are enough: it is infeasible to find another file with
    the same digest.
    """
    return digest[:_SHORT_DIGEST]


def read_artifact(path: Path | str, offset: int = 0, length: int = -1) -> Any:
    """Return the value in an artifact file, or in a part of a file; length -1: to its end.

    Its buffers are mapped copy-on-write: nothing is read before it is used, and a function may change
    what it was given without harm to the file. Raises StoreError if the file is no artifact.
    """
    # no file object: see write_parts
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = _map(descriptor)
        parts = _split(content[offset : offset + length if length >= 0 else None])
    except (ValueError, struct.error) as error:
        raise StoreError(f"{path} is not an artifact of fftasks", found=[str(error)]) from error
    finally:
        os.close(descriptor)
    return pickle.loads(parts[0], buffers=parts[1:])


def _map(descriptor: int) -> memoryview:
    content = os.read(descriptor, _PAGE)
    if len(content) < _PAGE:  # to map it takes longer than to read it
        return memoryview(bytearray(content))
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))


def _lay_out(parts: Sequence[_Bytes]) -> list[_Bytes]:
    """Return what stands in the file, piece by piece."""
    table, offset = [], len(MAGIC) + 8 + 16 * len(parts)
    pieces: list[_Bytes] = []
    for part in parts:
        padding = -offset % _ALIGNMENT
        table += [offset + padding, len(part)]
        pieces += [bytes(padding), part]
        offset += padding + len(part)
    return [struct.pack(f"<8sQ{len(table)}Q", MAGIC, len(parts), *table), *pieces]


def _cut(pieces: Sequence[_Bytes]) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield offset and content of each chunk of a file."""
    offset, size, chunk = 0, 0, list[memoryview]()
    for piece in pieces:
        left = memoryview(piece)
        while left:
            part, left = left[: _CHUNK - size], left[_CHUNK - size :]
            chunk.append(part)
            size += len(part)
            if size == _CHUNK:
                yield offset, chunk
                offset, size, chunk = offset + size, 0, []
    if chunk:
        yield offset, chunk


def _digest(hashes: Iterable[Callable[[], bytes]]) -> str:
    """Return the digest of a file from the calls that give the hash of each of its chunks."""
    calls = list(hashes)
    if len(calls) == 1:
        return "sha256:" + calls[0]().hex()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda call: call(), calls))
    return "sha256:" + hashlib.sha256(b"".join(found)).hexdigest()


def _write(descriptor: int, offset: int, parts: Sequence[memoryview]) -> bytes:
    """Write a chunk to its place and return its hash."""
    hasher = hashlib.sha256()
    for part in parts:
        for begin in range(0, len(part), _STEP):
            left = part[begin : begin + _STEP]
            hasher.update(left)
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
    return hasher.digest()


def _hash(descriptor: int, offset: int) -> bytes:
    hasher, end = hashlib.sha256(), offset + _CHUNK
    while piece := os.pread(descriptor, min(_STEP, end - offset), offset):
        hasher.update(piece)
        offset += len(piece)
    return hasher.digest()


def dump(value: Any) -> Sequence[bytes | memoryview]:
    """Return the parts of an artifact: a pickle and its out-of-band buffers; raise what pickling raises."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError):
        buffers.clear()
        stream = _dump_further(value, protocol=5, buffer_callback=buffers.append)
    return [stream, *map(pickle.PickleBuffer.raw, buffers)]


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
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic!r}, not with {MAGIC!r}")
    if count > len(content) // 16:
        raise ValueError(f"it is too short for a table of {count} parts")
    table = struct.unpack_from(f"<{2 * count}Q", content, 16)
    end = 16 + 16 * count
    for start, length in zip(table[::2], table[1::2], strict=True):
        if start < end:
            raise ValueError("parts of it overlap")
        end = start + length
    parts = [
        content[start : start + length]
        for start, length in zip(table[::2], table[1::2], strict=True)
    ]
    if not parts or any(
        len(part) != length for part, length in zip(parts, table[1::2], strict=True)
    ):
        raise ValueError("it is shorter than its table says")
    return parts


MAGIC_PACK = b"fftaskpk"
_ALIGNMENT_PACK = 64
_STEP_PACK = 1 << 24


class Place(NamedTuple):
    """Where an artifact is: in a file, from an offset on; length -1: to its end."""

    path: str
    offset: int = 0
    length: int = -1

    def read(self) -> Any:
        """Return the value."""
        return read_artifact(Path(self.path), self.offset, self.length)


@dataclass(frozen=True)
class Value:
    """A value of a group: where its artifact is, and the artifact's digest."""

    place: Place
    digest: str


Values = Mapping[tuple[str, str], Value]  # node and output -> value


@dataclass(frozen=True)
class Pack:
    """What a pack holds.

    group: the group's name; key: what its values were made for, see combine in manifest.py
    told: node -> what is told of it, as JSON; see describe_nodes in task.py
    """

    group: str
    key: str
    values: Values
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack; its values are copied from where they are."""
    table: dict[str, dict[str, tuple[int, int, str]]] = {}
    lengths, offset = [], 0
    for (node, output), value in pack.values.items():
        length = _measure(value.place)
        table.setdefault(node, {})[output] = offset, length, value.digest
        lengths.append(length)
        offset += length + -length % _ALIGNMENT_PACK
    head = {"group": pack.group, "key": pack.key, "told": pack.told, "values": table}
    index = json.dumps(head, separators=(",", ":")).encode()
    index += b" " * (-(16 + len(index)) % _ALIGNMENT_PACK)
    with path.open("wb") as file:
        file.write(struct.pack("<8sQ", MAGIC_PACK, len(index)) + index)
        for value, length in zip(pack.values.values(), lengths, strict=True):
            _copy(value.place, length, file)
            file.write(bytes(-length % _ALIGNMENT_PACK))


def is_pack(path: Path | str) -> bool:
    """Tell whether a file is a pack; another one is an artifact by itself."""
    with open(path, "rb") as file:  # noqa: PTH123 - for many inputs
        return file.read(8) == MAGIC_PACK


def read_pack(path: Path | str) -> Pack:
    """Return what a pack on this machine holds; no value is read. Raises StoreError if it is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            length = _read_length(file.read(16), size)
            head = json.loads(file.read(length))
        values = dict(_list_values(head["values"], str(path), 16 + length))
        _check_places([value.place for value in values.values()], 16 + length, size)
        return Pack(str(head["group"]), str(head["key"]), values, dict(head.get("told", {})))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise StoreError(f"{path} is not a pack of fftasks", found=[str(error)]) from error


def _read_length(head: bytes, size: int) -> int:
    magic, length = struct.unpack("<8sQ", head)
    if magic != MAGIC_PACK:
        raise ValueError(f"it begins with {magic!r}, not with {MAGIC_PACK!r}")
    if length > size - 16:
        raise ValueError("it is shorter than its index")
    return int(length)


def _list_values(
    table: Mapping[str, Mapping[str, tuple[int, int, str]]], name: str, start: int
) -> Iterator[tuple[tuple[str, str], Value]]:
    for node, outputs in table.items():
        for output, (offset, length, digest) in outputs.items():
            place = Place(name, start + operator.index(offset), operator.index(length))
            yield (node, output), Value(place, str(digest))


def _check_places(places: Sequence[Place], start: int, size: int) -> None:
    """Raise ValueError if values overlap, or are not between the index and the end of the file."""
    end = start
    for place in sorted(places, key=lambda place: place.offset):
        if place.length < 0 or place.offset < end:
            raise ValueError("values of it overlap")
        end = place.offset + place.length
    if end > size:
        raise ValueError("it is shorter than its index says")


def _measure(place: Place) -> int:
    return place.length if place.length >= 0 else os.path.getsize(place.path) - place.offset  # noqa: PTH202


def _copy(place: Place, length: int, target: IO[bytes]) -> None:
    with open(place.path, "rb") as source:  # noqa: PTH123
        source.seek(place.offset)
        while length:
            piece = source.read(min(length, _STEP_PACK))
            if not piece:
                raise StoreError(f"{place.path} is shorter than it was")
            target.write(piece)
            length -= len(piece)
