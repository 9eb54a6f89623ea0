"""The guard around the user's code: a graph is being built, or a node's function is being called.

The user's file is imported in many processes: to record the graph, to run a node, in a container. In
all of them `Workflow(...)` must only be noted, and `.run()` must start nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fftasks.workflow.graph import Workflow

_noted: list[Workflow] | None = None
_calling = False


@contextmanager
def building() -> Iterator[list[Workflow]]:
    """Collect the workflows that are made inside, and let their `.run()` start nothing."""
    global _noted
    before, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = before


class calling:  # noqa: N801 - contextmanager would be more to copy for a process that lives a millisecond
    """Let decorated functions called inside be plain functions: a node's function is running."""

    def __enter__(self) -> None:
        global _calling
        self._before, _calling = _calling, True

    def __exit__(self, *_error: object) -> None:
        global _calling
        _calling = self._before


def note_workflow(workflow: Workflow) -> None:
    """Hand a new workflow to whoever is building; nothing happens outside `building()`."""
    if _noted is not None:
        _noted.append(workflow)


def is_building() -> bool:
    """Tell whether a graph is being built, so that `.run()` must start nothing."""
    return _noted is not None


def is_calling() -> bool:
    """Tell whether a node's function is running in this process."""
    return _calling


class NotRun:
    """What `.run()` gives while a graph is being built: usable in any way, and without meaning.

    The lines behind `.run()` in the user's file go on with it; what they do with it has no effect.
    """

    def __repr__(self) -> str:
        return "<not run: the graph is only being built>"

    def __iter__(self) -> Iterator[NotRun]:
        return iter(())

    def __call__(self, *_args: object, **_kwargs: object) -> NotRun:
        return self

    def __getattr__(self, name: str) -> NotRun:
        if name.startswith("__"):  # protocols such as __array__ must not be promised
            raise AttributeError(name)
        return self

    def __getitem__(self, _index: object) -> NotRun:
        return self

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def _same(self, *_other: object) -> NotRun:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = (
        _same
    )
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = __round__ = _same
