"""The decorator that makes a graph of calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from fftasks.api.node import Instance, Node, Options, find_site
from fftasks.api.workflow_graph import is_calling
from fftasks.errors import WorkflowError

T = TypeVar("T")
SHOWN = (
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
    """Make calls of a function, or of a class, the nodes of a graph.

    reads: the data files that the function reads, relative to the project's folder, also patterns such as
        "data/*.csv"; without it every data file of the project counts, and [] says that it reads none
    version: a text that stands for the code, what it reads, and Python; nodes run again when it changes,
        and not when these do
    shows: what of the results Kubeflow Pipelines' page shows: any of "metrics", "classification",
        "markdown", "html"; without it, what its return annotation and its code name; [] says nothing

    The decorated function keeps its name, docstring and signature; `.func` is the undecorated one.
    A call that does not fit the signature raises WorkflowError at that line. Inside a running
    node's function, decorated functions are plain functions.
    """
    options = _check_options(reads, version, shows)
    if target is None:
        return lambda target: _decorate(target, options)
    return _decorate(target, options)


def _decorate(target: Callable[..., Any], options: Options) -> Callable[..., Any]:
    if not callable(target):
        raise WorkflowError(f"{find_site()}: @workflow is for functions and classes: {target!r}")
    if inspect.iscoroutinefunction(target):
        raise WorkflowError(
            f"{find_site()}: {target.__qualname__} is async, and a node is a plain function",
            tip="decorate a function that calls asyncio.run(...)",
        )
    make: Callable[..., Node | Instance] = Instance if inspect.isclass(target) else Node

    # updated=(): a class's __dict__ must not land in the wrapper's
    @functools.wraps(target, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        if is_calling():
            return target(*args, **kwargs)
        return make(target, args, kwargs, find_site(), options)

    call.func = target  # type: ignore[attr-defined]
    return call


def _check_options(
    reads: Sequence[str] | None, version: str | None, shows: Sequence[str] | None
) -> Options:
    if isinstance(reads, str) or not all(isinstance(path, str) for path in reads or ()):
        raise WorkflowError(
            f"{find_site()}: reads must be a list of paths, not {reads!r}",
            tip='reads=["data/x.csv"]',
        )
    if version is not None and not isinstance(version, str):
        raise WorkflowError(f"{find_site()}: version must be a text, not {version!r}")
    unknown = [each for each in shows or () if isinstance(shows, str) or each not in SHOWN]
    if unknown:
        raise WorkflowError(
            f"{find_site()}: shows must be a list of {', '.join(map(repr, SHOWN))}, not {shows!r}",
            tip='shows=["metrics"]',
        )
    return Options(
        None if reads is None else tuple(reads), version, None if shows is None else tuple(shows)
    )


task = workflow
