"""The form of an analysis: plain JSON, in a shorter form where it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from fftasks.closure.names import Root

# of the form and of what stands in it: an analysis that another version has kept is of no use
VERSION = 2


class Value(TypedDict):
    """What a name is bound to: see roots.py; kind is "fixed", "container" or "other"."""

    roots: list[Root]
    kind: str


class Unit(TypedDict):
    """One top-level statement, or one name of an import; the rest is as in names.Names.

    kind: "function", "class", "constant", "import", "block" (an if, for, try, ... that binds), "effect"
    name: as a reader knows it, "function clean()"; target: what an import's name refers to
    digest: of what counts; text: of all its lines as they are
    head: of a function, digest of what importing its file and describing its nodes need of it: see head.py;
        "" for what has none
    taps: it may call what a decorated function was made of, which fftasks does only to run a node
    aliases: names that imports inside a block bind -> references
    main: it stands under `if __name__ == "__main__":`
    """

    kind: str
    name: str
    line: int
    digest: str
    text: str
    head: str
    taps: bool
    binds: list[str]
    target: str
    values: dict[str, Value]
    aliases: dict[str, list[str]]
    decorators: list[str]
    main: bool
    reads: dict[str, int]
    passed: dict[str, list[str]]
    now: list[list[Any]]
    bodies: dict[str, list[list[Any]]]
    returns: list[Root]
    wide: list[list[Any]]
    executed: list[str]
    lazy: list[str]
    strings: list[str]


class Analysis(TypedDict):
    """All top-level statements of a file.

    error: why there are none, else ""; stars: reference to a module -> line of its star import
    shared: names that functions declare global -> line; typing: names for type checkers only
    """

    error: str
    units: list[Unit]
    stars: dict[str, int]
    shared: dict[str, int]
    typing: list[str]


def list_names(units: Iterable[Unit]) -> dict[str, list[int]]:
    """Return for each name that a module binds the numbers of its units that do."""
    bindings: dict[str, list[int]] = {}
    for number, unit in enumerate(units):
        for name in unit["binds"]:
            bindings.setdefault(name, []).append(number)
    return bindings


_EMPTY: dict[str, Any] = {
    "head": "", "taps": False, "target": "", "aliases": {}, "decorators": [], "main": False, "reads": {},
    "passed": {},
    "now": [[], []], "bodies": {}, "returns": [], "wide": [], "executed": [], "lazy": [], "strings": [],
    "values": {},
}  # fmt: skip


def make_unit(fields: dict[str, Any]) -> Unit:
    """Return a unit of which only some fields are not empty."""
    unit: Any = {**_EMPTY, **fields}
    return unit  # type: ignore[no-any-return]


def shorten(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as it is kept: without what is empty."""
    units = [{k: v for k, v in u.items() if v != _EMPTY.get(k)} for u in analysis["units"]]
    return {**analysis, "units": units}


def complete(analysis: Analysis) -> Analysis:
    """Return a kept analysis whole again; raise KeyError or TypeError for anything else."""
    units = [make_unit(dict(unit)) for unit in analysis["units"]]
    for name in ("error", "stars", "shared", "typing"):
        analysis[name]
    return {**analysis, "units": units}
