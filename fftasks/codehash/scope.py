"""Scopes: the names that a module, function, class or comprehension binds, and what to.

References are strings, the same in all of `closure`:

    form                  meaning
    helpers.clean         attributes of a name of the module (or of builtins)
    ?helpers.clean        the same, but nothing is wrong if there is no such name
    0:pkg.mod:clean.x     attributes of a module that is imported on the spot: `from pkg.mod import clean`;
                          the number counts the leading dots of a relative import
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fftasks.codehash.syntax_digest import DEFINITIONS, iterate_arguments

# value: of an expression; item: of one; held: something is put into it; fresh: new and nobody else's
Way = Literal["value", "item", "held", "import", "parameter", "fresh"]
Source = tuple[Way, ast.expr | str | None]
Import = ast.Import | ast.ImportFrom
IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(eq=False)
class Scope:
    """The names bound in one scope.

    sources: name -> where its values come from: an expression, an item of one, an import, a caller
    shared: names declared global; outer: names declared nonlocal
    owner: a class's name, a method's first parameter
    first: what a comprehension iterates over first, which is read outside of it
    """

    kind: Literal["module", "function", "class", "comprehension"]
    parent: Scope | None = None
    owner: str = ""
    first: ast.expr | None = None
    sources: dict[str, list[Source]] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)

    def bind(self, name: str, way: Way, value: ast.expr | str | None = None) -> None:
        """Note that a name gets a value here."""
        self.sources.setdefault(name, []).append((way, value))

    def find(self, name: str) -> Scope | None:
        """Return the function, class or comprehension that binds a name as seen from here."""
        scope: Scope | None = self
        while scope is not None and scope.kind != "module":
            if name in scope.shared:
                return None
            # a class's names are not seen in its methods
            visible = scope.kind != "class" or scope is self
            if visible and name in scope.sources and name not in scope.outer:
                return scope
            scope = scope.parent
        return None

    def is_inside(self, outer: Scope) -> bool:
        """Return whether a scope is in another function, which may be called later and repeatedly."""
        scope: Scope | None = self
        while scope is not None and scope is not outer:
            if scope.kind == "function":
                return True
            scope = scope.parent
        return False

    def find_class(self) -> str:
        """Return the name of the class around, for private names; "" if there is none."""
        scope: Scope | None = self
        while scope is not None and scope.kind != "class":
            scope = scope.parent
        return scope.owner if scope else ""


def bind_parameters(scope: Scope, arguments: ast.arguments) -> None:
    """Note the parameters of a function or lambda."""
    for argument in iterate_arguments(arguments):
        scope.bind(argument.arg, "parameter")


def bind_statements(scope: Scope, body: Iterable[ast.AST], *, deep: bool) -> None:
    """Note all names that statements bind in their scope, at any depth of if, for, try, with, match.

    deep: look into expressions and inner functions too; only `:=` and `nonlocal` bind names there
    """
    held: list[tuple[str, ast.expr]] = []
    for node in iterate_scope(body, deep=deep):
        bind = _BINDERS.get(type(node))
        if bind:
            bind(scope, node, held)
    for name, value in held:
        if name in scope.sources:
            scope.bind(name, "held", value)
    if deep:
        for name in _list_nonlocals(body):
            if name in scope.sources:  # an inner function gives it values too
                scope.bind(name, "parameter")


def _list_nonlocals(body: Iterable[ast.AST]) -> Iterator[str]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Nonlocal):
                yield from node.names


def bind_generators(scope: Scope, generators: list[ast.comprehension]) -> None:
    """Note the names that a comprehension's `for` parts bind."""
    scope.first = generators[0].iter
    for generator in generators:
        _bind_target(scope, generator.target, "item", generator.iter, [])


def iterate_scope(body: Iterable[ast.AST], *, deep: bool) -> Iterator[ast.AST]:
    """Yield the statements (deep: and expressions) of one scope, not of functions and classes in it."""
    stack = list(body)
    stack.reverse()
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, DEFINITIONS):
            if deep:
                stack += node.decorator_list
            continue
        if deep:
            stack += reversed(list(ast.iter_child_nodes(node)))
        elif isinstance(node, _COMPOUND):
            for name in _PARTS:
                part = getattr(node, name, None)
                if isinstance(part, list):
                    stack += reversed(part)
                elif isinstance(part, ast.pattern):
                    stack.append(part)


_COMPOUND = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.ExceptHandler, ast.Match,
    ast.match_case, ast.pattern, *([ast.TryStar] if hasattr(ast, "TryStar") else []),
)  # fmt: skip
# last what comes first: it is a stack
_PARTS = ("finalbody", "orelse", "handlers", "cases", "body", "patterns", "pattern", "kwd_patterns")


