"""Copy the project's folder, as .dockerignore says, to where images are made from.

The copy holds still while an image is built, and the record says what is in it. The user's folder
is only read, and only what changed is copied again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fftasks.errors import StoreError
from fftasks.record import Record, digest_json
from fftasks.stages.dockerignore import Ignore
from fftasks.stages.listing import ContextError, Listing, list_folder, read_ignore
from fftasks.stages.mirror import Mirror, MovedError, Row

VERSION = 1

_ATTEMPTS = 3
_PARTS = ("files", "links", "folders")


def make(folder: Path, target: Path, *, ignore: tuple[str, ...] = ()) -> Record:
    """Bring target up to date with folder and return the record.

    ignore: lines as in .dockerignore, read after those of the file itself.
    The record has "files": [[path, size, sha256, executable], ...], "links": [[path, to], ...],
    "folders": the empty ones, and "size_bytes"; its output is the digest of the three lists.
    Raises SettingsError for a pattern, ContextError for a file that cannot be taken or keeps
    changing, StoreError if the copy cannot be written.
    """
    patterns = read_ignore(folder, ignore)
    moved = ""
    for _ in range(_ATTEMPTS):
        try:
            return _update(folder, target, patterns)
        except MovedError as exc:  # noqa: PERF203
            moved = str(exc)
    raise ContextError(
        f"context: {moved!r} keeps changing while it is copied",
        tip="stop what writes it, or name it in .dockerignore",
    )


def look(
    folder: Path, target: Path, *, ignore: tuple[str, ...] = (), previous: Record | None
) -> list[str]:
    """Return what make() would have to do, one sentence each; an empty list if nothing.

    previous: the record that make() gave last. Copies nothing. Raises as make() does.
    """
    if previous is None:
        return ["never ran"]
    if previous.get("version") != VERSION:
        return ["fftasks makes it in another way now"]
    patterns = read_ignore(folder, ignore)
    listing = list_folder(folder, patterns)
    mirror = Mirror(folder, target)
    try:
        rows = mirror.measure(listing)
    except MovedError as exc:
        return [f"{exc} is changing"]
    with suppress(OSError):  # it would only save work
        mirror.remember(rows)
    try:
        reasons = list(compare(previous, _list_contents(listing, rows)))
    except (TypeError, LookupError):
        return ["the record is damaged"]
    if not reasons and previous.get("inputs") != {"ignore": patterns.digest}:
        reasons = ["the patterns changed"]
    return reasons or [f"{path} is not in the copy" for path in mirror.find_wrong(rows, listing)]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence per path that differs between the contents of two records."""
    if all(old[part] == new[part] for part in _PARTS):
        return
    before, after = _index(old), _index(new)
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            yield f"{path} is new"
        elif path not in after:
            yield f"{path} is gone"
        elif before[path] != after[path]:
            yield f"{path} changed"


def _update(folder: Path, target: Path, patterns: Ignore) -> Record:
    listing = list_folder(folder, patterns)
    try:
        mirror = Mirror(folder, target)
        rows = mirror.update(listing)
        mirror.remember(rows)
    except OSError as exc:
        raise StoreError(
            f"context: the copy in {target} cannot be written", found=[str(exc)]
        ) from exc
    return _describe(patterns, listing, rows)


def _describe(patterns: Ignore, listing: Listing, rows: list[Row]) -> Record:
    contents = _list_contents(listing, rows)
    return {
        "stage": "context",
        "version": VERSION,
        "inputs": {"ignore": patterns.digest},
        "output": digest_json(contents),
        "size_bytes": sum(row[1] for row in rows),
        **contents,
    }


def _list_contents(listing: Listing, rows: list[Row]) -> dict[str, Any]:
    links = [[path, to] for path, to in listing.links.items()]
    return {"files": rows, "links": links, "folders": listing.folders}


def _index(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = [*record["files"], *record["links"], *([path] for path in record["folders"])]
    return {row[0]: row[1:] for row in rows}
