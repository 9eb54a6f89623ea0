"""The limits of a run on Kubeflow Pipelines, checked before anything is submitted.

Beyond them a run fails on the cluster after minutes, and no message says why.

Whether a cluster takes the tasks of a pipeline, before there is a pipeline.
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

# Bytes in Argo's workflow object, from which `estimate_object` computes its estimate. They are fitted to
# objects that were put together as the compiler and the driver of KFP 2.17 do, and checked on a real KFP
# 2.17.0: 40 tasks took 245,747 bytes, a chain of 200 tasks 1,041,143, and 170 tasks, the last of which had
# 168 inputs, 1,139,983. These runs had no digests of inputs, which add 290 bytes for each input
# (tests/services/workflow_size.py).
_SPEC_BYTES = 1000  # of a task: its two steps, besides what the pipeline says of it
_DEPENDENCY_BYTES = (
    24  # of a task's condition for each task that it waits for, besides that one's name
)
_IMAGE_BYTES = 250  # reference and fingerprint, which the tasks of the stage do not have yet
_STATE_BYTES = (
    880  # of the compressed states of a task's steps, if Argo keeps no extra step for retries
)
_GROUP_STATE_BYTES = (
    330  # the same, in addition for a task of several nodes, with its second output
)
_INPUT_STATE_BYTES = 240  # the same, for each input
_FAR_INPUT_STATE_BYTES = 650  # the same, for each input behind the first ones
_DIGEST_STATE_BYTES = 135  # the same, for the digest of each input, which does not compress
_NEAR_INPUTS = 20  # as many inputs as compress well, since their copies are near each other
_CONSTANT_COPIES = 3.4  # how often a constant is in the states
_ARGUMENT_COPIES = 2.2  # how often the names of a group's nodes are, which are compressed already
_PLAIN_ARGUMENT_BYTES = 200  # of arguments without such names
_NAME_COPIES = 2.7  # how often what a name has more than a short one is in the states
_SHORT_NAME_BYTES = 8
_SPEC_FACTOR = 1.15  # what a real object has on top of what is counted
_STATES_FACTOR = 1.1
_SHARED_BYTES = 10 * 1024  # of an object, whatever its tasks are


@dataclass(frozen=True)
class ClusterLimits:
    """What an installation of Kubeflow Pipelines takes.

    Attributes:
        object_bytes: Size of Argo's workflow object, which holds the pipeline and the states of its steps.
            Argo refuses larger ones ("Request entity too large").
        has_retry_steps: Whether Argo keeps two steps where there was one. The manifests of KFP from 2.17 on
            give every step a retry strategy (templateDefaults), and so another step around it.
        inputs: Number of input artifacts of one task. They reach its container as one argument of a process.
        argument_bytes: Size of one argument of a process on Linux.
        input_bytes: Size of one input artifact in the argument that describes the inputs of a task, without
            its digest.
        digest_bytes: Size of the digest of one input artifact there.
        display_names: Whether a task may be shown under the name of its node. KFP backends before 2.14 look
            for the results of a task under the name that is shown (kubeflow/pipelines 11938).
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
    """Check that a cluster takes a pipeline.

    Args:
        components: Record of the tasks stage.
        document: The pipeline that was made of it.
        cluster: The limits.

    Raises:
        WorkflowError: The pipeline is too large. The message has the numbers.
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
                f"KFP passes them as one argument, which may have {cluster.argument_bytes}",
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
    """Return why Argo's workflow object would be too large for tasks; "" if it is not.

    Args:
        tasks: The tasks of kfp_tasks.make_tasks, by name.
        cluster: The limits.
    """
    size = estimate_object(tasks, cluster)
    if size <= cluster.object_bytes:
        return ""
    return describe_excess(len(tasks), size, cluster.object_bytes)


def describe_excess(tasks: int, size: int, most: int) -> str:
    """Return the sentence for a run whose workflow object would have more than `most` bytes."""
    return (
        f"{tasks} tasks take about {size:,} bytes in Argo's workflow object, which may have {most:,}"
        f" (about {max(tasks * most // size, 1)} such tasks)"
    )


def estimate_object(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> int:
    """Return about how many bytes Argo's workflow object has when a run has ended.

    The object has the component, the container and twice the description of each task, as JSON in JSON.
    Beyond 1 MiB Argo compresses the states of the steps, each of which has a copy of them all.

    Args:
        tasks: The tasks of kfp_tasks.make_tasks, by name.
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
    """Return what a pipeline says of a task's inputs, to be measured."""
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
                f"KFP passes them as one argument, which may have {cluster.argument_bytes}",
            ],
            tip="read long constants inside the function",
        )


def _measure_json(value: Any) -> int:
    # as Go writes it: UTF-8, no spaces
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _measure_nested(value: Any) -> int:
    """Return the size of JSON that stands in a JSON string."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) + text.count('"') + text.count("\\")


# what the pipeline stage adds to a task besides what is counted here: cache key, pod_retries, name shown
_MORE_BYTES = 300
_IMPORTERS_BYTES = 2000  # of two importers, and of the edges from them
_IMPORTERS_OBJECT_BYTES = 10_000  # the same, in Argo's workflow object


def find_excess(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> str:
    """Return why a cluster would not take the tasks of kfp_tasks.make_tasks; "" if it does."""
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
    """Return about how many bytes tasks take in the one argument that describes a pipeline."""
    return sum(_estimate_task_argument(name, task) for name, task in tasks.items())


def count_importer_room(tasks: Mapping[str, Mapping[str, Any]], cluster: ClusterLimits) -> int:
    """Return how many tasks may each take two artifacts from importers, besides what there is."""
    in_object = (cluster.object_bytes - estimate_object(tasks, cluster)) // _IMPORTERS_OBJECT_BYTES
    in_argument = (cluster.argument_bytes - estimate_argument(tasks)) // _IMPORTERS_BYTES
    return max(min(in_object, in_argument), 0)


def _estimate_task_argument(name: str, task: Mapping[str, Any]) -> int:
    # the name stands in the task's head, and in the component's
    text = json.dumps(describe_inputs(task), ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) + len(name) + len(task["slug"]) + _MORE_BYTES
