"""Whether a cluster takes the tasks of a pipeline, before there is a pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fftasks.stages.limits import Cluster

# what the pipeline stage adds to a task besides what is counted here: cache key, retries, name shown
_MORE_BYTES = 300
_IMPORTERS_BYTES = 2000  # of two importers, and of the edges from them


def find_excess(tasks: Mapping[str, Mapping[str, Any]], cluster: Cluster) -> str:
    """Return why a cluster would not take the tasks of components.make_tasks; "" if it does."""
    if len(tasks) > cluster.tasks:
        return f"{len(tasks)} nodes, and a run holds about {cluster.tasks} tasks"
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
    by_count = (cluster.tasks - len(tasks)) // 2
    return max(min(by_count, (cluster.argument_bytes - measure(tasks)) // _IMPORTERS_BYTES), 0)


def _measure(name: str, task: Mapping[str, Any]) -> int:
    # as the pipeline has it; the name stands in its head, and in the component's
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
    described = [artifacts, constants, task["run_parameters"], task["upstream"], task["name"]]
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode()) + len(name) + len(task["slug"]) + _MORE_BYTES
