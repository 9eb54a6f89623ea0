"""What Kubeflow Pipelines takes of a pipeline: beyond it, a run fails there and nothing says why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fftasks.errors import WorkflowError
from fftasks.record import Record

Document = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """What a cluster takes.

    tasks: Argo keeps a run in one object of 1 MiB, which is full at 315 to 395 tasks
    inputs: artifacts of one task; they reach the container as one argument
    argument_bytes: what Linux allows for one argument of a process
    input_bytes: what one artifact takes in the argument that describes a task's inputs
    display_names: whether a task may be shown under its node's own name; KFP backends before 2.14 look for
        the results of a task under the name that is shown (kubeflow/pipelines 11938) and need False
    """

    tasks: int = 300
    inputs: int = 230
    argument_bytes: int = 128 * 1024
    input_bytes: int = 560
    display_names: bool = True


def check_limits(components: Record, document: Document, cluster: Cluster) -> None:
    """Raise WorkflowError, with the numbers, if a pipeline is more than a cluster takes.

    components: the record of the components stage; document: the pipeline made of them
    """
    workflow, tasks = components["workflow"], components["tasks"]
    attempted = f"pipeline: workflow {workflow!r} is too large for Kubeflow Pipelines"
    if len(tasks) > cluster.tasks:
        raise WorkflowError(
            attempted,
            found=[f"{len(tasks)} nodes; a run holds about {cluster.tasks}"],
            tip="let a function do the work of several nodes, or use doit run",
        )
    for task in tasks.values():
        _check_inputs(attempted, task, cluster)
    size = _measure(document["root"])
    if size > cluster.argument_bytes:
        raise WorkflowError(
            attempted,
            found=[
                f"its nodes and edges take {size} bytes",
                f"KFP passes them as one argument, which may have {cluster.argument_bytes}",
            ],
            tip="use fewer nodes, fewer inputs per node, shorter names or shorter constants",
        )


def check_sources(document: Document) -> None:
    """Raise RuntimeError if a task takes one artifact in two inputs.

    ML Metadata records an artifact once per task (its table Event is unique in artifact, execution and
    type), so the driver of such a task fails. The compiler never makes one: an error is a bug of fftasks.

    Args:
        document: Pipeline document, with the importers of kept values.
    """
    tasks, executors = document["root"]["dag"]["tasks"], document["deploymentSpec"]["executors"]
    for name, task in tasks.items():
        seen: dict[tuple[str, str], str] = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            taken = source["taskOutputArtifact"]
            producer = tasks[taken["producerTask"]]
            label = document["components"][producer["componentRef"]["name"]]["executorLabel"]
            importer = executors[label].get("importer")  # the artifacts of one URI are one artifact
            uri = importer["artifactUri"]["constant"] if importer else ""
            artifact = ("uri", uri) if uri else (taken["producerTask"], taken["outputArtifactKey"])
            other = seen.setdefault(artifact, key)
            if other != key:
                raise RuntimeError(f"task {name!r} takes {artifact} in two inputs: {other}, {key}")


def _check_inputs(attempted: str, task: Document, cluster: Cluster) -> None:
    node, inputs = task["name"], len(task["artifacts"])
    if inputs > cluster.inputs:
        raise WorkflowError(
            attempted,
            found=[f"node {node!r} has {inputs} inputs; a task takes about {cluster.inputs}"],
            tip="collect the results in two steps: nodes that take a part each, and one that takes theirs",
        )
    size = inputs * cluster.input_bytes + _measure(task["parameters"])
    if size > cluster.argument_bytes:
        raise WorkflowError(
            attempted,
            found=[
                f"node {node!r}: {inputs} inputs and {len(task['parameters'])} constants take {size} bytes",
                f"KFP passes them as one argument, which may have {cluster.argument_bytes}",
            ],
            tip="read long constants inside the function",
        )


def _measure(value: Any) -> int:
    # as Go writes it: UTF-8, no spaces
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
