"""Nodes of a graph: calls of the user's functions and methods, their arguments and their results.

A result has no value while the graph is built. It can be passed to other nodes, also inside lists, tuples,
dicts
and sets; every other use raises WorkflowError with the line of the user's code.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from fftasks.errors import WorkflowError, find_near

if TYPE_CHECKING:
    import inspect

    from fftasks.api.plugin import Plugin

_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"


class SourceLocation(NamedTuple):
    """A line in a file of the user.

    Attributes:
        file: Path of the file.
        line: Number of the line, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def find_source_location() -> SourceLocation:
    """Return the line of the user's code that called this package."""
    frame = sys._getframe(1)  # inspect.stack() reads every source file on the way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return SourceLocation(frame.f_code.co_filename, frame.f_lineno)


_CONTAINERS = (list, tuple, set, frozenset)
_ATOMIC_TYPES = frozenset(
    {int, float, bool, str, bytes, type(None)}
)  # they cannot contain other values
_BINARY = "add sub mul truediv floordiv mod pow matmul divmod and or xor lshift rshift".split()
# special method of an operation -> the end of the error message
FORBIDDEN_OPERATORS = {
    **{f"__{side}{op}__": "cannot be calculated with" for op in _BINARY for side in ("", "r")},
    **{f"__{op}__": "cannot be calculated with" for op in ("neg", "pos", "abs", "invert", "round")},
    **{f"__{op}__": "cannot be compared" for op in ("lt", "le", "gt", "ge")},
}


class UnresolvedValue:
    """A placeholder in the arguments of a node for a value that does not exist while the graph is built."""


class Result(UnresolvedValue):
    """The result of a node, or an item of it, which exists when the graph has run.

    Attributes:
        node: The node.
        path: Indices that lead from the result of the node to the item; empty for the whole result.
    """

    node: Node
    path: tuple[Any, ...]

    def __getitem__(self, index: Any) -> Item:
        if isinstance(index, Result):
            raise WorkflowError(
                f"{find_source_location()}: {index!r} cannot be the index of {self!r}: it has no value yet",
                tip="pass both to a @workflow function that takes the item",
            )
        return Item(self.node, (*self.path, index))

    def __iter__(self) -> NoReturn:
        raise WorkflowError(
            f"{find_source_location()}: {self!r} cannot be iterated or unpacked: it has no value yet",
            tip=f"write a, b = {self!r}[0], {self!r}[1], or loop inside a @workflow function",
        )

    def __bool__(self) -> NoReturn:
        raise WorkflowError(
            f"{find_source_location()}: {self!r} is neither true nor false: it has no value yet",
            tip="decide inside a @workflow function, or compare with `is None`",
        )

    def __reduce__(self) -> NoReturn:
        # reached when a constant is stored: the node is in an object that replace_results does not search
        raise WorkflowError(
            f"{self!r} ({self.node.site}) is hidden inside an object that is passed to a node",
            tip="pass it directly, or in a list, tuple, dict or set",
        )


def forbid_operators(
    kind: type[UnresolvedValue], uses: Mapping[str, str], refuse: Callable[[Any, str], NoReturn]
) -> None:
    """Let a class raise an error for operations on its values.

    Args:
        kind: The class.
        uses: Special method -> description for the message, such as "cannot be compared".
        refuse: Function that raises the error, given the value and the description.
    """

    def make(use: str) -> Callable[..., NoReturn]:
        return lambda value, *_: refuse(value, use)

    for name, use in uses.items():
        setattr(kind, name, make(use))


def _raise_unresolved(result: Result, use: str) -> NoReturn:
    raise WorkflowError(
        f"{find_source_location()}: {result!r} {use}: it has no value yet",
        tip="do it inside a @workflow function",
    )


forbid_operators(Result, FORBIDDEN_OPERATORS, _raise_unresolved)


class InvalidArgument:
    """An object of the graph that cannot be passed to a node.

    It is not an abstract base class, because isinstance() of a plain class is faster, and every argument
    is checked.
    """

    def refuse(self) -> NoReturn:
        """Raise WorkflowError with a suggested fix."""
        raise NotImplementedError


