"""The search for all that a function's result depends on among the project's code.

The closure of a function, piece by piece, and its digest.

Closures of what has no source in the project: made in a shell, by exec, or installed.

What importing a file executes: while this is the same, the file builds the same graph.

Most edits change what functions do when nodes call them, and so nothing that is executed when the graph is
built. Of a function that is only defined then, the head counts (head.py); of every other statement of the
files that are imported, its text. What cannot be resolved makes more count, as in search.py.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.codehash.code_origin import find_origin
from fftasks.codehash.import_effects import Effect, ImportExecution, find_effects
from fftasks.codehash.known_calls import (
    FALLBACK_FILE,
    FALLBACK_GRAPH,
    FALLBACK_PROJECT,
    FALLBACK_TEXT,
    TOOLS,
)
from fftasks.codehash.name_resolution import (
    BoundName,
    ResolvedReference,
    Resolver,
    StatementKey,
    ValueKinds,
)
from fftasks.codehash.python_values import digest_constant
from fftasks.codehash.source_tree import SourceFile, SourceTree
from fftasks.records import digest_bytes, digest_file, digest_json


class DependencySearch:
    """Reaches from a function all that it depends on.

    units: the statements that count -> whether nodes that they name count with their code
    whole: files that count whole -> why; other: pieces that are no statements
    notes: see Closure; text: whether docstrings and annotations count
    late_imports: files that are reached, but imported by nothing that runs before
    """

    def __init__(self, project: SourceTree, entry: SourceFile) -> None:
        self._project = project
        self._entry = entry
        self.late_imports: list[SourceFile] = []
        self.units: dict[StatementKey, bool] = {}
        self._missing: set[BoundName] = set()
        self.whole: dict[SourceFile, str] = {}
        self.other: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self._todo: list[StatementKey] = []
        self.text = False
        self._look_around(wild=False)
        if self.execution.changes_path:
            self._look_around(wild=True)

    def _look_around(self, *, wild: bool) -> None:
        known = self._project.surroundings
        key = wild, self._entry, *self.late_imports
        if key not in known:
            resolver = Resolver(self._project, wild=wild)
            values = ValueKinds(resolver)
            execution = ImportExecution(resolver, self._entry, self.late_imports)
            known[key] = resolver, values, execution, find_effects(resolver, values, execution)
        self._resolver, self._values, self.execution, self.effects = known[key]
        self._wild = wild

    def start(self, source: SourceFile, qualname: str, line: int) -> None:
        """Begin with a function or class of a file."""
        name = qualname.partition(".")[0]
        numbers = source.names.get(name)
        if numbers is None:
            lines = [unit["line"] for unit in source.units]
            numbers = [max((n for n, at in enumerate(lines) if at <= line), default=-1)]
        if source.error or numbers == [-1]:
            reason = source.error or f"{qualname} is not found in it"
            self._fall_back(source, reason, f"{source.label}: {reason}")
            return
        if name in source.names:
            self._reach_name(source, name)
        for number in numbers:
            self._reach((source, number), is_full=True)

    def finish(self) -> None:
        """Go on until nothing new is reached."""
        for binary in self.execution.binaries:
            self._note_file(binary)
        pending = list(self.effects)
        while self._todo or pending:
            while self._todo:
                self._expand(self._todo.pop())
            if self._find_late_imports():
                pending = [e for e in self.effects if e.key not in self.units]
                continue
            reached = [effect for effect in pending if self._is_reached(effect)]
            for effect in reached:
                self._count(effect)
            if not reached:
                break
            pending = [effect for effect in pending if effect.key not in self.units]

    # what is reached

    def _reach(self, key: StatementKey, *, is_full: bool) -> None:
        """Note a statement; is_full: whether nodes that it names count with their code."""
        known = self.units.get(key)
        if known is None or (is_full and not known):
            self.units[key] = is_full
            self._todo.append(key)

    def _expand(self, key: StatementKey) -> None:
        file, number = key
        unit = file.units[number]
        is_full = self.units[key]
        for star, line in file.stars.items():
            self._fall_back_to_star_import(file, star, line)
        for reference, line in unit["reads"].items():
            if is_full:
                self._reach_target(self._resolver.resolve(file, reference), reference, file, line)
            else:
                self._reach_executed(key, reference, line)
        for line, what, level, detail in unit["fallbacks"]:
            self._fall_back_to_level(file, line, what, level, detail)
        for text in unit["strings"]:
            self._reach_string(file, text, unit["line"])

    def _reach_executed(self, key: StatementKey, reference: str, line: int) -> None:
        """Follow what a statement that builds the workflow, or sets something up, needs for that."""
        file, number = key
        via = file.units[number]["passed"].get(reference)
        if via and all(self._values.is_wiring(file, called, 0) for called in via):
            return
        target = self._resolver.resolve(file, reference)
        if any(self._values.is_decorated(found) for found in target.units):
            return
        self._reach_target(target, reference, file, line, is_full=False)

    def _reach_target(
        self,
        target: ResolvedReference,
        reference: str,
        file: SourceFile,
        line: int,
        *,
        is_full: bool = True,
    ) -> None:
        for key in target.units:
            self._reach(key, is_full=is_full)
        for source, name in target.names:
            self._reach_name(source, name)
        where = f"{file.label}:{line}"
        for module in target.modules:
            self._fall_back(
                module, f"used as a value in {file.label}", f"{where}: the module itself is used"
            )
        for folder in target.folders:
            for path in self._project.list_python_files([folder]):
                self._fall_back_to_file(
                    path, f"used as a value in {file.label}", f"{where}: a folder of modules"
                )
        for external in target.externals:
            self._note_external(external)
        for binary in target.binaries:
            self._note_file(binary)
        self._missing |= target.missing
        if reference[0] == "?":
            return
        for source, name in target.missing:
            self._fall_back(
                source, f"{name} is not found", f"{where}: {name} is not found in {source.label}"
            )

    def _reach_name(self, source: SourceFile, name: str) -> None:
        """Widen to the file if a name has several values one after the other: their order counts."""
        units = [source.units[number] for number in source.names[name]]
        targets = {
            unit["target"] for unit in units if unit["kind"] == "import" and not unit["digest"]
        }
        if name in source.shared:
            line = source.shared[name]
            self._fall_back(source, f"global {name}", f"{source.label}:{line}: global {name}")
        elif len(units) > 1 and not (
            len(targets) == 1 and all(not unit["digest"] for unit in units)
        ):
            line = units[-1]["line"]
            note = f"{source.label}:{line}: {name} is set more than once"
            self._fall_back(source, f"{name} is set more than once", note)

    def _reach_string(self, file: SourceFile, text: str, line: int) -> None:
        """Follow a text that is the path of a Python file, or the dotted name of something."""
        if text.endswith(".py"):
            for folder in (self._project.root, file.folder):
                path = folder / text
                if self._project.has_file(path):
                    self._fall_back_to_file(
                        path, f"named in {file.label}", f"{file.label}:{line}: {text!r}"
                    )
            return
        dotted = text.replace(":", ".")
        top, _, rest = dotted.partition(".")
        kinds = {place.kind for place in self._project.find_top(top, wild=self._wild)}
        if kinds & {"module", "package", "namespace"}:
            target = self._resolver.resolve(file, f"0:{top}:{rest}")
            if target.units or target.modules:
                self._reach_target(target, "?", file, line)

    # what widens

    def _fall_back(self, source: SourceFile, reason: str, note: str) -> None:
        self.notes[f"{note}: all of {source.label} counts"] = None
        if source in self.whole:
            self.whole[source] = min(self.whole[source], reason)
            return
        self.whole[source] = reason
        for number, unit in enumerate(source.units):
            if not unit["main"] or source is self._entry:
                self._reach((source, number), is_full=True)
        for star, line in source.stars.items():
            self._fall_back_to_star_import(source, star, line)
        if source.error == "too deeply nested":
            self._fall_back_to_project("", source.error, note)

    def _fall_back_to_file(self, path: Path, reason: str, note: str) -> None:
        source = self._project.load(path)
        if source:
            self._fall_back(source, reason, note)

    def _fall_back_to_star_import(self, file: SourceFile, star: str, line: int) -> None:
        target = self._resolver.resolve(file, star)
        for module in target.modules:
            if module not in self.whole:
                note = f"{file.label}:{line}: star import"
                self._fall_back(module, f"star import in {file.label}", note)
        for external in target.externals:
            self._note_external(external)

    def _fall_back_to_level(
        self, file: SourceFile, line: int, what: str, level: str, detail: str
    ) -> None:
        note = f"{file.label}:{line}: {what}"
        if what == "getattr" and not self._resolver.resolve(file, detail).modules:
            return  # the attributes of an object are those of its class, which counts whole
        if level == FALLBACK_TEXT:
            self.text = True
            self.notes[f"{note}: docstrings and annotations count"] = None
        elif level == FALLBACK_FILE:
            self._fall_back(file, what, note)
        elif level == FALLBACK_GRAPH:
            self._fall_back(file, what, note)
            for source in list(self.execution.files):
                self._fall_back(source, f"{what} in {file.label}", note)
        elif level == FALLBACK_PROJECT:
            self._fall_back(file, what, note)
            self._fall_back_to_project(detail, f"{what} in {file.label}", note)

    def _fall_back_to_project(self, prefix: str, reason: str, note: str) -> None:
        folders: list[Path] = []
        if prefix:
            top, _, rest = prefix.partition(".")
            for place in self._project.find_top(top, wild=self._wild):
                inner = place
                for part in rest.split(".") if rest else ():
                    inner = self._project.find_sub(inner, part) or inner
                folders += inner.folders
        for path in self._project.list_python_files(folders):
            self._fall_back_to_file(path, reason, note)

    def _find_late_imports(self) -> bool:
        """Take files that are reached in no ordinary way into what is executed; tell whether any was."""
        known = self.execution.files
        late_imports = {file for file, _ in self.units if file not in known}
        late_imports |= {file for file in self.whole if file not in known}
        if not late_imports:
            return False
        self.late_imports += sorted(late_imports, key=lambda source: source.label)
        self._look_around(wild=self._wild)
        return True

    # what has effects

    def _is_reached(self, effect: Effect) -> bool:
        file, number = effect.key
        if file.units[number]["main"] and file is not self._entry:
            return False
        return (
            effect.everywhere
            or not effect.touched.isdisjoint(self.units)
            or not effect.missing.isdisjoint(self._missing)
        )

    def _count(self, effect: Effect) -> None:
        file, number = effect.key
        line = file.units[number]["line"]
        self._reach(effect.key, is_full=False)
        self.notes[f"{file.label}:{line}: a statement with effects counts"] = None
        for module in effect.modules:
            note = f"{file.label}:{line}: an attribute of a module is set"
            self._fall_back(module, f"changed in {file.label}", note)
            self._fall_back(file, "changes a module", note)

    # what comes out

    def _note_external(self, dotted: str) -> None:
        top = dotted.partition(".")[0]
        if top not in TOOLS:
            for name in self._project.distributions.tops.get(top, ()):
                self.other[name] = digest_bytes(name.encode())

    def _note_file(self, path: Path) -> None:
        self.other[f"file {self._project.label(path)}"] = digest_file(path)


@dataclass(frozen=True)
class CodeDependencies:
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


def find_dependencies(
    project: SourceTree, file: str, qualname: str, *, entry: str | None = None, line: int = 0
) -> CodeDependencies:
    """Return the project code that a function or class needs, transitively.

    file: in which it is defined, relative to the project's folder
    qualname: "clean", "Counter.add", "outer.<locals>.inner"; what is not found by its name is
        looked for at its line, and else the whole file counts
    entry: the file that builds the workflow, if another one; what importing it does counts as well

    What cannot be resolved makes more count, never less. A file that is not there has a piece that says so.
    """
    source = project.load(project.root / file)
    if source is None:
        return make_dependencies({f"file {file} (missing)": ""}, {}, [f"{file} is not there"])
    with _garbage_collector_disabled():
        search = DependencySearch(
            project, (project.load(project.root / entry) if entry else None) or source
        )
        search.start(source, qualname, line)
        search.finish()
        files = {*search.execution.files, *(unit_file for unit_file, _ in search.units)}
        read = {source.label: source.digest for source in files}
        return make_dependencies(_list_pieces(search), read, list(search.notes))


@contextmanager
def _garbage_collector_disabled() -> Iterator[None]:
    """Make many objects that stay: looking for cycles among them takes longer than making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _list_pieces(search: DependencySearch) -> dict[str, str]:
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
    pieces |= {f"file {file.label} (imported late)": "" for file in search.late_imports}
    order = _list_order(search)
    return pieces | ({"order of statements with effects": digest_json(order)} if order else {})


