"""Reading statements: what is executed with them, and what when their functions are called."""

from __future__ import annotations

import ast
from collections.abc import Container

from fftasks.closure.expressions import EXPRESSIONS, ExpressionReader, Visit
from fftasks.closure.names import Body, Names
from fftasks.closure.roots import Roots
from fftasks.closure.scope import (
    Import,
    Scope,
    bind_parameters,
    bind_statements,
    list_executed,
    list_imports,
)
from fftasks.closure.tree import FunctionNode, is_idle


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
        self._body = self.found.bodies.setdefault(self._key, Body())

    def _visit_decorators(self, decorators: list[ast.expr]) -> None:
        for decorator in decorators:
            attribute = decorator.attr if isinstance(decorator, ast.Attribute) else ""
            self._note("decorate", self._find_roots(decorator), attribute, decorator)
            # what the function of a decorator is called for is one event, not a call and a decoration
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            body, self._body = self._body, Body()
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
