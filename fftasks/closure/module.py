"""One file's analysis: its top-level statements, what each names, and what each does.

Nothing here looks at another file, at the file's own path or at the clock: equal text, equal analysis.
So it is plain JSON, kept by the digest of the text.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fftasks.closure.foreign import TOOLS
from fftasks.closure.head import digest_head, is_tapping
from fftasks.closure.kind import classify, has_state
from fftasks.closure.names import Names, Root
from fftasks.closure.reader import Reader
from fftasks.closure.roots import Roots
from fftasks.closure.scope import (
    IMPORTS,
    Import,
    Scope,
    bind_statements,
    iterate_scope,
    list_imports,
)
from fftasks.closure.tree import (
    DEFINITIONS,
    FUNCTIONS,
    FunctionNode,
    digest_tree,
    is_idle,
    strip,
    strip_annotation,
)
from fftasks.closure.unit import Analysis, Unit, Value, make_unit


@lru_cache(maxsize=512)
def analyse(source: bytes) -> Analysis:
    """Return the analysis of a file's text; one with an error where Python cannot parse it.

    What is returned is shared: nobody may change it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape is the user's business
            tree = ast.parse(source)
        return _Analyser(source, tree).analyse()
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        problem = "syntax error" + (f" at line {line}" if line else "")
    except (RecursionError, MemoryError):
        problem = "too deeply nested"
    return {"error": problem, "units": [], "stars": {}, "shared": {}, "typing": []}


class _Analyser:
    def __init__(self, source: bytes, tree: ast.Module) -> None:
        self._lines = source.splitlines()
        self._deep = deep = b":=" in source or b"nonlocal" in source
        self._typing: dict[str, None] = {}
        self._statements = list(self._flatten(tree.body, main=False))
        scope = Scope("module")
        bind_statements(scope, (statement for statement, _ in self._statements), deep=deep)
        self._nodes = [n for s, _ in self._statements for n in _walk_statements(s)]
        imports = {
            name: str(sources[0][1])
            for name, sources in scope.sources.items()
            if sources[0][0] == "import"
        }
        self._roots = Roots(Scope("module"), imports, scope.sources)
        self._typed = {
            node for node in self._nodes if isinstance(node, DEFINITIONS) and self._is_typed(node)
        }
        self._typed |= {m for c in self._typed if isinstance(c, ast.ClassDef) for m in c.body
                        if isinstance(m, FUNCTIONS)}  # fmt: skip
        self._stars: dict[str, int] = {}
        stars = (s for s, _ in self._statements if isinstance(s, ast.ImportFrom))
        has_star = any(alias.name == "*" for s in stars for alias in s.names)
        # the names that a function may mean by a word; None for any
        self._known = None if has_star else frozenset(scope.sources)

    def analyse(self) -> Analysis:
        units = [u for s, main in self._statements for u in self._make_units(s, main=main)]
        shared = {
            name: node.lineno
            for node in self._nodes
            if isinstance(node, ast.Global)
            for name in node.names
        }
        return {
            "error": "",
            "units": units,
            "stars": self._stars,
            "shared": shared,
            "typing": list(self._typing),
        }

    def _flatten(self, body: list[ast.stmt], *, main: bool) -> Iterator[tuple[ast.stmt, bool]]:
        for statement in body:
            if not isinstance(statement, ast.If):
                if not is_idle(statement):
                    yield statement, main
            elif _is_main(statement.test):
                yield from self._flatten(statement.body, main=True)
                yield from self._flatten(statement.orelse, main=False)
            elif _is_type_checking(statement.test):
                for node in iterate_scope(statement.body, deep=False):
                    if isinstance(node, IMPORTS):
                        self._typing.update(dict.fromkeys(name for name, _ in list_imports(node)))
                    elif isinstance(getattr(node, "name", None), str):
                        self._typing[node.name] = None  # type: ignore[attr-defined]
                yield from self._flatten(statement.orelse, main=main)
            else:
                yield statement, main

    def _make_units(self, statement: ast.stmt, *, main: bool) -> Iterator[Unit]:
        if isinstance(statement, IMPORTS):
            yield from self._make_imports(statement, main=main)
            return
        if isinstance(statement, ast.AnnAssign):
            plain = strip_annotation(statement)
            if plain is None:
                return
            statement = plain
        scope = Scope("module")
        bind_statements(scope, [statement], deep=self._deep)
        binds = list(scope.sources)
        kind, name = _describe(statement, binds)
        aliases = {
            name: [str(value) for way, value in sources if way == "import"]
            for name, sources in scope.sources.items()
            if any(way == "import" for way, _ in sources)
        }
        values = {name: self._find_value(statement, scope, name) for name in binds}
        names = Reader(self._roots, self._typed, deep=self._deep).read(statement)
        yield self._make_unit(
            statement,
            names,
            kind=kind,
            name=name,
            binds=binds,
            aliases=aliases,
            values=values,
            main=main,
        )
        for node in iterate_scope([statement], deep=False):
            if isinstance(node, IMPORTS):
                self._note_star(node)

    def _make_unit(self, statement: ast.stmt, names: Names, **fields: Any) -> Unit:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        text = b"\n".join(self._lines[first - 1 : statement.end_lineno])
        roots = [self._find_roots(d) for d in decorators]
        found = [reference for each in roots for reference, _ in each]
        inner = list(ast.walk(statement))
        head = ""
        if isinstance(statement, FUNCTIONS) and all(roots):
            head = digest_head(statement, inner, self._known)
        taps = is_tapping(inner)
        strip(statement, self._typed)
        return make_unit(
            {
                "line": first,
                "digest": digest_tree(statement),
                "text": hashlib.sha256(text).hexdigest(),
                "head": head,
                "taps": taps,
                "decorators": found,
                **names.to_json(),
                **fields,
            }
        )

    def _make_imports(self, statement: Import, *, main: bool) -> Iterator[Unit]:
        self._note_star(statement)
        for number, (name, target) in enumerate(list_imports(statement)):
            alias = statement.names[number]
            single = type(statement)(**{**_copy_fields(statement), "names": [alias]})
            ast.copy_location(single, statement)
            names = Reader(self._roots, self._typed, deep=False).read(single)
            bound = {"binds": [name], "target": target} if name != "*" else {"binds": []}
            # a plain `import a.b` gives the name a to the module a, whatever else is imported
            is_plain = isinstance(statement, ast.Import) and not alias.asname
            is_tool = self._roots.expand(target).partition(".")[0] in TOOLS
            digest = "" if is_plain or is_tool or name == "*" else target
            yield self._make_unit(
                single, names, kind="import", name=f"import {name}", main=main,
                **bound, digest=digest, text=digest,
            )  # fmt: skip

    def _note_star(self, node: Import) -> None:
        for name, reference in list_imports(node):
            if name == "*":
                self._stars.setdefault(reference, node.lineno)

    def _find_roots(self, node: ast.expr) -> list[Root]:
        return self._roots.find(node, self._roots.module)

    def _find_value(self, statement: ast.stmt, scope: Scope, name: str) -> Value:
        roots: dict[Root, None] = {}
        kinds = set()
        if isinstance(statement, DEFINITIONS):
            return {"roots": [], "kind": "container" if has_state(statement) else "other"}
        for way, value in scope.sources[name]:
            if isinstance(value, ast.expr):
                kinds.add(classify(value) if way == "value" else "other")
                roots.update(dict.fromkeys(self._find_roots(value)))
        kind = kinds.pop() if len(kinds) == 1 else "other"
        return {"roots": list(roots), "kind": kind}

    def _is_typed(self, node: FunctionNode | ast.ClassDef) -> bool:
        """Tell whether something may read the annotations of a function or class."""
        if not all(self._is_plain(d, _PLAIN_DECORATORS) for d in node.decorator_list):
            return True
        if not isinstance(node, ast.ClassDef):
            return False
        return bool(node.keywords) or not all(self._is_plain(b, _PLAIN_BASES) for b in node.bases)

    def _is_plain(self, node: ast.expr, names: tuple[str, ...]) -> bool:
        if isinstance(node, ast.Call | ast.Subscript):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Attribute) and node.attr in ("setter", "getter", "deleter"):
            return True
        dotted = self._roots.name_builtin(node, self._roots.module)
        return dotted in names or dotted.startswith(tuple(n for n in names if n.endswith(".")))


