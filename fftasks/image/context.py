"""The stage "context": copy the project's folder, without the files that .dockerignore excludes.

Images are built from the copy, which does not change meanwhile. The record lists its content. The user's
folder is only read, and only changed files are copied. The folder is checked before:

    found                         result
    a secret (fftasks.secrets)    an error, unless context.allow names its file
    more than context.max_size    an error with suggested patterns
    a link out of the folder      an error; other links are copied as links, also broken ones
    a socket, pipe or device      skipped with a warning
    an unreadable file            an error, unless it is ignored
    a file that keeps changing    an error after three attempts; a file that is removed is skipped
    names that differ in case     both are copied, with a warning: macOS and Windows keep one
    more than 10,000 files        all are copied, with a warning
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.config.ignore import (
    ContextError,
    ContextFiles,
    IgnoreRules,
    list_parents,
    read_ignore,
    walk_context,
)
from fftasks.config.tree import ContextSettings
from fftasks.errors import StoreError
from fftasks.image.context_policy import (
    AllowedRow,
    check_secret_policy,
    check_size,
    format_size,
    list_largest,
)
from fftasks.image.sync import FileChangedError, FileRow, FolderSync
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record, write_if_changed
from fftasks.secrets.scanner import SCANNER_DIGEST as RULES_DIGEST
from fftasks.stage import Stage
from fftasks.state_folder import is_regular, read_text

CONTEXT_PARTS = ("files", "links", "folders")


@dataclass(frozen=True)
class ContextDifference:
    """The sorted paths that differ between two contexts."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def format_sentences(self) -> Iterator[str]:
        """Yield one sentence for each path, sorted by path."""
        said = {path: f"{path} is new" for path in self.added}
        said |= {path: f"{path} is gone" for path in self.removed}
        said |= {path: f"{path} changed" for path in self.changed}
        yield from (said[path] for path in sorted(said))


def compare_contexts(old: Mapping[str, Any], new: Mapping[str, Any]) -> ContextDifference:
    """Compare two records of the context; raise TypeError or LookupError for a damaged record."""
    if all(old[part] == new[part] for part in CONTEXT_PARTS):
        return ContextDifference((), (), ())
    before, after = _index(old), _index(new)
    return ContextDifference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(
            sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
        ),
    )


