"""Nodes: one call each of a user's function, with arguments that may be other nodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fftasks.errors import WorkflowError
from fftasks.workflow.arguments import check_call, find_parameter, name_arguments
from fftasks.workflow.pending import Result, copy_containers, find_results
from fftasks.workflow.site import Site, find_site

if TYPE_CHECKING:
    import inspect

    from fftasks.workflow.plugin import Plugin

_serial = itertools.count()
_calls: dict[str, itertools.count[int]] = {}


class Options(NamedTuple):
    """What `@workflow(...)` was given; see there."""

    reads: tuple[str, ...] | None = None
    version: str | None = None
    shows: tuple[str, ...] | None = None


class Setting(NamedTuple):
    """What `query(pattern).set(...)` was given; see workflow/query.py."""

    pattern: str
    values: dict[str, Any]
    site: Site


class Node(Result):
    """One call of a function.

    name: unique in a workflow; any string
    func: the function that the user wrote
    args, kwargs: as the user passed them; other nodes may be anywhere in lists, tuples, dicts, sets
    site: where the call stands; options: what the decorator was given
    parents: the nodes whose results this one needs, each once
    after: for calls of one object, the call before this one
    settings, plugin: what query(...) has set for it
    """

    kind = "function"
    after: Node | None = None
    plugin: Plugin | None = None

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: Site,
        options: Options = Options(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self.node = self
        self.path = ()
        self.func = func
        check_call(self.callee, args, kwargs, site)
        try:
            # copied lists and dicts: what the user appends to them later is not part of this call
            self.args = tuple(copy_containers(value) for value in args)
            self.kwargs = {key: copy_containers(value) for key, value in kwargs.items()}
        except RecursionError:
            raise WorkflowError(
                f"{site}: an argument contains itself, or nests too deeply"
            ) from None
        self.site = site
        self.options = options
        self.serial = next(_serial)
        self.children: list[Node] = []
        self.settings: list[Setting] = []
        self.name = _next_name(self.qualname)
        self.parents = self._find_parents()
        for parent in self.parents:
            parent.children.append(self)

    def __repr__(self) -> str:
        return self.name

    def set_name(self, name: str) -> Node:
        """Give the node a name of one's own, and return the node."""
        self.name = check_name(name)
        return self

    def get_name(self) -> str:
        """Return the node's name."""
        return self.name

    @property
    def callee(self) -> Callable[..., Any]:
        """What takes the arguments."""
        return self.func

    @property
    def qualname(self) -> str:
        """The function's name within its module."""
        return getattr(self.func, "__qualname__", type(self.func).__name__)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the function's parameter names; those of `*args` are args_0, args_1, …"""
        return dict(zip(self._name_arguments(), [*self.args, *self.kwargs.values()], strict=True))

    def replace_arguments(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs with the values put in place, by the names of `arguments`."""
        names = iter(self._name_arguments())
        args = tuple(values.get(next(names), value) for value in self.args)
        kwargs = {key: values.get(next(names), value) for key, value in self.kwargs.items()}
        return args, kwargs

    def find_parameter(self, argument: str) -> inspect.Parameter | None:
        """Return the parameter of the function that takes an argument, by the names of `arguments`."""
        return find_parameter(self.callee, len(self.args), self.kwargs, argument)

    def _find_parents(self) -> list[Node]:
        found = [result.node for result in find_results((self.args, self.kwargs))]
        return list(dict.fromkeys([*found, self.after] if self.after is not None else found))

    def _name_arguments(self) -> Iterator[str]:
        return name_arguments(self.callee, len(self.args), self.kwargs)


def _next_name(qualname: str) -> str:
    # counted by name, not by function: two functions of one name would give two nodes of one name
    return f"{qualname}_{next(_calls.setdefault(qualname, itertools.count())):04d}"


def check_name(name: object) -> str:
    """Return name; raise WorkflowError if it is no string or empty."""
    if isinstance(name, str) and name:
        return name
    raise WorkflowError(f"{find_site()}: a name must be a string with something in it: {name!r}")
