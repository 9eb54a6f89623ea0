"""Divide the files of a project among layers, so that an edit does not send again what it did not touch.

    files                           layers
    files of 256 KiB and more       at the bottom: data, models
    all other files but Python      above them
    Python files, and fingerprints  on top: what is edited most, and what changes with it

Each kind has one layer for every 4 MiB that it holds, rounded up to a power of two, at most eight; a
file's place among them is decided by its path alone. So it stays there when other files come and go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fftasks.runtime.manifest import FILE
from fftasks.stages.layer import Entry

VERSION = 1

_BIG_BYTES = 256 * 1024
_LAYER_BYTES = 4 * 1024 * 1024
_MOST = 8


def split(entries: Iterable[Entry]) -> list[tuple[Entry, ...]]:
    """Return the entries of each layer, the lowest first; each entry is in one of them.

    There is at least one layer, and none of them is empty unless there are no entries.
    """
    kinds: tuple[list[Entry], ...] = ([], [], [])
    for entry in entries:
        kinds[_find_kind(entry)].append(entry)
    return [layer for kind in kinds for layer in _divide(kind)] or [()]


def _find_kind(entry: Entry) -> int:
    if entry.size >= _BIG_BYTES:
        return 0
    return 2 if entry.path.endswith(".py") or entry.path == FILE else 1


def _divide(entries: list[Entry]) -> list[tuple[Entry, ...]]:
    count, size = 1, sum(entry.size for entry in entries)
    while count < _MOST and count * _LAYER_BYTES < size:
        count *= 2
    layers: list[list[Entry]] = [[] for _ in range(count)]
    for entry in entries:
        layers[_hash(entry.path) % count].append(entry)
    return [tuple(layer) for layer in layers if layer]


def _hash(path: str) -> int:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[0]
