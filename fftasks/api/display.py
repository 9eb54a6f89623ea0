"""Display types: results that the KFP web UI and the report show as metrics, tables, Markdown or HTML.

For downstream nodes they are ordinary values. The outputs of a component are declared before it runs, so
the kinds
that a function may show are inferred from its code:

code                            kinds
@workflow(shows=["html"])       those in the list, and no others
def f() -> Metrics              those that the annotation names, also nested: tuple[Model, Metrics]
def f() -> Image.Image          html, for pictures of Pillow and IPython, likewise
Metrics(...), matplotlib        those that its code names, also in functions of the project that it calls
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, ClassVar

from fftasks.api.node import Node


class DisplayValue:
    """Base class of the display types.

    Attributes:
        kind: A key of KINDS.
    """

    kind: ClassVar[str]


# kind of output -> type of its artifact in KFP
DISPLAY_KINDS = {
    "metrics": "system.Metrics",
    "classification": "system.ClassificationMetrics",
    "markdown": "system.Markdown",
    "html": "system.HTML",
}


class Metrics(dict[str, Any], DisplayValue):
    """A dict of metrics by name, such as `Metrics(accuracy=0.93, loss=0.1)`."""

    kind = "metrics"

    def __repr__(self) -> str:
        return f"Metrics({super().__repr__()})"


class Markdown(str, DisplayValue):
    """A string in Markdown."""

    __slots__ = ()
    kind = "markdown"


class HTML(str, DisplayValue):
    """A string with an HTML page, or a part of one."""

    __slots__ = ()
    kind = "html"


@dataclass(frozen=True)
class ConfusionMatrix(DisplayValue):
    """A confusion matrix: rows are the true classes, columns the predicted classes.

    Attributes:
        labels: Names of the classes.
        rows: Square matrix of counts, one row and one column for each label. A two-dimensional NumPy array is
            accepted as well.

    Raises:
        ValueError: The matrix is empty, or its shape does not match the labels.
    """

    kind: ClassVar[str] = "classification"
    labels: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    def __init__(self, labels: Iterable[Any], rows: Any) -> None:
        names, numbers = tuple(map(str, labels)), tuple(map(_list_numbers, rows))
        if not names or any(len(row) != len(names) for row in (numbers, *numbers)):
            raise ValueError(
                f"{len(names)} labels need as many rows and columns: {[len(r) for r in numbers]}"
            )
        object.__setattr__(self, "labels", names)
        object.__setattr__(self, "rows", numbers)


@dataclass(frozen=True)
class Roc(DisplayValue):
    """An ROC curve, with the columns in the order of scikit-learn: `Roc(*roc_curve(labels, scores))`.

    Attributes:
        false_positive_rate: False positive rates, from 0 to 1.
        true_positive_rate: True positive rates, from 0 to 1.
        thresholds: Thresholds of the scores.

    Raises:
        ValueError: The columns differ in length.
    """

    kind: ClassVar[str] = "classification"
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __init__(
        self,
        false_positive_rate: Iterable[float],
        true_positive_rate: Iterable[float],
        thresholds: Iterable[float],
    ) -> None:
        columns = tuple(map(_list_numbers, (false_positive_rate, true_positive_rate, thresholds)))
        if len(set(map(len, columns))) != 1:
            raise ValueError(f"the columns differ in length: {[len(c) for c in columns]}")
        names = ("false_positive_rate", "true_positive_rate", "thresholds")
        for name, column in zip(names, columns, strict=True):
            object.__setattr__(self, name, column)


def _list_numbers(values: Any) -> tuple[float, ...]:
    # converts NumPy scalars to Python numbers without importing NumPy
    return tuple(value.item() if hasattr(value, "item") else value for value in values)


DISPLAY_CLASSES = {each.__name__: each for each in (Metrics, Markdown, HTML, ConfusionMatrix, Roc)}


_NAMES = {**{name: each.kind for name, each in DISPLAY_CLASSES.items()}, "Figure": "html"}
_FFTASKS, _MATPLOTLIB = "fftasks", "matplotlib"
_PICTURES = frozenset({"PIL", "IPython"})  # packages whose objects are displayed as pictures
# the kinds of a function cannot change unless these words, or other names of its module, change in it
DISPLAY_WORDS = frozenset({*_NAMES, *_PICTURES, _FFTASKS, _MATPLOTLIB})
_MAX_FUNCTIONS = 1000


def list_node_display_kinds(node: Node) -> list[str]:
    """Return the kinds of output that a node may show, in the order of KINDS."""
    if node.options.shows is not None:
        found = frozenset(node.options.shows)
    else:
        found = frozenset() if node.kind == "object" else _find(node.func)
    return [kind for kind in DISPLAY_KINDS if kind in found]


def _find(func: Callable[..., Any]) -> frozenset[str]:
    try:
        return _find_once(func)
    except TypeError:  # it cannot be hashed
        return _find_once.__wrapped__(func)


@functools.lru_cache(maxsize=1024)  # one function has many nodes
def _find_once(func: Callable[..., Any]) -> frozenset[str]:
    return frozenset([*_find_in_annotation(func), *_find_in_code(inspect.unwrap(func))])


def _find_in_annotation(func: Callable[..., Any]) -> Iterator[str]:
    annotation = getattr(func, "__annotations__", {}).get("return", "")
    text = annotation if isinstance(annotation, str) else f"{annotation!r}"
    words = re.findall(r"\w+", text)
    yield from (_NAMES[word] for word in words if word in _NAMES)
    known = getattr(inspect.unwrap(func), "__globals__", {})
    # "Image.Image" in quotes contains no package name, so the global of the module is used
    if not _PICTURES.isdisjoint([*words, *(_name_package(known.get(word)) for word in words)]):
        yield "html"


def _find_in_code(func: Callable[..., Any]) -> Iterator[str]:
    queue: list[Any] = [func]
    seen = {id(func)}
    while queue and len(seen) < _MAX_FUNCTIONS:
        function = queue.pop()
        if not isinstance(function, FunctionType):
            continue
        names = set(_list_names(function.__code__))
        values = [function.__globals__[name] for name in names if name in function.__globals__]
        yield from (kind for value in values if (kind := _name_kind(value)))
        if any(name.partition(".")[0] == _MATPLOTLIB for name in names):
            yield "html"
        if _FFTASKS in names or any(getattr(value, "__name__", "") == _FFTASKS for value in values):
            yield from (_NAMES[name] for name in names & DISPLAY_CLASSES.keys())
        for value in values:
            # only for functions: reading an attribute of a user's object can execute code
            called = getattr(value, "func", value) if isinstance(value, FunctionType) else None
            if id(called) not in seen and _is_user_function(called, function):
                seen.add(id(called))
                queue.append(called)


def _list_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_names(constant)


def _name_kind(value: Any) -> str | None:
    if isinstance(value, type) and issubclass(value, DisplayValue) and value is not DisplayValue:
        return value.kind
    return "html" if _name_package(value) == _MATPLOTLIB else None


def _name_package(value: Any) -> str:
    """Return the package of a class, function or module; "" for other objects."""
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_user_function(called: Any, caller: FunctionType) -> bool:
    """Return whether a called function is code of the user, too: it is not in an installed package."""
    if not isinstance(called, FunctionType):
        return False
    file = called.__code__.co_filename
    return called.__module__ == caller.__module__ or (
        "site-packages" not in file and not file.startswith(inspect.__file__.rpartition("/")[0])
    )
