"""Digests of syntax trees that see neither layout nor what does nothing.

Not `ast.dump`: that prints the same tree differently from one Python to the next (3.13 leaves out
empty lists, 3.12 added type parameters), and a digest is compared between machines.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Container, Iterator

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# for isinstance: a tuple is several times as fast as a union
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_BODIES = ("body", "orelse", "finalbody")
_SILENT = {"ctx", "type_comment", "kind", "type_ignores"}
_fields: dict[type, list[tuple[str, str]]] = {}


def digest_tree(node: ast.AST) -> str:
    """Return 64 hex digits for a tree; positions and comments are not in it, all else is.

    Safe for any depth: it does not recurse. The hot loop of an analysis, so it calls next to nothing.
    """
    out: list[str] = []
    stack: list[ast.AST | str] = [node]
    while stack:
        item = stack.pop()
        kind = item.__class__
        if kind is str:
            out.append(item)  # type: ignore[arg-type]
            continue
        if kind is ast.Constant:
            out.append(_format_constant(item.value))  # type: ignore[union-attr]
            continue
        out.append(kind.__name__)
        stack.append(")")
        for label, name in _fields.get(kind) or _list_fields(kind):
            value = getattr(item, name, None)
            if value is None or value == []:
                continue  # what a newer Python adds as an empty field must not count
            if value.__class__ is list:
                if kind is ast.JoinedStr:
                    value = [part for part in value if not _is_empty_text(part)]
                stack.append("]")
                stack += [v if isinstance(v, ast.AST) else f"{v!r}," for v in reversed(value)]
            else:
                stack.append(value if isinstance(value, ast.AST) else f"{value!r},")
            stack.append(label)
    return hashlib.sha256("".join(out).encode()).hexdigest()


def _is_empty_text(node: ast.AST) -> bool:
    # Python 3.12 puts one at the end of `:>{width}` in an f-string
    return isinstance(node, ast.Constant) and node.value == ""


def _list_fields(kind: type) -> list[tuple[str, str]]:
    """Return the fields of a kind of node, the last first: what is put on a stack comes back reversed."""
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    _fields[kind] = [(f"({name}=", name) for name in reversed(names) if name not in _SILENT]
    return _fields[kind]


def _format_constant(value: object) -> str:
    # hex: Python refuses to print an int of more than 4300 digits, and reads one written in hex
    text = hex(value) if type(value) is int else ascii(value)
    return f"{type(value).__name__}:{text},"


def strip(statement: ast.stmt, typed: Container[ast.AST]) -> None:
    """Take docstrings, idle statements and annotations that do nothing out of a statement, in place.

    typed: the functions and classes whose annotations count
    """
    stack: list[tuple[ast.AST, ast.AST | None]] = [(statement, None)]
    while stack:
        node, owner = stack.pop()
        if isinstance(node, DEFINITIONS):
            owner = node
        if isinstance(node, FUNCTIONS) and node not in typed:
            _strip_signature(node)
        for name in _BODIES:
            body = getattr(node, name, None)
            if isinstance(body, list) and body:
                kept = [s for s in (_strip_statement(s, owner, typed) for s in body) if s]
                setattr(node, name, kept)
                stack += [(child, owner) for child in kept]
        for name in ("handlers", "cases"):
            stack += [(child, owner) for child in getattr(node, name, ())]
        if isinstance(node, ast.ClassDef) and node not in typed and not node.decorator_list:
            node.body = _order_methods(node.body)


def is_idle(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing: `pass`, a docstring, `...`."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def strip_annotation(statement: ast.AnnAssign) -> ast.stmt | None:
    """Return the assignment without its annotation; None if nothing is assigned."""
    if statement.value is None:
        return None
    plain = ast.Assign(targets=[statement.target], value=statement.value)
    return ast.copy_location(plain, statement)


def iterate_arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    """Yield all parameters of a function or lambda."""
    yield from arguments.posonlyargs
    yield from arguments.args
    if arguments.vararg:
        yield arguments.vararg
    yield from arguments.kwonlyargs
    if arguments.kwarg:
        yield arguments.kwarg


def _strip_signature(node: FunctionNode) -> None:
    node.returns = None
    for argument in iterate_arguments(node.args):
        argument.annotation = None
    if hasattr(node, "type_params"):  # since Python 3.12
        node.type_params = []


def _strip_statement(
    statement: ast.stmt, owner: ast.AST | None, typed: Container[ast.AST]
) -> ast.stmt | None:
    if is_idle(statement):
        return None
    # in a function no annotation is ever evaluated; in a class a decorator or a base may read it
    if not isinstance(statement, ast.AnnAssign) or (
        isinstance(owner, ast.ClassDef) and owner in typed
    ):
        return statement
    plain = strip_annotation(statement)
    if plain is None and isinstance(owner, FUNCTIONS):
        # `x: int` makes x local
        statement.annotation = ast.Constant(value=None)
        return statement
    return plain


def _order_methods(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return a plain class's body with its methods last, by name: their order means nothing."""
    methods = [s for s in body if isinstance(s, FUNCTIONS) and not s.decorator_list]
    names = [method.name for method in methods]
    others = [s for s in body if s not in methods]
    if len(set(names)) < len(names) or any(n in _names(s) for s in others for n in set(names)):
        return body
    return others + sorted(methods, key=lambda method: method.name)


def _names(statement: ast.stmt) -> set[str]:
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return names | {getattr(statement, "name", "")}
