"""Values that are not there while the graph is built: results of nodes, and where they stand in arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fftasks.errors import WorkflowError
from fftasks.workflow.site import find_site

if TYPE_CHECKING:
    from fftasks.workflow.node import Node

_CONTAINERS = (list, tuple, set, frozenset)
_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})  # nothing can be in these
_BINARY = "add sub mul truediv floordiv mod pow matmul divmod and or xor lshift rshift".split()
# what Python calls when a value is calculated with or compared -> how this is said
CALCULATIONS = {
    **{f"__{side}{op}__": "cannot be calculated with" for op in _BINARY for side in ("", "r")},
    **{f"__{op}__": "cannot be calculated with" for op in ("neg", "pos", "abs", "invert", "round")},
    **{f"__{op}__": "cannot be compared" for op in ("lt", "le", "gt", "ge")},
}


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


def refuse_uses(
    kind: type[Pending], uses: Mapping[str, str], refuse: Callable[[Any, str], NoReturn]
) -> None:
    """Let values of a class refuse what Python calls for them; uses: method -> how this is said."""

    def make(use: str) -> Callable[..., NoReturn]:
        return lambda value, *_: refuse(value, use)

    for name, use in uses.items():
        setattr(kind, name, make(use))


def _refuse(result: Result, use: str) -> NoReturn:
    raise WorkflowError(
        f"{find_site()}: {result!r} {use}: it has no value yet",
        tip="do it inside a @workflow function",
    )


refuse_uses(Result, CALCULATIONS, _refuse)


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


def copy_containers(value: Any) -> Any:
    """Return value with all lists, tuples, sets and dicts in it copied; what else is in them stays the same.

    Raises RecursionError for what contains itself.
    """
    kind = type(value)
    if kind is dict:
        return {copy_containers(key): copy_containers(item) for key, item in value.items()}
    return kind(map(copy_containers, value)) if kind in _CONTAINERS else value


def _rebuild(old: Any, new: list[Any], make: Callable[[list[Any]], Any], same: Any = None) -> Any:
    if all(before is after for before, after in zip(old, new, strict=True)):
        return old if same is None else same
    return make(new)


def _order_in_set(item: Any) -> tuple[int, str]:
    return (item.node.serial, format_path(item.path)) if isinstance(item, Result) else (-1, "")
