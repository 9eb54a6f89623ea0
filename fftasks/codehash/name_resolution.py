"""Resolve a reference in a file to the statements of the project that define its value.

Names are classified as nodes and workflows, fixed values, containers, or unknown.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fftasks.codehash import known_calls as foreign
from fftasks.codehash.known_calls import TOOLS
from fftasks.codehash.module_analysis import BoundValue, CodeUnit
from fftasks.codehash.references import Root
from fftasks.codehash.source_tree import ModuleLocation, SourceFile, SourceTree

# what Python, or an interactive shell, puts into every module
_GIVEN = frozenset({
    "__name__", "__file__", "__package__", "__spec__", "__path__", "__loader__", "__cached__",
    "__debug__", "__class__", "__module__", "__qualname__", "__doc__", "__annotations__",
    "__builtins__", "__dict__", "reveal_type", "WindowsError", "ExceptionGroup",
    "BaseExceptionGroup", "EncodingWarning", "PythonFinalizationError", *dir(builtins),
})  # fmt: skip
_MODULE_NAMES = frozenset(name for name in _GIVEN if name.startswith("__"))
_MODULE_TEXT = ("__doc__", "__annotations__", "__dict__")

StatementKey = tuple[SourceFile, int]
BoundName = tuple[SourceFile, str]


@dataclass
class ResolvedReference:
    """What a reference leads to; of several ways that it may take, all of them.

    units: numbers of statements, imports on the way included; names: the names at the end of it
    rest: attributes that are left at the end, so that what is meant is in the value
    modules: modules that are the value themselves; files: all files on the way
    folders: namespace packages that are the value; externals: dotted names outside of the project
    missing: names that no statement binds; absent: modules that are not in their package
    """

    units: set[StatementKey] = field(default_factory=set)
    names: set[BoundName] = field(default_factory=set)
    rest: bool = False
    modules: set[SourceFile] = field(default_factory=set)
    files: set[SourceFile] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    binaries: set[Path] = field(default_factory=set)
    externals: set[str] = field(default_factory=set)
    missing: set[BoundName] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def is_tool(self) -> bool:
        """Return whether it is something of fftasks, and nothing else."""
        others = self.names or self.modules or self.missing or self.binaries
        tools = [name.partition(".")[0] in TOOLS for name in self.externals]
        return bool(tools) and all(tools) and not others

    def merge(self, other: ResolvedReference) -> None:
        """Take in what another target has."""
        for name, value in vars(other).items():
            if isinstance(value, set):
                getattr(self, name).update(value)
        self.rest = self.rest or other.rest


@dataclass
class _Path:
    """State of resolving one reference: the names to resolve, and those that are resolved."""

    target: ResolvedReference
    todo: list[tuple[SourceFile, str, list[str]]]
    seen: set[tuple[object, ...]]

    def is_new(self, file: SourceFile, name: str, rest: list[str]) -> bool:
        """Return whether a name was not followed yet: two modules may import it from each other."""
        key = file, name, *rest
        if key in self.seen:
            return False
        self.seen.add(key)
        return True


class Resolver:
    """Resolves references, each once.

    wild: whether modules may be anywhere in the project, since something changes sys.path
    """

    def __init__(self, project: SourceTree, *, wild: bool) -> None:
        self.project = project
        self.wild = wild
        self._known: dict[tuple[SourceFile, str], ResolvedReference] = {}

    def resolve(self, file: SourceFile, reference: str) -> ResolvedReference:
        """Return what a reference in a file leads to."""
        key = file, reference
        if key not in self._known:
            self._known[key] = self._find(file, reference, [])
        return self._known[key]

    def _find(self, file: SourceFile, reference: str, rest: list[str]) -> ResolvedReference:
        path = _Path(ResolvedReference(), [(file, reference, rest)], set())
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

    def _follow_place(self, place: ModuleLocation, rest: list[str], path: _Path) -> None:
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
        self, source: SourceFile, place: ModuleLocation, rest: list[str], path: _Path
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

    def _follow_sub(self, place: ModuleLocation, rest: list[str], path: _Path) -> None:
        sub = self.project.find_sub(place, rest[0]) if rest else None
        if sub:
            self._follow_place(sub, rest[1:], path)
        elif rest:
            path.target.absent.add(f"{place.name}.{rest[0]}")
        else:
            path.target.folders |= set(place.folders)


_CODE = ("function", "decorated", "stateful", "class", "plain class")
_STATES = ("container", "opaque", "class", "stateful", "decorated")


class ValueKinds:
    """Answers about names, each worked out once.

    kind           what it is
    function       of the project; "decorated": by one of the project; "stateful": with defaults that can
                   change, or kept by somebody else's decorator
    class          with containers or the like among its attributes; "plain class": without
    fixed          a value that nothing can change, and so a node or a workflow
    container      a list, dict or set made on the spot
    opaque         anything else
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._kinds: dict[StatementKey, str] = {}
        self._wiring: dict[tuple[BoundName, bool], bool] = {}

    def is_wiring(self, file: SourceFile, reference: str, distance: int) -> bool:
        """Return whether a reference is a part of building a workflow, so that calling it runs no user code.

        That is what fftasks has, what its decorator was put on, and the nodes that come of it.
        """
        target = self._resolver.resolve(file, reference)
        if target.is_tool():
            return True
        if target.modules or target.missing or target.binaries or target.absent:
            return False
        others = [name for name in target.externals if not _is_tool(name)]
        return (
            not others
            and bool(target.names)
            and all(self._is_wiring_name(name, is_result=distance > 1) for name in target.names)
        )

    def is_decorated(self, key: StatementKey) -> bool:
        """Return whether a function or class is made a node by fftasks' decorator."""
        file, number = key
        decorators = file.units[number]["decorators"]
        return any(self.is_wiring(file, reference, 2) for reference in decorators)

    def classify(self, key: StatementKey) -> str:
        """Return the kind of what a statement binds, as in the table above; "" if it binds nothing."""
        if key not in self._kinds:
            self._kinds[key] = "opaque"  # the answer for a value that is made from itself
            self._kinds[key] = self._classify(key)
        return self._kinds[key]

    def list_read(self, file: SourceFile, number: int, reference: str) -> Iterator[StatementKey]:
        """Yield the statements behind a reference, except what is only handed to a node to be."""
        via = file.units[number]["passed"].get(reference)
        if via and all(self.is_wiring(file, called, 0) for called in via):
            return
        target = self._resolver.resolve(file, reference)
        units = {key for key in target.units if not self.is_decorated(key)}
        for module in target.modules:
            units |= {(module, other) for other in range(len(module.units))}
        for found, inner in sorted(units, key=lambda key: (key[0].label, key[1])):
            if found.units[inner]["kind"] != "import":
                yield found, inner

    def list_named(self, key: StatementKey) -> set[StatementKey]:
        """Return the statements that one names where it is executed, imports left out."""
        file, number = key
        references = file.units[number]["now"][1]
        return {found for ref in references for found in self.list_read(file, number, ref)}

    def list_held(self, keys: Iterable[StatementKey], *, deep: bool) -> set[StatementKey]:
        """Return what may be held by values: containers and the like that their statements can reach.

        deep: all that can change; else only what is opaque
        """
        kinds = _STATES if deep else ("opaque", "stateful")
        return {key for key in self._list_reached(keys) if self.classify(key) in kinds}

    def may_change_when_read(self, key: StatementKey) -> bool:
        """Return whether an attribute of a value may be a property of a class of the project's."""
        return any(
            found.units[number]["kind"] == "class" for found, number in self._list_reached([key])
        )

    def _list_reached(self, keys: Iterable[StatementKey]) -> set[StatementKey]:
        seen: set[StatementKey] = set()
        todo = list(keys)
        while todo:
            file, number = todo.pop()
            for reference in file.units[number]["reads"]:
                new = [key for key in self.list_read(file, number, reference) if key not in seen]
                seen.update(new)
                todo += new
        return seen

    def _classify(self, key: StatementKey) -> str:
        file, number = key
        unit = file.units[number]
        kind = unit["kind"]
        has_state = any(value["kind"] == "container" for value in unit["values"].values())
        if kind == "class":
            return "class" if has_state else "plain class"
        if kind == "function":
            return "stateful" if has_state else self._classify_decorated(file, unit)
        if kind not in ("constant", "block"):
            return ""
        kinds = {self._classify_value(file, name, unit["values"][name]) for name in unit["binds"]}
        if kinds == {"fixed"}:
            return "fixed"
        return "container" if kinds <= {"fixed", "container"} else "opaque"

    def _classify_decorated(self, file: SourceFile, unit: CodeUnit) -> str:
        kind = "function"
        for reference in unit["decorators"]:
            target = self._resolver.resolve(file, reference)
            if any(not foreign.STATELESS.match(name) for name in target.externals) or target.absent:
                return "stateful"
            if any(found.units[number]["kind"] == "class" for found, number in target.units):
                return "stateful"
            if target.names and not target.is_tool():
                kind = "decorated"
        return kind

    def _classify_value(self, file: SourceFile, name: str, value: BoundValue) -> str:
        if self._is_wiring_name((file, name), is_result=False):
            return "fixed"
        if value["kind"] == "fixed":
            return (
                "fixed" if all(self._is_fixed(file, root) for root in value["roots"]) else "opaque"
            )
        return "container" if value["kind"] == "container" else "opaque"

    def _is_fixed(self, file: SourceFile, root: Root) -> bool:
        reference, distance = root
        target = self._resolver.resolve(file, reference)
        if target.modules or target.missing or target.binaries or target.absent:
            return False
        kinds = {
            self.classify(key) for key in target.units if key[0].units[key[1]]["kind"] != "import"
        }
        plain = {"fixed"} if distance else {"fixed", *_CODE}
        return kinds <= plain and all(foreign.FIXED.match(name) for name in target.externals)

    def _is_wiring_name(self, name: BoundName, *, is_result: bool) -> bool:
        key = name, is_result
        if key not in self._wiring:
            self._wiring[key] = True  # the answer for a name that is bound to itself
            file, text = name
            self._wiring[key] = all(
                self._is_wiring_unit(file, number, text, is_result=is_result)
                for number in file.names[text]
            )
        return self._wiring[key]

    def _is_wiring_unit(self, file: SourceFile, number: int, name: str, *, is_result: bool) -> bool:
        unit = file.units[number]
        if unit["kind"] in ("function", "class"):
            if self.is_decorated((file, number)):
                return True
            return is_result and self._are_wiring(file, unit["returns"])
        aliases = [(alias, 0) for alias in unit["aliases"].get(name, [])]
        value = unit["values"].get(name)
        return self._are_wiring(file, [*aliases, *(value["roots"] if value else ())])

    def _are_wiring(self, file: SourceFile, roots: Iterable[Root]) -> bool:
        found = [
            self.is_wiring(file, reference, far) if reference else False for reference, far in roots
        ]
        return bool(found) and all(found)


def _is_tool(name: str) -> bool:
    return name.partition(".")[0] in foreign.TOOLS