class Item(Result):
    """One item of a node's result: `node[0]`, `node["k"][1:3]`."""

    def __init__(self, node: Node, path: tuple[Any, ...]) -> None:
        self.node = node
        self.path = path

    def __repr__(self) -> str:
        return f"{self.node!r}{format_path(self.path)}"

    def get_name(self) -> str:
        """Return the name of the node that the item belongs to."""
        return self.node.name


def format_path(path: tuple[Any, ...]) -> str:
    """Return indices in Python syntax, such as "[0]['k'][1:3]"."""
    return "".join(f"[{_format_index(index)}]" for index in path)


def _format_index(index: Any) -> str:
    if isinstance(index, slice):
        parts = [index.start, index.stop, *([index.step] if index.step is not None else [])]
        return ":".join("" if part is None else repr(part) for part in parts)
    return repr(index)


def find_results(value: Any) -> list[Result]:
    """Return the nodes and items in a value, also inside lists, tuples, dicts and sets.

    Returns:
        The results in their order in the value. Those of a set are in the order in which they were created,
        because the order of a set differs between processes, and inputs are numbered by this order.
    """
    found: list[UnresolvedValue] = []
    replace_unresolved(value, found.append)
    return [each for each in found if isinstance(each, Result)]


def replace_results(value: Any, replace: Callable[[Result], Any]) -> Any:
    """Return a value with each node and item in it replaced; containers without any are not copied.

    Args:
        value: The value.
        replace: Returns the replacement of a node or item.
    """
    return replace_unresolved(value, lambda p: replace(p) if isinstance(p, Result) else p)


def replace_unresolved(value: Any, replace: Callable[[UnresolvedValue], Any]) -> Any:  # noqa: PLR0911 - a table
    """Return a value with each placeholder in it replaced; containers without any are not copied.

    Args:
        value: The value.
        replace: Returns the replacement of a placeholder: a node, an item or a run parameter.
    """
    kind = type(value)
    if kind in _ATOMIC_TYPES:
        return value
    if isinstance(value, UnresolvedValue):
        return replace(value)
    if isinstance(value, InvalidArgument):
        value.refuse()
    if kind is list or kind is tuple:
        return _rebuild(value, [replace_unresolved(item, replace) for item in value], kind)
    if isinstance(value, tuple) and hasattr(kind, "_make"):  # a namedtuple
        return _rebuild(value, [replace_unresolved(item, replace) for item in value], kind._make)
    if kind is set or kind is frozenset:
        ordered = sorted(value, key=_order_in_set)
        return _rebuild(
            ordered, [replace_unresolved(item, replace) for item in ordered], kind, value
        )
    if kind is dict:
        flat = [part for item in value.items() for part in item]
        new = [replace_unresolved(part, replace) for part in flat]
        return _rebuild(flat, new, lambda n: dict(zip(n[::2], n[1::2], strict=True)), value)
    return value


