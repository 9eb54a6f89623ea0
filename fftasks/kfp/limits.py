"""Size limits of a run on Kubeflow Pipelines (KFP), checked before a pipeline is compiled or submitted.

A run that exceeds them fails on the cluster after minutes, without a message that says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.errors import WorkflowError
from fftasks.records import Record
from fftasks.runner.task import MAX_DIGESTED

Document = dict[str, Any]

# Sizes of the parts of Argo's workflow object, from which `estimate_object` computes its estimate. They are
# fitted to objects that were built in the same way as the compiler and the driver of KFP 2.17 do, and
# checked on a real KFP 2.17.0: 40 tasks took 245,747 bytes, a chain of 200 tasks 1,041,143, and 170 tasks,
# the last of which had 168 inputs, 1,139,983. These runs had no digests of inputs, which add 290 bytes for
# each input (tests/services/workflow_size.py).
#
# Specification of a task, in bytes:
_SPEC_BYTES = 1000  # its two steps, without the description in the pipeline
_DEPENDENCY_BYTES = 24  # its condition for each upstream task, without the name of that task
_IMAGE_BYTES = 250  # image reference and fingerprint, which are unknown in the tasks stage
# Compressed states of the steps of a task, in bytes, if Argo has no extra step for retries:
_STATE_BYTES = 880
_GROUP_STATE_BYTES = 330  # in addition for a task of several nodes, which has a second output
_INPUT_STATE_BYTES = 240  # for each input
_FAR_INPUT_STATE_BYTES = 650  # for each input after the first _NEAR_INPUTS
_DIGEST_STATE_BYTES = 135  # for the digest of each input, which does not compress
_NEAR_INPUTS = 20  # number of inputs that compress well, because their copies are near each other
# Number of copies in the states, after compression:
_CONSTANT_COPIES = 3.4  # of a constant
_ARGUMENT_COPIES = 2.2  # of the names of a group's nodes, which are already compressed
_PLAIN_ARGUMENT_BYTES = 200  # size of arguments without such names
_NAME_COPIES = 2.7  # of the part of a name beyond _SHORT_NAME_BYTES
_SHORT_NAME_BYTES = 8
# Ratio of the size of a real object to the computed size:
_SPEC_FACTOR = 1.15
_STATES_FACTOR = 1.1
_SHARED_BYTES = 10 * 1024  # size of an object without tasks

# Sizes in the argument that describes a pipeline, in bytes:
_TASK_EXTRAS_BYTES = (
    300  # added to a task by the pipeline stage: cache key, pod_retries, display name
)
_IMPORTERS_BYTES = 2000  # two importers and the edges from them
_IMPORTERS_OBJECT_BYTES = 10_000  # the same in Argo's workflow object


@dataclass(frozen=True)
class ClusterLimits:
    """Limits of an installation of Kubeflow Pipelines.

    Attributes:
        object_bytes: Maximum size of Argo's workflow object, which contains the pipeline and the states of
            its steps. Argo rejects larger objects ("Request entity too large").
        has_retry_steps: Whether Argo stores two steps for each step. From KFP 2.17 on, the manifests give
            every step a retry strategy (templateDefaults), which adds a step around it.
        inputs: Maximum number of input artifacts of a task. They are passed to its container as one
            argument.
        argument_bytes: Maximum size of one argument of a process on Linux.
        input_bytes: Size of one input artifact in the argument that describes the inputs of a task, without
            its digest.
        digest_bytes: Size of the digest of one input artifact in this argument.
        display_names: Whether the display name of a task may differ from its name. Before 2.14, KFP
            searches the results of a task under its display name (kubeflow/pipelines issue 11938).
    """

    object_bytes: int = 1 << 20
    has_retry_steps: bool = True
    inputs: int = 230
    argument_bytes: int = 128 * 1024
    input_bytes: int = 560
    digest_bytes: int = 55
    display_names: bool = True


def get_cluster_limits(version: str) -> ClusterLimits:
    """Return the limits of a release of Kubeflow Pipelines.

    Args:
        version: Release of the backend, such as "2.17" or "2.16.1".
    """
    found = re.match(r"v?(\d+)\.(\d+)", version)
    release = (int(found[1]), int(found[2])) if found else (2, 17)
    return ClusterLimits(has_retry_steps=release >= (2, 17), display_names=release >= (2, 14))


def check_limits(components: Record, document: Document, cluster: ClusterLimits) -> None:
    """Check that a compiled pipeline is within the limits.

    Args:
        components: Record of the tasks stage.
        document: Pipeline document that was compiled from it.
        cluster: The limits.

    Raises:
        WorkflowError: The pipeline exceeds a limit. The message contains both sizes.
    """
    workflow, tasks = components["workflow"], components["tasks"]
    attempted = f"pipeline: workflow {workflow!r} is too large for Kubeflow Pipelines"
    for task in tasks.values():
        _check_inputs(attempted, task, cluster)
    size = _measure_json(document["root"])
    if size > cluster.argument_bytes:
        raise WorkflowError(
            attempted,
            found=[
                f"its nodes and edges take {size} bytes",
                f"KFP passes them as one argument of at most {cluster.argument_bytes} bytes",
            ],
            tip="use fewer nodes, fewer inputs per node, shorter names or shorter constants",
        )
    if excess := describe_object_excess(tasks, cluster):
        raise WorkflowError(
            attempted,
            found=[excess],
            tip="remove `kfp.fuse: none`, so that several nodes share a task, or use doit run",
        )


def describe_object_excess(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> str:
    """Describe by how much Argo's workflow object would be too large; return "" if it is not.

    Args:
        tasks: The tasks of the tasks stage by name.
        cluster: The limits.
    """
    size = estimate_object(tasks, cluster)
    if size <= cluster.object_bytes:
        return ""
    return describe_excess(len(tasks), size, cluster.object_bytes)


def describe_excess(tasks: int, size: int, most: int) -> str:
    """Return the sentence for a run whose workflow object would be too large.

    Args:
        tasks: Number of tasks.
        size: Estimated size of the object in bytes.
        most: Maximum size in bytes.
    """
    return (
        f"{tasks} tasks take about {size:,} bytes in Argo's workflow object, which may have {most:,}"
        f" (about {max(tasks * most // size, 1)} such tasks)"
    )


def estimate_object(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> int:
    """Estimate the size in bytes of Argo's workflow object at the end of a run.

    For each task, the object contains the component, the container and twice the description, as JSON in a
    JSON string. Beyond 1 MiB, Argo compresses the states of the steps.

    Args:
        tasks: The tasks of the tasks stage by name.
        cluster: The limits.
    """
    spec = states = 0
    for name, task in tasks.items():
        described = describe_inputs(task)
        container = [task["command"], task["args"], task["env"]]
        nested = _measure_nested(described)
        spec += _measure_nested(task["component"]) + _measure_nested(container) + 2 * nested
        spec += _SPEC_BYTES + _IMAGE_BYTES + 8 * len(name)
        spec += sum(len(other) + _DEPENDENCY_BYTES for other in task["upstream"])
        inputs = len(task["artifacts"])
        far = max(inputs - _NEAR_INPUTS, 0)
        states += _STATE_BYTES + _INPUT_STATE_BYTES * (inputs - far) + _FAR_INPUT_STATE_BYTES * far
        states += _DIGEST_STATE_BYTES * inputs if inputs <= MAX_DIGESTED else 0
        states += int(_NAME_COPIES * max(len(name.encode()) - _SHORT_NAME_BYTES, 0))
        states += _GROUP_STATE_BYTES if len(task["nodes"]) > 1 else 0
        states += int(_CONSTANT_COPIES * _measure_json(task["parameters"]))
        states += int(
            _ARGUMENT_COPIES * max(_measure_json(task["args"]) - _PLAIN_ARGUMENT_BYTES, 0)
        )
    steps = 2 if cluster.has_retry_steps else 1
    return int(_SPEC_FACTOR * spec + _STATES_FACTOR * steps * states) + _SHARED_BYTES


def describe_inputs(task: Mapping[str, Any]) -> list[Any]:
    """Return the description of a task's inputs as in the pipeline document, for measuring its size."""
    artifacts = {
        key: {
            "taskOutputArtifact": {
                "outputArtifactKey": source["output"],
                "producerTask": source["task"],
            }
        }
        for key, source in task["artifacts"].items()
    }
    constants = {
        key: {"runtimeValue": {"constant": value}} for key, value in task["parameters"].items()
    }
    return [artifacts, constants, task["run_parameters"], task["upstream"], task["name"]]


