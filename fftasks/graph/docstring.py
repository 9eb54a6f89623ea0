"""Docstrings of the user's files, for descriptions: read from the text, as the files are not imported.

Docstrings are not part of a node's fingerprint: an edit of one runs nothing again.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path


def read_docstring(path: Path, qualname: str = "", line: int = 0) -> str:
    """Return the docstring of a file, or of a function or class in it.

    Args:
        path: Python file.
        qualname: Qualified name, such as "Counter.add"; "" for the docstring of the file.
        line: Line of the definition, which decides between several of one name.

    Returns:
        Docstring without its indentation; "" if the file cannot be read, or there is no docstring.
    """
    try:
        stat = path.stat()
        found: ast.AST | None = _parse(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, SyntaxError, ValueError):
        return ""
    for name in qualname.replace(".<locals>", "").split(".") if qualname else ():
        named = [one for one in _list_definitions(found) if getattr(one, "name", "") == name]
        around = [one for one in named if _get_start(one) <= line <= (one.end_lineno or 0)]
        found = around[-1] if around else named[-1] if named else None
    if not isinstance(found, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    return ast.get_docstring(found) or ""


@functools.lru_cache(maxsize=32)
def _parse(path: Path, _mtime_ns: int, _size: int) -> ast.Module:
    return ast.parse(path.read_bytes())


def _list_definitions(tree: ast.AST | None) -> list[ast.stmt]:
    """Return the functions and classes in a body, also those below an if, a try, or a with."""
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(tree) if tree is not None else ():
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(child)
        elif not isinstance(child, ast.expr):
            found += _list_definitions(child)
    return found


def _get_start(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])
