"""Replacements for FunctionFuse's LocalWorkflow, KFPWorkflow and file storage.

The classes only build a graph, so that a pod can import a user's file that uses them. What runs a
graph, and what reads and writes results, is in `fftasks.functionfuse` and is imported when it is called.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.api.names import make_slug
from fftasks.api.node import Instance, Node, Result, find_source_location
from fftasks.api.workflow_graph import (
    NotRun,
    Workflow,
    check_unique_names,
    is_collecting,
    order_nodes,
)
from fftasks.errors import SettingsError, WorkflowError

_CREDENTIALS = ("server", "username", "password")


class FunctionFuseWorkflow(Workflow):
    """Base class of LocalWorkflow and KFPWorkflow, with FunctionFuse's names.

    Attributes:
        descendants: Whether the workflow also contains all nodes downstream of the given ones.
            Scripts for FunctionFuse pass the first node and expect that everything after it runs.
        storage: Where LocalWorkflow stores results and looks for them, or None.
        logged: Nodes that LocalWorkflow executes in every run.
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
        """Name of the workflow."""
        return self.name

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the workflow, each after the nodes that it depends on."""
        covered = [leaf.node for leaf in self.leaves]
        if self.descendants:
            covered = _add_descendants(covered)
        nodes = order_nodes(covered)
        check_unique_names(nodes, self.name)
        return nodes

    def set_storage(self, storage: FileStorage) -> None:
        """Store results in a storage, and load them from it while nothing has changed.

        KFPWorkflow accepts a storage so that old scripts run, and ignores it: the cluster stores results.
        """
        self.storage = storage

    def log_nodes(self, pattern: str) -> None:
        """Make LocalWorkflow execute these nodes in every run, so that their output is printed.

        Args:
            pattern: Regular expression for whole names of nodes.
        """
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


class LocalWorkflow(FunctionFuseWorkflow):
    """Run a graph in this process, one node after the other: in a notebook, a function or a test.

    `doit run` executes nodes in parallel and caches all results. Values are passed between nodes as
    there: each function gets its own copy, so that it cannot change the arguments of another node.
    """

    kind = "local"

    def run(self, **parameters: Any) -> Any:
        """Run the nodes and return their results.

        Args:
            **parameters: Values of run parameters by name. The others have their defaults.

        Returns:
            The result of the node that the workflow was created with, or a list of results if there
            are several. While the graph is only being built, placeholders without a meaning.

        Raises:
            ParameterError: A run parameter is unknown, or its value has the wrong type.
            Exception: An exception of a node's function is passed on, as is one of storing its result.
        """
        if is_collecting():
            return NotRun() if len(self.leaves) == 1 else [NotRun() for _ in self.leaves]
        from fftasks import import_implementation

        run_local = import_implementation(
            "fftasks.functionfuse.local", "run_local", "LocalWorkflow.run()"
        )
        return run_local(self, parameters)


class RunHandle(NamedTuple):
    """A run on Kubeflow Pipelines.

    Attributes:
        run_id: ID of the run.
        url: URL of the run in the KFP web UI.
    """

    run_id: str
    url: str


class KFPWorkflow(FunctionFuseWorkflow):
    """Run a graph on Kubeflow Pipelines, with the stages of `doit submit`.

    The attributes override the settings in config/; attributes that are not given do not.

    Attributes:
        baseimage: Base image, as in the setting image.base.
        registry_credentials: Host and login of the registry: {"server", "username", "password"}.
        kfp_host: URL of the KFP API, as in the setting kfp.host.
    """

    kind = "kfp"

    def __init__(
        self,
        *nodes: Result | Instance,
        workflow_name: str,
        baseimage: str | None = None,
        registry_credentials: Mapping[str, str] | None = None,
        kfp_host: str | None = None,
        descendants: bool = True,
    ) -> None:
        super().__init__(*nodes, workflow_name=workflow_name, descendants=descendants)
        self.baseimage = baseimage
        self.registry_credentials: dict[str, str] = {}
        self.set_registry_credentials(registry_credentials or {})
        self.kfp_host = kfp_host

    def set_baseimage(self, baseimage: str) -> None:
        """Set the base image."""
        self.baseimage = baseimage

    def set_registry_credentials(self, registry_credentials: Mapping[str, str]) -> None:
        """Set the registry that the image is pushed to, and the login.

        Args:
            registry_credentials: Any of the keys "server", "username" and "password".

        Raises:
            WorkflowError: There is another key.
        """
        unknown = [key for key in registry_credentials if key not in _CREDENTIALS]
        if unknown:
            raise WorkflowError(
                f"{find_source_location()}: unknown key in registry_credentials:"
                f" {', '.join(map(repr, unknown))}",
                tip=f"the keys are {', '.join(_CREDENTIALS)}",
            )
        self.registry_credentials = dict(registry_credentials)

    def set_kfp_host(self, kfp_host: str) -> None:
        """Set the URL of the KFP API."""
        self.kfp_host = kfp_host

    def run(self, **parameters: Any) -> RunHandle | NotRun:
        """Submit the graph: execute the stages of `doit submit` that are not up to date.

        Args:
            **parameters: Values of run parameters by name. The others have their defaults.

        Returns:
            The run. While the graph is only being built, a placeholder without a meaning.

        Raises:
            WorkflowError: A container that imports the file would not build this workflow.
            ParameterError: A run parameter is unknown, or its value has the wrong type.
            FFTasksError: A stage failed.
        """
        if is_collecting():
            return NotRun()
        from fftasks import import_implementation

        run_on_kfp = import_implementation(
            "fftasks.functionfuse.kfp", "run_on_kfp", "KFPWorkflow.run()"
        )
        run: RunHandle = run_on_kfp(self, parameters)
        return run


def storage_factory(options: Mapping[str, Any]) -> FileStorage:
    """Return a storage for results.

    Args:
        options: {"kind": "file", "options": {"path": folder}}.

    Raises:
        SettingsError: A key is missing, or the kind is not "file". FunctionFuse's kinds "S3" and "ray"
            are not supported.
    """
    try:
        kind, path = options["kind"], options["options"]["path"]
    except (KeyError, TypeError) as error:
        raise SettingsError(
            f"storage_factory: {error} not found in {options!r}",
            tip='storage_factory({"kind": "file", "options": {"path": "storage"}})',
        ) from None
    if kind != "file":
        raise SettingsError(
            f"storage_factory: unknown kind of storage: {kind!r}", tip='use the kind "file"'
        )
    return FileStorage(path)


class FileStorage:
    """Results in a folder, by name of workflow and node, for LocalWorkflow, notebooks and scripts.

    LocalWorkflow loads a result from here only if the node's code, its constants and the results
    upstream have not changed.

    Attributes:
        path: The folder. It is created if it does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:
        """Return the sorted names of the nodes that have a result and match a glob pattern."""
        names = [label["name"] for label in self._read_labels(workflow_name)]
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Return the result of a node.

        Raises:
            FileNotFoundError: The node has no result.
            StoreError: The file has changed since it was saved. Loading it could execute code.
        """
        self._check_exists(workflow_name, task_name)
        from fftasks import import_implementation

        read = import_implementation("fftasks.functionfuse.storage", "read_task", "read_task()")
        return read(self, workflow_name, task_name)

    def save(self, workflow_name: str, task_name: str, value: Any) -> None:
        """Store a value under the name of a node; LocalWorkflow never uses it as the node's result."""
        from fftasks import import_implementation

        save = import_implementation("fftasks.functionfuse.storage", "save_value", "save()")
        save(self, workflow_name, task_name, value)

    def remove_task(
        self, workflow_name: str, task_name: str | None = None, pattern: str | None = None
    ) -> None:
        """Remove the result of a node, or the results of all nodes that match a pattern.

        Args:
            workflow_name: Name of the workflow.
            task_name: Name of the node; ignored if there is a pattern.
            pattern: Glob pattern for names of nodes.

        Raises:
            FileNotFoundError: The named node has no result.
        """
        names = [task_name] if pattern is None else self.list_tasks(workflow_name, pattern)
        for name in names:
            self._check_exists(workflow_name, name)
            self._label_path(workflow_name, str(name)).unlink(missing_ok=True)
            self._artifact_path(workflow_name, str(name)).unlink()

    def remove_workflow(self, workflow_name: str) -> None:
        """Remove all results of a workflow, if there are any."""
        folder = self.path / make_slug(workflow_name)
        if folder.exists():
            shutil.rmtree(folder)

    def _check_exists(self, workflow_name: str, task_name: str | None) -> None:
        if task_name is None or not self._artifact_path(workflow_name, task_name).exists():
            raise FileNotFoundError(f"{self.path}: no result of {task_name!r} in {workflow_name!r}")

    def _artifact_path(self, workflow_name: str, task_name: str) -> Path:
        return self.path / make_slug(workflow_name) / f"{make_slug(task_name)}.artifact"

    def _label_path(self, workflow_name: str, task_name: str) -> Path:
        """Return the JSON file beside an artifact: name, key (the fingerprint), digest, size in bytes."""
        return self._artifact_path(workflow_name, task_name).with_suffix(".json")

    def _read_labels(self, workflow_name: str) -> Iterator[dict[str, Any]]:
        for path in (self.path / make_slug(workflow_name)).glob("*.json"):
            label = json.loads(path.read_bytes())
            if self._artifact_path(workflow_name, label["name"]).exists():
                yield label