def check_sources(document: Document) -> None:
    """Check that no task has the same artifact in two inputs.

    ML Metadata records an artifact once per task (its table Event is unique in artifact, execution and
    type), so the driver of such a task fails. The compiler never produces one, so an error is a bug of
    fftasks.

    Args:
        document: Pipeline document, including the importers of reused results.

    Raises:
        RuntimeError: A task has an artifact in two inputs.
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


def _check_inputs(attempted: str, task: Document, cluster: ClusterLimits) -> None:
    node, inputs = task["name"], len(task["artifacts"])
    if inputs > cluster.inputs:
        raise WorkflowError(
            attempted,
            found=[f"node {node!r} has {inputs} inputs; a task takes about {cluster.inputs}"],
            tip="collect the results in two steps: nodes that take a part each, and one that takes theirs",
        )
    each = cluster.input_bytes + (cluster.digest_bytes if inputs <= MAX_DIGESTED else 0)
    size = inputs * each + _measure_json(task["parameters"])
    if size > cluster.argument_bytes:
        raise WorkflowError(
            attempted,
            found=[
                f"node {node!r}: {inputs} inputs and {len(task['parameters'])} constants take {size} bytes",
                f"KFP passes them as one argument of at most {cluster.argument_bytes} bytes",
            ],
            tip="read long constants inside the function",
        )


def _measure_json(value: Any) -> int:
    """Return the size in bytes of a value as JSON in Go's format: UTF-8 without spaces."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _measure_nested(value: Any) -> int:
    """Return the size in bytes of JSON inside a JSON string, where quotes and backslashes are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) + text.count('"') + text.count("\\")


def find_excess(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> str:
    """Describe which limit some tasks exceed, before they are compiled; return "" if they exceed none.

    Args:
        tasks: The tasks of the tasks stage by name.
        cluster: The limits.
    """
    if excess := describe_object_excess(tasks, cluster):
        return excess
    for task in tasks.values():
        inputs = len(task["artifacts"])
        if inputs > cluster.inputs:
            return f"{task['name']} has {inputs} inputs, and a task takes about {cluster.inputs}"
    size = estimate_argument(tasks)
    if size > cluster.argument_bytes:
        return (
            f"nodes and edges take about {size} bytes, and KFP passes them as one argument of"
            f" {cluster.argument_bytes}"
        )
    return ""


def estimate_argument(tasks: Mapping[str, Mapping[str, Any]]) -> int:
    """Estimate the size in bytes of tasks in the argument that describes a pipeline."""
    size = 0
    for name, task in tasks.items():
        # the name is in the key of the task and in its component
        text = json.dumps(describe_inputs(task), ensure_ascii=False, separators=(",", ":"))
        size += len(text.encode()) + len(name) + len(task["slug"]) + _TASK_EXTRAS_BYTES
    return size


def count_importer_room(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> int:
    """Return how many tasks may take two artifacts each from importers without exceeding a limit.

    Args:
        tasks: The tasks of the tasks stage by name.
        cluster: The limits.
    """
    in_object = (cluster.object_bytes - estimate_object(tasks, cluster)) // _IMPORTERS_OBJECT_BYTES
    in_argument = (cluster.argument_bytes - estimate_argument(tasks)) // _IMPORTERS_BYTES
    return max(min(in_object, in_argument), 0)
