"""Nodes: one call each of a user's function, with arguments that may be other nodes."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fftasks.errors import WorkflowError

if TYPE_CHECKING:
    from fftasks.workflow.plugin import Plugin

_serial = itertools.count()
_calls: dict[str, itertools.count[int]] = {}
_CONTAINERS = (list, tuple, set, frozenset)
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})  # nothing can be in these
_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"


class Site(NamedTuple):
    """A line in a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


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


def find_site() -> Site:
    """Return the line of the user's code that is calling into this package."""
    frame = sys._getframe(1)  # inspect.stack() reads every source file on the way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return Site(frame.f_code.co_filename, frame.f_lineno)


class Pending:
    """What stands in a call for a value that is not there while the graph is built."""


class Result(Pending):
    """A value that will be there when the graph has run: a node, or an item of one.

    node: the node that makes the value
    path: the indices that lead from the node's result to the value
    """

    node: Node
    path: tuple[Any, ...]

    def __getitem__(self, index: Any) -> Item:
        if isinstance(index, Result):
            raise WorkflowError(
                f"{find_site()}: {index!r} cannot be the index of {self!r}: it has no value yet",
                tip="pass both to a @workflow function that takes the item",
            )
        return Item(self.node, (*self.path, index))

    def __iter__(self) -> NoReturn:
        raise WorkflowError(
            f"{find_site()}: {self!r} cannot be iterated or unpacked: it has no value yet",
            tip=f"write a, b = {self!r}[0], {self!r}[1], or loop inside a @workflow function",
        )

    def __bool__(self) -> NoReturn:
        raise WorkflowError(
            f"{find_site()}: {self!r} is neither true nor false: it has no value yet",
            tip="decide inside a @workflow function, or compare with `is None`",
        )

    def __reduce__(self) -> NoReturn:
        # reached when a constant is stored: a node sits where replace_results does not look
        raise WorkflowError(
            f"{self!r} ({self.node.site}) is hidden inside an object that is passed to a node",
            tip="pass it directly, or in a list, tuple, dict or set",
        )


class Unpassable:
    """A thing of the graph that is no value and cannot be an argument.

    No ABC: whether something is one is asked for each argument, also in a process that lives a millisecond.
    """

    def refuse(self) -> NoReturn:
        """Raise WorkflowError with what to do instead."""
        raise NotImplementedError


