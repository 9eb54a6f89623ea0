"""What kind of value an expression gives, as far as its syntax tells: one that can be changed, or not."""

from __future__ import annotations

import ast
import builtins

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


def classify(node: ast.expr) -> str:
    """Return what a name is bound to: "fixed", if its roots are, a "container" made here, or "other"."""
    if isinstance(node, _DISPLAYS):
        return "container"
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _CONTAINERS:
            return "container"
        return "other" if name in _BUILTINS and name not in _FIXED_BUILTINS else "fixed"
    if isinstance(node, ast.Tuple):
        return "fixed" if all(classify(item) == "fixed" for item in node.elts) else "other"
    return "fixed" if isinstance(node, _OPERATIONS) else "other"


def has_state(node: ast.AST) -> bool:
    """Tell whether a class's body, or a function's defaults, hold anything that could be changed."""
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
