"""What importing files executes: their top-level statements, and those of all that they import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fftasks.closure import dynamic
from fftasks.closure.project import SourceFile
from fftasks.closure.resolve import Key, Resolver

_Step = Key | SourceFile


class Execution:
    """The statements that run before a function of these files can be called.

    entry: the file that is imported first; others: files that are imported later
    order: the statements, in the order in which they run (imports inside functions at the end)
    files: the files, in the order in which they are reached; binaries: compiled modules
    changes_path: whether anything in them has to do with sys.path
    """

    def __init__(
        self, resolver: Resolver, entry: SourceFile, others: Iterable[SourceFile] = ()
    ) -> None:
        self.entry = entry
        self.order: list[Key] = []
        self.files: dict[SourceFile, None] = {}
        self.binaries: set[Path] = set()
        self._resolver = resolver
        self._lazy: list[tuple[SourceFile, str]] = []
        for file in (entry, *others):
            for path in resolver.project.find_packages_above(file.path):
                init = resolver.project.load(path)
                if init:
                    self._execute(init)
            self._execute(file)
        for file, reference in self._lazy:  # it grows meanwhile
            for imported in self._list_imported(file, reference):
                self._execute(imported)
        units = (unit for file in self.files for unit in file.units)
        self.changes_path = any(
            level == dynamic.PATH for unit in units for _, _, level, _ in unit["wide"]
        )

    def _execute(self, file: SourceFile) -> None:
        if file in self.files:
            return
        self.files[file] = None
        stack: list[Iterator[_Step]] = [self._iterate(file)]
        while stack:  # not recursive: imports may form long chains
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            elif isinstance(step, tuple):
                self.order.append(step)
            elif step not in self.files:
                self.files[step] = None
                stack.append(self._iterate(step))

    def _iterate(self, file: SourceFile) -> Iterator[_Step]:
        for number, unit in enumerate(file.units):
            if unit["main"] and file is not self.entry:
                continue
            for reference in unit["executed"]:
                yield from self._list_imported(file, reference)
            yield file, number
            self._lazy += [(file, reference) for reference in unit["lazy"]]

    def _list_imported(self, file: SourceFile, reference: str) -> Iterator[SourceFile]:
        for imported in self._resolver.list_imported(file, reference):
            if isinstance(imported, Path):
                self.binaries.add(imported)
            else:
                yield imported
