"""What one event of executed code may change; see the table in effects.py."""

from __future__ import annotations

from fftasks.closure import foreign
from fftasks.closure.names import CHANGING, RESULT, Event
from fftasks.closure.resolve import Key, Target
from fftasks.closure.trace import Reach, Trace

_HOOKS = ("__init_subclass__", "__set_name__", "__class_getitem__")


class Judge(Trace):
    """Follows what one statement executes, and notes what that may change."""

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
        if kind in ("call", "decorate"):
            return self._judge_call(target, event, at_top=at_top)
        if kind == "bound":
            self._judge_bound(target, distance, attribute, is_handed=bare)
        elif kind == "take":
            self._judge_taken(target, distance)
        elif kind in ("store", "rebind"):
            self._judge_store(target, distance, attribute)
        else:
            self._judge_subclass(target, kind)
        return False

    def _judge_unknown(self, kind: str, attribute: str, *, bare: bool) -> bool:
        if kind == "take":
            self._widen(Reach.OPAQUE)
        elif kind == "store":
            self._widen(Reach.STATE if attribute == "[]" else Reach.NAMED)
        elif kind == "call" and attribute:
            if attribute not in foreign.SPEAKING:
                self._widen(Reach.STATE if bare or attribute in CHANGING else Reach.OPAQUE)
        elif kind == "bound":
            self._widen(Reach.STATE if attribute in CHANGING else Reach.OPAQUE)
        elif kind in ("call", "decorate"):
            self._calls_decorated = True
        return kind not in ("take", "bound")

    def _judge_taken(self, target: Target, distance: int) -> None:
        taken, unknown = self._list_meant(target, distance)
        if unknown:
            self._widen(Reach.OPAQUE)
        self._read |= {key for key in taken if self._values.classify(key) == "opaque"}

    def _judge_bound(
        self, target: Target, distance: int, attribute: str, *, is_handed: bool
    ) -> None:
        meant, unknown = self._list_meant(target, distance)
        if unknown:
            self._widen(Reach.OPAQUE)
        for key in meant:
            kind = self._values.classify(key)
            if attribute in CHANGING and kind in ("container", "opaque"):
                self._touch([key])
            elif kind == "opaque" and (is_handed or self._values.may_change_when_read(key)):
                self._read.add(key)

    def _list_meant(self, target: Target, distance: int) -> tuple[set[Key], bool]:
        """Return the statements whose values a reference gives, and whether it may give unknown ones.

        Of what a call of a function gave, these are those that the function returns.
        """
        found: set[Key] = set()
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

    def _judge_store(self, target: Target, distance: int, attribute: str) -> None:
        if target.modules or (target.externals and distance < RESULT):
            self._widen(Reach.ALL)
        elif target.externals:
            self._widen(Reach.STATE)
        self._effect.missing |= target.missing
        if attribute not in ("", "[]") and not target.rest:
            self._effect.modules |= {file for file, _ in target.names | target.missing} - {
                self._effect.key[0]
            }
        self._change(target, distance)

    def _change(self, target: Target, distance: int) -> None:
        """Note a change of a value, or of what a call of it gave."""
        meant, unknown = self._list_meant(target, distance)
        if unknown:
            self._widen(Reach.STATE)
        is_new = distance == RESULT  # and so nobody else's, if it is of a class
        self._touch(k for k in meant if not is_new or k[0].units[k[1]]["kind"] != "class")

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
        return bool(known) or _reference in foreign.CALLING

    def _judge_external(self, target: Target, distance: int, attribute: str, *, bare: bool) -> None:
        if attribute in foreign.SPEAKING or (
            target.externals and all(foreign.HARMLESS.match(name) for name in target.externals)
        ):
            return
        if distance == RESULT:
            changing = bare or attribute in CHANGING
            self._widen(Reach.STATE if changing else Reach.OPAQUE)
        elif bare or any(foreign.STATEFUL.match(name) for name in target.externals):
            self._widen(Reach.ALL)
        else:
            self._widen(Reach.OPAQUE)

    def _judge_unit(self, key: Key, target: Target, event: Event, *, at_top: bool) -> None:
        unit = key[0].units[key[1]]
        attribute, bare = event[3], event[4]
        if unit["kind"] == "function":
            self._judge_function(key, target, event)
        elif unit["kind"] == "class":
            self._classes[key] = None
            if (bare or attribute in CHANGING) and attribute not in unit["bodies"]:
                self._touch([key])  # a class's own list, or what a method gave
        elif unit["kind"] != "import":
            self._judge_value(key, event, at_top=at_top)

    def _judge_value(self, key: Key, event: Event, *, at_top: bool) -> None:
        kind, _reference, _distance, attribute, bare, _line = event
        classified = self._values.classify(key)
        is_changing = bare or attribute in CHANGING
        if classified == "fixed":
            return
        if classified == "container":
            if is_changing or kind == "decorate" or attribute in ("", "operator"):
                self._touch([key])
        elif bare and at_top and attribute not in foreign.SPEAKING:
            self._widen(Reach.ALL)
        elif is_changing:
            self._touch([key])
        else:
            self._read.add(key)
        self._follow(key, key[0].units[key[1]]["now"][1])

    def _judge_function(self, key: Key, target: Target, event: Event) -> None:
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
            meant, unknown = self._list_meant(Target(units={key}), RESULT)
            self._touch(k for k in meant if self._values.classify(k) != "fixed")
            if unknown and attribute:
                self._widen(Reach.STATE)
