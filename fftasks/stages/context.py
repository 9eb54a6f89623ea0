"""Copy the project's folder, as .dockerignore says, to where images are made from.

The copy holds still while an image is built, and the record says what is in it. The user's folder
is only read, and only what changed is copied again. Before anything is copied, the folder must pass:

    what                          becomes
    a secret (secret_rules.py)    an error, unless context.allow names its file
    more than context.max_size    an error, with patterns that would help
    a link out of the folder      an error; a link inside, also to nothing, stays a link
    a socket, pipe or device      is left out, and a warning
    what cannot be read           an error, unless it is ignored
    a file that keeps changing    an error after three attempts; one that goes away is left out
    names that differ in case     both are copied, and a warning: macOS and Windows keep one
    more than 10,000 files        all are copied, and a warning
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from fftasks.errors import StoreError
from fftasks.record import Record, digest_json
from fftasks.settings import ContextSettings
from fftasks.stages import gate, size
from fftasks.stages.difference import find_difference
from fftasks.stages.dockerignore import Ignore
from fftasks.stages.listing import ContextError, Listing, list_folder, read_ignore
from fftasks.stages.mirror import Mirror, MovedError, Row
from fftasks.stages.secret import DIGEST as RULES_DIGEST

VERSION = 2

_ATTEMPTS = 3
_DEFAULTS = ContextSettings()


def make(folder: Path, target: Path, settings: ContextSettings = _DEFAULTS) -> Record:
    """Bring target up to date with folder and return the record.

    The record has "files": [[path, size, sha256, executable], ...], "links": [[path, to], ...],
    "folders": the empty ones, and "size_bytes"; its output is the digest of the three lists.
    "allowed": [[path, line, rule], ...], the secrets that context.allow lets in. "left_out": [[path,
    "pipe", "socket" or "device"], ...].
    Raises SettingsError for a pattern or size, SecretError, SizeError, ContextError for a file that
    cannot be taken or keeps changing, StoreError if the copy cannot be written.
    """
    patterns = read_ignore(folder, settings.ignore)
    moved = ""
    for _ in range(_ATTEMPTS):
        try:
            return _update(folder, target, settings, patterns)
        except MovedError as exc:  # noqa: PERF203
            moved = str(exc)
    raise ContextError(
        f"context: {moved!r} keeps changing while it is copied",
        tip="stop what writes it, or name it in .dockerignore",
    )


def measure(folder: Path, target: Path, settings: ContextSettings = _DEFAULTS) -> Record:
    """Return the record that make() would give now; writes nothing. Raises as make() does."""
    patterns = read_ignore(folder, settings.ignore)
    listing = list_folder(folder, patterns, target.parent)
    try:
        rows, allowed = _measure(Mirror(folder, target), listing, settings, remember=False)
    except MovedError as exc:
        raise ContextError(f"context: {str(exc)!r} is changing", tip="ask again") from exc
    return _describe(patterns, listing, rows, allowed)


def look(
    folder: Path, target: Path, settings: ContextSettings = _DEFAULTS, *, previous: Record | None
) -> list[str]:
    """Return what make() would have to do, one sentence each; an empty list if nothing.

    previous: the record that make() gave last. Copies nothing. Raises as make() does.
    """
    if previous is None:
        return ["never ran"]
    if previous.get("version") != VERSION:
        return ["the algorithm of this stage changed"]
    patterns = read_ignore(folder, settings.ignore)
    listing = list_folder(folder, patterns, target.parent)
    mirror = Mirror(folder, target)
    inputs = _digest_inputs(previous, settings, patterns)
    if mirror.is_stamped(listing, inputs):
        return []
    try:
        rows, allowed = _measure(mirror, listing, settings)
    except MovedError as exc:
        return [f"{exc} is changing"]
    reasons = _compare(previous, _describe(patterns, listing, rows, allowed))
    reasons = reasons or [f"{path} is not in the copy" for path in mirror.find_wrong(rows, listing)]
    if not reasons:
        mirror.stamp(listing, inputs)
    return reasons


def _update(folder: Path, target: Path, settings: ContextSettings, patterns: Ignore) -> Record:
    listing = list_folder(folder, patterns, target.parent)
    mirror = Mirror(folder, target)
    rows, allowed = _measure(mirror, listing, settings)
    try:
        mirror.update(listing, rows)
        mirror.remember(rows)
    except OSError as exc:
        raise StoreError(
            f"context: the copy in {target} cannot be written", found=[str(exc)]
        ) from exc
    record = _describe(patterns, listing, rows, allowed)
    mirror.stamp(listing, _digest_inputs(record, settings, patterns))
    return record


def _measure(
    mirror: Mirror, listing: Listing, settings: ContextSettings, *, remember: bool = True
) -> tuple[list[Row], list[gate.Row]]:
    """Return what is in the files, and the secrets among it that are allowed."""
    size.check({path: found.st_size for path, found in listing.files.items()}, settings.max_size)
    rows = mirror.measure(listing)
    if remember:
        with suppress(OSError):  # it would only save work
            mirror.remember(rows)
    return rows, gate.check(mirror.find_secrets(rows), settings.allow)


def _compare(old: Record, new: Record) -> list[str]:
    """Return why a new record is not the old one, one sentence each."""
    if {**old, "left_out": new["left_out"]} == new:  # what comes and goes is in no image
        return []
    try:
        reasons = list(find_difference(old, new).list_sentences())
    except (TypeError, LookupError):
        return ["the record is damaged"]
    if not reasons and old.get("inputs") != new["inputs"]:
        return ["the patterns changed"]
    if not reasons and old.get("allowed") != new["allowed"]:
        return ["what context.allow lets in changed"]
    return reasons or ["the record is damaged"]


def _describe(
    patterns: Ignore, listing: Listing, rows: list[Row], allowed: list[gate.Row]
) -> Record:
    links = [[path, to] for path, to in listing.links.items()]
    contents: dict[str, Any] = {"files": rows, "links": links, "folders": listing.folders}
    return {
        "stage": "context",
        "version": VERSION,
        "inputs": {"ignore": patterns.digest},
        "output": digest_json(contents),
        "size_bytes": sum(row[1] for row in rows),
        "allowed": allowed,
        "left_out": [[path, kind] for path, kind in listing.left_out.items()],
        **contents,
    }


def _digest_inputs(record: Record, settings: ContextSettings, patterns: Ignore) -> str:
    return digest_json(
        [record, list(settings.allow), settings.max_size, patterns.digest, RULES_DIGEST]
    )
