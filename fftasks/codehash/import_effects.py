"""Find the effects of importing files: which globals each executed statement may change.

The result of a function can depend on statements that it does not name: `REGISTRY.append(f)`, `@register` on
another function, `helpers.ALPHA = 2`, `random.seed(0)`. This module finds these statements, and the values
that
each of them may change, so that a statement counts only for code that uses these values. It analyses the
events
(see references.py) of top-level statements, of the functions that they call, and of methods, by name, in the
classes that may be used. Building a workflow (calls of decorated functions and of fftasks) changes nothing.

    operation at import                                         what it may change
    a call of a project function                                what the function does, looked at likewise
    a method of a global, an item or attribute of it set        this global, and what it holds
    a method of a parameter, of a result of other code          all globals that can be reached from there
    a statement that is nothing but a call of other code        anything
    a value from other code: `X = numpy.zeros(3)`               nothing (but see _STATEFUL)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from fftasks.codehash.known_calls import (
    CALLING_BUILTINS,
    FALLBACK_PATH,
    HARMLESS,
    LOGGING_METHODS,
    STATEFUL,
)
from fftasks.codehash.module_analysis import CodeUnit
from fftasks.codehash.name_resolution import (
    BoundName,
    ResolvedReference,
    Resolver,
    StatementKey,
    ValueKinds,
)
from fftasks.codehash.references import MUTATING_METHODS, RESULT, Event
from fftasks.codehash.source_tree import SourceFile

_Step = StatementKey | SourceFile


class ImportExecution:
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
        self.order: list[StatementKey] = []
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
            level == FALLBACK_PATH for unit in units for _, _, level, _ in unit["fallbacks"]
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


class Reach(IntEnum):
    """Which of the reachable globals an effect may change."""

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

    key: StatementKey
    everywhere: bool = False
    touched: set[StatementKey] = field(default_factory=set)
    missing: set[BoundName] = field(default_factory=set)
    given: set[StatementKey] = field(default_factory=set)
    modules: set[SourceFile] = field(default_factory=set)


class EffectTracer:
    """Follows what one statement executes; what each event of it changes is for a subclass to say."""

    def __init__(self, resolver: Resolver, values: ValueKinds, key: StatementKey) -> None:
        self._resolver = resolver
        self._values = values
        self._effect = Effect(key)
        self._reach = Reach.NONE
        self._visited: set[StatementKey] = set()
        self._classes: dict[StatementKey, None] = {}
        self._attributes: set[str] = set()
        self._bodies: dict[tuple[StatementKey, str], None] = {}
        self._todo: list[tuple[StatementKey, list[list[Any]], bool]] = []
        self._read: set[StatementKey] = set()
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
            runs = [self._analyse_event(key, event, at_top=at_top) for event in body[0]]
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

    def _can_change(self, key: StatementKey) -> bool:
        kind = self._values.classify(key)
        if kind in ("opaque", "stateful"):
            return True
        if kind in ("container", "class", "decorated"):
            return self._reach >= Reach.STATE
        return kind in ("function", "plain class") and self._reach >= Reach.NAMED

    # what code can reach

    def _follow(self, key: StatementKey, references: Iterable[str]) -> None:
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

    def _enter(self, key: StatementKey, bodies: Iterable[str] | None = None) -> None:
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

    def _enter_decorators(self, key: StatementKey) -> None:
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

    def _analyse_event(self, key: StatementKey, event: Event, *, at_top: bool) -> bool:
        raise NotImplementedError

    def _fall_back(self, reach: Reach) -> None:
        self._reach = max(self._reach, reach)

    def _touch(self, keys: Iterable[StatementKey]) -> None:
        self._effect.touched.update(k for k in keys if k[0].units[k[1]]["kind"] != "import")


_READING = (".__doc__", ".__annotations__", "getattr")


def is_dynamic(unit: CodeUnit) -> bool:
    """Return whether a statement may change names that it does not spell out."""
    return any(
        level in ("file", "graph", "project")
        and what not in _READING
        and not what.startswith(("pickle.", "joblib.", "inspect.", "__doc__"))
        for _line, what, level, _detail in unit["fallbacks"]
    )


_HOOKS = ("__init_subclass__", "__set_name__", "__class_getitem__")


class EffectAnalysis(EffectTracer):
    """Follows what one statement executes, and notes what that may change."""

    def _analyse_event(self, key: StatementKey, event: Event, *, at_top: bool) -> bool:
        """Note what an event changes; tell whether it runs code that may call what it is given."""
        kind, reference, distance, attribute, bare, _line = event
        file = key[0]
        if attribute:
            self._attributes.add(attribute)
        if not reference:
            return self._analyse_unknown(kind, attribute, bare=bare)
        if self._values.is_wiring(file, reference, distance):
            return False
        target = self._resolver.resolve(file, reference)
        if kind in ("call", "decorate"):
            return self._analyse_call(target, event, at_top=at_top)
        if kind == "bound":
            self._analyse_bound(target, distance, attribute, is_handed=bare)
        elif kind == "take":
            self._analyse_taken(target, distance)
        elif kind in ("store", "rebind"):
            self._analyse_store(target, distance, attribute)
        else:
            self._analyse_subclass(target, kind)
        return False

    def _analyse_unknown(self, kind: str, attribute: str, *, bare: bool) -> bool:
        if kind == "take":
            self._fall_back(Reach.OPAQUE)
        elif kind == "store":
            self._fall_back(Reach.STATE if attribute == "[]" else Reach.NAMED)
        elif kind == "call" and attribute:
            if attribute not in LOGGING_METHODS:
                self._fall_back(
                    Reach.STATE if bare or attribute in MUTATING_METHODS else Reach.OPAQUE
                )
        elif kind == "bound":
            self._fall_back(Reach.STATE if attribute in MUTATING_METHODS else Reach.OPAQUE)
        elif kind in ("call", "decorate"):
            self._calls_decorated = True
        return kind not in ("take", "bound")

    def _analyse_taken(self, target: ResolvedReference, distance: int) -> None:
        taken, unknown = self._list_meant(target, distance)
        if unknown:
            self._fall_back(Reach.OPAQUE)
        self._read |= {key for key in taken if self._values.classify(key) == "opaque"}

    def _analyse_bound(
        self, target: ResolvedReference, distance: int, attribute: str, *, is_handed: bool
    ) -> None:
        meant, unknown = self._list_meant(target, distance)
        if unknown:
            self._fall_back(Reach.OPAQUE)
        for key in meant:
            kind = self._values.classify(key)
            if attribute in MUTATING_METHODS and kind in ("container", "opaque"):
                self._touch([key])
            elif kind == "opaque" and (is_handed or self._values.may_change_when_read(key)):
                self._read.add(key)

    def _list_meant(
        self, target: ResolvedReference, distance: int
    ) -> tuple[set[StatementKey], bool]:
        """Return the statements whose values a reference gives, and whether it may give unknown ones.

        Of what a call of a function gave, these are those that the function returns.
        """
        found: set[StatementKey] = set()
        unknown = False
        todo = [(key, distance) for key in target.units]
        seen = set(todo)
        while todo:
            key, far = todo.pop()
            file, number = key
            unit = file.units[number]
            if far < RESULT or unit["kind"] != "function":
                found.add(key)
                continue
            for reference, inner in unit["returns"]:
                unknown = unknown or not reference
                units = self._resolver.resolve(file, reference).units if reference else ()
                new = {(returned, inner) for returned in units} - seen
                seen |= new
                todo += new
        return found, unknown

    def _analyse_store(self, target: ResolvedReference, distance: int, attribute: str) -> None:
        if target.modules or (target.externals and distance < RESULT):
            self._fall_back(Reach.ALL)
        elif target.externals:
            self._fall_back(Reach.STATE)
        self._effect.missing |= target.missing
        if attribute not in ("", "[]") and not target.rest:
            self._effect.modules |= {file for file, _ in target.names | target.missing} - {
                self._effect.key[0]
            }
        self._change(target, distance)

    def _change(self, target: ResolvedReference, distance: int) -> None:
        """Note a change of a value, or of what a call of it gave."""
        meant, unknown = self._list_meant(target, distance)
        if unknown:
            self._fall_back(Reach.STATE)
        is_new = distance == RESULT  # and so nobody else's, if it is of a class
        self._touch(k for k in meant if not is_new or k[0].units[k[1]]["kind"] != "class")

    def _analyse_subclass(self, target: ResolvedReference, kind: str) -> None:
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

    def _analyse_call(self, target: ResolvedReference, event: Event, *, at_top: bool) -> bool:
        _kind, _reference, distance, attribute, bare, _line = event
        if target.externals or target.binaries or target.absent:
            self._analyse_external(target, distance, attribute, bare=bare)
        if target.modules or target.missing:
            self._fall_back(Reach.ALL if bare else Reach.STATE)
        for key in target.units:
            self._analyse_unit(key, target, event, at_top=at_top)
        if event[0] == "decorate" and not target.names:
            return False  # other people's decorators do not call what they decorate
        known = target.units or target.externals or target.modules or target.missing
        return bool(known) or _reference in CALLING_BUILTINS

    def _analyse_external(
        self, target: ResolvedReference, distance: int, attribute: str, *, bare: bool
    ) -> None:
        if attribute in LOGGING_METHODS or (
            target.externals and all(HARMLESS.match(name) for name in target.externals)
        ):
            return
        if distance == RESULT:
            changing = bare or attribute in MUTATING_METHODS
            self._fall_back(Reach.STATE if changing else Reach.OPAQUE)
        elif bare or any(STATEFUL.match(name) for name in target.externals):
            self._fall_back(Reach.ALL)
        else:
            self._fall_back(Reach.OPAQUE)

    def _analyse_unit(
        self, key: StatementKey, target: ResolvedReference, event: Event, *, at_top: bool
    ) -> None:
        unit = key[0].units[key[1]]
        attribute, bare = event[3], event[4]
        if unit["kind"] == "function":
            self._analyse_function(key, target, event)
        elif unit["kind"] == "class":
            self._classes[key] = None
            if (bare or attribute in MUTATING_METHODS) and attribute not in unit["bodies"]:
                self._touch([key])  # a class's own list, or what a method gave
        elif unit["kind"] != "import":
            self._analyse_value(key, event, at_top=at_top)

    def _analyse_value(self, key: StatementKey, event: Event, *, at_top: bool) -> None:
        kind, _reference, _distance, attribute, bare, _line = event
        classified = self._values.classify(key)
        is_changing = bare or attribute in MUTATING_METHODS
        if classified == "fixed":
            return
        if classified == "container":
            if is_changing or kind == "decorate" or attribute in ("", "operator"):
                self._touch([key])
        elif bare and at_top and attribute not in LOGGING_METHODS:
            self._fall_back(Reach.ALL)
        elif is_changing:
            self._touch([key])
        else:
            self._read.add(key)
        self._follow(key, key[0].units[key[1]]["now"][1])

    def _analyse_function(self, key: StatementKey, target: ResolvedReference, event: Event) -> None:
        kind, _reference, distance, attribute, _bare, _line = event
        if target.rest and (distance == 0 or kind == "decorate"):
            self._touch([key])  # f.register(g), f.cache.clear(), @f.register(int)
        elif kind == "decorate":
            self._enter(key, ["", "("][: 1 + (distance > 0)])
        else:
            self._visited.add(key)
            self._enter(key)
            if self._values.classify(key) == "stateful":
                self._read.add(key)
        if distance and not target.rest:
            meant, unknown = self._list_meant(ResolvedReference(units={key}), RESULT)
            self._touch(k for k in meant if self._values.classify(k) != "fixed")
            if unknown and attribute:
                self._fall_back(Reach.STATE)


def find_effects(
    resolver: Resolver, values: ValueKinds, execution: ImportExecution
) -> list[Effect]:
    """Return the executed statements that have effects, in order."""
    effects = []
    for file, number in execution.order:
        unit = file.units[number]
        if unit["now"][0] or (unit["fallbacks"] and unit["kind"] not in ("function", "class")):
            effect = EffectAnalysis(resolver, values, (file, number)).find()
            if effect:
                effects.append(effect)
    _spread(effects)
    return effects


def _spread(effects: list[Effect]) -> None:
    """Extend a change of a container to the objects that were added to it before."""
    held: dict[StatementKey, set[StatementKey]] = {}
    for effect in effects:
        for key in effect.touched:
            held.setdefault(key, set()).update(effect.touched, effect.given)
    for effect in effects:
        todo = list(effect.touched)
        while todo:
            for key in held.get(todo.pop(), set()) - effect.touched:
                effect.touched.add(key)
                todo.append(key)
