"""The search for all that a function's result depends on among the project's code."""

from __future__ import annotations

from pathlib import Path

from fftasks.closure import dynamic
from fftasks.closure.effects import find_effects
from fftasks.closure.execution import Execution
from fftasks.closure.foreign import TOOLS
from fftasks.closure.project import Project, SourceFile
from fftasks.closure.resolve import Key, Name, Resolver, Target
from fftasks.closure.trace import Effect
from fftasks.closure.values import Values
from fftasks.record import digest_bytes, digest_file


class Search:
    """Reaches from a function all that it depends on.

    units: the statements that count -> whether nodes that they name count with their code
    whole: files that count whole -> why; other: pieces that are no statements
    notes: see Closure; text: whether docstrings and annotations count
    strangers: files that are reached, but imported by nothing that runs before
    """

    def __init__(self, project: Project, entry: SourceFile) -> None:
        self._project = project
        self._entry = entry
        self.strangers: list[SourceFile] = []
        self.units: dict[Key, bool] = {}
        self._missing: set[Name] = set()
        self.whole: dict[SourceFile, str] = {}
        self.other: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self._todo: list[Key] = []
        self.text = False
        self._look_around(wild=False)
        if self.execution.changes_path:
            self._look_around(wild=True)

    def _look_around(self, *, wild: bool) -> None:
        known = self._project.surroundings
        key = wild, self._entry, *self.strangers
        if key not in known:
            resolver = Resolver(self._project, wild=wild)
            values = Values(resolver)
            execution = Execution(resolver, self._entry, self.strangers)
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
            self._widen(source, reason, f"{source.label}: {reason}")
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
            if self._find_strangers():
                pending = [e for e in self.effects if e.key not in self.units]
                continue
            reached = [effect for effect in pending if self._is_reached(effect)]
            for effect in reached:
                self._count(effect)
            if not reached:
                break
            pending = [effect for effect in pending if effect.key not in self.units]

    # what is reached

    def _reach(self, key: Key, *, is_full: bool) -> None:
        """Note a statement; is_full: whether nodes that it names count with their code."""
        known = self.units.get(key)
        if known is None or (is_full and not known):
            self.units[key] = is_full
            self._todo.append(key)

    def _expand(self, key: Key) -> None:
        file, number = key
        unit = file.units[number]
        is_full = self.units[key]
        for star, line in file.stars.items():
            self._widen_star(file, star, line)
        for reference, line in unit["reads"].items():
            if is_full:
                self._reach_target(self._resolver.resolve(file, reference), reference, file, line)
            else:
                self._reach_executed(key, reference, line)
        for line, what, level, detail in unit["wide"]:
            self._widen_level(file, line, what, level, detail)
        for text in unit["strings"]:
            self._reach_string(file, text, unit["line"])

    def _reach_executed(self, key: Key, reference: str, line: int) -> None:
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
        self, target: Target, reference: str, file: SourceFile, line: int, *, is_full: bool = True
    ) -> None:
        for key in target.units:
            self._reach(key, is_full=is_full)
        for source, name in target.names:
            self._reach_name(source, name)
        where = f"{file.label}:{line}"
        for module in target.modules:
            self._widen(
                module, f"used as a value in {file.label}", f"{where}: the module itself is used"
            )
        for folder in target.folders:
            for path in self._project.list_python_files([folder]):
                self._widen_path(
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
            self._widen(
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
            self._widen(source, f"global {name}", f"{source.label}:{line}: global {name}")
        elif len(units) > 1 and not (
            len(targets) == 1 and all(not unit["digest"] for unit in units)
        ):
            line = units[-1]["line"]
            note = f"{source.label}:{line}: {name} is set more than once"
            self._widen(source, f"{name} is set more than once", note)

    def _reach_string(self, file: SourceFile, text: str, line: int) -> None:
        """Follow a text that is the path of a Python file, or the dotted name of something."""
        if text.endswith(".py"):
            for folder in (self._project.root, file.folder):
                path = folder / text
                if self._project.has_file(path):
                    self._widen_path(
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

    def _widen(self, source: SourceFile, reason: str, note: str) -> None:
        self.notes[f"{note}: all of {source.label} counts"] = None
        if source in self.whole:
            self.whole[source] = min(self.whole[source], reason)
            return
        self.whole[source] = reason
        for number, unit in enumerate(source.units):
            if not unit["main"] or source is self._entry:
                self._reach((source, number), is_full=True)
        for star, line in source.stars.items():
            self._widen_star(source, star, line)
        if source.error == "too deeply nested":
            self._widen_project("", source.error, note)

    def _widen_path(self, path: Path, reason: str, note: str) -> None:
        source = self._project.load(path)
        if source:
            self._widen(source, reason, note)

    def _widen_star(self, file: SourceFile, star: str, line: int) -> None:
        target = self._resolver.resolve(file, star)
        for module in target.modules:
            if module not in self.whole:
                note = f"{file.label}:{line}: star import"
                self._widen(module, f"star import in {file.label}", note)
        for external in target.externals:
            self._note_external(external)

    def _widen_level(self, file: SourceFile, line: int, what: str, level: str, detail: str) -> None:
        note = f"{file.label}:{line}: {what}"
        if what == "getattr" and not self._resolver.resolve(file, detail).modules:
            return  # the attributes of an object are those of its class, which counts whole
        if level == dynamic.TEXT:
            self.text = True
            self.notes[f"{note}: docstrings and annotations count"] = None
        elif level == dynamic.FILE:
            self._widen(file, what, note)
        elif level == dynamic.GRAPH:
            self._widen(file, what, note)
            for source in list(self.execution.files):
                self._widen(source, f"{what} in {file.label}", note)
        elif level == dynamic.PROJECT:
            self._widen(file, what, note)
            self._widen_project(detail, f"{what} in {file.label}", note)

    def _widen_project(self, prefix: str, reason: str, note: str) -> None:
        folders: list[Path] = []
        if prefix:
            top, _, rest = prefix.partition(".")
            for place in self._project.find_top(top, wild=self._wild):
                inner = place
                for part in rest.split(".") if rest else ():
                    inner = self._project.find_sub(inner, part) or inner
                folders += inner.folders
        for path in self._project.list_python_files(folders):
            self._widen_path(path, reason, note)

    def _find_strangers(self) -> bool:
        """Take files that are reached in no ordinary way into what is executed; tell whether any was."""
        known = self.execution.files
        strangers = {file for file, _ in self.units if file not in known}
        strangers |= {file for file in self.whole if file not in known}
        if not strangers:
            return False
        self.strangers += sorted(strangers, key=lambda source: source.label)
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
            self._widen(module, f"changed in {file.label}", note)
            self._widen(file, "changes a module", note)

    # what comes out

    def _note_external(self, dotted: str) -> None:
        top = dotted.partition(".")[0]
        if top not in TOOLS:
            for name in self._project.distributions.tops.get(top, ()):
                self.other[name] = digest_bytes(name.encode())

    def _note_file(self, path: Path) -> None:
        self.other[f"file {self._project.label(path)}"] = digest_file(path)
