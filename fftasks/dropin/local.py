"""Run a graph in this process: the drop-in for FunctionFuse's LocalWorkflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.dropin.base import DropIn
from fftasks.dropin.storage import Saved
from fftasks.runtime.artifact import read_artifact, write_artifact
from fftasks.runtime.call import Input, call_node
from fftasks.workflow.guard import NotRun, is_building
from fftasks.workflow.node import Node
from fftasks.workflow.pending import Result


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
