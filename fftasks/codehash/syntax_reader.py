"""Read expressions and statements: names, calls, changes, and names that cannot be resolved.

Code that a statement executes is separated from code that is executed when its functions are called.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Container, Iterable
from typing import Any

from fftasks.codehash.known_calls import (
    DYNAMIC_ATTRIBUTES,
    DYNAMIC_NAMES,
    FALLBACK_FILE,
    FALLBACK_PROJECT,
)
from fftasks.codehash.references import MUTATING_METHODS, CodeBody, Names, Root, Roots, read_prefix
from fftasks.codehash.scope import (
    Import,
    Scope,
    bind_generators,
    bind_parameters,
    bind_statements,
    list_executed,
    list_imports,
)
from fftasks.codehash.syntax_digest import FunctionNode, is_idle

Visit = Callable[[Any, Any], None]
_MAX_LENGTH = 200
_PATH = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)+|[\w./-]+\.py")
_TAKERS = frozenset({
    "all", "any", "dict", "enumerate", "filter", "frozenset", "iter", "list", "map", "max", "min",
    "next", "reversed", "set", "sorted", "sum", "tuple", "zip",
})  # fmt: skip


class ExpressionReader:
    """Reads expressions, each once, in the scope and for the body that a statement has set.

    roots: the module's names
    deep: whether names may be bound inside expressions
    """

    _visitors: dict[type, Visit]

    def __init__(self, roots: Roots, *, deep: bool) -> None:
        self.found = Names()
        self._roots = roots
        self._deep = deep
        self._scope = roots.module
        self._body = self.found.now
        self._key: str | None = None
        self._via: list[str] | None = None
        self._called: ast.expr | None = None
        self._bare = False
        self._maybe = False

    def _visit(self, node: ast.AST) -> None:
        visit = self._visitors.get(type(node))
        if visit:
            visit(self, node)
        else:
            self._visit_children(node)

    def _visit_children(self, node: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self._visit(item)
            elif isinstance(value, ast.AST):
                self._visit(value)

    def _visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node)

    # names

    def _read(self, reference: str, node: ast.expr | ast.stmt) -> None:
        if self._maybe and reference[0] != "?":
            reference = "?" + reference
        self.found.reads.setdefault(reference, node.lineno)
        self._body.reads[reference] = None
        known = self.found.passed.setdefault(reference, [])
        if self._via is None:
            self.found.passed[reference] = None
        elif known is not None:
            known += [via for via in self._via if via not in known]
        dotted = self._roots.expand(reference)
        while dotted:
            if dotted in DYNAMIC_NAMES:
                self._fall_back(node, DYNAMIC_NAMES[dotted], dotted)
            dotted = dotted.rpartition(".")[0]

    def _fall_back(
        self, node: ast.expr | ast.stmt, level: str, what: str, detail: str = ""
    ) -> None:
        self.found.fallbacks.append([node.lineno, what, level, detail])

    def _visit_name(self, node: ast.Name) -> None:
        # a store in the module's own scope binds, and is the statement's business
        if isinstance(node.ctx, ast.Load):
            for reference in self._roots.list_references(node, self._scope):
                self._read(reference, node)
        elif self._scope.kind != "module" and self._scope.find(node.id) is None:
            self._note("rebind", [(self._roots.mangle(node.id, self._scope), 0)], "", node)
        elif node.id in self._scope.outer:
            self._note("store", [("", 0)], "[]", node)

    def _visit_attribute(self, node: ast.Attribute) -> None:
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            if inner.attr in DYNAMIC_ATTRIBUTES:
                self._fall_back(inner, DYNAMIC_ATTRIBUTES[inner.attr], f".{inner.attr}")
            inner = inner.value
        references = self._roots.list_references(node, self._scope)
        for reference in references:
            self._read(reference, node)
        if not isinstance(inner, ast.Name) and not references:
            self._visit(inner)
        if not isinstance(node.ctx, ast.Load):
            self._visit_target(node)
        elif node is not self._called:
            # a property may do anything, and a method may be called by whoever gets it
            roots = self._find_roots(node.value)
            known = [root for root in roots if root[0] or node.attr in MUTATING_METHODS]
            self._note("bound", known, node.attr, node)

    def _visit_subscript(self, node: ast.Subscript) -> None:
        modules = self._roots.list_references(node, self._scope)  # sys.modules["helpers"]
        for reference in modules:
            self._read(reference, node)
        if self._roots.is_own_module(node, self._scope):
            self._fall_back(node, FALLBACK_FILE, "sys.modules")
        elif not modules:
            self._visit(node.value)
        self._visit(node.slice)
        if not isinstance(node.ctx, ast.Load):
            self._visit_target(node)

    def _visit_target(self, node: ast.Attribute | ast.Subscript) -> None:
        if self._roots.is_fresh(node.value, self._scope):
            return
        if isinstance(node, ast.Subscript):
            self._note("store", self._find_roots(node.value), "[]", node)
        elif not self._is_own(node.value):
            self._note("store", self._find_roots(node), node.attr, node)

    def _is_own(self, node: ast.expr) -> bool:
        # self.x = ... changes nothing but the object
        return isinstance(node, ast.Name) and node.id == self._scope.owner

    def _visit_constant(self, node: ast.Constant) -> None:
        if (
            isinstance(node.value, str)
            and len(node.value) < _MAX_LENGTH
            and _PATH.fullmatch(node.value)
        ):
            self.found.strings.append(node.value)

    # events

    def _find_roots(self, node: ast.expr) -> list[Root]:
        return self._roots.find(node, self._scope)

    def _note(self, kind: str, roots: Iterable[Root], attribute: str, node: ast.expr) -> None:
        for reference, distance in roots:
            event = [kind, reference, distance, attribute, self._bare, node.lineno]
            if event not in self._body.events:
                self._body.events.append(event)

    def _note_taken(self, node: ast.expr) -> None:
        self._note("take", self._find_roots(node), "", node)

    def _visit_arguments(self, nodes: Iterable[ast.AST | None], via: list[str] | None) -> None:
        """Visit what is handed to a call; via: references to what is called, None if unknown."""
        before = self._via, self._bare
        self._via, self._bare = via, False
        self._visit_all(nodes)
        self._via, self._bare = before

    def _visit_call(self, node: ast.Call) -> None:
        special = self._roots.name_builtin(node.func, self._scope)
        visit = _SPECIAL.get(special)
        if visit and visit(self, node):
            return
        if special in _TAKERS and node.args:
            self._note_taken(node.args[0])
        self._visit_plain_call(node)

    def _visit_plain_call(self, node: ast.Call) -> None:
        function = node.func
        roots = self._find_roots(function)
        attribute = function.attr if isinstance(function, ast.Attribute) else ""
        if not (attribute and self._roots.is_fresh(function.value, self._scope)):  # type: ignore[attr-defined]
            self._note("call", roots, attribute, node)
        self._called = function
        self._visit_arguments([function], None)
        self._note_handed(node)
        known = all(reference for reference, _ in roots) and bool(roots)
        via = [reference for reference, _ in roots] if known else None
        self._visit_arguments([*node.args, *(keyword.value for keyword in node.keywords)], via)

    def _note_handed(self, node: ast.Call) -> None:
        """Note methods that are handed to a call, as bare: who gets one is likely to call it."""
        before, self._bare = self._bare, True
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(argument, ast.Attribute):
                self._note("bound", self._find_roots(argument.value), argument.attr, argument)
        self._bare = before

    def _visit_getattr(self, node: ast.Call) -> bool:
        target = self._roots.read_getattr(node)
        if target is None:
            for reference in self._roots.list_references(node.args[0], self._scope):
                self._fall_back(node, FALLBACK_FILE, "getattr", reference)
            return False
        # hasattr, and getattr with a default: nothing is wrong if there is no such name
        is_safe = node.args[2:] or ast.unparse(node.func) == "hasattr"
        before, self._maybe = self._maybe, self._maybe or bool(is_safe)
        self._visit(target)
        self._maybe = before
        self._visit_all(node.args[2:])
        return True

    def _visit_setattr(self, node: ast.Call) -> bool:
        if node.args:
            target = self._roots.read_getattr(node)
            roots = self._find_roots(target) if target else self._find_roots(node.args[0])
            self._note("store", roots, target.attr if target else "?", node)
        self._visit_arguments(node.args, None)
        return True

    def _visit_import_call(self, node: ast.Call) -> bool:
        references = self._roots.list_references(node, self._scope)
        if not references:
            prefix = read_prefix(node.args[0]) if node.args else ""
            self._fall_back(node, FALLBACK_PROJECT, "import by a computed name", prefix)
        for reference in references:
            self._read(reference, node)
            (self.found.executed if self._key is None else self.found.lazy).append(reference)
        self._visit_all(node.args)
        return True

    def _visit_vars(self, node: ast.Call) -> bool:
        if not node.args and self._scope.kind != "function":
            self._fall_back(
                node, FALLBACK_FILE, f"{self._roots.name_builtin(node.func, self._scope)}()"
            )
        return False

    # expressions with scopes

    def _visit_comprehension(self, node: ast.AST) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        outer = self._scope
        self._visit(generators[0].iter)
        self._note_taken(generators[0].iter)
        self._scope = Scope("comprehension", outer, outer.owner)
        bind_generators(self._scope, generators)
        for number, generator in enumerate(generators):
            if number:
                self._visit(generator.iter)
                self._note_taken(generator.iter)
            self._visit(generator.target)
            self._visit_all(generator.ifs)
        self._visit_all(getattr(node, name, None) for name in ("elt", "key", "value"))
        self._scope = outer

    def _visit_lambda(self, node: ast.Lambda) -> None:
        self._visit_defaults(node.args)
        outer = self._scope
        self._scope = Scope("function", outer)
        bind_parameters(self._scope, node.args)
        if self._deep:
            bind_statements(self._scope, [node.body], deep=True)
        self._visit(node.body)
        self._scope = outer

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        self._visit_all(arguments.defaults)
        self._visit_all(arguments.kw_defaults)

    def _visit_binary(self, node: ast.BinOp) -> None:
        # a sum of a thousand terms is a thousand levels deep on its left
        parts: list[ast.expr] = []
        inner: ast.expr = node
        while isinstance(inner, ast.BinOp):
            parts.append(inner.right)
            inner = inner.left
        if self._bare:
            self._note("call", self._find_roots(node), "operator", node)
        self._visit_arguments([inner, *reversed(parts)], self._via)


_SPECIAL: dict[str, Callable[[ExpressionReader, ast.Call], bool]] = {
    "getattr": ExpressionReader._visit_getattr,
    "hasattr": ExpressionReader._visit_getattr,
    "setattr": ExpressionReader._visit_setattr,
    "delattr": ExpressionReader._visit_setattr,
    "__import__": ExpressionReader._visit_import_call,
    "importlib.import_module": ExpressionReader._visit_import_call,
    "vars": ExpressionReader._visit_vars,
    "locals": ExpressionReader._visit_vars,
}
EXPRESSIONS: dict[type, Visit] = {
    ast.Name: ExpressionReader._visit_name,
    ast.Attribute: ExpressionReader._visit_attribute,
    ast.Subscript: ExpressionReader._visit_subscript,
    ast.Constant: ExpressionReader._visit_constant,
    ast.Call: ExpressionReader._visit_call,
    ast.BinOp: ExpressionReader._visit_binary,
    ast.Lambda: ExpressionReader._visit_lambda,
    ast.ListComp: ExpressionReader._visit_comprehension,
    ast.SetComp: ExpressionReader._visit_comprehension,
    ast.DictComp: ExpressionReader._visit_comprehension,
    ast.GeneratorExp: ExpressionReader._visit_comprehension,
}


class Reader(ExpressionReader):
    """Reads one top-level statement of a module, once; see Names for what it finds.

    roots: the module's names
    typed: functions and classes whose annotations count
    deep: whether names may be bound inside expressions
    """

    def __init__(self, roots: Roots, typed: Container[ast.AST], *, deep: bool) -> None:
        super().__init__(roots, deep=deep)
        self._visitors = _VISITORS
        self._typed = typed

    def read(self, statement: ast.stmt) -> Names:
        """Return what is in a statement."""
        self._visit(statement)
        return self.found

    def _visit_expression(self, node: ast.Expr) -> None:
        if is_idle(node):
            return
        self._bare = True
        if isinstance(node.value, ast.Attribute | ast.Subscript | ast.Compare | ast.UnaryOp):
            self._note("call", self._find_roots(node.value), "operator", node.value)
        self._visit(node.value)
        self._bare = False

    def _visit_loop(self, node: ast.For | ast.AsyncFor) -> None:
        self._note_taken(node.iter)
        self._visit_children(node)

    def _visit_augmented(self, node: ast.AugAssign) -> None:
        # x += y may change the object that x was, and others may hold it
        if isinstance(node.target, ast.Name):
            read = ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target)
            self._visit(read)
            if not self._roots.is_fresh(read, self._scope):
                self._note("store", self._find_roots(read), "[]", read)
        self._visit(node.target)
        self._visit(node.value)

    def _visit_annotated(self, node: ast.AnnAssign) -> None:
        self._visit_all([node.target, node.value])
        if self._scope.kind == "class":
            self._visit_annotation(node.annotation)

    def _visit_annotation(self, node: ast.expr | None) -> None:
        if node is None:
            return
        before, self._maybe = self._maybe, True
        for inner in ast.walk(node):  # "Model" in quotes names Model
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                self._visit_all(_parse_annotation(inner))
        self._visit(node)
        self._maybe = before

    def _visit_import(self, node: Import) -> None:
        (self.found.executed if self._key is None else self.found.lazy).extend(list_executed(node))
        if self._scope.kind == "class":  # self.helpers is the module
            for sources in self._scope.sources.values():
                for way, value in sources:
                    if way == "import" and isinstance(value, str):
                        self._read(value, node)
        for name, reference in list_imports(node):
            if self._scope.kind != "module" and self._scope.find(name) is None:
                place = ast.copy_location(ast.Name(name, ast.Load()), node)
                self._note("rebind", [(name, 0)], "", place)
                self._read(reference, node)

    def _visit_result(self, node: ast.Return | ast.Yield | ast.YieldFrom) -> None:
        if node.value is not None:
            if self._key == "":
                self.found.returns += self._find_roots(node.value)
            self._visit(node.value)

    def _visit_function(self, node: FunctionNode) -> None:
        self._visit_decorators(node.decorator_list)
        self._visit_defaults(node.args)
        if node in self._typed:
            for child in ast.walk(node.args):
                if isinstance(child, ast.arg):
                    self._visit_annotation(child.annotation)
            self._visit_annotation(node.returns)
        before = self._scope, self._body, self._key, self._bare
        self._scope, self._bare = Scope("function", self._scope), False
        bind_parameters(self._scope, node.args)
        self._enter_body(node)
        bind_statements(self._scope, node.body, deep=self._deep)
        self._visit_arguments(node.body, None)
        self._scope, self._body, self._key, self._bare = before

    def _enter_body(self, node: FunctionNode) -> None:
        outer = self._scope.parent
        in_class = outer is not None and outer.kind == "class"
        if in_class and not node.decorator_list and node.args.args:
            self._scope.owner = node.args.args[0].arg
        if self._key is None:
            # "@": a property, a hook: runs without being called by its name
            self._key = ("@" if node.decorator_list else node.name) if in_class else ""
        elif set(self._key) <= {"("}:
            self._key += "("
        self._body = self.found.bodies.setdefault(self._key, CodeBody())

    def _visit_decorators(self, decorators: list[ast.expr]) -> None:
        for decorator in decorators:
            attribute = decorator.attr if isinstance(decorator, ast.Attribute) else ""
            self._note("decorate", self._find_roots(decorator), attribute, decorator)
            # what the function of a decorator is called for is one event, not a call and a decoration
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            body, self._body = self._body, CodeBody()
            self._visit(called)
            self._body = body
            if isinstance(decorator, ast.Call):
                keywords = (keyword.value for keyword in decorator.keywords)
                self._visit_arguments([*decorator.args, *keywords], None)

    def _visit_class(self, node: ast.ClassDef) -> None:
        self._visit_decorators(node.decorator_list)
        for base in node.bases:
            self._note("subclass", self._find_roots(base), "", base)
            self._visit(base)
        for keyword in node.keywords:
            if keyword.arg == "metaclass":
                self._note("meta", self._find_roots(keyword.value), "", keyword.value)
            self._visit(keyword.value)
        outer, bare = self._scope, self._bare
        self._scope, self._bare = Scope("class", outer, node.name), False
        bind_statements(self._scope, node.body, deep=self._deep)
        self._visit_all(node.body)
        self._scope, self._bare = outer, bare


def _parse_annotation(node: ast.Constant) -> list[ast.expr]:
    try:
        parsed = ast.parse(str(node.value), mode="eval").body
    except (SyntaxError, ValueError):
        return []
    for inner in ast.walk(parsed):
        if isinstance(inner, ast.expr):
            inner.lineno = node.lineno
    return [parsed]


_VISITORS: dict[type, Visit] = {
    **EXPRESSIONS,
    ast.Expr: Reader._visit_expression,
    ast.For: Reader._visit_loop,
    ast.AsyncFor: Reader._visit_loop,
    ast.AugAssign: Reader._visit_augmented,
    ast.AnnAssign: Reader._visit_annotated,
    ast.Import: Reader._visit_import,
    ast.ImportFrom: Reader._visit_import,
    ast.Return: Reader._visit_result,
    ast.Yield: Reader._visit_result,
    ast.YieldFrom: Reader._visit_result,
    ast.FunctionDef: Reader._visit_function,
    ast.AsyncFunctionDef: Reader._visit_function,
    ast.ClassDef: Reader._visit_class,
}
