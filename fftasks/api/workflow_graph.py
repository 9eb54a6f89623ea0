"""Workflows: leaves with all the nodes that they need, and settings and plugins for nodes by name.

The user's file is imported in many processes: to record the graph, to run a node, and in containers. In
all of
them `Workflow(...)` only registers the workflow, and `.run()` must not start anything.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fftasks.api.node import Instance, Node, QuerySetting, Result, check_name, find_source_location
from fftasks.api.parameter import Parameter, find_parameters
from fftasks.api.plugin import Plugin
from fftasks.errors import WorkflowError, find_near

_collected: list[Workflow] | None = None
_calling = False


@contextmanager
def collecting_workflows() -> Iterator[list[Workflow]]:
    """Collect the workflows that are created in a with block; their `.run()` does not start anything."""
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


class calling:  # noqa: N801 - a context manager; a class costs less than contextlib in short-lived processes
    """Treat decorated functions as plain functions in a with block, while the function of a node runs."""

    def __enter__(self) -> None:
        global _calling
        self._before, _calling = _calling, True

    def __exit__(self, *_error: object) -> None:
        global _calling
        _calling = self._before


def register_workflow(workflow: Workflow) -> None:
    """Register a new workflow in the enclosing `building()` block, if there is one."""
    if _collected is not None:
        _collected.append(workflow)


def is_collecting() -> bool:
    """Return whether a graph is being built, in which case `.run()` must not start anything."""
    return _collected is not None


def is_calling() -> bool:
    """Return whether the function of a node is running in this process."""
    return _calling


class NotRun:
    """The result of `.run()` while a graph is being built: a dummy that supports most operations.

    The lines after `.run()` in the user's file can use it without an error and without an effect.
    """

    def __repr__(self) -> str:
        return "<not run: the graph is only being built>"

    def __iter__(self) -> Iterator[NotRun]:
        return iter(())

    def __call__(self, *_args: object, **_kwargs: object) -> NotRun:
        return self

    def __getattr__(self, name: str) -> NotRun:
        if name.startswith("__"):  # it does not support protocols such as __array__
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


class Query:
    """The nodes of a workflow whose names match a pattern.

    Attributes:
        pattern: Regular expression; None for all nodes.
        nodes: The nodes.
    """

    def __init__(self, pattern: str | None, nodes: list[Node]) -> None:
        self.pattern = pattern
        self.nodes = nodes

    def set(self, **settings: Any) -> Query:
        """Set settings of the nodes, such as cpu=2, and return the query.

        Args:
            settings: Settings with the names of section `nodes` in config/, which they override. They are
                checked
                when the graph is read.
        """
        for node in self.nodes:
            node.settings.append(
                QuerySetting(self.pattern or ".*", settings, find_source_location())
            )
        return self

    def set_plugin(self, plugin: Plugin) -> Query:
        """Set the plugin of the nodes, and return the query; see plugin.py.

        Args:
            plugin: Plugin that replaces an earlier one; use a PluginCollection for several plugins.
        """
        for node in self.nodes:
            node.plugin = plugin
        return self


class Workflow:
    """A graph that `doit run` and `doit submit` execute.

    Attributes:
        leaves: Nodes, or items of their results, whose values are the results of the workflow.
        name: Name of the workflow, unique in the project.
        warnings: Warnings for the user, one sentence each.
        site: Line that created the workflow.

    Raises:
        WorkflowError: There are no leaves, or two nodes have the same name.
    """

    kind = "workflow"

    def __init__(self, *leaves: Result | Instance, name: str) -> None:
        self.name = check_name(name)
        self.site = find_source_location()
        self.warnings: list[str] = []
        self.leaves = tuple(self._check_leaf(leaf) for leaf in leaves)
        if not leaves:
            raise WorkflowError(
                f"{self.site}: workflow {name!r} has no leaves", tip="Workflow(node, name=...)"
            )
        register_workflow(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.leaves))}, name={self.name!r})"

    @property
    def nodes(self) -> list[Node]:
        """All nodes, each after the nodes that it needs; the order is the same in every process."""
        check_unique_names(self._order, self.name)
        return list(self._order)

    @functools.cached_property
    def _order(self) -> list[Node]:
        return order_nodes([leaf.node for leaf in self.leaves])

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The run parameters of all nodes, by name.

        Raises:
            WorkflowError: Two parameters with the same name differ.
        """
        found: dict[str, Parameter] = {}
        for node in self.nodes:
            for parameter in find_parameters((node.args, node.kwargs)):
                other = found.setdefault(parameter.name, parameter)
                if not other.is_like(parameter):
                    raise WorkflowError(
                        f"workflow {self.name!r}: two parameters are called {parameter.name!r}",
                        found=[f"{p.site}: {p!r}, help={p.help!r}" for p in (other, parameter)],
                        tip="create one parameter and pass it to both nodes, or rename one of them",
                    )
        return dict(sorted(found.items()))

    def graph_traversal(self) -> Iterator[tuple[str, Node]]:
        """Yield the name and the node of all nodes, each after the nodes that it needs."""
        yield from ((node.name, node) for node in self.nodes)

    def find_nodes(self, pattern: str | None = None) -> list[Node]:
        """Return the nodes whose whole name matches a regular expression, or all nodes if it is None."""
        return [n for n in self.nodes if pattern is None or re.fullmatch(pattern, n.name)]

    def query(self, pattern: str | None = None) -> Query:
        """Select nodes to set settings or a plugin, such as `query("train.*").set(cpu=2)`.

        Args:
            pattern: Regular expression for the whole name; None selects all nodes. If no node matches, a
                warning
                is added.
        """
        nodes = self.find_nodes(pattern)
        if not nodes:
            self.warnings.append(_warn_without_match(str(pattern), self))
        return Query(pattern, nodes)

    def set_plugin(self, pattern: str, plugin: Plugin) -> None:
        """Set the plugin of the nodes whose names match a regular expression; see Query.set_plugin."""
        self.query(pattern).set_plugin(plugin)

    def replace_func(self, node: Node, func: Callable[..., Any]) -> None:
        """Replace the function of a node; the arguments stay the same.

        Args:
            node: The node.
            func: New function, decorated or not.
        """
        node.func = getattr(func, "func", func)

    def _check_leaf(self, leaf: object) -> Result:
        if isinstance(leaf, Result):
            return leaf
        if isinstance(leaf, Instance):
            return leaf._fftasks_last
        raise WorkflowError(
            f"{self.site}: workflow {self.name!r}: {leaf!r} is not a node",
            tip="pass results of @workflow functions, or items of them",
        )


