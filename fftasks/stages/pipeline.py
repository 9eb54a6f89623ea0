"""Stage pipeline: components and the pushed image -> one pipeline document for Kubeflow Pipelines.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from fftasks.errors import ToolError, WorkflowError
from fftasks.record import Record, digest_bytes
from fftasks.stages.components import Document, check_document, format_document

VERSION = 1


@dataclass(frozen=True)
class Cluster:
    """What a cluster takes; beyond it a run fails there, with messages that explain nothing.

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


def make(
    components: Record,
    reference: str,
    *,
    caching: bool,
    version: str,
    cluster: Cluster | None = None,
) -> tuple[Record, str]:
    """Return the record of a workflow's pipeline and its YAML.

    components: the record of the components stage
    reference: the pushed image, repository@sha256:...
    caching: whether KFP may take a task's result from an earlier run
    version: of fftasks

    The record's output is the digest of the YAML.

    Raises WorkflowError if the workflow is too large for KFP, and ToolError if the image is not by digest.
    """
    if "@sha256:" not in reference:
        raise ToolError(
            f"pipeline: the image {reference!r} is not named by its digest",
            tip="delete .fftasks/push.json and run `doit push`",
        )
    cluster = cluster or Cluster()
    document = _make_document(components, reference, caching=caching)
    document["sdkVersion"] = f"fftasks-{version}"
    for name, task in document["root"]["dag"]["tasks"].items():
        shown = components["tasks"][name]["name"] if cluster.display_names else name
        task["taskInfo"] = {"name": shown}
    _check_limits(components, document, cluster)
    check_document(document)
    text = format_document(document, f"workflow {components['workflow']!r}, made by fftasks")
    record = {
        "stage": "pipeline",
        "version": VERSION,
        "inputs": list_inputs(
            components, reference, caching=caching, version=version, cluster=cluster
        ),
        "output": digest_bytes(text.encode()),
        "workflow": components["workflow"],
    }
    return record, text


def list_inputs(
    components: Record,
    reference: str,
    *,
    caching: bool,
    version: str,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Return the inputs that a record of `make` with the same arguments would have."""
    return {
        "components": components["output"],
        "image": reference,
        "caching": caching,
        "cluster": asdict(cluster or Cluster()),
        "fftasks": version,
    }


def parse_document(text: str) -> Document:
    """Return the document that `make` gave as YAML."""
    import yaml

    # the parser in Python takes seconds for some hundred tasks
    document: Document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return document


def _make_document(components: Record, reference: str, *, caching: bool) -> Document:
    tasks: dict[str, Document] = components["tasks"]
    parameters: Document = components["parameters"]
    executors = {
        f"exec-{task['slug']}": {"container": _make_container(task, reference)}
        for task in tasks.values()
    }
    return {
        "pipelineInfo": {"name": components["slug"]},
        "schemaVersion": "2.1.0",
        "components": {f"comp-{task['slug']}": task["component"] for task in tasks.values()},
        "deploymentSpec": {"executors": executors},
        "root": {
            "dag": {"tasks": {n: _make_task(task, caching=caching) for n, task in tasks.items()}},
            **({"inputDefinitions": {"parameters": parameters}} if parameters else {}),
        },
    }


def _make_container(task: Document, reference: str) -> Document:
    return {
        "image": reference,
        "command": task["command"],
        "args": task["args"],
        "env": [{"name": name, "value": value} for name, value in sorted(task["env"].items())],
    }


def _make_task(task: Document, *, caching: bool) -> Document:
    inputs: Document = {}
    if task["artifacts"]:
        inputs["artifacts"] = {
            name: {
                "taskOutputArtifact": {
                    "outputArtifactKey": source["output"],
                    "producerTask": source["task"],
                }
            }
            for name, source in task["artifacts"].items()
        }
    if task["parameters"] or task["run_parameters"]:
        # all of them, though they are the defaults: backend 2.17.0 fails on what is left out (issue 14175)
        inputs["parameters"] = {
            **{n: {"runtimeValue": {"constant": value}} for n, value in task["parameters"].items()},
            **{n: {"componentInputParameter": p} for n, p in task["run_parameters"].items()},
        }
    return {
        "cachingOptions": {"enableCache": True} if caching else {},
        "componentRef": {"name": f"comp-{task['slug']}"},
        **({"dependentTasks": task["upstream"]} if task["upstream"] else {}),
        **({"inputs": inputs} if inputs else {}),
    }


def _check_limits(components: Record, document: Document, cluster: Cluster) -> None:
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
