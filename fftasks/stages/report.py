"""What a record of the context says to people, and how it differs from the one before."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

from fftasks.record import Record
from fftasks.stages.difference import find_difference
from fftasks.stages.listing import list_parents
from fftasks.stages.size import format_size, list_largest

_SHOWN = 10
_MANY = 10_000


def summarize(record: Record) -> str:
    """Return one line: how many files, how large."""
    return f"{len(record['files'])} files, {format_size(record['size_bytes'])}"


def describe(record: Record, text: str) -> list[str]:
    """Return the lines for the terminal.

    text: what format_report() gave; if it belongs to another record, or is damaged, only the summary
    remains.
    """
    head, *lines = text.splitlines() or [""]
    if head != _name(record):
        return [summarize(record)]
    return [summarize(record), *(line for line in lines if not line.startswith(" "))]


def format_report(record: Record, previous: Record | None) -> str:
    """Return the text of the log: the record's name, what differs, what to know, the largest files.

    Lines that begin with a space are for the log only.
    """
    sizes = {path: size for path, size, *_ in record["files"]}
    largest = [f"  {format_size(size):>10}  {_show(path)}" for path, size in list_largest(sizes)]
    lines = [_name(record), *_list_changes(record, previous), *_list_warnings(record)]
    return "\n".join([*lines, " the largest:", *largest]) + "\n"


def find_clashes(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the names that differ only in case, or in how an accent is written, folders among them.

    Linux keeps them apart; a folder on macOS or Windows has one place for all of them.
    """
    paths = list(paths)
    found: dict[str, list[str]] = {}
    for path in sorted({*paths, *list_parents(paths)}):
        found.setdefault(unicodedata.normalize("NFC", path).casefold(), []).append(path)
    groups = [tuple(group) for group in found.values() if len(group) > 1]
    # what lies in two such folders is no news
    return [group for group in groups if len({path.rpartition("/")[0] for path in group}) == 1]


def _name(record: Record) -> str:
    return f"{summarize(record)}, {record['output']}"


def _list_changes(record: Record, previous: Record | None) -> Iterator[str]:
    if previous is None:
        return
    try:
        difference = find_difference(previous, record)
    except (TypeError, LookupError):  # the one before is damaged
        return
    for kind in ("added", "removed", "changed"):
        paths = getattr(difference, kind)
        if paths:
            yield f"{kind} since the one before ({len(paths)}): {_enumerate(paths)}"


def _list_warnings(record: Record) -> Iterator[str]:
    allowed = [f"{_show(path)}:{line} {rule}" for path, line, rule in record["allowed"]]
    if allowed:
        yield f"allowed by context.allow: {_enumerate(allowed)}"
    left_out = [f"{_show(path)} (a {kind})" for path, kind in record["left_out"]]
    if left_out:
        yield f"left out, as no image can hold them: {_enumerate(left_out)}"
    if len(record["files"]) > _MANY:
        yield (
            f"more than {_MANY} files, and each is looked at each time: "
            "name in .dockerignore what no node needs"
        )
    paths = [row[0] for row in (*record["files"], *record["links"])] + record["folders"]
    clashes = [" and ".join(map(_show, group)) for group in find_clashes(paths)]
    if clashes:
        yield f"one name on macOS and Windows: {_enumerate(clashes)}"


def _enumerate(names: Iterable[str]) -> str:
    names = [_show(name) for name in names]
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _show(path: str) -> str:
    # a name may hold a line break, or bytes that are no text
    return path if path.isprintable() else ascii(path)