# what reads no annotations; a name with a dot at its end stands for all that is in it
_PLAIN_DECORATORS = (
    "fftasks.", "functionfuse.", "staticmethod", "classmethod", "property", "functools.wraps",
    "functools.lru_cache", "functools.cache", "functools.cached_property", "functools.total_ordering",
    "contextlib.", "abc.", "typing.",
)  # fmt: skip
_PLAIN_BASES = ("object", "abc.ABC", "typing.Generic", "typing.Protocol", "enum.", "Exception",
                "ValueError", "TypeError", "RuntimeError", "KeyError", "LookupError",
                "sklearn.base.")  # fmt: skip
_SHOWN = 3
_COMPOUND = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try)


def _describe(statement: ast.stmt, binds: list[str]) -> tuple[str, str]:
    if isinstance(statement, FUNCTIONS):
        return "function", f"function {statement.name}()"
    if isinstance(statement, ast.ClassDef):
        return "class", f"class {statement.name}"
    if not binds:
        return "effect", "statements"
    names = ", ".join(binds[:_SHOWN]) + (", ..." if len(binds) > _SHOWN else "")
    if isinstance(statement, _COMPOUND) or len(binds) > 1:
        return "block", f"names {names}"
    return "constant", f"constant {names}"


def _walk_statements(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield a statement and all statements in it, those of functions and classes as well."""
    for node in iterate_scope([statement], deep=False):
        yield node
        if isinstance(node, DEFINITIONS):
            for inner in node.body:
                yield from _walk_statements(inner)


def _copy_fields(node: ast.AST) -> dict[str, Any]:
    return {name: getattr(node, name) for name in node._fields}


def _is_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.Eq)
        and {ast.unparse(test.left), ast.unparse(test.comparators[0])} == {"__name__", "'__main__'"}
    )


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test).rpartition(".")[2] == "TYPE_CHECKING"
