"""The workflow: some leaves, and everything that they need."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fftasks.errors import WorkflowError, find_near
from fftasks.workflow.guard import note_workflow
from fftasks.workflow.instance import Instance
from fftasks.workflow.node import Node, check_name
from fftasks.workflow.parameter import Parameter, find_parameters
from fftasks.workflow.pending import Result
from fftasks.workflow.plugin import Plugin
from fftasks.workflow.query import Query
from fftasks.workflow.site import find_site


class Workflow:
    """The graph that leads to some leaves; `doit run` and `doit submit` work on it.

    leaves: nodes or items of nodes, whose values are what one wants to have
    name: unique in a project
    warnings: sentences that somebody should see

    Raises WorkflowError without leaves, or if two nodes have one name.
    """

    kind = "workflow"

    def __init__(self, *leaves: Result | Instance, name: str) -> None:
        self.name = check_name(name)
        self.site = find_site()
        self.warnings: list[str] = []
        self.leaves = tuple(self._check_leaf(leaf) for leaf in leaves)
        if not leaves:
            raise WorkflowError(
                f"{self.site}: workflow {name!r} has no leaves", tip="Workflow(node, name=...)"
            )
        note_workflow(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.leaves))}, name={self.name!r})"

    @property
    def nodes(self) -> list[Node]:
        """All nodes, each behind those it needs; the order is the same in every process."""
        check_names(self._order, self.name)
        return list(self._order)

    @functools.cached_property
    def _order(self) -> list[Node]:
        return order_nodes([leaf.node for leaf in self.leaves])

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The run parameters that reach its nodes, by name; raise WorkflowError if two of a name differ."""
        found: dict[str, Parameter] = {}
        for node in self.nodes:
            for parameter in find_parameters((node.args, node.kwargs)):
                other = found.setdefault(parameter.name, parameter)
                if not other.is_like(parameter):
                    raise WorkflowError(
                        f"workflow {self.name!r}: two parameters are called {parameter.name!r}",
                        found=[f"{p.site}: {p!r}, help={p.help!r}" for p in (other, parameter)],
                        tip="make one, and pass it to both nodes; or give one of them another name",
                    )
        return dict(sorted(found.items()))

    def graph_traversal(self) -> Iterator[tuple[str, Node]]:
        """Yield the name and the node, each behind those it needs."""
        yield from ((node.name, node) for node in self.nodes)

    def find_nodes(self, pattern: str | None = None) -> list[Node]:
        """Return the nodes whose whole name matches a regular expression; all of them without one."""
        return [n for n in self.nodes if pattern is None or re.fullmatch(pattern, n.name)]

    def query(self, pattern: str | None = None) -> Query:
        """Choose nodes as find_nodes does, to set something for them: `query("train.*").set(cpu=2)`."""
        nodes = self.find_nodes(pattern)
        if not nodes:
            self.warnings.append(_warn_of_none(str(pattern), self))
        return Query(pattern, nodes)

    def set_plugin(self, pattern: str, plugin: Plugin) -> None:
        """Let a plugin get the process ready before the functions of some nodes; see Query.set_plugin."""
        self.query(pattern).set_plugin(plugin)

    def replace_func(self, node: Node, func: Callable[..., Any]) -> None:
        """Let a node call another function with the same arguments."""
        node.func = getattr(func, "func", func)

    def _check_leaf(self, leaf: object) -> Result:
        if isinstance(leaf, Result):
            return leaf
        if isinstance(leaf, Instance):
            return leaf._fftasks_last
        raise WorkflowError(
            f"{self.site}: workflow {self.name!r}: {leaf!r} is no node",
            tip="its leaves are what calls of @workflow functions give, or items of these",
        )


def _warn_of_none(pattern: str, workflow: Workflow) -> str:
    names = [node.name for node in workflow.nodes]
    near = find_near(pattern, names, cutoff=0.4)
    site = find_site()
    what = f"{Path(site.file).name}:{site.line}: no node's name matches {pattern!r}"
    return f"{what}: did you mean {near!r}?" if near else what


def order_nodes(leaves: list[Node]) -> list[Node]:
    """Return the leaves and all they need, each node once and behind its parents.

    Depth first without recursion, so that a chain may be as long as memory allows.
    Raises WorkflowError if a node needs itself, directly or through others.
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
                raise WorkflowError(f"{node!r} and {unseen!r} need each other: a cycle")
            open_nodes.add(unseen)
            stack.append((unseen, iter(unseen.parents)))
    return list(order)


def check_names(nodes: list[Node], workflow: str) -> None:
    """Raise WorkflowError if two nodes have one name; it names both places."""
    by_name: dict[str, Node] = {}
    for node in nodes:
        other = by_name.setdefault(node.name, node)
        if other is not node:
            raise WorkflowError(
                f"workflow {workflow!r}: two nodes are called {node.name!r}",
                found=[str(other.site), str(node.site)],
                tip='give one of them a name of its own: .set_name("...")',
            )
