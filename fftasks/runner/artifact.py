"""The file formats of results: the artifact of one value, and the pack of a group's artifacts.

An artifact can be read without a copy:

    bytes      what
    0-7        b"fftasks1"
    8-15       n, the number of parts, little-endian
    16-        n pairs (offset, length), 8 bytes each
    ...        the parts, each at a multiple of 64: a pickle (protocol 5), then its out-of-band buffers

Arrays, data frames and Arrow tables are out-of-band buffers: written once, mapped when read.

The digest of a file of up to 16 MiB is its sha256. The digest of a larger file is the sha256 of the sha256
digests of its 16 MiB chunks, so that all cores can hash: one core hashes half as fast as memory is written
to a file.

A pack contains many artifacts, each readable without the others:

    bytes      what
    0-7        b"fftaskpk"
    8-15       n, the length of the index, little-endian
    16-        the index, as JSON: {"group": …, "key": …, "told": {node: …},
               "values": {node: {output: [offset, length, digest]}}}
    ...        artifacts, each at a multiple of 64; their offsets count from the first one

A pack is a file, not a folder, because an object store takes as long for a small object as for a listing.
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

ARTIFACT_MAGIC = b"fftasks1"
_ALIGNMENT = 64
_CHUNK_BYTES = 1 << 24
_SHORT_DIGEST = len("sha256:") + 32
_PAGE = 1 << 12
_STEP_BYTES = 1 << 18  # bytes that stay in a core's cache between hashing and writing
PACK_MAGIC = b"fftaskpk"
_COPY_BYTES = 1 << 24
_Bytes = bytes | memoryview


def write_artifact(path: Path, value: Any) -> str:
    """Write a value to a file.

    Args:
        path: Path of the file. It is incomplete after an error, so write to a temporary name and rename.
        value: The value.

    Returns:
        The digest of the file, "sha256:<64 hex digits>".

    Raises:
        OSError: The file cannot be written.
        Exception: The value cannot be pickled; the error is that of pickle, cloudpickle or the value's class.
    """
    return write_parts(path, serialize(value))


def write_parts(path: Path | str, parts: Sequence[_Bytes]) -> str:
    """Write the parts that dump returned to a file, and return its digest; see write_artifact."""
    pieces = _lay_out(parts)
    # no file object: a trivial node would spend more on it than on its data
    descriptor = open_new(path)
    try:
        if sum(map(len, pieces)) <= _CHUNK_BYTES:
            pieces = [b"".join(pieces)]
        return _digest(
            partial(_write, descriptor, offset, parts)
            for offset, parts in _split_into_chunks(pieces)
        )
    finally:
        os.close(descriptor)


def digest_artifact(path: Path | str) -> str:
    """Return the digest of an artifact file or pack; raise OSError if it is not a regular file."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        return _digest(
            partial(_hash, descriptor, offset) for offset in range(0, size or 1, _CHUNK_BYTES)
        )
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
    """Return the value of an artifact file, or of an artifact in a pack.

    The buffers are mapped copy-on-write: they are read when they are used, and a function may change its
    arguments without changing the file.

    Args:
        path: Path of the file.
        offset: Start of the artifact in the file, in bytes.
        length: Length of the artifact in bytes; -1 for the rest of the file.

    Raises:
        StoreError: The file is not an artifact.
    """
    # no file object, for speed: see write_parts
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = _map_file(descriptor)
        parts = _split(content[offset : offset + length if length >= 0 else None])
    except (ValueError, struct.error) as error:
        raise StoreError(f"{path} is not an artifact of fftasks", found=[str(error)]) from error
    finally:
        os.close(descriptor)
    return pickle.loads(parts[0], buffers=parts[1:])


def _map_file(descriptor: int) -> memoryview:
    content = os.read(descriptor, _PAGE)
    if len(content) < _PAGE:  # reading a small file is faster than mapping it
        return memoryview(bytearray(content))
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))


