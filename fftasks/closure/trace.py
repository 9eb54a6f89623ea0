"""One statement's effects: which globals the code that it executes may change.

Every event of that code (names.py) is judged by what it is done to; functions that it calls are entered,
methods by their name in the classes that were met.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from fftasks.closure.names import Event
from fftasks.closure.project import SourceFile
from fftasks.closure.resolve import Key, Name, Resolver
from fftasks.closure.unit import Unit
from fftasks.closure.values import Values


class Reach(IntEnum):
    """How far an effect goes among the globals that its code can reach."""

    NONE = 0
    OPAQUE = 1  # values of which nothing is known: a generator of random numbers, an iterator
    STATE = 2  # containers and classes as well
    NAMED = 3  # attributes of functions as well
    ALL = 4  # anything anywhere


@dataclass(eq=False)
class Effect:
    """A statement that does something when its file is imported.

    key: which; everywhere: it may change anything
    touched: the statements whose values it may change; missing: names that it may give a value
    given: the statements whose values it may put into others
    modules: files of which it sets an attribute
    """

    key: Key
    everywhere: bool = False
    touched: set[Key] = field(default_factory=set)
    missing: set[Name] = field(default_factory=set)
    given: set[Key] = field(default_factory=set)
    modules: set[SourceFile] = field(default_factory=set)


class Trace:
    """Follows what one statement executes; what each event of it changes is for a subclass to say."""

    def __init__(self, resolver: Resolver, values: Values, key: Key) -> None:
        self._resolver = resolver
        self._values = values
        self._effect = Effect(key)
        self._reach = Reach.NONE
        self._visited: set[Key] = set()
        self._classes: dict[Key, None] = {}
        self._attributes: set[str] = set()
        self._bodies: dict[tuple[Key, str], None] = {}
        self._todo: list[tuple[Key, list[list[Any]], bool]] = []
        self._read: set[Key] = set()
        self._calls_decorated = False

    def find(self) -> Effect | None:
        """Return what the statement may change; None for nothing."""
        file, number = self._effect.key
        unit = file.units[number]
        if unit["kind"] not in ("function", "class") and is_dynamic(unit):
            self._reach = Reach.ALL
        self._todo.append((self._effect.key, unit["now"], True))
        self._run()
        if self._calls_decorated and self._reach < Reach.ALL:
            self._enter(self._effect.key)
            self._run()
        return self._finish()

    def _run(self) -> None:
        while self._reach < Reach.ALL and (self._todo or self._enter_methods()):
            key, body, at_top = self._todo.pop()
            runs = [self._judge(key, event, at_top=at_top) for event in body[0]]
            if any(runs):
                self._follow(key, body[1])

    def _finish(self) -> Effect | None:
        effect = self._effect
        effect.everywhere = self._reach == Reach.ALL
        if self._reach >= Reach.OPAQUE:
            effect.touched |= {key for key in self._visited if self._can_change(key)}
        effect.touched |= self._values.list_held(effect.touched, deep=True)
        effect.touched |= self._read | self._values.list_held(self._read, deep=False)
        effect.touched.discard(effect.key)
        if effect.touched:
            effect.given = self._visited | self._values.list_named(effect.key)
        return effect if effect.everywhere or effect.touched or effect.missing else None

    def _can_change(self, key: Key) -> bool:
        kind = self._values.classify(key)
        if kind in ("opaque", "stateful"):
            return True
        if kind in ("container", "class", "decorated"):
            return self._reach >= Reach.STATE
        return kind in ("function", "plain class") and self._reach >= Reach.NAMED

    # what code can reach

    def _follow(self, key: Key, references: Iterable[str]) -> None:
        """Note what code names, and look at functions among it as if they were called."""
        todo = [(key, reference) for reference in references]
        while todo:
            (file, number), reference = todo.pop()
            for found in self._values.list_read(file, number, reference):
                if found in self._visited:
                    continue
                self._visited.add(found)
                unit = found[0].units[found[1]]
                if unit["kind"] == "class":
                    self._classes[found] = None
                if unit["kind"] == "function":
                    self._enter(found)
                todo += [(found, inner) for inner in unit["now"][1]]

    def _enter(self, key: Key, bodies: Iterable[str] | None = None) -> None:
        """Note that a function is called; bodies: which of its parts."""
        file, number = key
        unit = file.units[number]
        if is_dynamic(unit):
            self._reach = Reach.ALL
        if bodies is None and unit["kind"] == "function":
            self._enter_decorators(key)
        for name in unit["bodies"] if bodies is None else bodies:
            if name in unit["bodies"] and (key, name) not in self._bodies:
                self._bodies[key, name] = None
                self._todo.append((key, unit["bodies"][name], False))

    def _enter_decorators(self, key: Key) -> None:
        """Note that calling a decorated function calls what its decorators made of it."""
        file, number = key
        for reference in file.units[number]["decorators"]:
            for found in self._values.list_read(file, number, reference):
                if found not in self._visited:
                    self._visited.add(found)
                    kind = found[0].units[found[1]]["kind"]
                    if kind == "class":
                        self._classes[found] = None
                    elif kind == "function":
                        self._enter(found)

    def _enter_methods(self) -> bool:
        """Note calls of methods by their names, for all classes that were met; tell whether any is new."""
        for key in self._classes:
            names = key[0].units[key[1]]["bodies"]
            called = (n for n in names if n in self._attributes or n[:2] == "__" or n == "@")
            self._enter(key, [name for name in called if (key, name) not in self._bodies])
        return bool(self._todo)

    def _judge(self, key: Key, event: Event, *, at_top: bool) -> bool:
        raise NotImplementedError

    def _widen(self, reach: Reach) -> None:
        self._reach = max(self._reach, reach)

    def _touch(self, keys: Iterable[Key]) -> None:
        self._effect.touched.update(k for k in keys if k[0].units[k[1]]["kind"] != "import")


_READING = (".__doc__", ".__annotations__", "getattr")


def is_dynamic(unit: Unit) -> bool:
    """Tell whether a statement may change names that it does not spell out."""
    return any(
        level in ("file", "graph", "project")
        and what not in _READING
        and not what.startswith(("pickle.", "joblib.", "inspect.", "__doc__"))
        for _line, what, level, _detail in unit["wide"]
    )