def _index(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = [*record["files"], *record["links"], *([path] for path in record["folders"])]
    return {row[0]: row[1:] for row in rows}


CONTEXT_VERSION = 2

_ATTEMPTS = 3
_DEFAULTS = ContextSettings()


def copy_context(folder: Path, target: Path, settings: ContextSettings = _DEFAULTS) -> Record:
    """Update the copy of a folder, and return its record.

    Args:
        folder: The project's folder.
        target: The folder of the copy.
        settings: The section `context` of the settings.

    Returns:
        The record, with "files": [[path, size, sha256, executable], ...], "links": [[path, to], ...],
        "folders": the empty folders, and "size_bytes". Its output is the digest of the three lists.
        "allowed": [[path, line, rule], ...] are the secrets that context.allow permits, and "left_out":
        [[path, "pipe", "socket" or "device"], ...] the skipped files.

    Raises:
        SettingsError: A pattern or the size in the settings is invalid.
        SecretError: A file contains a secret.
        ContextSizeError: The files are too large.
        ContextError: A file cannot be copied, or keeps changing.
        StoreError: The copy cannot be written.
    """
    patterns = read_ignore(folder, settings.ignore)
    moved = ""
    for _ in range(_ATTEMPTS):
        try:
            return _update(folder, target, settings, patterns)
        except FileChangedError as exc:  # noqa: PERF203
            moved = str(exc)
    raise ContextError(
        f"context: {moved!r} keeps changing while it is copied",
        tip="stop the program that writes it, or exclude it in .dockerignore",
    )


def measure_context(folder: Path, target: Path, settings: ContextSettings = _DEFAULTS) -> Record:
    """Return the record that copy_context() would return, without writing; see there for errors."""
    patterns = read_ignore(folder, settings.ignore)
    listing = walk_context(folder, patterns, target.parent)
    try:
        rows, allowed = _measure(FolderSync(folder, target), listing, settings, remember=False)
    except FileChangedError as exc:
        raise ContextError(f"context: {str(exc)!r} is changing", tip="run again") from exc
    return _describe(patterns, listing, rows, allowed)


def list_context_reasons(
    folder: Path, target: Path, settings: ContextSettings = _DEFAULTS, *, previous: Record | None
) -> list[str]:
    """Return why the copy must be updated, one sentence per reason; [] if it is up to date.

    Args:
        folder: The project's folder.
        target: The folder of the copy.
        settings: The section `context` of the settings.
        previous: The record of the last copy; None if there is none.

    Raises:
        FFTasksError: See copy_context().
    """
    if previous is None:
        return ["never ran"]
    if previous.get("version") != CONTEXT_VERSION:
        return ["the algorithm of this stage changed"]
    patterns = read_ignore(folder, settings.ignore)
    listing = walk_context(folder, patterns, target.parent)
    copy = FolderSync(folder, target)
    inputs = _digest_inputs(previous, settings, patterns)
    if copy.is_unchanged(listing, inputs):
        return []
    try:
        rows, allowed = _measure(copy, listing, settings)
    except FileChangedError as exc:
        return [f"{exc} is changing"]
    reasons = _compare(previous, _describe(patterns, listing, rows, allowed))
    reasons = reasons or [
        f"{path} is not in the copy" for path in copy.find_outdated(rows, listing)
    ]
    if not reasons:
        copy.mark_unchanged(listing, inputs)
    return reasons


def _update(folder: Path, target: Path, settings: ContextSettings, patterns: IgnoreRules) -> Record:
    listing = walk_context(folder, patterns, target.parent)
    copy = FolderSync(folder, target)
    rows, allowed = _measure(copy, listing, settings)
    try:
        copy.update(listing, rows)
        copy.save_signatures(rows)
    except OSError as exc:
        raise StoreError(
            f"context: the copy in {target} cannot be written", found=[str(exc)]
        ) from exc
    record = _describe(patterns, listing, rows, allowed)
    copy.mark_unchanged(listing, _digest_inputs(record, settings, patterns))
    return record


def _measure(
    copy: FolderSync, listing: ContextFiles, settings: ContextSettings, *, remember: bool = True
) -> tuple[list[FileRow], list[AllowedRow]]:
    """Return the rows of the files, and the secrets in them that are allowed."""
    check_size({path: found.st_size for path, found in listing.files.items()}, settings.max_size)
    rows = copy.measure(listing)
    if remember:
        with suppress(OSError):  # signatures only save work
            copy.save_signatures(rows)
    return rows, check_secret_policy(copy.find_secrets(rows), settings.allow)


def _compare(old: Record, new: Record) -> list[str]:
    """Return why two records differ, one sentence per reason."""
    if {**old, "left_out": new["left_out"]} == new:  # skipped files are not in the image
        return []
    try:
        reasons = list(compare_contexts(old, new).format_sentences())
    except (TypeError, LookupError):
        return ["the record is damaged"]
    if not reasons and old.get("inputs") != new["inputs"]:
        return ["the patterns changed"]
    if not reasons and old.get("allowed") != new["allowed"]:
        return ["what context.allow lets in changed"]
    return reasons or ["the record is damaged"]


def _describe(
    patterns: IgnoreRules, listing: ContextFiles, rows: list[FileRow], allowed: list[AllowedRow]
) -> Record:
    links = [[path, to] for path, to in listing.links.items()]
    contents: dict[str, Any] = {"files": rows, "links": links, "folders": listing.folders}
    return {
        "stage": "context",
        "version": CONTEXT_VERSION,
        "inputs": {"ignore": patterns.digest},
        "output": digest_json(contents),
        "size_bytes": sum(row[1] for row in rows),
        "allowed": allowed,
        "left_out": [[path, kind] for path, kind in listing.left_out.items()],
        **contents,
    }


def _digest_inputs(record: Record, settings: ContextSettings, patterns: IgnoreRules) -> str:
    return digest_json(
        [record, list(settings.allow), settings.max_size, patterns.digest, RULES_DIGEST]
    )


_SHOWN = 10
_MANY_FILES = 10_000


def summarize_context(record: Record) -> str:
    """Return the number and the size of the files."""
    return f"{len(record['files'])} files, {format_size(record['size_bytes'])}"


def describe_context(record: Record, text: str) -> list[str]:
    """Return the lines for the terminal.

    Args:
        record: The record of the context.
        text: The log, see format_context_log(). If it is for another record, only the summary is returned.
    """
    head, *lines = text.splitlines() or [""]
    if head != _name(record):
        return [summarize_context(record)]
    return [summarize_context(record), *(line for line in lines if not line.startswith(" "))]


def format_context_log(record: Record, previous: Record | None) -> str:
    """Return the text of the log: a summary, changes, warnings and the largest files.

    Lines that begin with a space are not shown in the terminal.

    Args:
        record: The record of the context.
        previous: The record before; None if there is none.
    """
    sizes = {path: size for path, size, *_ in record["files"]}
    largest = [f"  {format_size(size):>10}  {_show(path)}" for path, size in list_largest(sizes)]
    lines = [_name(record), *_list_changes(record, previous), *_list_warnings(record)]
    return "\n".join([*lines, " the largest:", *largest]) + "\n"


def find_name_clashes(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of paths that differ only in case, or in the Unicode form of accents.

    They are different files on Linux, but one file on macOS and Windows.
    """
    paths = list(paths)
    found: dict[str, list[str]] = {}
    for path in sorted({*paths, *list_parents(paths)}):
        found.setdefault(unicodedata.normalize("NFC", path).casefold(), []).append(path)
    groups = [tuple(group) for group in found.values() if len(group) > 1]
    # the content of two such folders is not reported again
    return [group for group in groups if len({path.rpartition("/")[0] for path in group}) == 1]


def _name(record: Record) -> str:
    return f"{summarize_context(record)}, {record['output']}"


def _list_changes(record: Record, previous: Record | None) -> Iterator[str]:
    if previous is None:
        return
    try:
        difference = compare_contexts(previous, record)
    except (TypeError, LookupError):  # the previous record is damaged
        return
    for kind in ("added", "removed", "changed"):
        paths = getattr(difference, kind)
        if paths:
            yield f"{kind} since the last copy ({len(paths)}): {_enumerate(paths)}"


def _list_warnings(record: Record) -> Iterator[str]:
    allowed = [f"{_show(path)}:{line} {rule}" for path, line, rule in record["allowed"]]
    if allowed:
        yield f"allowed by context.allow: {_enumerate(allowed)}"
    left_out = [f"{_show(path)} (a {kind})" for path, kind in record["left_out"]]
    if left_out:
        yield f"skipped, because images cannot contain them: {_enumerate(left_out)}"
    if len(record["files"]) > _MANY_FILES:
        yield (
            f"more than {_MANY_FILES} files, and each command checks all of them: "
            "exclude files that no node needs in .dockerignore"
        )
    paths = [row[0] for row in (*record["files"], *record["links"])] + record["folders"]
    clashes = [" and ".join(map(_show, group)) for group in find_name_clashes(paths)]
    if clashes:
        yield f"the same name on macOS and Windows: {_enumerate(clashes)}"


def _enumerate(names: Iterable[str]) -> str:
    names = [_show(name) for name in names]
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _show(path: str) -> str:
    # a name may contain line breaks, or bytes that are not text
    return path if path.isprintable() else ascii(path)


def plan_context(project: Project) -> Stage:
    """Return the stage of the context; its log contains the changes since the last copy."""
    settings = project.settings.context
    folder = (project.root / settings.folder).resolve()
    path, target = project.record_path("context"), project.folder / "context"
    log = project.folder / "logs" / "context.stage.txt"

    def make() -> Record:
        record = copy_context(folder, target, settings)
        write_if_changed(log, format_context_log(record, read_record(path)))
        return record

    return Stage(
        path=path,
        needs=project.list_needs("context"),
        list_reasons=lambda old: list_context_reasons(folder, target, settings, previous=old),
        make=make,
        describe=lambda record: "\n   ".join(
            describe_context(record, read_text(log) if is_regular(log) else "")
        ),
    )
