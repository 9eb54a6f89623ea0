"""From a reference in one file to the statements, anywhere in the project, that give it its value."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from pathlib import Path

from fftasks.closure.foreign import TOOLS
from fftasks.closure.project import Place, Project, SourceFile

# what Python, or an interactive shell, puts into every module
_GIVEN = frozenset({
    "__name__", "__file__", "__package__", "__spec__", "__path__", "__loader__", "__cached__",
    "__debug__", "__class__", "__module__", "__qualname__", "__doc__", "__annotations__",
    "__builtins__", "__dict__", "reveal_type", "WindowsError", "ExceptionGroup",
    "BaseExceptionGroup", "EncodingWarning", "PythonFinalizationError", *dir(builtins),
})  # fmt: skip
_MODULE_NAMES = frozenset(name for name in _GIVEN if name.startswith("__"))
_MODULE_TEXT = ("__doc__", "__annotations__", "__dict__")

Key = tuple[SourceFile, int]
Name = tuple[SourceFile, str]


@dataclass
class Target:
    """What a reference leads to; of several ways that it may take, all of them.

    units: numbers of statements, imports on the way included; names: the names at the end of it
    rest: attributes that are left at the end, so that what is meant is in the value
    modules: modules that are the value themselves; files: all files on the way
    folders: namespace packages that are the value; externals: dotted names outside of the project
    missing: names that no statement binds; absent: modules that are not in their package
    """

    units: set[Key] = field(default_factory=set)
    names: set[Name] = field(default_factory=set)
    rest: bool = False
    modules: set[SourceFile] = field(default_factory=set)
    files: set[SourceFile] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    binaries: set[Path] = field(default_factory=set)
    externals: set[str] = field(default_factory=set)
    missing: set[Name] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def is_tool(self) -> bool:
        """Tell whether it is something of fftasks, and nothing else."""
        others = self.names or self.modules or self.missing or self.binaries
        tools = [name.partition(".")[0] in TOOLS for name in self.externals]
        return bool(tools) and all(tools) and not others

    def merge(self, other: Target) -> None:
        """Take in what another target has."""
        for name, value in vars(other).items():
            if isinstance(value, set):
                getattr(self, name).update(value)
        self.rest = self.rest or other.rest


@dataclass
class _Path:
    """The way to one target: what is still to follow, and what was."""

    target: Target
    todo: list[tuple[SourceFile, str, list[str]]]
    seen: set[tuple[object, ...]]

    def is_new(self, file: SourceFile, name: str, rest: list[str]) -> bool:
        """Tell whether a name was not followed yet: two modules may import it from each other."""
        key = file, name, *rest
        if key in self.seen:
            return False
        self.seen.add(key)
        return True


class Resolver:
    """Resolves references, each once.

    wild: whether modules may be anywhere in the project, since something changes sys.path
    """

    def __init__(self, project: Project, *, wild: bool) -> None:
        self.project = project
        self.wild = wild
        self._known: dict[tuple[SourceFile, str], Target] = {}

    def resolve(self, file: SourceFile, reference: str) -> Target:
        """Return what a reference in a file leads to."""
        key = file, reference
        if key not in self._known:
            self._known[key] = self._find(file, reference, [])
        return self._known[key]

    def _find(self, file: SourceFile, reference: str, rest: list[str]) -> Target:
        path = _Path(Target(), [(file, reference, rest)], set())
        while path.todo:  # not recursive: re-exports may form long chains
            self._follow(*path.todo.pop(), path)
        return path.target

    def list_imported(self, file: SourceFile, reference: str) -> list[SourceFile | Path]:
        """Return the files that executing an import executes, in order; compiled ones as paths."""
        level, module, name = reference.split(":", 2)
        steps = self.project.find_import(file, int(level), module, wild=self.wild)
        if name and steps:
            subs = (self.project.find_sub(place, name) for place in steps[-1])
            steps.append(tuple(sub for sub in subs if sub))
        found: list[SourceFile | Path] = []
        for place in (place for step in steps for place in step):
            source = self.project.load(place.path) if place.kind in ("module", "package") else None
            if source:
                found.append(source)
            elif place.kind == "binary":
                found.append(place.path)
        return found

    def _follow(self, file: SourceFile, reference: str, rest: list[str], path: _Path) -> None:
        reference = reference.lstrip("?")
        if not reference[0].isdigit():
            name, *attributes = reference.split(".")
            self._follow_name(file, name, attributes + rest, path)
            return
        level, module, dotted = reference.split(":", 2)
        steps = self.project.find_import(file, int(level), module, wild=self.wild)
        if not steps or not steps[-1]:
            path.target.absent.add(module)
            return
        for place in steps[-1]:
            self._follow_place(place, (dotted.split(".") if dotted else []) + rest, path)

    def _follow_name(self, file: SourceFile, name: str, rest: list[str], path: _Path) -> None:
        if not path.is_new(file, name, rest):
            return
        path.target.files.add(file)
        if name in file.names:
            self._follow_units(file, name, rest, path)
        elif not self._follow_stars(file, name, rest, path, given=_GIVEN):
            path.target.missing.add((file, name))

    def _follow_units(self, file: SourceFile, name: str, rest: list[str], path: _Path) -> None:
        for number in file.names[name]:
            unit = file.units[number]
            path.target.units.add((file, number))
            if unit["kind"] == "import":
                aliases = [unit["target"]]
            else:
                aliases = unit["aliases"].get(name, [])
                path.target.names.add((file, name))
                path.target.rest = path.target.rest or bool(rest)
            path.todo += [(file, alias, rest) for alias in aliases]

    def _follow_stars(
        self, file: SourceFile, name: str, rest: list[str], path: _Path, given: frozenset[str]
    ) -> bool:
        """Look a name up in what star imports bring; tell whether it is there, or needs no binding."""
        found = name in given or name in file.typing
        for star in file.stars:
            probe = (
                self._find(file, star, [name, *rest]) if path.is_new(file, star, [name]) else None
            )
            if probe and (probe.units or (probe.externals and name not in given)):
                path.target.merge(probe)
                found = True
        return found

    def _follow_place(self, place: Place, rest: list[str], path: _Path) -> None:
        if place.kind in ("external", "missing"):  # what is missing here may be in the image
            path.target.externals.add(".".join([place.name, *rest]))
        elif place.kind == "binary":
            path.target.binaries.add(place.path)
        elif place.kind == "namespace":
            self._follow_sub(place, rest, path)
        else:
            source = self.project.load(place.path)
            if source:
                self._follow_module(source, place, rest, path)

    def _follow_module(
        self, source: SourceFile, place: Place, rest: list[str], path: _Path
    ) -> None:
        path.target.files.add(source)
        if not rest or rest[0] in _MODULE_TEXT or source.error:
            path.target.modules.add(source)
        elif rest[0] in source.names and (source, *rest) not in path.seen:
            self._follow_name(source, rest[0], rest[1:], path)
        elif self.project.find_sub(
            place, rest[0]
        ):  # also `from . import b` in a package that has b
            self._follow_sub(place, rest, path)
        elif "__getattr__" in source.names:
            path.target.modules.add(source)
        elif not self._follow_stars(source, rest[0], rest[1:], path, given=_MODULE_NAMES):
            path.target.missing.add((source, rest[0]))

    def _follow_sub(self, place: Place, rest: list[str], path: _Path) -> None:
        sub = self.project.find_sub(place, rest[0]) if rest else None
        if sub:
            self._follow_place(sub, rest[1:], path)
        elif rest:
            path.target.absent.add(f"{place.name}.{rest[0]}")
        else:
            path.target.folders |= set(place.folders)
