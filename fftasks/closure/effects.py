"""Statements that do something when a file is imported, and to what.

A function's result may depend on statements that it does not name: `REGISTRY.append(f)`, `@register` on
some other function, `helpers.ALPHA = 2`, `random.seed(0)`. This module finds them, and says for each
which values it may change, so that it counts for those who use these values and for nobody else.
Building a workflow (calls of decorated functions and of fftasks) changes nothing.

    what is done at import                                      what it may change
    a call of a project function                                what the function does, looked at likewise
    a method of a global, an item or attribute of it set        this global, and what it holds
    a method of a parameter, of a result of other code          all globals that can be reached from there
    a statement that is nothing but a call of other code        anything
    a value from other code: `X = numpy.zeros(3)`               nothing (but see _STATEFUL)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from fftasks.closure.execution import Execution
from fftasks.closure.module import Unit
from fftasks.closure.names import CHANGING, Event
from fftasks.closure.project import SourceFile
from fftasks.closure.resolve import Key, Name, Resolver, Target
from fftasks.closure.values import Values

# other code that keeps a state of its own, or sets one, also where its value is used
_STATEFUL = re.compile(
    r"(random|numpy\.random)\.(?!default_rng|RandomState|Random|SystemRandom|Generator|SeedSequence)"
    r"|.*\.(seed|setdefault|shuffle|heappop|heappush|heapreplace|insort|patch|install|register\w*"
    r"|set_\w+|set[A-Z]\w+|setrecursionlimit|enable_\w+|disable_\w+|manual_seed)$"
)
# other code that is called for what it does, and does nothing that a function could see
_HARMLESS = re.compile(
    r"(logging|warnings|shutil|traceback)\.|time\.sleep|sys\.(exit|stdout|stderr)|os\.(makedirs|mkdir)"
    r"|(json|pickle|yaml)\.dump"
)
# methods that say something, and change nothing
_SPEAKING = frozenset("debug info warning error exception critical log".split())
_CALLING = frozenset("map filter sorted max min next".split())


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


def find_effects(resolver: Resolver, values: Values, execution: Execution) -> list[Effect]:
    """Return the statements with effects among those that are executed, in order."""
    effects = []
    for file, number in execution.order:
        unit = file.units[number]
        if unit["now"][0] or (unit["wide"] and unit["kind"] not in ("function", "class")):
            effect = _Trace(resolver, values, (file, number)).find()
            if effect:
                effects.append(effect)
    _spread(effects)
    return effects


def _spread(effects: list[Effect]) -> None:
    """Let what changes a container change what was put into it before."""
    held: dict[Key, set[Key]] = {}
    for effect in effects:
        for key in effect.touched:
            held.setdefault(key, set()).update(effect.touched, effect.given)
    for effect in effects:
        todo = list(effect.touched)
        while todo:
            for key in held.get(todo.pop(), set()) - effect.touched:
                effect.touched.add(key)
                todo.append(key)


class _Trace:
    """Follows what one statement executes."""

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
        file, number = self._effect.key
        unit = file.units[number]
        if unit["kind"] not in ("function", "class") and _is_dynamic(unit):
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
        if _is_dynamic(unit):
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

    # what one event does

    def _judge(self, key: Key, event: Event, *, at_top: bool) -> bool:
        """Note what an event changes; tell whether it runs code that may call what it is given."""
        kind, reference, distance, attribute, bare, _line = event
        file = key[0]
        if attribute:
            self._attributes.add(attribute)
        if not reference:
            return self._judge_unknown(kind, attribute, bare=bare)
        if self._values.is_wiring(file, reference, distance):
            return False
        target = self._resolver.resolve(file, reference)
        if kind == "bound":
            self._judge_bound(target, attribute, is_handed=bare)
            return False
        if kind == "take":
            self._judge_taken(target, distance)
            return False
        if kind in ("store", "rebind"):
            self._judge_store(target, distance, attribute)
            return False
        if kind in ("subclass", "meta"):
            self._judge_subclass(target, kind)
            return False
        return self._judge_call(target, event, at_top=at_top)

    def _widen(self, reach: Reach) -> None:
        self._reach = max(self._reach, reach)

    def _touch(self, keys: Iterable[Key]) -> None:
        self._effect.touched.update(k for k in keys if k[0].units[k[1]]["kind"] != "import")

    def _judge_unknown(self, kind: str, attribute: str, *, bare: bool) -> bool:
        if kind == "take":
            self._widen(Reach.OPAQUE)
        elif kind == "store":
            self._widen(Reach.STATE if attribute == "[]" else Reach.NAMED)
        elif kind == "call" and attribute:
            if attribute not in _SPEAKING:
                self._widen(Reach.STATE if bare or attribute in CHANGING else Reach.OPAQUE)
        elif kind == "bound":
            self._widen(Reach.STATE if attribute in CHANGING else Reach.OPAQUE)
        elif kind in ("call", "decorate"):
            self._calls_decorated = True
        return kind not in ("take", "bound")

    def _judge_taken(self, target: Target, distance: int) -> None:
        taken = set(target.units)
        for file, number in target.units if distance == 2 else ():  # noqa: PLR2004
            for reference, _ in file.units[number]["returns"]:
                if reference:
                    taken |= self._resolver.resolve(file, reference).units
                else:
                    self._widen(Reach.OPAQUE)
        self._read |= {key for key in taken if self._values.classify(key) == "opaque"}

    def _judge_bound(self, target: Target, attribute: str, *, is_handed: bool) -> None:
        for key in target.units:
            kind = self._values.classify(key)
            if attribute in CHANGING and kind in ("container", "opaque"):
                self._touch([key])
            elif kind == "opaque" and (is_handed or self._values.may_change_when_read(key)):
                self._read.add(key)

    def _judge_store(self, target: Target, distance: int, attribute: str) -> None:
        if target.modules or (target.externals and distance < 2):  # noqa: PLR2004
            self._widen(Reach.ALL)
        elif target.externals or (target.absent and not target.units):
            self._widen(Reach.STATE)
        self._effect.missing |= target.missing
        if attribute not in ("", "[]"):
            self._effect.modules |= {file for file, _ in target.names | target.missing} - {
                self._effect.key[0]
            }
        self._change(target, distance)

    def _change(self, target: Target, distance: int) -> None:
        """Note a change of a value, or of what a call of it gave."""
        for file, number in target.units:
            unit = file.units[number]
            if distance == 2 and unit["kind"] == "function":  # noqa: PLR2004
                self._change_returned(file, unit, unknown=True)
            elif distance < 2 or unit["kind"] != "class":  # noqa: PLR2004 - a new object is nobody's
                self._touch([(file, number)])

    def _change_returned(self, file: SourceFile, unit: Unit, *, unknown: bool) -> None:
        for reference, _ in unit["returns"]:
            if reference:
                self._touch(self._resolver.resolve(file, reference).units)
            elif unknown:
                self._widen(Reach.STATE)

    def _judge_subclass(self, target: Target, kind: str) -> None:
        """Note what making a subclass runs: hooks of its bases, and of their metaclass."""
        todo = [(key, kind) for key in target.units]
        seen = set()
        while todo:
            key, kind = todo.pop()
            unit = key[0].units[key[1]]
            if key in seen or unit["kind"] != "class":
                continue
            seen.add(key)
            hooks = [n for n in unit["bodies"] if kind == "meta" or n in _HOOKS]
            if hooks:
                self._enter(key, hooks)
                self._touch([key])
            for inner, reference, *_ in unit["now"][0]:
                if inner in ("subclass", "meta") and reference:
                    found = self._resolver.resolve(key[0], reference).units
                    todo += [(base, "meta" if kind == "meta" else inner) for base in found]

    def _judge_call(self, target: Target, event: Event, *, at_top: bool) -> bool:
        _kind, _reference, distance, attribute, bare, _line = event
        if target.externals or target.binaries or target.absent:
            self._judge_external(target, distance, attribute, bare=bare)
        if target.modules or target.missing:
            self._widen(Reach.ALL if bare else Reach.STATE)
        for key in target.units:
            self._judge_unit(key, target, event, at_top=at_top)
        if event[0] == "decorate" and not target.names:
            return False  # other people's decorators do not call what they decorate
        known = target.units or target.externals or target.modules or target.missing
        return bool(known) or _reference in _CALLING

    def _judge_external(self, target: Target, distance: int, attribute: str, *, bare: bool) -> None:
        if attribute in _SPEAKING or (
            target.externals and all(_HARMLESS.match(name) for name in target.externals)
        ):
            return
        if distance == 2:  # noqa: PLR2004
            changing = bare or attribute in CHANGING
            self._widen(Reach.STATE if changing else Reach.OPAQUE)
        elif bare or any(_STATEFUL.match(name) for name in target.externals):
            self._widen(Reach.ALL)
        else:
            self._widen(Reach.OPAQUE)

    def _judge_unit(self, key: Key, target: Target, event: Event, *, at_top: bool) -> None:
        kind, _reference, distance, attribute, bare, _line = event
        unit = key[0].units[key[1]]
        if unit["kind"] == "import":
            return
        if unit["kind"] == "function":
            self._judge_function(key, target, event)
        elif unit["kind"] == "class":
            self._classes[key] = None
            if distance < 2 and target.rest and bare:  # noqa: PLR2004
                self._touch([key])
        elif self._values.classify(key) == "fixed":
            return
        elif self._values.classify(key) == "container":
            if attribute in CHANGING or bare or kind == "decorate" or attribute in ("", "operator"):
                self._touch([key])
        elif bare and at_top and attribute not in _SPEAKING:
            self._widen(Reach.ALL)
        elif bare or attribute in CHANGING:
            self._touch([key])
        else:
            self._read.add(key)
        if unit["kind"] not in ("function", "class"):
            self._follow(key, unit["now"][1])

    def _judge_function(self, key: Key, target: Target, event: Event) -> None:
        kind, _reference, distance, attribute, _bare, _line = event
        unit = key[0].units[key[1]]
        if target.rest and distance == 0:
            self._touch([key])  # f.register(g), f.cache.clear()
        elif kind == "decorate":
            self._enter(key, ["", "("][: 1 + (distance > 0)])
        else:
            self._visited.add(key)
            self._enter(key)
            if self._values.classify(key) == "stateful":
                self._read.add(key)
        if distance and not target.rest:
            self._change_returned(key[0], unit, unknown=bool(attribute))


_HOOKS = ("__init_subclass__", "__set_name__", "__class_getitem__")
_READING = (".__doc__", ".__annotations__", "getattr")


def _is_dynamic(unit: Unit) -> bool:
    """Tell whether a statement may change names that it does not spell out."""
    return any(
        level in ("file", "graph", "project")
        and what not in _READING
        and not what.startswith(("pickle.", "joblib.", "inspect.", "__doc__"))
        for _line, what, level, _detail in unit["wide"]
    )
