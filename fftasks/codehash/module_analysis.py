"""Analyse one file: its top-level statements, the names that each uses, and the effects of each.

The analysis depends only on the text of the file, not on its path, other files or the clock. It is plain
JSON,
stored by the digest of the text.

The interface of a function is the part of it that other code can see while its body is not executed:
decorators,
parameters, defaults, annotations, whether it is a generator, and the words of its body from which the
kinds of
output that a node may show are inferred. Two texts of a function with the same interface create the same
node.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypedDict

from fftasks.api.display import DISPLAY_WORDS
from fftasks.codehash.known_calls import TOOLS
from fftasks.codehash.references import Names, Root, Roots
from fftasks.codehash.scope import (
    IMPORTS,
    Import,
    Scope,
    bind_parameters,
    bind_statements,
    iterate_scope,
    list_imports,
)
from fftasks.codehash.syntax_digest import (
    DEFINITIONS,
    FUNCTIONS,
    FunctionNode,
    digest_tree,
    is_idle,
    strip,
    strip_annotation,
)
from fftasks.codehash.syntax_reader import Reader


class BoundValue(TypedDict):
    """The kind of value that a name is bound to: "fixed", "container" or "other"."""

    roots: list[Root]
    kind: str


class CodeUnit(TypedDict):
    """One top-level statement, or one name of an import; the rest is as in names.Names.

    kind: "function", "class", "constant", "import", "block" (an if, for, try, ... that binds), "effect"
    name: as a reader knows it, "function clean()"; target: what an import's name refers to
    digest: of what counts; text: of all its lines as they are
    interface: of a function, digest of what importing its file and describing its nodes need of it;
        "" for statements without one
    bypasses: it may call what a decorated function was made of, which fftasks does only to run a node
    aliases: names that imports inside a block bind -> references
    main: it stands under `if __name__ == "__main__":`
    """

    kind: str
    name: str
    line: int
    digest: str
    text: str
    interface: str
    bypasses: bool
    binds: list[str]
    target: str
    values: dict[str, BoundValue]
    aliases: dict[str, list[str]]
    decorators: list[str]
    main: bool
    reads: dict[str, int]
    passed: dict[str, list[str]]
    now: list[list[Any]]
    bodies: dict[str, list[list[Any]]]
    returns: list[Root]
    fallbacks: list[list[Any]]
    executed: list[str]
    lazy: list[str]
    strings: list[str]


class Analysis(TypedDict):
    """All top-level statements of a file.

    error: why there are none, else ""; stars: reference to a module -> line of its star import
    shared: names that functions declare global -> line; typing: names for type checkers only
    """

    error: str
    units: list[CodeUnit]
    stars: dict[str, int]
    shared: dict[str, int]
    typing: list[str]


def number_names(units: Iterable[CodeUnit]) -> dict[str, list[int]]:
    """Return for each name that a module binds the numbers of its units that do."""
    bindings: dict[str, list[int]] = {}
    for number, unit in enumerate(units):
        for name in unit["binds"]:
            bindings.setdefault(name, []).append(number)
    return bindings


_EMPTY: dict[str, Any] = {
    "interface": "", "bypasses": False, "target": "", "aliases": {}, "decorators": [], "main": False,
    "reads": {}, "passed": {},
    "now": [[], []], "bodies": {}, "returns": [], "fallbacks": [], "executed": [], "lazy": [], "strings": [],
    "values": {},
}  # fmt: skip


def make_unit(fields: dict[str, Any]) -> CodeUnit:
    """Return a unit in which all fields but the given ones are empty."""
    unit: Any = {**_EMPTY, **fields}
    return unit  # type: ignore[no-any-return]


def drop_empty_fields(analysis: Analysis) -> dict[str, Any]:
    """Return an analysis as it is kept: without what is empty."""
    units = [{k: v for k, v in u.items() if v != _EMPTY.get(k)} for u in analysis["units"]]
    return {**analysis, "units": units}


def restore_empty_fields(analysis: Analysis) -> Analysis:
    """Return a kept analysis whole again; raise KeyError or TypeError for anything else."""
    units = [make_unit(dict(unit)) for unit in analysis["units"]]
    for name in ("error", "stars", "shared", "typing"):
        analysis[name]
    return {**analysis, "units": units}


_UNCHANGING = (ast.Constant, ast.UnaryOp, ast.Name, ast.Attribute, ast.Lambda, ast.JoinedStr)
_OPERATIONS = (ast.Constant, ast.JoinedStr, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name,
               ast.Attribute)  # fmt: skip
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_BUILTINS = frozenset(dir(builtins))
_FIXED_BUILTINS = frozenset({
    "abs", "bool", "bytes", "chr", "complex", "divmod", "float", "format", "frozenset", "hash",
    "hex", "int", "isinstance", "issubclass", "len", "oct", "ord", "pow", "range", "repr", "round",
    "slice", "str", "tuple",
})  # fmt: skip
_CONTAINERS = ("list", "dict", "set", "defaultdict", "deque", "OrderedDict", "Counter")


def classify_expression(node: ast.expr) -> str:
    """Return what a name is bound to: "fixed", if its roots are, a "container" made here, or "other"."""
    if isinstance(node, _DISPLAYS):
        return "container"
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _CONTAINERS:
            return "container"
        return "other" if name in _BUILTINS and name not in _FIXED_BUILTINS else "fixed"
    if isinstance(node, ast.Tuple):
        return (
            "fixed" if all(classify_expression(item) == "fixed" for item in node.elts) else "other"
        )
    return "fixed" if isinstance(node, _OPERATIONS) else "other"


def has_state(node: ast.AST) -> bool:
    """Return whether a class's body, or a function's defaults, hold anything that could be changed."""
    if not isinstance(node, ast.ClassDef):
        return any(not isinstance(value, _UNCHANGING) for value in _list_defaults(node))
    bound = (s.value for s in node.body if isinstance(s, (ast.Assign, ast.AnnAssign)) and s.value)
    others = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.ClassDef)
    return any(isinstance(s, others) for s in node.body) or any(
        not isinstance(value, _UNCHANGING) for value in bound
    )


def _list_defaults(node: ast.AST) -> list[ast.expr]:
    arguments: ast.arguments = node.args  # type: ignore[attr-defined]
    return [*arguments.defaults, *(value for value in arguments.kw_defaults if value)]


# ways from a decorated function to what it was made of
_BYPASSES = frozenset({"func", "__wrapped__", "unwrap", "__closure__", "cell_contents", "calling"})


def digest_interface(
    node: FunctionNode, inner: Sequence[ast.AST], known: Container[str] | None
) -> str:
    """Return the digest of a function's head; it is not changed.

    inner: all that ast.walk() finds in it
    known: the names that its module binds; None if they cannot be told
    """
    fields = {name: getattr(node, name) for name in node._fields}
    signature = type(node)(**{**fields, "body": []})
    names = {child.id for child in inner if isinstance(child, ast.Name)}
    words = set(_list_words(inner))
    found = {w for w in names | words if known is None or w in known or w in DISPLAY_WORDS}
    if not found.isdisjoint(names):
        found -= _list_local(node, inner) - words
    yields = {child for child in inner if isinstance(child, ast.Yield | ast.YieldFrom)}
    is_generator = bool(yields) and not yields.isdisjoint(iterate_scope(node.body, deep=True))
    text = " ".join([digest_tree(signature), str(is_generator), *sorted(found)])
    return hashlib.sha256(text.encode()).hexdigest()


def may_bypass_decorator(inner: Iterable[ast.AST]) -> bool:
    """Return whether a statement may call what a decorated function was made of: `clean.func(rows)`."""
    return any(
        (isinstance(child, ast.Attribute) and child.attr in _BYPASSES)
        or (isinstance(child, ast.Constant) and child.value in ("func", "__wrapped__"))
        or (isinstance(child, ast.alias) and not _BYPASSES.isdisjoint(child.name.split(".")))
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

    def _make_units(self, statement: ast.stmt, *, main: bool) -> Iterator[CodeUnit]:
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

    def _make_unit(self, statement: ast.stmt, names: Names, **fields: Any) -> CodeUnit:
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        text = b"\n".join(self._lines[first - 1 : statement.end_lineno])
        roots = [self._find_roots(d) for d in decorators]
        found = [reference for each in roots for reference, _ in each]
        inner = list(ast.walk(statement))
        interface = ""
        if isinstance(statement, FUNCTIONS) and all(roots):
            interface = digest_interface(statement, inner, self._known)
        bypasses = may_bypass_decorator(inner)
        strip(statement, self._typed)
        return make_unit(
            {
                "line": first,
                "digest": digest_tree(statement),
                "text": hashlib.sha256(text).hexdigest(),
                "interface": interface,
                "bypasses": bypasses,
                "decorators": found,
                **names.to_json(),
                **fields,
            }
        )

    def _make_imports(self, statement: Import, *, main: bool) -> Iterator[CodeUnit]:
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

    def _find_value(self, statement: ast.stmt, scope: Scope, name: str) -> BoundValue:
        roots: dict[Root, None] = {}
        kinds = set()
        if isinstance(statement, DEFINITIONS):
            return {"roots": [], "kind": "container" if has_state(statement) else "other"}
        for way, value in scope.sources[name]:
            if isinstance(value, ast.expr):
                kinds.add(classify_expression(value) if way == "value" else "other")
                roots.update(dict.fromkeys(self._find_roots(value)))
        kind = kinds.pop() if len(kinds) == 1 else "other"
        return {"roots": list(roots), "kind": kind}

    def _is_typed(self, node: FunctionNode | ast.ClassDef) -> bool:
        """Return whether something may read the annotations of a function or class."""
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
