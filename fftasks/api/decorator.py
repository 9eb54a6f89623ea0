"""The decorator that makes a graph of calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from fftasks.api.node import DecoratorOptions, Instance, Node, find_source_location
from fftasks.api.workflow_graph import is_calling
from fftasks.errors import WorkflowError

T = TypeVar("T")
DISPLAY_KIND_NAMES = (
    "metrics",
    "classification",
    "markdown",
    "html",
)  # the kinds of page.py, which few programs need


@overload  # a class is a callable too: the first that fits counts
def workflow(target: type[T], /) -> Callable[..., Instance]: ...  # type: ignore[overload-overlap]
@overload
def workflow(target: Callable[..., Any], /) -> Callable[..., Node]: ...
@overload
def workflow(
    *,
    reads: Sequence[str] | None = None,
    version: str | None = None,
    shows: Sequence[str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def workflow(
    target: Callable[..., Any] | None = None,
    /,
    *,
    reads: Sequence[str] | None = None,
    version: str | None = None,
    shows: Sequence[str] | None = None,
) -> Callable[..., Any]:
    """Turn calls of a function or class into nodes of a graph.

    The decorated function keeps its name, docstring and signature; its attribute `func` is the undecorated
    function. While the function of a node runs, decorated functions are called like plain functions.

    Args:
        target: The function or class. It is omitted in `@workflow(reads=[...])`.
        reads: Data files that the function reads, relative to the project's folder; patterns such as
            "data/*.csv" are allowed. By default, every data file of the project counts as read; [] means
            none.
        version: String that replaces the digests of the code, of the files that it reads and of Python in the
            fingerprint: nodes run again when the version changes, and only then.
        shows: Kinds of output that the KFP web UI displays: any of "metrics", "classification", "markdown",
            "html". By default, they are inferred from the return annotation and the code; [] means none.

    Returns:
        A callable that creates a node (for a class, an object of the graph) each time it is called.

    Raises:
        WorkflowError: An argument is invalid. A call that does not match the signature of the function raises
            it as well, with the line of the call.
    """
    options = _check_options(reads, version, shows)
    if target is None:
        return lambda target: _decorate(target, options)
    return _decorate(target, options)


def _decorate(target: Callable[..., Any], options: DecoratorOptions) -> Callable[..., Any]:
    if not callable(target):
        raise WorkflowError(
            f"{find_source_location()}: @workflow needs a function or a class, not {target!r}"
        )
    if inspect.iscoroutinefunction(target):
        raise WorkflowError(
            f"{find_source_location()}: {target.__qualname__} is async; a node must be a plain function",
            tip="decorate a function that calls asyncio.run(...)",
        )
    make: Callable[..., Node | Instance] = Instance if inspect.isclass(target) else Node

    # updated=() keeps the __dict__ of a class out of the wrapper
    @functools.wraps(target, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_calling():
            return target(*args, **kwargs)
        return make(target, args, kwargs, find_source_location(), options)

    call.func = target  # type: ignore[attr-defined]
    return call


def _check_options(
    reads: Sequence[str] | None, version: str | None, shows: Sequence[str] | None
) -> DecoratorOptions:
    if isinstance(reads, str) or not all(isinstance(path, str) for path in reads or ()):
        raise WorkflowError(
            f"{find_source_location()}: reads must be a list of paths, not {reads!r}",
            tip='reads=["data/x.csv"]',
        )
    if version is not None and not isinstance(version, str):
        raise WorkflowError(f"{find_source_location()}: version must be a string, not {version!r}")
    unknown = [
        each for each in shows or () if isinstance(shows, str) or each not in DISPLAY_KIND_NAMES
    ]
    if unknown:
        kinds = ", ".join(map(repr, DISPLAY_KIND_NAMES))
        raise WorkflowError(
            f"{find_source_location()}: shows must be a list of {kinds}, not {shows!r}",
            tip='shows=["metrics"]',
        )
    return DecoratorOptions(
        None if reads is None else tuple(reads), version, None if shows is None else tuple(shows)
    )


task = workflow
