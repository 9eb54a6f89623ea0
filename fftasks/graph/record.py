"""Load the graph record of a workflow file, and read docstrings from its text.

The file is imported in a child process, so that doit never imports the user's code. The record's inputs
are everything that the file read while it was imported: modules and data of the project, environment
variables that lines of the project read, and the version of Python.

Docstrings are not part of a node's fingerprint: editing one reruns nothing.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, TypeGuard

from fftasks.api.names import make_slug
from fftasks.errors import WorkflowError
from fftasks.graph.observed_inputs import GraphFile, read_graph_inputs
from fftasks.records import Record, digest_json, read_record, write_record
from fftasks.runner.start import make_command
from fftasks.state_folder import make_folder, open_empty, read_text

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")  # the form of api/names.py
_TRIES = 3  # imports, while the user keeps saving a file during the import


def load_graph(source: GraphFile) -> Record:
    """Return the graph record of a file, recomputed if any of its inputs has changed.

    Raises:
        WorkflowError: The file cannot be imported. The error contains the user's traceback.
    """
    record = read_record(source.path)
    if not _is_valid(record) or record["file"] != source.file:
        return _save(source, _make(source))
    inputs = read_graph_inputs(source, list(record["inputs"]))
    if inputs == record["inputs"]:
        return record
    from fftasks.graph.incremental import (
        update_incrementally,  # reading code takes a while to import
    )

    return _save(source, update_incrementally(source, record, inputs) or _make(source))


def _save(source: GraphFile, record: Record) -> Record:
    write_record(source.path, record)
    return record


def _is_valid(record: Record | None) -> TypeGuard[Record]:
    return (
        record is not None
        and {"inputs", "workflows", "nodes", "codes", "warnings", "skeleton", "secrets"}
        <= record.keys()
        and all(w["slug"] == make_slug(name) for name, w in record["workflows"].items())
        and all(_SLUG.fullmatch(node["slug"]) for node in record["nodes"].values())
    )


def _make(source: GraphFile) -> Record:
    """Return a new record; import again if an input was edited during the import.

    The record could otherwise describe the file as it was before the edit.
    """
    started = time.time_ns()
    record = _make_in_child(source)
    for _ in range(_TRIES):
        if not any(_is_newer(source.root, name, started) for name in record["inputs"]):
            break
        started, before = time.time_ns(), record
        record = _make_in_child(source)
        if (
            record["inputs"] == before["inputs"]
        ):  # the workflow file itself writes a file that it reads
            break
    return record


def _is_newer(root: Path, name: str, time_ns: int) -> bool:
    kind, _, rest = name.partition(":")
    try:
        return kind in ("file", "text") and (root / rest).stat().st_ctime_ns > time_ns
    except OSError:
        return False


def _make_in_child(source: GraphFile) -> Record:
    log = source.folder / "logs" / f"{source.path.stem}.graph.txt"
    make_folder(log.parent)
    read_end, write_end = os.pipe()
    command = [
        *make_command("fftasks.graph.importer"),
        str(source.root),
        source.file,
        str(write_end),
    ]
    with open(open_empty(log), "wb") as output, os.fdopen(read_end, "rb") as answers:  # noqa: PTH123
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[write_end],
            env={**os.environ, "FFTASKS_FOLDER": str(source.folder)},
        )  # fmt: skip
        os.close(write_end)
        content = answers.read()
        code = child.wait()
    return _complete(source, content, code, log)


def _complete(source: GraphFile, content: bytes, code: int, log: Path) -> Record:
    answer: dict[str, Any] = json.loads(content) if content else {}
    if "error" in answer:
        attempted, found, tip = answer["error"]
        raise WorkflowError(attempted, found=found, tip=tip)
    if code or not answer:
        tail = read_text(log).splitlines()[-20:]
        raise WorkflowError(
            f"{source.file}: the process that imports it ended with {code}", found=tail
        )
    names = answer.pop("input_names")
    return {
        "stage": "graph",
        "inputs": read_graph_inputs(source, names),
        "output": digest_json([answer["workflows"], answer["nodes"]]),
        "file": source.file,
        **answer,
    }


def read_docstring(path: Path, qualname: str = "", line: int = 0) -> str:
    """Return the docstring of a file, or of a function or class in it.

    Args:
        path: Python file.
        qualname: Qualified name, such as "Counter.add"; "" for the docstring of the file.
        line: Line of the definition, which decides between several of one name.

    Returns:
        Docstring without its indentation; "" if the file cannot be read or has no docstring.
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
