"""Plugins: what gets a process ready before a node's function runs in it, here and in the container.

A plugin is any object with FunctionFuse's two methods; they are called in the node's process, for each
node, in this order, and what remote_initialize returns is called last:

    local_initialize()                      prepares the plugin itself
    remote_initialize() -> callable         gives what is called right before the function

Its code and its data belong to the code of the nodes that it is set for: they run again when it changes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Plugin(Protocol):
    """What can be given to `query(...).set_plugin`."""

    def local_initialize(self) -> Any:
        """Prepare the plugin."""

    def remote_initialize(self) -> Callable[[], Any] | None:
        """Return what is called right before the node's function."""


class InitializerPlugin:
    """Calls a function before the node's own, such as one that sets up logging."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func

    def local_initialize(self) -> None:
        """Do nothing."""

    def remote_initialize(self) -> Callable[[], Any]:
        """Return the function."""
        return self.func


class RandomStatePlugin:
    """Seeds a random generator, with a number of its own for each node: seed_func(number).

    min, max: the least and the greatest number; seed: which numbers, out of all series of them

    In FunctionFuse nodes get seed + 1, seed + 2, ... in the order in which they happen to run. Here a node's
    number is made of the seed and the node's name: it is the same in each run, on each machine, and when
    other nodes come and go, so that a result can be kept. Another seed, or another name, gives another one.
    """

    def __init__(self, min: int, max: int, seed: int, seed_func: Callable[[int], Any]) -> None:  # noqa: A002 - FunctionFuse's names
        self.min, self.max = min, max
        self.seed = seed
        self.seed_func = seed_func

    def bind(self, node: str) -> RandomStatePlugin:
        """Return the plugin for a node, whose seed is the node's own number."""
        bound = copy.copy(self)
        digest = hashlib.sha256(f"{self.seed} {node}".encode("utf-8", "surrogatepass")).digest()
        bound.seed = self.min + int.from_bytes(digest, "big") % (self.max - self.min + 1)
        return bound

    def local_initialize(self) -> None:
        """Do nothing: the number is fixed by bind."""

    def remote_initialize(self) -> Callable[[], Any]:
        """Return what seeds the generator."""
        return lambda: self.seed_func(self.seed)


class PluginCollection:
    """Several plugins, one after the other."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = list(plugins)

    def bind(self, node: str) -> PluginCollection:
        """Return the plugins for a node."""
        return PluginCollection(bind_plugin(plugin, node) for plugin in self.plugins)

    def local_initialize(self) -> None:
        """Prepare them all."""
        for plugin in self.plugins:
            plugin.local_initialize()

    def remote_initialize(self) -> Callable[[], Any]:
        """Return what calls all that they return."""
        calls = [plugin.remote_initialize() for plugin in self.plugins]
        return lambda: [call() for call in calls if call is not None]


def bind_plugin(plugin: Any, node: str) -> Any:
    """Return a plugin as it is for a node; most are the same for all."""
    bind = getattr(plugin, "bind", None)
    return plugin if bind is None else bind(node)


def initialize(plugin: Plugin, node: str) -> None:
    """Let a plugin do its work in this process, which is about to call a node's function."""
    bound = bind_plugin(plugin, node)
    bound.local_initialize()
    call = bound.remote_initialize()
    if call is not None:
        call()
