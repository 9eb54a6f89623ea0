"""Read foreign inputs: files or folders that a component outside fftasks wrote.

An artifact of fftasks is recognized by its first bytes. For any other input, the annotation of the argument
decides which value the function gets. Foreign data are never unpickled:

annotation                        what the function gets
pathlib.Path, os.PathLike         the path of the file or folder
str                               the file's text, which must be UTF-8
bytes                             the file's content
bool, int, float, list, dict      the JSON value in the file, of this type; an int does for float
none, Any, object                 JSON if the file is JSON, else text if it is UTF-8, else its path
several, such as str | None       the first of them that the file can be converted to
any other                         an error: the function must take a Path and read it itself
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import os
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, Result, name_inputs
from fftasks.errors import NodeError
from fftasks.runner.artifact import ARTIFACT_MAGIC, PACK_MAGIC

_ANNOTATION_HINT = (
    "annotate it as pathlib.Path, str, bytes, or a type of JSON: bool, int, float, list, dict"
)
_JSON: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    list: (list,),
    dict: (dict,),
    collections.abc.Sequence: (list,),
    collections.abc.MutableSequence: (list,),
    collections.abc.Mapping: (dict,),
    collections.abc.MutableMapping: (dict,),
}
_NO_ANNOTATION = inspect.Parameter.empty  # no annotation
_MAX_SHOWN = 60


class _NoValueError(Exception):
    """A file cannot be converted to a type; the message says what was found instead."""


def is_foreign(path: str) -> bool:
    """Return whether a path is a folder, or a file other than an artifact; False if it does not exist."""
    if os.path.isdir(path):  # noqa: PTH112 - a string
        return True
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a string
            return file.read(len(ARTIFACT_MAGIC)) not in (ARTIFACT_MAGIC, PACK_MAGIC)
    except FileNotFoundError:
        return False


def read_foreign(node: Node, name: str, path: str) -> Any:
    """Return the value that a node's function gets for a foreign input.

    Args:
        node: Node that has the input.
        name: Name of the input, as name_inputs returns it.
        path: Path at which KFP's launcher has put the file or folder.

    Returns:
        The path, or the value in the file; see the table above.

    Raises:
        NodeError: The file cannot be converted to the annotated type.
    """
    if node.after is not None and name == "self":
        raise NodeError(
            f"{node.name}: the object of the method {node.qualname}() must come from a component of fftasks",
            found=[f"at {path}: {_describe(Path(path))}"],
            tip="connect this input with the component that creates the object, or with the call before",
        )
    annotation = _find_annotation(node, name)
    problems: list[str] = []
    for kind in _list_types(annotation):
        try:
            return _read_as(kind, Path(path))
        except _NoValueError as error:  # noqa: PERF203 - the next type may fit
            problems.append(str(error))
    raise NodeError(
        f"{node.name}: cannot convert the file of input {name!r} to the type that the function takes",
        found=[
            f"the argument is annotated as {_format_type(annotation)}",
            *dict.fromkeys(problems),
            f"at {path}: {_describe(Path(path))}",
        ],
        tip=f"{_ANNOTATION_HINT}; without an annotation, it gets JSON, text or a path, whichever fits first",
    )


def _find_annotation(node: Node, name: str) -> Any:
    """Return the annotation of the first argument that is the whole input; _NONE if there is none."""
    needed = name_inputs(node)[name]
    for argument, value in node.arguments.items():
        if isinstance(value, Result) and value.node is needed.node and not value.path:
            parameter = node.find_parameter(argument)
            return _NO_ANNOTATION if parameter is None else _evaluate(node.callee, parameter)
    return _NO_ANNOTATION


def _evaluate(func: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return an annotation as an object; a string with undefined names remains a string."""
    found = parameter.annotation
    owner = inspect.unwrap(func)
    module = sys.modules.get(getattr(owner, "__module__", ""))
    for _ in range(2):  # with the future import, a quoted annotation is a string in a string
        if not isinstance(found, str):
            break
        try:
            found = eval(found, dict(vars(module)))  # noqa: S307 - the user's own annotation
        except Exception:  # noqa: BLE001 - what it names may be imported for type checkers only
            break
    return found


def _list_types(annotation: Any) -> Iterator[Any]:
    """Yield the types of an annotation, both of `str | int`, without the parameters of generic types."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _list_types(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for one in typing.get_args(annotation):
            if one is not type(None):
                yield from _list_types(one)
    else:
        yield annotation if origin is None else origin


def _read_as(kind: Any, path: Path) -> Any:
    if kind in (_NO_ANNOTATION, Any, object):
        return _read_without_annotation(path)
    if kind is os.PathLike:
        return path
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return kind(path)
    if kind is bytes:
        return _read_bytes(path)
    if kind is str:
        return _read_text(path)
    if kind not in _JSON:
        raise _NoValueError(
            f"fftasks cannot create a {_format_type(kind)} from a file: take a Path"
        )
    value = _read_json(path)
    if type(value) not in _JSON[kind]:
        found = f"the file has a JSON value of type {type(value).__name__}"
        raise _NoValueError(f"{found}, expected {_format_type(kind)}")
    return float(value) if kind is float else value


def _read_without_annotation(path: Path) -> Any:
    try:
        return _read_json(path)
    except _NoValueError:
        pass
    try:
        return _read_text(path)
    except _NoValueError:
        return path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _NoValueError(f"invalid JSON: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise _NoValueError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise _NoValueError("it is a folder")
    return path.read_bytes()


def _describe(path: Path) -> str:
    """Describe a path for a message: number of entries of a folder, or size and first bytes of a file."""
    if path.is_dir():
        return f"a folder with {len(list(path.iterdir()))} entries"
    with path.open("rb") as file:
        start = file.read(_MAX_SHOWN)
    size = path.stat().st_size
    return f"a file of {size} bytes" + (f" that begins with {start!r}" if start else "")


def _format_type(kind: Any) -> str:
    if kind is _NO_ANNOTATION:
        return "nothing"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
