"""What LocalWorkflow and KFPWorkflow have in common: FunctionFuse's names and its idea of coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fftasks.dropin.storage import FileStorage
from fftasks.workflow.graph import Workflow, check_names, order_nodes
from fftasks.workflow.instance import Instance
from fftasks.workflow.node import Node
from fftasks.workflow.pending import Result


class DropIn(Workflow):
    """A workflow for scripts that were written for FunctionFuse.

    It covers the nodes that it is given, what these need, and, unless descendants=False, what is made of
    these: such scripts pass the first node, and mean all that follows.
    """

    def __init__(
        self, *nodes: Result | Instance, workflow_name: str, descendants: bool = True
    ) -> None:
        self.descendants = descendants
        self.storage: FileStorage | None = None
        self.logged: set[Node] = set()
        super().__init__(*nodes, name=workflow_name)

    @property
    def workflow_name(self) -> str:
        """The workflow's name."""
        return self.name

    @property
    def nodes(self) -> list[Node]:
        """All nodes that the workflow covers, each behind those it needs."""
        covered = [leaf.node for leaf in self.leaves]
        if self.descendants:
            covered = _add_descendants(covered)
        nodes = order_nodes(covered)
        check_names(nodes, self.name)
        return nodes

    def set_storage(self, storage: FileStorage) -> None:
        """Keep results in a storage, and take them from there while nothing has changed.

        KFPWorkflow takes it for the sake of old scripts: there, the cluster keeps results.
        """
        self.storage = storage

    def choose_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each run parameter: what is given, else its default.

        Raises ParameterError for a name that no node has, and a value of another type.
        """
        parameters = self.parameters
        if not (given or parameters):
            return {}
        from fftasks.values import check_names, check_value

        check_names(given, parameters)
        return {
            name: check_value(name, given.get(name, parameter.default), parameter.default)
            for name, parameter in parameters.items()
        }

    def log_nodes(self, pattern: str) -> None:
        """Let LocalWorkflow run these nodes anew each time, so that one sees what they print."""
        self.logged.update(self.find_nodes(pattern))


def _add_descendants(nodes: list[Node]) -> list[Node]:
    found = dict.fromkeys(nodes)
    queue = list(nodes)
    while queue:
        children = sorted(queue.pop(0).children, key=lambda node: node.serial)
        new = [child for child in children if child not in found]
        found.update(dict.fromkeys(new))
        queue.extend(new)
    return list(found)