class Item(Result):
    """One item of a node's result: `node[0]`, `node["k"][1:3]`."""

    def __init__(self, node: Node, path: tuple[Any, ...]) -> None:
        self.node = node
        self.path = path

    def __repr__(self) -> str:
        return f"{self.node!r}{format_path(self.path)}"

    def get_name(self) -> str:
        """Return the name of the node whose item this is."""
        return self.node.name


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
            self.args = tuple(_copy_containers(value) for value in args)
            self.kwargs = {key: _copy_containers(value) for key, value in kwargs.items()}
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
        return dict(zip(self._argument_names(), [*self.args, *self.kwargs.values()], strict=True))

    def replace_arguments(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs with the values put in place, by the names of `arguments`."""
        names = iter(self._argument_names())
        args = tuple(values.get(next(names), value) for value in self.args)
        kwargs = {key: values.get(next(names), value) for key, value in self.kwargs.items()}
        return args, kwargs

    def _find_parents(self) -> list[Node]:
        found = [result.node for result in find_results((self.args, self.kwargs))]
        return list(dict.fromkeys([*found, self.after] if self.after is not None else found))

    def _argument_names(self) -> Iterator[str]:
        taken: set[str] = set()
        for name in [*_name_positions(self.callee, len(self.args)), *self.kwargs]:
            # **kwargs may hold any string; a name must serve as a KFP input
            plain = name if name.isidentifier() else "argument"
            unique = next(n for n in _number(plain) if n not in taken)
            taken.add(unique)
            yield unique


def _number(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{i}" for i in itertools.count(2))


def _name_positions(func: Callable[..., Any], count: int) -> Iterator[str]:
    signature = read_signature(func)
    parameters = list(signature.parameters.values()) if signature else []
    for position in range(count):
        if position < len(parameters) and parameters[position].kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            yield parameters[position].name
            continue
        rest = [(i, p) for i, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL]
        start, name = (rest[0][0], rest[0][1].name) if rest else (0, "arg")
        yield f"{name}_{position - start}"


def _next_name(qualname: str) -> str:
    # counted by name, not by function: two functions of one name would give two nodes of one name
    return f"{qualname}_{next(_calls.setdefault(qualname, itertools.count())):04d}"


def check_name(name: object) -> str:
    """Return name; raise WorkflowError if it is no string or empty."""
    if isinstance(name, str) and name:
        return name
    raise WorkflowError(f"{find_site()}: a name must be a string with something in it: {name!r}")


def read_signature(func: Callable[..., Any]) -> inspect.Signature | None:
    """Return a callable's signature, or None for the few of C that have none."""
    try:
        return _read_signature(func)
    except TypeError:  # it cannot be hashed
        return _read_signature.__wrapped__(func)


@functools.lru_cache(maxsize=1024)  # one function has many nodes
def _read_signature(func: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except ValueError:
        return None


def check_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: Site
) -> None:
    """Raise WorkflowError if func cannot be called with these arguments."""
    signature = read_signature(func)
    if signature is None:
        return
    name = getattr(func, "__qualname__", repr(func))
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise WorkflowError(
            f"{site}: wrong call of {name}(): {error}", tip=f"it is {name}{signature}"
        ) from None


def format_path(path: tuple[Any, ...]) -> str:
    """Return indices as Python writes them: "[0]['k'][1:3]"."""
    return "".join(f"[{_format_index(index)}]" for index in path)


def _format_index(index: Any) -> str:
    if isinstance(index, slice):
        parts = [index.start, index.stop, *([index.step] if index.step is not None else [])]
        return ":".join("" if part is None else repr(part) for part in parts)
    return repr(index)


def find_results(value: Any) -> list[Result]:
    """Return the nodes and items in value, also inside lists, tuples, dicts and sets.

    In order of appearance; those of a set in the order in which they were made, since the order of a
    set differs from process to process and inputs are numbered by this order.
    """
    found: list[Pending] = []
    replace_pending(value, found.append)
    return [each for each in found if isinstance(each, Result)]


def replace_results(value: Any, replace: Callable[[Result], Any]) -> Any:
    """Return value with every node and item in it replaced; what holds none is kept as it is."""
    return replace_pending(value, lambda p: replace(p) if isinstance(p, Result) else p)


def replace_pending(value: Any, replace: Callable[[Pending], Any]) -> Any:  # noqa: PLR0911 - a table
    """Return value with all that is pending in it replaced; what holds none is kept as it is."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Pending):
        return replace(value)
    if isinstance(value, Unpassable):
        value.refuse()
    if kind is list or kind is tuple:
        return _rebuild(value, [replace_pending(item, replace) for item in value], kind)
    if isinstance(value, tuple) and hasattr(kind, "_make"):  # a namedtuple
        return _rebuild(value, [replace_pending(item, replace) for item in value], kind._make)
    if kind is set or kind is frozenset:
        ordered = sorted(value, key=_order_in_set)
        return _rebuild(ordered, [replace_pending(item, replace) for item in ordered], kind, value)
    if kind is dict:
        flat = [part for item in value.items() for part in item]
        new = [replace_pending(part, replace) for part in flat]
        return _rebuild(flat, new, lambda n: dict(zip(n[::2], n[1::2], strict=True)), value)
    return value


def _copy_containers(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {_copy_containers(key): _copy_containers(item) for key, item in value.items()}
    return kind(map(_copy_containers, value)) if kind in _CONTAINERS else value


def _rebuild(old: Any, new: list[Any], make: Callable[[list[Any]], Any], same: Any = None) -> Any:
    if all(before is after for before, after in zip(old, new, strict=True)):
        return old if same is None else same
    return make(new)


def _order_in_set(item: Any) -> tuple[int, str]:
    return (item.node.serial, format_path(item.path)) if isinstance(item, Result) else (-1, "")
