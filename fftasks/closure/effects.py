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

from fftasks.closure.execution import Execution
from fftasks.closure.judge import Judge
from fftasks.closure.resolve import Key, Resolver
from fftasks.closure.trace import Effect
from fftasks.closure.values import Values


def find_effects(resolver: Resolver, values: Values, execution: Execution) -> list[Effect]:
    """Return the statements with effects among those that are executed, in order."""
    effects = []
    for file, number in execution.order:
        unit = file.units[number]
        if unit["now"][0] or (unit["wide"] and unit["kind"] not in ("function", "class")):
            effect = Judge(resolver, values, (file, number)).find()
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
