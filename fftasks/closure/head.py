"""The head of a function: what others can see of it while its body is not executed.

Two texts of a function with one head make the same node: they have the same decorators, parameters, defaults
and annotations, are generators or not, and have the same words among those that mean something outside of the
body. By these words it is found out which pages a node may show.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence

from fftasks.closure.scope import Scope, bind_parameters, bind_statements, iterate_scope
from fftasks.closure.tree import FunctionNode, digest_tree
from fftasks.workflow.shows import WORDS

# ways from a decorated function to what it was made of
_TAPS = frozenset({"func", "__wrapped__", "unwrap", "__closure__", "cell_contents", "calling"})


def digest_head(node: FunctionNode, inner: Sequence[ast.AST], known: Container[str] | None) -> str:
    """Return the digest of a function's head; it is not changed.

    inner: all that ast.walk() finds in it
    known: the names that its module binds; None if they cannot be told
    """
    fields = {name: getattr(node, name) for name in node._fields}
    head = type(node)(**{**fields, "body": []})
    names = {child.id for child in inner if isinstance(child, ast.Name)}
    words = set(_list_words(inner))
    found = {w for w in names | words if known is None or w in known or w in WORDS}
    if not found.isdisjoint(names):
        found -= _list_local(node, inner) - words
    yields = {child for child in inner if isinstance(child, ast.Yield | ast.YieldFrom)}
    is_generator = bool(yields) and not yields.isdisjoint(iterate_scope(node.body, deep=True))
    text = " ".join([digest_tree(head), str(is_generator), *sorted(found)])
    return hashlib.sha256(text.encode()).hexdigest()


def is_tapping(inner: Iterable[ast.AST]) -> bool:
    """Tell whether a statement may call what a decorated function was made of: `clean.func(rows)`."""
    return any(
        (isinstance(child, ast.Attribute) and child.attr in _TAPS)
        or (isinstance(child, ast.Constant) and child.value in ("func", "__wrapped__"))
        or (isinstance(child, ast.alias) and not _TAPS.isdisjoint(child.name.split(".")))
        for child in inner
    )


def _list_words(inner: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the words that are no variables: what a local one of the same name does not hide."""
    for child in inner:
        if isinstance(child, ast.Attribute):
            yield child.attr
        elif isinstance(child, ast.alias):
            yield from (child.name, *child.name.split("."))
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (child.module, *child.module.split("."))


def _list_local(node: FunctionNode, inner: Iterable[ast.AST]) -> set[str]:
    """Return the names that mean nothing outside of a function."""
    if any(isinstance(child, ast.ClassDef) for child in inner):
        return set()  # a class has names of its own, that are not the function's
    scope = Scope("function")
    bind_parameters(scope, node.args)
    bind_statements(scope, node.body, deep=True)
    shared = (name for child in inner if isinstance(child, ast.Global) for name in child.names)
    return set(scope.sources).difference(shared)
