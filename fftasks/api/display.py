"""What functions return to have it shown in a page: on Kubeflow Pipelines natively, here as files.

They are ordinary values for the nodes downstream.

Which kinds of pages a function may show: found out before it runs, since a component declares its outputs.

@workflow(shows=["html"])           what it says, and nothing else
def f() -> Metrics                  what the annotation names, also inside others: tuple[Model, Metrics]
f() -> Image.Image              a picture of Pillow or IPython, in the same way
Metrics(...), matplotlib            what its code names, also in functions of the project that it calls
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


class Page:
    """A value that is shown; kind: one of KINDS."""

    kind: ClassVar[str]


# what a node may show -> the type of artifact that Kubeflow Pipelines shows it as
KINDS = {
    "metrics": "system.Metrics",
    "classification": "system.ClassificationMetrics",
    "markdown": "system.Markdown",
    "html": "system.HTML",
}


class Metrics(dict[str, Any], Page):
    """Numbers with names: `Metrics(accuracy=0.93, loss=0.1)`; a dict."""

    kind = "metrics"

    def __repr__(self) -> str:
        return f"Metrics({super().__repr__()})"


class Markdown(str, Page):
    """A text in Markdown; a str."""

    __slots__ = ()
    kind = "markdown"


class HTML(str, Page):
    """A page or a piece of one in HTML; a str."""

    __slots__ = ()
    kind = "html"


@dataclass(frozen=True)
class ConfusionMatrix(Page):
    """How often what (the row) was taken for what (the column).

    labels: names of the rows, and of the columns; rows: numbers, also as a two-dimensional array
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
class Roc(Page):
    """An ROC curve, in the order of scikit-learn: `Roc(*roc_curve(labels, scores))`."""

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
    # of numpy's numbers plain ones, without numpy
    return tuple(value.item() if hasattr(value, "item") else value for value in values)


CLASSES = {each.__name__: each for each in (Metrics, Markdown, HTML, ConfusionMatrix, Roc)}


_NAMES = {**{name: each.kind for name, each in CLASSES.items()}, "Figure": "html"}
_TOOL, _DRAWING = "fftasks", "matplotlib"
_PICTURES = frozenset({"PIL", "IPython"})  # packages whose objects are displayed as pictures
# a function of the project that does not have these words, nor other names of its module, shows the same
WORDS = frozenset({*_NAMES, *_PICTURES, _TOOL, _DRAWING})
_MAX_FUNCTIONS = 1000


def list_shows(node: Node) -> list[str]:
    """Return the kinds of pages that a node may show, in the order of KINDS."""
    if node.options.shows is not None:
        found = frozenset(node.options.shows)
    else:
        found = frozenset() if node.kind == "object" else _find(node.func)
    return [kind for kind in KINDS if kind in found]


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
        if any(name.partition(".")[0] == _DRAWING for name in names):
            yield "html"
        if _TOOL in names or any(getattr(value, "__name__", "") == _TOOL for value in values):
            yield from (_NAMES[name] for name in names & CLASSES.keys())
        for value in values:
            # not of anything else: a user's object may do something when it is asked for a func
            called = getattr(value, "func", value) if isinstance(value, FunctionType) else None
            if id(called) not in seen and _is_alike(called, function):
                seen.add(id(called))
                queue.append(called)


def _list_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_names(constant)


def _name_kind(value: Any) -> str | None:
    if isinstance(value, type) and issubclass(value, Page) and value is not Page:
        return value.kind
    return "html" if _name_package(value) == _DRAWING else None


def _name_package(value: Any) -> str:
    """Return the package of a class, function or module; "" for other objects."""
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_alike(called: Any, caller: FunctionType) -> bool:
    """Tell whether a function is the user's as well: it does not stand where packages are installed."""
    if not isinstance(called, FunctionType):
        return False
    file = called.__code__.co_filename
    return called.__module__ == caller.__module__ or (
        "site-packages" not in file and not file.startswith(inspect.__file__.rpartition("/")[0])
    )
