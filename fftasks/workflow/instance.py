"""Class nodes: an object that lives in the graph; its construction and its calls are nodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NoReturn, cast

from fftasks.errors import WorkflowError, find_near
from fftasks.workflow.node import Node, Options
from fftasks.workflow.pending import Unpassable
from fftasks.workflow.site import Site, find_site

# what a node gives, by its kind: its result and, behind a method call, the object as the call left it
OUTPUTS = {"function": ("result",), "object": ("result",), "call": ("result", "state")}


class ObjectNode(Node):
    """The construction of an object: `Counter(0)`; its result is the object."""

    kind = "object"


class CallNode(Node):
    """A call of an object's method; calls of one object run in the order in which they are written.

    object: the construction of the object
    method: the method's name
    """

    kind = "call"

    def __init__(
        self, instance: Instance, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.object, self.after = instance._fftasks_node, instance._fftasks_last
        self.method = method
        func = getattr(self.object.func, method)
        super().__init__(func, args, kwargs, find_site(), self.object.options)

    @property
    def callee(self) -> Callable[..., Any]:
        """The method without its `self`."""
        return _bind(self.object.func, self.method)

    @property
    def qualname(self) -> str:
        """The class and the method, also for a method that is inherited."""
        return f"{self.object.func.__qualname__}.{self.method}"


class Instance(Unpassable):
    """What a decorated class gives when it is called: its methods make nodes.

    Its own attributes have a prefix, since a user's class may have methods of any name.
    """

    def __init__(
        self,
        cls: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        site: Site,
        options: Options,
    ) -> None:
        self._fftasks_node = ObjectNode(cls, args, kwargs, site, options)
        self._fftasks_last: Node = self._fftasks_node

    def __repr__(self) -> str:
        return self._fftasks_node.name

    def refuse(self) -> NoReturn:
        """Raise WorkflowError: the object was passed to a node."""
        raise WorkflowError(
            f"{find_site()}: {self!r} is an object of the graph and cannot be passed to a node",
            tip="pass what one of its methods returns",
        )

    def set_name(self, name: str) -> Instance:
        """Give the object a name of one's own, and return it."""
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
                f"{find_site()}: {cls.__qualname__} has no method {name}()", tip=_suggest(cls, name)
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


@functools.lru_cache(maxsize=1024)  # the same for all its calls, so that its signature is read once
def _bind(cls: Any, name: str) -> Callable[..., Any]:
    method = inspect.getattr_static(cls, name)
    return cast("Callable[..., Any]", method.__get__(object(), cls))


def _suggest(cls: Any, name: str) -> str:
    methods = [n for n in dir(cls) if not n.startswith("_") and callable(getattr(cls, n, None))]
    near = find_near(name, methods)
    if near:
        return f"did you mean {near}()?"
    return (
        f"its methods are {', '.join(methods) or 'none'}; an attribute is read by a method of yours"
    )
