"""Runs the graph of a LocalWorkflow in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.api.functionfuse import FunctionFuseWorkflow, LocalWorkflow
from fftasks.api.node import Node, NodeInput, Result
from fftasks.functionfuse.storage import (
    SavedResult,
    find_result,
    make_key_function,
    store_saved_result,
)
from fftasks.runner.artifact import read_artifact, write_artifact
from fftasks.runner.job import call_node


def choose_values(workflow: FunctionFuseWorkflow, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all run parameters of a workflow by name: the given ones, else the defaults.

    Raises:
        ParameterError: No run parameter has the name of a value, or a value has the wrong type.
    """
    parameters = workflow.parameters
    if not (given or parameters):
        return {}
    from fftasks.graph.run_parameters import check_parameter, check_parameter_names

    check_parameter_names(given, parameters)
    return {
        name: check_parameter(name, given.get(name, parameter.default), parameter.default)
        for name, parameter in parameters.items()
    }


def run_local(workflow: LocalWorkflow, parameters: Mapping[str, Any]) -> Any:
    """Run a workflow in this process; see LocalWorkflow.run for results and errors.

    Args:
        workflow: The workflow.
        parameters: Values of run parameters by name.
    """
    with tempfile.TemporaryDirectory(prefix="fftasks-") as folder:
        run = _LocalRun(Path(folder), workflow, choose_values(workflow, parameters))
        for node in workflow.nodes:
            run.make(node)
        results = [run.read(leaf) for leaf in workflow.leaves]
    return results[0] if len(results) == 1 else results


class _LocalRun:
    """The results of one run, as files in the storage of the workflow or in a temporary folder."""

    def __init__(self, folder: Path, workflow: LocalWorkflow, values: Mapping[str, Any]) -> None:
        self._folder = folder
        self._values = values
        self._workflow = workflow
        self._saved: dict[NodeInput, SavedResult] = {}
        self._make_key = make_key_function(workflow, values) if workflow.storage else None

    def make(self, node: Node) -> None:
        """Take the result of a node from the storage if nothing has changed, else execute the node."""
        name = self._workflow.name
        result = NodeInput(node, "result")
        # Objects are not stored: like in FunctionFuse, each run constructs them.
        is_stored = node.kind == "function" and node not in self._workflow.logged
        storage = self._workflow.storage if is_stored else None
        key = self._make_key(node, self._saved) if self._make_key else ""
        known = find_result(storage, name, node.name, key) if storage else None
        if known is not None:
            self._saved[result] = known
            return
        for output, value in call_node(node, self._load, values=self._values).items():
            path = self._folder / f"{node.serial}.{output}"
            self._saved[NodeInput(node, output)] = SavedResult(path, write_artifact(path, value))
        if storage:
            self._saved[result] = store_saved_result(
                storage, name, node.name, key, self._saved[result]
            )

    def read(self, leaf: Result) -> Any:
        """Return the value of a leaf."""
        value = self._load(NodeInput(leaf.node, "result"))
        for index in leaf.path:
            value = value[index]
        return value

    def _load(self, needed: NodeInput) -> Any:
        return read_artifact(self._saved[needed].path)
