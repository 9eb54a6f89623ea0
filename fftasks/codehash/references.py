"""Find the references, calls and changes in a piece of syntax, and the origin of values.

An event is `[kind, reference, distance, attribute, bare, line]`:

    kind        "call", "decorate", "store" (an attribute or item is set or deleted), "rebind" (a global
                is set), "take" (something is iterated over, and may be used up), "bound" (a method is
                handed on, and may be called), "subclass", "meta"
    reference   object of the operation, as in scope.py; "" if it is unknown
    distance    0 the thing itself, 1 an item of it or something reached through one, 2 what a call of it gave
    attribute   the method called or attribute set on it; "" for none, "[]" for an item
    bare        whether it is a statement, so that only its effect can be its purpose

"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fftasks.codehash.scope import Scope, bind_generators

Event = list[Any]
# the distance of what a call gave
RESULT = 2
Root = tuple[str, int]

# methods that change what they are called on, also where their value is used
MUTATING_METHODS = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "remove", "reverse", "seed", "setdefault", "shuffle", "sort", "update", "send",
    "write", "next", "__setitem__", "__next__", "__delitem__",
})  # fmt: skip


@dataclass
class CodeBody:
    """The events and references of code that is executed together."""

    events: list[Event] = field(default_factory=list)
    reads: dict[str, None] = field(default_factory=dict)

    def to_json(self) -> list[list[Any]]:
        """Return `[events, references]`."""
        return [self.events, list(self.reads)]


@dataclass
class Names:
    """The analysis of one top-level statement.

    reads: reference -> line of the first one
    passed: references that are only arguments of calls -> what is called; no other references
    now: what is executed with the statement
    bodies: what is executed when it is called: "" the function, "(" the functions in it, "((" those in
        them; "fit" the method of that name, "@" decorated methods
    returns: what a function's results come from, and how far; none for new objects
    fallbacks: line, what cannot be resolved, level of dynamic.py, detail
    executed, lazy: modules imported with the statement, and when its functions are called
    strings: constants that could be the path of a file or a module
    """

    reads: dict[str, int] = field(default_factory=dict)
    passed: dict[str, list[str] | None] = field(default_factory=dict)
    now: CodeBody = field(default_factory=CodeBody)
    bodies: dict[str, CodeBody] = field(default_factory=dict)
    returns: list[Root] = field(default_factory=list)
    fallbacks: list[list[Any]] = field(default_factory=list)
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


_ATTRIBUTE_CALLS = ("getattr", "hasattr", "setattr", "delattr")
_BUILTINS = frozenset(dir(builtins))
# calls and expressions that give a new object
_MAKERS = frozenset({
    "abs", "bool", "bytearray", "bytes", "dict", "enumerate", "filter", "float", "frozenset", "int",
    "len", "list", "map", "open", "range", "repr", "reversed", "round", "set", "sorted", "str",
    "tuple", "zip",
})  # fmt: skip
_NEW = (
    ast.BinOp, ast.Compare, ast.Constant, ast.Dict, ast.DictComp, ast.JoinedStr, ast.List, ast.ListComp,
    ast.Set, ast.SetComp, ast.Tuple, ast.UnaryOp, ast.GeneratorExp,
)  # fmt: skip
_IMPORT_CALLS = ("importlib.import_module", "__import__")


class Roots:
    """Resolves expressions of one module to references, as far as the module's own text goes.

    module: the module's scope
    imports: names that imports at the top level bind -> reference
    bound: all names that the module binds
    """

    def __init__(self, module: Scope, imports: dict[str, str], bound: Iterable[str]) -> None:
        self.module = module
        self._imports = imports
        self._bound = set(bound)
        self._expanded: dict[str, str] = {}
        self._references: dict[int, tuple[ast.expr, list[str]]] = {}

    def list_references(self, node: ast.expr, scope: Scope) -> list[str]:
        """Return the references that an expression is, if it is nothing but a name and attributes.

        More than one if several imports bind the name. `getattr(x, "a")` is `x.a`, `import_module("m")`
        is the module.
        """
        known = self._references.get(id(node))
        if known is None:
            # with the node, or else its id could come again for another one
            known = self._references[id(node)] = node, self._list_references(node, scope)
        return known[1]

    def _list_references(self, node: ast.expr, scope: Scope) -> list[str]:
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        attributes.reverse()
        bases: list[str] = []
        if isinstance(node, ast.Name):
            bases = self._list_names(node, scope)
        elif isinstance(node, ast.Call):
            bases = self._list_calls(node, scope)
        elif isinstance(node, ast.Subscript):
            bases = self._list_modules(node, scope)
        return [_extend(base, attributes) for base in bases] if attributes else bases

    def find(self, node: ast.expr, scope: Scope) -> list[Root]:
        """Return references to what may be behind a value, with their distance (see names.py).

        "" stands for what a caller passes. A new object has no roots, a container those of its items.
        """
        return list(dict.fromkeys(self._find(node, scope, set())))

    def is_fresh(self, node: ast.expr, scope: Scope) -> bool:
        """Return whether a name refers to an object that this function created, so that changes are local."""
        return isinstance(node, ast.Name) and self._is_fresh(node.id, scope, set())

    def _is_fresh(self, name: str, scope: Scope, seen: set[str]) -> bool:
        found = scope.find(name)
        if found is None or found.kind == "class" or name in seen or scope.is_inside(found):
            return name in seen
        seen.add(name)
        return all(
            way in ("fresh", "held")
            or (way == "value" and isinstance(value, ast.expr) and self._is_new(value, found, seen))
            for way, value in found.sources[name]
        )

    def _is_new(self, node: ast.expr, scope: Scope, seen: set[str]) -> bool:
        if isinstance(node, ast.Name):
            return self._is_fresh(node.id, scope, seen)
        if isinstance(node, ast.Call):
            return self.name_builtin(node.func, scope) in _MAKERS
        return isinstance(node, _NEW)

    def expand(self, reference: str) -> str:
        """Return the dotted name behind a reference to something outside the module, else ""."""
        dotted = self._expanded.get(reference)
        if dotted is None:
            dotted = self._expanded[reference] = self._expand(reference.lstrip("?"))
        return dotted

    def name_builtin(self, node: ast.expr, scope: Scope) -> str:
        """Return the dotted name of what is called, if it is from outside the module, else ""."""
        references = self._list_plain(node, scope)
        return self.expand(references[0]) if references else ""

    def mangle(self, name: str, scope: Scope) -> str:
        """Return a name as Python looks it up: `__x` in class C is `_C__x`."""
        if name.startswith("__") and not name.endswith("__"):
            owner = scope.find_class().lstrip("_")
            return f"_{owner}{name}" if owner else name
        return name

    def read_getattr(self, node: ast.Call) -> ast.Attribute | None:
        """Return `x.a` for the arguments of `getattr(x, "a")` and the like."""
        if len(node.args[:2]) < len(("object", "name")):
            return None
        target, name = node.args[:2]
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        return ast.copy_location(ast.Attribute(target, name.value, ast.Load()), node)

    def is_own_module(self, node: ast.Subscript, scope: Scope) -> bool:
        """Return whether an expression is `sys.modules[__name__]`."""
        return (
            self.name_builtin(node.value, scope) == "sys.modules"
            and isinstance(node.slice, ast.Name)
            and node.slice.id == "__name__"
        )

    def _list_plain(self, node: ast.expr, scope: Scope) -> list[str]:
        inner = node
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        return self.list_references(node, scope) if isinstance(inner, ast.Name) else []

    def _list_names(self, node: ast.Name, scope: Scope) -> list[str]:
        found = scope.find(node.id)
        name = self.mangle(node.id, scope)
        if found is None:
            return [name]
        sources = found.sources[node.id]
        imported = [value for way, value in sources if way == "import" and isinstance(value, str)]
        # in a class's body a name may be the module's until the class binds it
        return [f"?{name}", *imported] if found.kind == "class" else imported

    def _list_calls(self, node: ast.Call, scope: Scope) -> list[str]:
        special = self.name_builtin(node.func, scope)
        if special in _ATTRIBUTE_CALLS:
            target = self.read_getattr(node)
            return self.list_references(target, scope) if target else []
        if special in _IMPORT_CALLS:
            reference = _read_import(node, special)
            return [reference] if reference else []
        return []

    def _list_modules(self, node: ast.Subscript, scope: Scope) -> list[str]:
        name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if isinstance(name, str) and self.name_builtin(node.value, scope) == "sys.modules":
            return [f"0:{name}:"]
        return []

    def _find(self, node: ast.expr, scope: Scope, seen: set[tuple[Scope, str]]) -> Iterator[Root]:
        references = self.list_references(node, scope)
        yield from ((reference, 0) for reference in references)
        if isinstance(node, ast.Name):
            yield from self._find_local(node.id, scope, seen)
        elif references:
            return
        elif isinstance(node, ast.Attribute):
            for reference, distance in self._find(node.value, scope, seen):
                far = distance or not reference
                yield (reference, max(distance, 1)) if far else (_extend(reference, [node.attr]), 0)
        elif isinstance(node, ast.Subscript):
            yield from _move(self._find(node.value, scope, seen), 1)
        elif isinstance(node, ast.Call):
            yield from self._find_called(node, scope, seen)
        elif isinstance(node, ast.Await | ast.Starred | ast.NamedExpr):
            yield from self._find(node.value, scope, seen)
        else:
            yield from self._find_parts(node, scope, seen)

    def _find_called(
        self, node: ast.Call, scope: Scope, seen: set[tuple[Scope, str]]
    ) -> Iterator[Root]:
        if self.name_builtin(node.func, scope) in _BUILTINS:
            for argument in node.args:  # zip(a, b) is new, the items that it gives are not
                yield from _move(self._find(argument, scope, seen), 1)
        else:
            yield from _move(self._find(node.func, scope, seen), 2)

    def _find_parts(
        self, node: ast.expr, scope: Scope, seen: set[tuple[Scope, str]]
    ) -> Iterator[Root]:
        if isinstance(node, ast.IfExp | ast.BoolOp):
            parts = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
            for part in parts:
                yield from self._find(part, scope, seen)
            return
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            scope = Scope("comprehension", scope, scope.owner)
            bind_generators(scope, node.generators)
        for part in _list_parts(node):
            yield from _move(self._find(part, scope, seen), 1)

    def _find_local(self, name: str, scope: Scope, seen: set[tuple[Scope, str]]) -> Iterator[Root]:
        found = scope.find(name)
        if found is None or (found, name) in seen:
            return
        seen.add((found, name))
        if scope.is_inside(found):
            yield "", 0  # it outlives the call
        for way, value in found.sources[name]:
            if way == "parameter":
                yield "", 0
            elif isinstance(value, ast.expr):
                outer = found.parent if value is found.first and found.parent else found
                yield from _move(self._find(value, outer, seen), 0 if way == "value" else 1)

    def _expand(self, reference: str) -> str:
        if reference[0].isdigit():
            level, module, rest = reference.split(":", 2)
            return f"{module}.{rest}".rstrip(".").removeprefix("builtins.") if level == "0" else ""
        name, _, rest = reference.partition(".")
        if name in self._imports:
            return self._expand(_extend(self._imports[name], [rest] if rest else []))
        return "" if name in self._bound else reference


def _extend(reference: str, attributes: list[str]) -> str:
    if not attributes:
        return reference
    return reference + ("" if reference.endswith(":") else ".") + ".".join(attributes)


def _move(roots: Iterable[Root], distance: int) -> Iterator[Root]:
    for reference, near in roots:
        yield reference, max(near, distance)


def _list_parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return node.elts
    if isinstance(node, ast.Dict):
        return [value for value in node.values if value is not None]
    if isinstance(node, ast.DictComp):
        return [node.value]
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return [node.elt]
    if isinstance(node, ast.BinOp):
        # a sum of a thousand terms is a thousand levels deep on its left
        parts = []
        inner: ast.expr = node
        while isinstance(inner, ast.BinOp):
            parts.append(inner.right)
            inner = inner.left
        return [inner, *reversed(parts)]
    return []


def _read_import(node: ast.Call, special: str) -> str:
    """Return the reference to the module that an import by a literal name gives; "" for any other."""
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if not isinstance(name, str) or len(node.args) > (2 if special == _IMPORT_CALLS[0] else 1):
        return ""
    module = name.lstrip(".")
    level = len(name) - len(module)
    if special == "__import__":
        return f"0:{module.partition('.')[0]}:" if not level and not node.keywords else ""
    packages = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
    own = [isinstance(p, ast.Name) and p.id in ("__package__", "__name__") for p in packages]
    if level and not (own and all(own)):
        return ""
    return f"{level}:{module}:"


def read_prefix(node: ast.expr) -> str:
    """Return what is certain of the start of a computed module name: "plugins." of f"plugins.{name}"."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return read_prefix(node.values[0])
    if isinstance(node, ast.BinOp):
        return read_prefix(node.left)
    value = node.value if isinstance(node, ast.Constant) else ""
    return value.rpartition(".")[0] if isinstance(value, str) else ""