def _warn_without_match(pattern: str, workflow: Workflow) -> str:
    names = [node.name for node in workflow.nodes]
    near = find_near(pattern, names, cutoff=0.4)
    site = find_source_location()
    what = f"{Path(site.file).name}:{site.line}: no node's name matches {pattern!r}"
    return f"{what}: did you mean {near!r}?" if near else what


def order_nodes(leaves: list[Node]) -> list[Node]:
    """Return the leaves and all nodes that they need, each node once and after its parents.

    The depth-first search does not use recursion, so that only memory limits the length of a chain.

    Raises:
        WorkflowError: A node depends on itself, directly or indirectly.
    """
    order: dict[Node, None] = {}
    stack: list[tuple[Node, Iterator[Node]]] = []
    open_nodes: set[Node] = set()
    for leaf in leaves:
        if leaf in order:
            continue
        open_nodes.add(leaf)
        stack.append((leaf, iter(leaf.parents)))
        while stack:
            node, parents = stack[-1]
            unseen = next((parent for parent in parents if parent not in order), None)
            if unseen is None:
                order[node] = None
                open_nodes.remove(stack.pop()[0])
                continue
            if unseen in open_nodes:
                raise WorkflowError(f"the nodes {node!r} and {unseen!r} form a cycle")
            open_nodes.add(unseen)
            stack.append((unseen, iter(unseen.parents)))
    return list(order)


def check_unique_names(nodes: list[Node], workflow: str) -> None:
    """Check that all nodes have different names.

    Args:
        nodes: The nodes.
        workflow: Name of the workflow, for the message.

    Raises:
        WorkflowError: Two nodes have the same name.
    """
    by_name: dict[str, Node] = {}
    for node in nodes:
        other = by_name.setdefault(node.name, node)
        if other is not node:
            raise WorkflowError(
                f"workflow {workflow!r}: two nodes are called {node.name!r}",
                found=[str(other.site), str(node.site)],
                tip='rename one of them with .set_name("...")',
            )