def list_imports(node: Import) -> Iterator[tuple[str, str]]:
    """Yield for each name that an import statement binds: the name, and the reference to its value.

    A star import yields "*" and the reference to the module.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, f"0:{alias.name if alias.asname else top}:"
        return
    module = f"{node.level}:{node.module or ''}:"
    for alias in node.names:
        yield alias.asname or alias.name, module if alias.name == "*" else module + alias.name


def list_executed(node: Import) -> Iterator[str]:
    """Yield references to the modules that an import statement executes, or may execute."""
    if isinstance(node, ast.Import):
        yield from (f"0:{alias.name}:" for alias in node.names)
        return
    for alias in node.names:
        yield f"{node.level}:{node.module or ''}:{'' if alias.name == '*' else alias.name}"


_Held = list[tuple[str, ast.expr]]


def _bind_target(
    scope: Scope, target: ast.expr, way: Way, value: ast.expr | None, held: _Held
) -> None:
    if isinstance(target, ast.Name):
        scope.bind(target.id, way if value is not None else "fresh", value)
    elif isinstance(target, ast.Starred):
        _bind_target(scope, target.value, "item", value, held)
    elif isinstance(target, ast.Tuple | ast.List):
        for element, part in zip(target.elts, _split_value(target, value), strict=True):
            _bind_target(scope, element, "item" if part is value else way, part, held)
    elif value is not None:
        base: ast.expr = target
        while isinstance(base, ast.Attribute | ast.Subscript):
            base = base.value
        if isinstance(base, ast.Name):
            held.append((base.id, value))


def _split_value(target: ast.Tuple | ast.List, value: ast.expr | None) -> list[ast.expr | None]:
    starred = any(isinstance(element, ast.Starred) for element in target.elts)
    same = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
    if isinstance(value, ast.Tuple) and same and not starred:
        return list(value.elts)
    return [value] * len(target.elts)


def _bind_assign(scope: Scope, node: ast.AST, held: _Held) -> None:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _bind_target(scope, target, "value", node.value, held)
    elif isinstance(node, ast.AugAssign):
        _bind_target(scope, node.target, "held", node.value, held)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        _bind_target(scope, node.target, "value", node.value, held)


def _bind_loop(scope: Scope, node: ast.AST, held: _Held) -> None:
    if isinstance(node, ast.For | ast.AsyncFor):
        _bind_target(scope, node.target, "item", node.iter, held)
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if item.optional_vars is not None:
                _bind_target(scope, item.optional_vars, "item", item.context_expr, held)


def _bind_definition(scope: Scope, node: ast.AST, _held: _Held) -> None:
    name = getattr(node, "name", None)
    if isinstance(name, ast.Name):  # type X = ..., since Python 3.12
        name = name.id
    if name:
        scope.bind(name, "fresh")


def _bind_import(scope: Scope, node: ast.AST, _held: _Held) -> None:
    if isinstance(node, IMPORTS):
        for name, reference in list_imports(node):
            scope.bind(name, "import", reference)


def _bind_pattern(scope: Scope, node: ast.AST, _held: _Held) -> None:
    name = getattr(node, "rest", None) or getattr(node, "name", None)
    if name:
        scope.bind(name, "parameter")


def _bind_delete(scope: Scope, node: ast.AST, held: _Held) -> None:
    if isinstance(node, ast.Delete):
        for target in node.targets:
            _bind_target(scope, target, "fresh", None, held)


def _declare(scope: Scope, node: ast.AST, _held: _Held) -> None:
    if isinstance(node, ast.Global):
        scope.shared.update(node.names)
    elif isinstance(node, ast.Nonlocal):
        scope.outer.update(node.names)


def _hold_call(_scope: Scope, node: ast.AST, held: _Held) -> None:
    # items.append(x): from here on what is done to an item may be done to x
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            arguments = [*node.value.args, *(k.value for k in node.value.keywords)]
            held += [(function.value.id, argument) for argument in arguments]


_BINDERS = {
    ast.Assign: _bind_assign,
    ast.AnnAssign: _bind_assign,
    ast.AugAssign: _bind_assign,
    ast.NamedExpr: _bind_assign,
    ast.For: _bind_loop,
    ast.AsyncFor: _bind_loop,
    ast.With: _bind_loop,
    ast.AsyncWith: _bind_loop,
    ast.FunctionDef: _bind_definition,
    ast.AsyncFunctionDef: _bind_definition,
    ast.ClassDef: _bind_definition,
    ast.ExceptHandler: _bind_definition,
    ast.Import: _bind_import,
    ast.ImportFrom: _bind_import,
    ast.MatchAs: _bind_pattern,
    ast.MatchStar: _bind_pattern,
    ast.MatchMapping: _bind_pattern,
    ast.Delete: _bind_delete,
    ast.Global: _declare,
    ast.Nonlocal: _declare,
    ast.Expr: _hold_call,
}
if hasattr(ast, "TypeAlias"):
    _BINDERS[ast.TypeAlias] = _bind_definition
