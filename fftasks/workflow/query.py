"""Settings and plugins for nodes, chosen by their names: `workflow.query("train.*").set(cpu=2)`."""

from __future__ import annotations

from typing import Any

from fftasks.workflow.node import Node, Setting
from fftasks.workflow.plugin import Plugin
from fftasks.workflow.site import find_site


class Query:
    """The nodes of a workflow that a pattern found."""

    def __init__(self, pattern: str | None, nodes: list[Node]) -> None:
        self.pattern = pattern
        self.nodes = nodes

    def set(self, **settings: Any) -> Query:
        """Set what these nodes are given to run, such as cpu=2; it beats `nodes:` in config/.

        The names are those of `nodes:` there. They are checked when the graph is read. Returns the query.
        """
        for node in self.nodes:
            node.settings.append(Setting(self.pattern or ".*", settings, find_site()))
        return self

    def set_plugin(self, plugin: Plugin) -> Query:
        """Let a plugin get the process ready before the nodes' functions; see workflow/plugin.py.

        A node has one plugin, the last that was set; a PluginCollection is several. Returns the query.
        """
        for node in self.nodes:
            node.plugin = plugin
        return self