def copy_containers(value: Any) -> Any:
    """Return a value with all lists, tuples, sets and dicts in it copied; other objects are not copied.

    Raises:
        RecursionError: A container contains itself.
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


def check_call(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], site: SourceLocation
) -> None:
    """Check that the arguments of a call match the signature of the function.

    Args:
        func: The function.
        args: Positional arguments.
        kwargs: Keyword arguments.
        site: Line of the call, for the message.

    Raises:
        WorkflowError: They do not match.
    """
    signature = _read_signature(func)
    if signature is None:
        return
    name = getattr(func, "__qualname__", repr(func))
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise WorkflowError(
            f"{site}: invalid call of {name}(): {error}", tip=f"the signature is {name}{signature}"
        ) from None


def name_arguments(func: Callable[..., Any], count: int, keywords: Iterable[str]) -> Iterator[str]:
    """Yield a unique identifier for each argument of a call.

    Args:
        func: The function.
        count: Number of positional arguments. They are named after the parameters of the function; the
            arguments
            of `*args` are named args_0, args_1, ...
        keywords: Names of the keyword arguments, in order.
    """
    taken: set[str] = set()
    for name in [*_name_positions(func, count), *keywords]:
        # **kwargs can contain any string, but the name of an input in KFP must be an identifier
        plain = name if name.isidentifier() else "argument"
        unique = next(n for n in _list_candidates(plain) if n not in taken)
        taken.add(unique)
        yield unique


def _name_positions(func: Callable[..., Any], count: int) -> Iterator[str]:
    signature = _read_signature(func)
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


def find_parameter(
    func: Callable[..., Any], count: int, keywords: Iterable[str], name: str
) -> inspect.Parameter | None:
    """Return the parameter of a function that takes an argument of a call.

    Args:
        func: Function that is called.
        count: Number of positional arguments.
        keywords: Names of the others, in order.
        name: Name of the argument, as name_arguments gives it.

    Returns:
        The parameter, also `*args` and `**kwargs`; None if the function has no signature.
    """
    keywords = list(keywords)
    signature = _read_signature(func)
    if signature is None:
        return None
    found = list(signature.parameters.values())
    named = {p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    rest = next((p for p in found if p.kind is p.VAR_POSITIONAL), None)
    more = next((p for p in found if p.kind is p.VAR_KEYWORD), None)
    positions = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takers = [positions[i] if i < len(positions) else rest for i in range(count)]
    takers += [named.get(keyword, more) for keyword in keywords]
    return dict(zip(name_arguments(func, count, keywords), takers, strict=True)).get(name)


def is_declared_parameter(func: Callable[..., Any], argument: str) -> bool:
    """Return whether the name of an argument is a parameter in the function's signature.

    The name of an argument for `**kwargs` is not: the caller chose it, and may have computed it.

    Args:
        func: Function that is called.
        argument: Name of the argument, as name_arguments gives it.
    """
    signature = _read_signature(func)
    parameters = signature.parameters.values() if signature else ()
    for one in parameters:
        if one.kind is one.VAR_POSITIONAL and argument.startswith(f"{one.name}_"):
            return argument[len(one.name) + 1 :].isdecimal()
    return any(p.name == argument and p.kind is not p.VAR_KEYWORD for p in parameters)


def _list_candidates(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{i}" for i in itertools.count(2))


def _read_signature(func: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a callable, or None for functions of C extensions without one."""
    try:
        return _read_cached_signature(func)
    except TypeError:  # it cannot be hashed
        return _read_cached_signature.__wrapped__(func)


