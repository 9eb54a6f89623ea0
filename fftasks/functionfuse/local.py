"""What LocalWorkflow and KFPWorkflow have in common: FunctionFuse's names and its idea of coverage.

Run a graph in this process: the drop-in for FunctionFuse's LocalWorkflow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.api.node import Input, Instance, Node, Result
from fftasks.api.workflow_graph import NotRun, Workflow, check_names, is_building, order_nodes
from fftasks.functionfuse.storage import FileStorage, Saved
from fftasks.runner.artifact import read_artifact, write_artifact
from fftasks.runner.job import call_node


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
        from fftasks.graph.run_parameters import check_parameter, check_parameter_names

        check_parameter_names(given, parameters)
        return {
            name: check_parameter(name, given.get(name, parameter.default), parameter.default)
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


class LocalWorkflow(DropIn):
    """Run a graph here, one node after the other; also in a notebook, in a function, or in a test.

    `doit run` does it in parallel and keeps all results. Values pass from node to node as they do there:
    each function is given its own copy, so that it cannot change what another one sees.
    """

    kind = "local"

    def run(self, **parameters: Any) -> Any:
        """Return the result of the node that was given, or a list of results in their order.

        parameters: values of run parameters, by name

        Raises what a function raises, and what storing its result raises; ParameterError for a value that
        does not fit.
        """
        if is_building():
            return NotRun() if len(self.leaves) == 1 else [NotRun() for _ in self.leaves]
        with tempfile.TemporaryDirectory(prefix="fftasks-") as folder:
            run = _Run(Path(folder), self, self.choose_values(parameters))
            for node in self.nodes:
                run.make(node)
            results = [run.read(leaf) for leaf in self.leaves]
        return results[0] if len(results) == 1 else results


class _Run:
    """Results of one run, as files; a storage gives those that it has, and takes the others."""

    def __init__(self, folder: Path, workflow: LocalWorkflow, values: Mapping[str, Any]) -> None:
        self._folder = folder
        self._values = values
        self._workflow = workflow
        self._saved: dict[Input, Saved] = {}
        self._keys = workflow.storage.make_keys(workflow, values) if workflow.storage else None

    def make(self, node: Node) -> None:
        """Run a node, or take its result from the storage if nothing that it depends on has changed."""
        storage, name = self._workflow.storage, self._workflow.name
        key = self._keys(node, self._saved) if self._keys else ""
        known = storage.find(name, node.name, key) if storage and self._is_kept(node) else None
        if known is not None:
            self._saved[Input(node, "result")] = known
            return
        for output, value in call_node(node, self._load, values=self._values).items():
            path = self._folder / f"{node.serial}.{output}"
            self._saved[Input(node, output)] = Saved(path, write_artifact(path, value))
        if storage and self._is_kept(node):
            result = Input(node, "result")
            self._saved[result] = storage.keep(name, node.name, key, self._saved[result])

    def read(self, leaf: Result) -> Any:
        """Return the value of a leaf."""
        value = self._load(Input(leaf.node, "result"))
        for index in leaf.path:
            value = value[index]
        return value

    def _is_kept(self, node: Node) -> bool:
        # an object lives from call to call, and is made anew in each run, as in FunctionFuse
        return node.kind == "function" and node not in self._workflow.logged

    def _load(self, needed: Input) -> Any:
        return read_artifact(self._saved[needed].path)