def _lay_out(parts: Sequence[_Bytes]) -> list[_Bytes]:
    """Return the content of an artifact file as a list of pieces: the table, then padding and parts."""
    table, offset = [], len(ARTIFACT_MAGIC) + 8 + 16 * len(parts)
    pieces: list[_Bytes] = []
    for part in parts:
        padding = -offset % _ALIGNMENT
        table += [offset + padding, len(part)]
        pieces += [bytes(padding), part]
        offset += padding + len(part)
    return [struct.pack(f"<8sQ{len(table)}Q", ARTIFACT_MAGIC, len(parts), *table), *pieces]


def _split_into_chunks(pieces: Sequence[_Bytes]) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield offset and content of each chunk of a file."""
    offset, size, chunk = 0, 0, list[memoryview]()
    for piece in pieces:
        left = memoryview(piece)
        while left:
            part, left = left[: _CHUNK_BYTES - size], left[_CHUNK_BYTES - size :]
            chunk.append(part)
            size += len(part)
            if size == _CHUNK_BYTES:
                yield offset, chunk
                offset, size, chunk = offset + size, 0, []
    if chunk:
        yield offset, chunk


def _digest(hashes: Iterable[Callable[[], bytes]]) -> str:
    """Return the digest of a file; each call returns the hash of one chunk."""
    calls = list(hashes)
    if len(calls) == 1:
        return "sha256:" + calls[0]().hex()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda call: call(), calls))
    return "sha256:" + hashlib.sha256(b"".join(found)).hexdigest()


def _write(descriptor: int, offset: int, parts: Sequence[memoryview]) -> bytes:
    """Write a chunk at its offset and return its hash."""
    hasher = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), _STEP_BYTES):
            left = part[start : start + _STEP_BYTES]
            hasher.update(left)
            while left:
                written = os.pwrite(descriptor, left, offset)
                left, offset = left[written:], offset + written
    return hasher.digest()


def _hash(descriptor: int, offset: int) -> bytes:
    hasher, end = hashlib.sha256(), offset + _CHUNK_BYTES
    while piece := os.pread(descriptor, min(_STEP_BYTES, end - offset), offset):
        hasher.update(piece)
        offset += len(piece)
    return hasher.digest()


def serialize(value: Any) -> Sequence[bytes | memoryview]:
    """Return the parts of an artifact: a pickle and its out-of-band buffers; raise errors of pickling."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError):
        buffers.clear()
        stream = _dump_with_cloudpickle(value, protocol=5, buffer_callback=buffers.append)
    return [stream, *map(pickle.PickleBuffer.raw, buffers)]


