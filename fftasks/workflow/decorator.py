"""The decorator that makes a graph of calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from fftasks.errors import WorkflowError
from fftasks.workflow.guard import is_calling
from fftasks.workflow.instance import Instance
from fftasks.workflow.node import Node, find_site

T = TypeVar("T")


@overload  # a class is a callable too: the first that fits counts
def workflow(target: type[T]) -> Callable[..., Instance]: ...  # type: ignore[overload-overlap]
@overload
def workflow(target: Callable[..., Any]) -> Callable[..., Node]: ...
def workflow(target: Callable[..., Any]) -> Callable[..., Node | Instance]:
    """Make calls of a function, or of a class, the nodes of a graph.

    The decorated function keeps its name, docstring and signature; `.func` is the undecorated one.
    A call that does not fit the signature raises WorkflowError at that line. Inside a running
    node's function, decorated functions are plain functions.
    """
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
        return make(target, args, kwargs, find_site())

    call.func = target  # type: ignore[attr-defined]
    return call


task = workflow
