"""What importing a file executes: while this is the same, the file builds the same graph.

Most edits change what functions do when nodes call them, and so nothing that is executed when the graph is
built. Of a function that is only defined then, the head counts (head.py); of every other statement of the
files that are imported, its text. What cannot be resolved makes more count, as in search.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fftasks.closure.project import Project, SourceFile
from fftasks.closure.resolve import Key
from fftasks.closure.search import Search
from fftasks.record import digest_json


@dataclass(frozen=True)
class Skeleton:
    """What is executed when a file is imported.

    digest: of all of it
    lines: file, relative to the project's folder -> first lines of its statements, in order
    files: file -> digest of its whole text
    """

    digest: str
    lines: Mapping[str, list[int]]
    files: Mapping[str, str]


def find_skeleton(project: Project, entry: str) -> Skeleton | None:
    """Return what importing a file executes; None if that cannot be told from the files' texts.

    So where docstrings may be read, or bodies of nodes called by their functions' `.func`.

    entry: relative to the project's folder
    """
    source = project.load(project.root / entry)
    if source is None:
        return None
    search = _ImportSearch(project, source)
    search.run()
    files = sorted(search.execution.files, key=lambda file: file.label)
    if search.text or search.is_tapped or any(file.error for file in files):
        return None
    counted = {file.label: [search.describe(key) for key in _list_keys(file)] for file in files}
    return Skeleton(
        digest_json([counted, sorted(search.other)]),
        {file.label: [unit["line"] for unit in file.units] for file in files},
        {file.label: file.digest for file in files},
    )


def _list_keys(file: SourceFile) -> list[Key]:
    return [(file, number) for number in range(len(file.units))]


class _ImportSearch(Search):
    """Reaches all that is executed when the entry is imported."""

    def run(self) -> None:
        """Search until no further file is found to be imported."""
        begun: set[SourceFile] = set()
        while new := [file for file in self.execution.files if file not in begun]:
            begun.update(new)
            for file in new:
                for key in _list_keys(file):
                    self._begin(key)
            self.finish()

    @property
    def is_tapped(self) -> bool:
        """Whether bodies of nodes may be executed, past fftasks' decorator."""
        return any(file.units[number]["taps"] for file, number in self.units)

    def describe(self, key: Key) -> list[object]:
        """Return what counts of a statement."""
        file, number = key
        unit = file.units[number]
        if unit["kind"] == "import":
            return [unit["name"], unit["target"], unit["executed"], unit["main"]]
        is_only_defined = key not in self.units and self._is_definition(key)
        return [unit["name"], unit["head"] if is_only_defined else unit["text"], unit["main"]]

    def _begin(self, key: Key) -> None:
        file, number = key
        unit = file.units[number]
        if not self._is_definition(key):
            self._reach(key, is_full=False)
            return
        for reference in unit["now"][1]:  # its defaults, and what is given to the decorator
            self._reach_executed(key, reference, unit["line"])

    def _reach_executed(self, key: Key, reference: str, line: int) -> None:
        """Follow a reference; a node's function that a package is given may be called by it."""
        file, number = key
        for called in file.units[number]["passed"].get(reference, ()):
            target = self._resolver.resolve(file, called)
            if target.externals and not target.is_tool():
                for found in self._resolver.resolve(file, reference).units:
                    if self._is_definition(found):
                        self._reach(found, is_full=True)
        super()._reach_executed(key, reference, line)

    def _is_definition(self, key: Key) -> bool:
        """Tell whether a statement defines a function, and runs no code but fftasks' decorator for that."""
        file, number = key
        unit = file.units[number]
        return bool(unit["head"]) and all(
            event[0] == "decorate" and event[1] and self._values.is_wiring(file, event[1], 2)
            for event in unit["now"][0]
        )
