"""The file format of a group's values: many artifacts in one file, each readable without the others.

    bytes      what
    0-7        b"fftaskpk"
    8-15       n, the length of the index, little-endian
    16-        the index, as JSON: {"group": …, "key": …, "told": {node: …},
               "values": {node: {output: [offset, length, digest]}}}
    ...        artifacts as in artifact.py, each at a multiple of 64; their offsets count from the first one

One file, and not a folder: an object store takes as long for a small object as for a page of them.
"""

from __future__ import annotations

import json
import operator
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from fftasks.errors import StoreError
from fftasks.runtime.artifact import read_artifact

MAGIC = b"fftaskpk"
_ALIGNMENT = 64
_STEP = 1 << 24


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
        offset += length + -length % _ALIGNMENT
    head = {"group": pack.group, "key": pack.key, "told": pack.told, "values": table}
    index = json.dumps(head, separators=(",", ":")).encode()
    index += b" " * (-(16 + len(index)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<8sQ", MAGIC, len(index)) + index)
        for value, length in zip(pack.values.values(), lengths, strict=True):
            _copy(value.place, length, file)
            file.write(bytes(-length % _ALIGNMENT))


def is_pack(path: Path | str) -> bool:
    """Tell whether a file is a pack; another one is an artifact by itself."""
    with open(path, "rb") as file:  # noqa: PTH123 - for many inputs
        return file.read(8) == MAGIC


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
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic!r}, not with {MAGIC!r}")
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
            piece = source.read(min(length, _STEP))
            if not piece:
                raise StoreError(f"{place.path} is shorter than it was")
            target.write(piece)
            length -= len(piece)
