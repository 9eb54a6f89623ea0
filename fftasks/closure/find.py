"""The closure of a function, piece by piece, and its digest."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fftasks.closure.project import Project
from fftasks.closure.resolve import Key
from fftasks.closure.search import Search
from fftasks.record import digest_json


@dataclass(frozen=True)
class Closure:
    """The code that a function needs.

    pieces: what a user knows it by, "features.py: function clean()" -> digest
    digest: of all pieces
    files: all files of the project that were read for it, relative to its folder -> digest
    notes: why something counts that the function does not name, with file and line
    """

    pieces: Mapping[str, str]
    digest: str
    files: Mapping[str, str]
    notes: tuple[str, ...] = ()


def find_closure(
    project: Project, file: str, qualname: str, *, entry: str | None = None, line: int = 0
) -> Closure:
    """Return the project code that a function or class needs, transitively.

    file: in which it is defined, relative to the project's folder
    qualname: "clean", "Counter.add", "outer.<locals>.inner"; what is not found by its name is
        looked for at its line, and else the whole file counts
    entry: the file that builds the workflow, if another one; what importing it does counts as well

    What cannot be resolved makes more count, never less. A file that is not there has a piece that says so.
    """
    source = project.load(project.root / file)
    if source is None:
        return make_closure({f"file {file} (missing)": ""}, {}, [f"{file} is not there"])
    with _without_collector():
        search = Search(project, (project.load(project.root / entry) if entry else None) or source)
        search.start(source, qualname, line)
        search.finish()
        files = {*search.execution.files, *(unit_file for unit_file, _ in search.units)}
        read = {source.label: source.digest for source in files}
        return make_closure(_list_pieces(search), read, list(search.notes))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Make many objects that stay: looking for cycles among them takes longer than making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _list_pieces(search: Search) -> dict[str, str]:
    parts: dict[str, list[str]] = {}
    for (file, number), _ in sorted(search.units.items(), key=lambda item: _order(item[0])):
        unit = file.units[number]
        digest = unit["text"] if search.text else unit["digest"]
        if digest and file not in search.whole:
            parts.setdefault(f"{file.label}: {unit['name']}", []).append(digest)
    pieces = {name: digest_json(digests) for name, digests in parts.items()}
    pieces |= {
        f"file {file.label} (widened: {reason})": file.digest
        for file, reason in search.whole.items()
    }
    pieces |= search.other
    # a module of a package is there only if something imports it
    pieces |= {f"file {file.label} (imported late)": "" for file in search.strangers}
    order = _list_order(search)
    return pieces | ({"order of statements with effects": digest_json(order)} if order else {})


def _list_order(search: Search) -> list[str]:
    """Return the statements that count in the order in which they run, if that can make a difference."""
    if not any(effect.key in search.units for effect in search.effects):
        return []
    return [
        f"{file.label} {unit['digest']}"
        for file, number in search.execution.order
        if (file, number) in search.units
        for unit in (file.units[number],)
        if unit["kind"] != "function" or any(unit["now"])
    ]


def _order(key: Key) -> tuple[str, int]:
    return key[0].label, key[1]


def make_closure(pieces: dict[str, str], files: dict[str, str], notes: list[str]) -> Closure:
    """Return a closure with all that it consists of in order, and its digest."""
    ordered = dict(sorted(pieces.items()))
    return Closure(ordered, digest_json(ordered), dict(sorted(files.items())), tuple(sorted(notes)))
