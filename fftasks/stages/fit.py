"""Whether a cluster takes the tasks of a pipeline, before there is a pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fftasks.stages.limits import Cluster, describe_inputs, describe_object_excess, estimate_object

# what the pipeline stage adds to a task besides what is counted here: cache key, pod_retries, name shown
_MORE_BYTES = 300
_IMPORTERS_BYTES = 2000  # of two importers, and of the edges from them
_IMPORTERS_OBJECT_BYTES = 10_000  # the same, in Argo's workflow object


def find_excess(tasks: Mapping[str, Mapping[str, Any]], cluster: Cluster) -> str:
    """Return why a cluster would not take the tasks of kfp_tasks.make_tasks; "" if it does."""
    if excess := describe_object_excess(tasks, cluster):
        return excess
    for task in tasks.values():
        inputs = len(task["artifacts"])
        if inputs > cluster.inputs:
            return f"{task['name']} has {inputs} inputs, and a task takes about {cluster.inputs}"
    size = measure(tasks)
    if size > cluster.argument_bytes:
        return (
            f"nodes and edges take about {size} bytes, and KFP passes them as one argument of"
            f" {cluster.argument_bytes}"
        )
    return ""


def measure(tasks: Mapping[str, Mapping[str, Any]]) -> int:
    """Return about how many bytes tasks take in the one argument that describes a pipeline."""
    return sum(_measure(name, task) for name, task in tasks.items())


def count_room(tasks: Mapping[str, Mapping[str, Any]], cluster: Cluster) -> int:
    """Return how many tasks may each take two artifacts from importers, besides what there is."""
    in_object = (cluster.object_bytes - estimate_object(tasks, cluster)) // _IMPORTERS_OBJECT_BYTES
    in_argument = (cluster.argument_bytes - measure(tasks)) // _IMPORTERS_BYTES
    return max(min(in_object, in_argument), 0)


def _measure(name: str, task: Mapping[str, Any]) -> int:
    # the name stands in the task's head, and in the component's
    text = json.dumps(describe_inputs(task), ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) + len(name) + len(task["slug"]) + _MORE_BYTES
