"""The guard around the user's code: a graph is being built, or a node's function is being called.

The user's file is imported in many processes: to record the graph, to run a node, in a container. In
all of them `Workflow(...)` must only be noted, and `.run()` must start nothing.

Settings and plugins for nodes, chosen by their names: `workflow.query("train.*").set(cpu=2)`.

The workflow: some leaves, and everything that they need.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fftasks.api.node import Instance, Node, Result, Setting, check_name, find_site
from fftasks.api.parameter import Parameter, find_parameters
from fftasks.api.plugin import Plugin
from fftasks.errors import WorkflowError, find_near

_noted: list[Workflow] | None = None
_calling = False


@contextmanager
def building() -> Iterator[list[Workflow]]:
    """Collect the workflows that are made inside, and let their `.run()` start nothing."""
    global _noted
    before, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = before


class calling:  # noqa: N801 - contextmanager would be more to copy for a process that lives a millisecond
    """Let decorated functions called inside be plain functions: a node's function is running."""

    def __enter__(self) -> None:
        global _calling
        self._before, _calling = _calling, True

    def __exit__(self, *_error: object) -> None:
        global _calling
        _calling = self._before


def note_workflow(workflow: Workflow) -> None:
    """Hand a new workflow to whoever is building; nothing happens outside `building()`."""
    if _noted is not None:
        _noted.append(workflow)


def is_building() -> bool:
    """Tell whether a graph is being built, so that `.run()` must start nothing."""
    return _noted is not None


def is_calling() -> bool:
    """Tell whether a node's function is running in this process."""
    return _calling


class NotRun:
    """What `.run()` gives while a graph is being built: usable in any way, and without meaning.

    The lines behind `.run()` in the user's file go on with it; what they do with it has no effect.
    """

    def __repr__(self) -> str:
        return "<not run: the graph is only being built>"

    def __iter__(self) -> Iterator[NotRun]:
        return iter(())

    def __call__(self, *_args: object, **_kwargs: object) -> NotRun:
        return self

    def __getattr__(self, name: str) -> NotRun:
        if name.startswith("__"):  # protocols such as __array__ must not be promised
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