def _list_order(search: DependencySearch) -> list[str]:
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


def _order(key: StatementKey) -> tuple[str, int]:
    return key[0].label, key[1]


def make_dependencies(
    pieces: dict[str, str], files: dict[str, str], notes: list[str]
) -> CodeDependencies:
    """Return a closure with all that it consists of in order, and its digest."""
    ordered = dict(sorted(pieces.items()))
    return CodeDependencies(
        ordered, digest_json(ordered), dict(sorted(files.items())), tuple(sorted(notes))
    )


def digest_without_source(function: Any) -> CodeDependencies:
    """Return the closure of a function or class by its code object, or by its distribution's version.

    Of a code object count its instructions, constants, defaults, the values it closes over, and the
    globals that it names, in the same way. The instructions differ from one Python to the next.
    """
    name = _name(function)
    digest, stable = digest_constant(function)
    origin = find_origin(function)
    if origin is not None:
        return make_dependencies({f"{name} of {origin}": digest}, {}, [])
    notes = [f"{name} has no source here: its code object counts"]
    if not stable:
        notes.append(f"{name} uses a value that has no stable digest")
    return make_dependencies({f"{name} (code object)": digest}, {}, notes)


def _name(function: Any) -> str:
    """Return what a user knows a function by; a partial or another object by its type."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return ".".join(filter(None, (getattr(named, "__module__", None), named.__qualname__)))


@dataclass(frozen=True)
class ImportDigest:
    """Code that is executed when a file is imported.

    digest: of all of it
    lines: file, relative to the project's folder -> first lines of its statements, in order
    files: file -> digest of its whole text
    """

    digest: str
    lines: Mapping[str, list[int]]
    files: Mapping[str, str]


def find_import_digest(project: SourceTree, entry: str) -> ImportDigest | None:
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
    if search.text or search.bypasses_decorator or any(file.error for file in files):
        return None
    counted = {file.label: [search.describe(key) for key in _list_keys(file)] for file in files}
    return ImportDigest(
        digest_json([counted, sorted(search.other)]),
        {file.label: [unit["line"] for unit in file.units] for file in files},
        {file.label: file.digest for file in files},
    )


def _list_keys(file: SourceFile) -> list[StatementKey]:
    return [(file, number) for number in range(len(file.units))]


class _ImportSearch(DependencySearch):
    """Searches all code that is executed when the entry file is imported."""

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
    def bypasses_decorator(self) -> bool:
        """Whether the functions of nodes may be called without fftasks' decorator."""
        return any(file.units[number]["bypasses"] for file, number in self.units)

    def describe(self, key: StatementKey) -> list[object]:
        """Return what counts of a statement."""
        file, number = key
        unit = file.units[number]
        if unit["kind"] == "import":
            return [unit["name"], unit["target"], unit["executed"], unit["main"]]
        is_only_defined = key not in self.units and self._is_definition(key)
        return [unit["name"], unit["interface"] if is_only_defined else unit["text"], unit["main"]]

    def _begin(self, key: StatementKey) -> None:
        file, number = key
        unit = file.units[number]
        if not self._is_definition(key):
            self._reach(key, is_full=False)
            return
        for reference in unit["now"][1]:  # its defaults, and what is given to the decorator
            self._reach_executed(key, reference, unit["line"])

    def _reach_executed(self, key: StatementKey, reference: str, line: int) -> None:
        """Follow a reference; a node's function that a package is given may be called by it."""
        file, number = key
        for called in file.units[number]["passed"].get(reference, ()):
            target = self._resolver.resolve(file, called)
            if target.externals and not target.is_tool():
                for found in self._resolver.resolve(file, reference).units:
                    if self._is_definition(found):
                        self._reach(found, is_full=True)
        super()._reach_executed(key, reference, line)

    def _is_definition(self, key: StatementKey) -> bool:
        """Return whether a statement defines a function, and runs no code but fftasks' decorator for that."""
        file, number = key
        unit = file.units[number]
        return bool(unit["interface"]) and all(
            event[0] == "decorate" and event[1] and self._values.is_wiring(file, event[1], 2)
            for event in unit["now"][0]
        )
