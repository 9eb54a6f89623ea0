"""Plugins, which prepare the process of a node before its function is called, here and in the container.

A plugin is any object with the two methods of FunctionFuse's plugins. For each node, in its process, they are
called in this order:

    local_initialize()                      prepares the plugin
    remote_initialize() -> callable         returns a function, which is called directly before the node's
    function

The code and the data of a plugin are part of the fingerprint of its nodes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Plugin(Protocol):
    """The interface of a plugin for `query(...).set_plugin`."""

    def local_initialize(self) -> Any:
        """Prepare the plugin."""

    def remote_initialize(self) -> Callable[[], Any] | None:
        """Return a function that is called directly before the node's function, or None."""


class InitializerPlugin:
    """A plugin that calls a function, such as one that configures logging.

    Attributes:
        func: The function, without parameters.
    """

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func

    def local_initialize(self) -> None:
        """Do nothing."""

    def remote_initialize(self) -> Callable[[], Any]:
        """Return the function."""
        return self.func


class RandomStatePlugin:
    """A plugin that seeds a random generator with another number for each node.

    FunctionFuse passes seed + 1, seed + 2, ... in the order in which nodes run. Here the number is
    computed from
    the seed and the name of the node, so it is the same in each run and on each machine, also if other
    nodes are
    added or removed. Results can therefore be reused.

    Attributes:
        min: Smallest number.
        max: Largest number.
        seed: Any number; another seed gives other numbers.
        seed_func: Function that is called with the number, such as `random.seed`.
    """

    def __init__(self, min: int, max: int, seed: int, seed_func: Callable[[int], Any]) -> None:  # noqa: A002 - FunctionFuse's names
        self.min, self.max = min, max
        self.seed = seed
        self.seed_func = seed_func

    def bind(self, node: str) -> RandomStatePlugin:
        """Return a copy for a node; its `seed` is the number for this node.

        Args:
            node: Name of the node.
        """
        bound = copy.copy(self)
        digest = hashlib.sha256(f"{self.seed} {node}".encode("utf-8", "surrogatepass")).digest()
        bound.seed = self.min + int.from_bytes(digest, "big") % (self.max - self.min + 1)
        return bound

    def local_initialize(self) -> None:
        """Do nothing; bind() has set the number."""

    def remote_initialize(self) -> Callable[[], Any]:
        """Return a function that seeds the generator."""
        return lambda: self.seed_func(self.seed)


class PluginCollection:
    """Several plugins that are called in order.

    Attributes:
        plugins: The plugins.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)

    def bind(self, node: str) -> PluginCollection:
        """Return a collection of the plugins for a node."""
        return PluginCollection(bind_plugin(plugin, node) for plugin in self.plugins)

    def local_initialize(self) -> None:
        """Prepare all plugins."""
        for plugin in self.plugins:
            plugin.local_initialize()

    def remote_initialize(self) -> Callable[[], Any]:
        """Return a function that calls the functions of all plugins."""
        calls = [plugin.remote_initialize() for plugin in self.plugins]
        return lambda: [call() for call in calls if call is not None]


def bind_plugin(plugin: Any, node: str) -> Any:
    """Return the plugin for a node: the result of its method `bind`, or the plugin itself if it has none.

    Args:
        plugin: The plugin.
        node: Name of the node.
    """
    bind = getattr(plugin, "bind", None)
    return plugin if bind is None else bind(node)


def initialize(plugin: Plugin, node: str) -> None:
    """Execute a plugin in the process of a node, directly before the node's function.

    Args:
        plugin: The plugin.
        node: Name of the node.
    """
    bound = bind_plugin(plugin, node)
    bound.local_initialize()
    call = bound.remote_initialize()
    if call is not None:
        call()
