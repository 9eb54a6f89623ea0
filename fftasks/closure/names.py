"""What a piece of syntax names and what it does: the references, calls and changes in it.

An event is `[kind, reference, distance, attribute, bare, line]`:

    kind        "call", "decorate", "store" (an attribute or item is set or deleted), "rebind" (a global
                is set), "take" (something is iterated over, and may be used up), "bound" (a method is
                handed on, and may be called), "subclass", "meta"
    reference   what it is done to, as in scope.py; "" if only the caller or nobody knows
    distance    0 the thing itself, 1 an item of it or something reached through one, 2 what a call of it gave
    attribute   the method called or attribute set on it; "" for none, "[]" for an item
    bare        whether it is a statement, so that only its effect can be its purpose
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Event = list[Any]
# the distance of what a call gave
RESULT = 2
Root = tuple[str, int]

# methods that change what they are called on, also where their value is used
CHANGING = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "remove", "reverse", "seed", "setdefault", "shuffle", "sort", "update", "send",
    "write", "next", "__setitem__", "__next__", "__delitem__",
})  # fmt: skip


@dataclass
class Body:
    """Code that is executed at one time: what it does, and what it names."""

    events: list[Event] = field(default_factory=list)
    reads: dict[str, None] = field(default_factory=dict)

    def to_json(self) -> list[list[Any]]:
        """Return `[events, references]`."""
        return [self.events, list(self.reads)]


@dataclass
class Names:
    """What was found in one top-level statement.

    reads: reference -> line of the first one
    passed: references that are only arguments of calls -> what is called; no other references
    now: what is executed with the statement
    bodies: what is executed when it is called: "" the function, "(" the functions in it, "((" those in
        them; "fit" the method of that name, "@" decorated methods
    returns: what a function's results come from, and how far; none for new objects
    wide: line, what cannot be resolved, level of dynamic.py, detail
    executed, lazy: modules imported with the statement, and when its functions are called
    strings: constants that could be the path of a file or a module
    """

    reads: dict[str, int] = field(default_factory=dict)
    passed: dict[str, list[str] | None] = field(default_factory=dict)
    now: Body = field(default_factory=Body)
    bodies: dict[str, Body] = field(default_factory=dict)
    returns: list[Root] = field(default_factory=list)
    wide: list[list[Any]] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    lazy: list[str] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all that was found, with references that are also read otherwise left out of passed."""
        return {
            **vars(self),
            "now": self.now.to_json(),
            "bodies": {key: body.to_json() for key, body in self.bodies.items()},
            "passed": {key: via for key, via in self.passed.items() if via is not None},
        }