def _dump_with_cloudpickle(value: Any, **options: Any) -> bytes:
    """Pickle objects that pickle cannot find by name too, such as a lambda or a class inside a function."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            # What @workflow decorates is pickled by name, like any other function. Pickled by value, its
            # bytes would differ in each process.
            if isinstance(value, type | FunctionType):
                name = str(value.__module__), value.__qualname__
                if _find_undecorated(*name) is value:
                    return _find_undecorated, name
            return super().reducer_override(value)

    stream = io.BytesIO()
    Pickler(stream, **options).dump(value)
    return stream.getvalue()


def _find_undecorated(module: str, qualname: str) -> Any:
    """Return the function or class that @workflow decorated, by its name; None if it was not found."""
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return getattr(found, "func", None)


def _split(content: memoryview) -> list[memoryview]:
    """Return the parts of an artifact; raise ValueError or struct.error if its table is invalid."""
    magic, count = struct.unpack_from("<8sQ", content)
    if magic != ARTIFACT_MAGIC:
        raise ValueError(f"it begins with {magic!r}, not with {ARTIFACT_MAGIC!r}")
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


class ArtifactLocation(NamedTuple):
    """The location of an artifact.

    Attributes:
        path: Path of the file or pack.
        offset: Start of the artifact in bytes.
        length: Length of the artifact in bytes; -1 for the rest of the file.
    """

    path: str
    offset: int = 0
    length: int = -1

    def read(self) -> Any:
        """Read the artifact and return its value."""
        return read_artifact(Path(self.path), self.offset, self.length)


@dataclass(frozen=True)
class StoredValue:
    """A value of a group.

    Attributes:
        place: Location of its artifact.
        digest: Digest of the artifact; "" if it is not known.
    """

    place: ArtifactLocation
    digest: str


StoredValues = Mapping[tuple[str, str], StoredValue]  # node and output -> value


@dataclass(frozen=True)
class Pack:
    """The content of a pack.

    Attributes:
        group: Name of the group.
        key: Fingerprint of the group's nodes, see combine in image_check.py.
        values: Node and output -> value.
        told: Node -> its metadata as JSON, see describe_nodes in task.py.
    """

    group: str
    key: str
    values: StoredValues
    told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_pack(path: Path, pack: Pack) -> None:
    """Write a pack; the artifacts are copied from their places."""
    table: dict[str, dict[str, tuple[int, int, str]]] = {}
    lengths, offset = [], 0
    for (node, output), value in pack.values.items():
        place = value.place
        length = place.length if place.length >= 0 else os.path.getsize(place.path) - place.offset  # noqa: PTH202
        table.setdefault(node, {})[output] = offset, length, value.digest
        lengths.append(length)
        offset += length + -length % _ALIGNMENT
    head = {"group": pack.group, "key": pack.key, "told": pack.told, "values": table}
    index = json.dumps(head, separators=(",", ":")).encode()
    index += b" " * (-(16 + len(index)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<8sQ", PACK_MAGIC, len(index)) + index)
        for value, length in zip(pack.values.values(), lengths, strict=True):
            _copy(value.place, length, file)
            file.write(bytes(-length % _ALIGNMENT))


def is_pack(path: Path | str) -> bool:
    """Return whether a file is a pack and not a single artifact."""
    with open(path, "rb") as file:  # noqa: PTH123 - faster, for many inputs
        return file.read(8) == PACK_MAGIC


def read_pack(path: Path | str) -> Pack:
    """Read the index of a pack; values are not read.

    Args:
        path: Path of the file.

    Returns:
        The content of the pack, with the places of its values.

    Raises:
        StoreError: The file is not a pack.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            length = _read_length(file.read(16), size)
            head = json.loads(file.read(length))
        values = {
            (node, output): StoredValue(
                ArtifactLocation(
                    str(path), 16 + length + operator.index(offset), operator.index(size_of_value)
                ),
                str(digest),
            )
            for node, outputs in head["values"].items()
            for output, (offset, size_of_value, digest) in outputs.items()
        }
        _check_places([value.place for value in values.values()], 16 + length, size)
        return Pack(str(head["group"]), str(head["key"]), values, dict(head.get("told", {})))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise StoreError(f"{path} is not a pack of fftasks", found=[str(error)]) from error


def _read_length(head: bytes, size: int) -> int:
    magic, length = struct.unpack("<8sQ", head)
    if magic != PACK_MAGIC:
        raise ValueError(f"it begins with {magic!r}, not with {PACK_MAGIC!r}")
    if length > size - 16:
        raise ValueError("it is shorter than its index")
    return int(length)


def _check_places(places: Sequence[ArtifactLocation], start: int, size: int) -> None:
    """Raise ValueError if values overlap, or are not between the index and the end of the file."""
    end = start
    for place in sorted(places, key=lambda place: place.offset):
        if place.length < 0 or place.offset < end:
            raise ValueError("values of it overlap")
        end = place.offset + place.length
    if end > size:
        raise ValueError("it is shorter than its index says")


def _copy(place: ArtifactLocation, length: int, target: IO[bytes]) -> None:
    with open(place.path, "rb") as source:  # noqa: PTH123
        source.seek(place.offset)
        while length:
            piece = source.read(min(length, _COPY_BYTES))
            if not piece:
                raise StoreError(f"{place.path} is shorter than it was")
            target.write(piece)
            length -= len(piece)