@functools.lru_cache(maxsize=1024)  # one function has many nodes
def _read_cached_signature(func: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(func)
    except ValueError:
        return None


_serial = itertools.count()
_call_counters: dict[str, itertools.count[int]] = {}


class DecoratorOptions(NamedTuple):
    """The arguments of `@workflow(...)`; see decorator.py."""

    reads: tuple[str, ...] | None = None
    version: str | None = None
    shows: tuple[str, ...] | None = None


class QuerySetting(NamedTuple):
    """Settings from one call of `query(pattern).set(...)`; see workflow_graph.py.

    Attributes:
        pattern: Regular expression for names of nodes.
        values: Settings by name.
        site: Line of the call.
    """

    pattern: str
    values: dict[str, Any]
    site: SourceLocation


class Node(Result):
    """A call of a decorated function.

    Attributes:
        name: Any string, unique in a workflow.
        func: The undecorated function.
        args: Positional arguments; they can contain other nodes in lists, tuples, dicts and sets.
        kwargs: Keyword arguments; likewise.
        site: Line of the call.
        options: Arguments of the decorator.
        parents: Nodes whose results this node needs, without duplicates.
        children: Nodes that need the result of this node.
        after: For calls of methods, the previous call of the same object.
        settings: Settings from query(...).set(...), in order.
        plugin: Plugin from query(...).set_plugin(...), or None.
        serial: Number of the node in the order of creation, from 0.
    """

    kind = "function"
    after: Node | None = None
    plugin: Plugin | None = None

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: SourceLocation,
        options: DecoratorOptions = DecoratorOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        self.node = self
        self.path = ()
        self.func = func
        check_call(self.callee, args, kwargs, site)
        try:
            # copied, because the user may change a list or dict after the call
            self.args = tuple(copy_containers(value) for value in args)
            self.kwargs = {key: copy_containers(value) for key, value in kwargs.items()}
        except RecursionError:
            raise WorkflowError(
                f"{site}: an argument contains itself, or is nested too deeply"
            ) from None
        self.site = site
        self.options = options
        self.serial = next(_serial)
        self.children: list[Node] = []
        self.settings: list[QuerySetting] = []
        self.name = _next_name(self.qualname)
        self.parents = self._find_parents()
        for parent in self.parents:
            parent.children.append(self)

    def __repr__(self) -> str:
        return self.name

    def set_name(self, name: str) -> Node:
        """Set the name of the node, and return the node.

        Raises:
            WorkflowError: The name is not a string, or empty.
        """
        self.name = check_name(name)
        return self

    def get_name(self) -> str:
        """Return the node's name."""
        return self.name

    @property
    def callee(self) -> Callable[..., Any]:
        """The callable that the arguments are passed to."""
        return self.func

    @property
    def qualname(self) -> str:
        """The function's name within its module."""
        return getattr(self.func, "__qualname__", type(self.func).__name__)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by the names of the parameters; arguments of `*args` are args_0, args_1, ..."""
        return dict(zip(self._name_arguments(), [*self.args, *self.kwargs.values()], strict=True))

    def replace_arguments(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs with other values for some arguments.

        Args:
            values: Values by the names of `arguments`; the other arguments stay unchanged.
        """
        names = iter(self._name_arguments())
        args = tuple(values.get(next(names), value) for value in self.args)
        kwargs = {key: values.get(next(names), value) for key, value in self.kwargs.items()}
        return args, kwargs

    def find_parameter(self, argument: str) -> inspect.Parameter | None:
        """Return the parameter of the function that receives an argument, given its name in `arguments`."""
        return find_parameter(self.callee, len(self.args), self.kwargs, argument)

    def _find_parents(self) -> list[Node]:
        found = [result.node for result in find_results((self.args, self.kwargs))]
        return list(dict.fromkeys([*found, self.after] if self.after is not None else found))

    def _name_arguments(self) -> Iterator[str]:
        return name_arguments(self.callee, len(self.args), self.kwargs)


def _next_name(qualname: str) -> str:
    # counted by name: two functions with the same name must not create nodes with the same name
    return f"{qualname}_{next(_call_counters.setdefault(qualname, itertools.count())):04d}"


def check_name(name: object) -> str:
    """Return a name unchanged.

    Raises:
        WorkflowError: The name is not a string, or empty.
    """
    if isinstance(name, str) and name:
        return name
    raise WorkflowError(
        f"{find_source_location()}: a name must be a non-empty string, not {name!r}"
    )


# kind of a node -> its outputs; "state" is the object after the call of a method
OUTPUTS_BY_KIND = {"function": ("result",), "object": ("result",), "call": ("result", "state")}


class ObjectNode(Node):
    """The construction of an object, such as `Counter(0)`; its result is the object."""

    kind = "object"


class CallNode(Node):
    """A call of a method; calls of one object run in the order in which they were created.

    Attributes:
        object: Node that constructs the object.
        method: Name of the method.
    """

    kind = "call"

    def __init__(
        self, instance: Instance, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.object, self.after = instance._fftasks_node, instance._fftasks_last
        self.method = method
        func = getattr(self.object.func, method)
        super().__init__(func, args, kwargs, find_source_location(), self.object.options)

    @property
    def callee(self) -> Callable[..., Any]:
        """The method without its `self`."""
        return _bind(self.object.func, self.method)

    @property
    def qualname(self) -> str:
        """The names of the class and the method; for an inherited method, too, the class of the object."""
        return f"{self.object.func.__qualname__}.{self.method}"


class Instance(InvalidArgument):
    """An object of the graph, returned by a decorated class; a call of a method creates a node.

    Its own attributes have the prefix `_fftasks_`, because the class of a user can have methods with any
    name.
    """

    def __init__(
        self,
        cls: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: SourceLocation,
        options: DecoratorOptions,
    ) -> None:
        self._fftasks_node = ObjectNode(cls, args, kwargs, site, options)
        self._fftasks_last: Node = self._fftasks_node

    def __repr__(self) -> str:
        return self._fftasks_node.name

    def refuse(self) -> NoReturn:
        """Raise WorkflowError: the object was passed to a node."""
        raise WorkflowError(
            f"{find_source_location()}: {self!r} is an object of the graph and cannot be passed to a node",
            tip="pass what one of its methods returns",
        )

    def set_name(self, name: str) -> Instance:
        """Set the name of the object, and return the object."""
        self._fftasks_node.set_name(name)
        return self

    def get_name(self) -> str:
        """Return the object's name."""
        return self._fftasks_node.name

    def __getattr__(self, name: str) -> Callable[..., CallNode]:
        cls = self._fftasks_node.func
        if name.startswith("__") and name not in ("__call__", "__getitem__"):
            raise AttributeError(name)
        if not callable(getattr(cls, name, None)):
            raise WorkflowError(
                f"{find_source_location()}: {cls.__qualname__} has no method {name}()",
                tip=_suggest(cls, name),
            )

        def call(*args: Any, **kwargs: Any) -> CallNode:
            node = CallNode(self, name, args, kwargs)
            self._fftasks_last = node
            return node

        return call

    def __call__(self, *args: Any, **kwargs: Any) -> CallNode:
        return self.__getattr__("__call__")(*args, **kwargs)

    def __getitem__(self, index: Any) -> CallNode:
        return self.__getattr__("__getitem__")(index)


@functools.lru_cache(maxsize=1024)  # one object for all calls, so that its signature is read once
def _bind(cls: Any, name: str) -> Callable[..., Any]:
    method = inspect.getattr_static(cls, name)
    return cast("Callable[..., Any]", method.__get__(object(), cls))


def _suggest(cls: Any, name: str) -> str:
    methods = [n for n in dir(cls) if not n.startswith("_") and callable(getattr(cls, n, None))]
    near = find_near(name, methods)
    if near:
        return f"did you mean {near}()?"
    names = ", ".join(methods) or "none"
    return f"its methods are {names}; to read an attribute, add a method that returns it"


class NodeInput(NamedTuple):
    """An upstream value that a node needs.

    Attributes:
        node: Upstream node.
        output: Its output: "result", or "state" for the object after the call of a method.
    """

    node: Node
    output: str


def name_inputs(node: Node) -> dict[str, NodeInput]:
    """Return the inputs of a node by name: one for each upstream artifact that its arguments use.

    An artifact that several arguments use, or that one argument uses several times, whole or by its items, is
    a single input, named after its first use. ML Metadata, which Kubeflow Pipelines records a run in, refuses
    a task that takes one artifact in two inputs.

    call                        inputs
    f(b=node)                   b
    f(models=[n1, n2])          models_0 (n1), models_1 (n2)
    f(a=node[0], b=node[1])     a
    f(parts=[n1, n1, n2])       parts_0 (n1), parts_2 (n2): the number is the place of the first use
    thing.method(node)          self (the object), node

    Args:
        node: Node whose arguments are searched, sets in the order in which their nodes were made.

    Returns:
        Input name -> upstream artifact. The names are unique within the node, differ from the names of its
        arguments unless the argument is the artifact, and are the same in every process.
    """
    names: dict[NodeInput, str] = {}
    if node.after is not None:
        names[_get_object_input(node.after)] = "self"
    taken = set(names.values())
    arguments = node.arguments
    for argument, value in arguments.items():
        for number, result in enumerate(find_results(value)):
            needed = NodeInput(result.node, "result")
            if needed in names:
                continue
            whole = isinstance(value, Result)
            name = argument.lower() if whole else f"{argument.lower()}_{number}"
            # KFP's SDK cannot pass an artifact and a parameter of the same name
            while name in taken or (name in arguments and not (whole and name == argument)):
                name += "_"
            taken.add(name)
            names[needed] = name
    return {name: needed for needed, name in names.items()}


def _get_object_input(after: Node) -> NodeInput:
    return NodeInput(after, "result" if after.kind == "object" else "state")
