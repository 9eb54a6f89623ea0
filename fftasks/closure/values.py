"""What the project's names stand for: nodes and workflows, fixed values, containers, or nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fftasks.closure import foreign
from fftasks.closure.names import Root
from fftasks.closure.project import SourceFile
from fftasks.closure.resolve import Key, Name, Resolver
from fftasks.closure.unit import Unit, Value

_CODE = ("function", "decorated", "stateful", "class", "plain class")
_STATES = ("container", "opaque", "class", "stateful", "decorated")


class Values:
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
        self._kinds: dict[Key, str] = {}
        self._wiring: dict[tuple[Name, bool], bool] = {}

    def is_wiring(self, file: SourceFile, reference: str, distance: int) -> bool:
        """Tell whether a reference is a part of building a workflow, so that calling it runs no user code.

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

    def is_decorated(self, key: Key) -> bool:
        """Tell whether a function or class is made a node by fftasks' decorator."""
        file, number = key
        decorators = file.units[number]["decorators"]
        return any(self.is_wiring(file, reference, 2) for reference in decorators)

    def classify(self, key: Key) -> str:
        """Return the kind of what a statement binds, as in the table above; "" if it binds nothing."""
        if key not in self._kinds:
            self._kinds[key] = "opaque"  # the answer for a value that is made from itself
            self._kinds[key] = self._classify(key)
        return self._kinds[key]

    def list_read(self, file: SourceFile, number: int, reference: str) -> Iterator[Key]:
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

    def list_named(self, key: Key) -> set[Key]:
        """Return the statements that one names where it is executed, imports left out."""
        file, number = key
        references = file.units[number]["now"][1]
        return {found for ref in references for found in self.list_read(file, number, ref)}

    def list_held(self, keys: Iterable[Key], *, deep: bool) -> set[Key]:
        """Return what may be held by values: containers and the like that their statements can reach.

        deep: all that can change; else only what is opaque
        """
        kinds = _STATES if deep else ("opaque", "stateful")
        return {key for key in self._list_reached(keys) if self.classify(key) in kinds}

    def may_change_when_read(self, key: Key) -> bool:
        """Tell whether an attribute of a value may be a property of a class of the project's."""
        return any(
            found.units[number]["kind"] == "class" for found, number in self._list_reached([key])
        )

    def _list_reached(self, keys: Iterable[Key]) -> set[Key]:
        seen: set[Key] = set()
        todo = list(keys)
        while todo:
            file, number = todo.pop()
            for reference in file.units[number]["reads"]:
                new = [key for key in self.list_read(file, number, reference) if key not in seen]
                seen.update(new)
                todo += new
        return seen

    def _classify(self, key: Key) -> str:
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

    def _classify_decorated(self, file: SourceFile, unit: Unit) -> str:
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

    def _classify_value(self, file: SourceFile, name: str, value: Value) -> str:
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

    def _is_wiring_name(self, name: Name, *, is_result: bool) -> bool:
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
