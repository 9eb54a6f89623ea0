"""The types of what is read of a run that Kubeflow Pipelines shows, and of its pipeline document.

What has another type is taken for absent, here and once. So no other module has to expect a number where a
mapping belongs.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from typing import Any

from fftasks.ports.answer import fit, need

Json = Mapping[str, Any]

_HISTORY = [{"state": str, "update_time": str}]
_ERROR = {"message": str}
_ROW = {
    **dict.fromkeys(("display_name", "task_id", "state", "start_time", "end_time"), str),
    "state_history": _HISTORY,
    "error": _ERROR,
    "child_tasks": [{"pod_name": str}],
}
_VALUE = {"constant": object}
_TASK = {
    "taskInfo": {"name": str},
    "componentRef": {"name": str},
    "dependentTasks": [str],
    "inputs": {
        "artifacts": {...: {"taskOutputArtifact": {"producerTask": str, "outputArtifactKey": str}}},
        "parameters": {...: {"componentInputParameter": str, "runtimeValue": _VALUE}},
    },
    "retryPolicy": dict,
    "cachingOptions": {"enableCache": bool, "cacheKey": str},
}
_EXECUTOR = {
    "container": {
        "image": str,
        "command": [str],
        "args": [str],
        "env": [{"name": str, "value": str}],
        "resources": {
            "resourceMemoryLimit": str,
            "resourceMemoryRequest": str,
            "accelerator": {"resourceCount": str, "resourceType": str},
        },
    },
    "importer": {"artifactUri": {"constant": str, "runtimeValue": {"constant": str}}},
}
_DOCUMENT = {
    "pipelineInfo": {"name": str},
    "root": {
        "dag": {"tasks": {...: _TASK}},
        "inputDefinitions": {"parameters": {...: dict}},
    },
    "components": {
        ...: {
            "executorLabel": str,
            "outputDefinitions": {"artifacts": dict, "parameters": dict},
        }
    },
    "deploymentSpec": {"executors": {...: _EXECUTOR}},
}
_PLATFORM = {
    "platforms": {
        "kubernetes": {
            "deploymentSpec": {
                "executors": {...: {"podMetadata": {"annotations": dict, "labels": dict}}}
            }
        }
    }
}
_RUN = {
    **dict.fromkeys(("run_id", "display_name", "description", "state"), str),
    **dict.fromkeys(("created_at", "scheduled_at", "finished_at", "experiment_id"), str),
    "state_history": _HISTORY,
    "error": _ERROR,
    "pipeline_version_reference": {"pipeline_id": str, "pipeline_version_id": str},
    "runtime_config": {"parameters": dict, "pipeline_root": str},
    "run_details": {"task_details": [_ROW]},
    "pipeline_spec": {**_DOCUMENT, "pipeline_spec": _DOCUMENT, "platform_spec": _PLATFORM},
}


def read_answer(answer: object) -> Json:
    """Return a run without what has a type that Kubeflow Pipelines does not give it."""
    found: Json = fit(answer, _RUN) or {}
    return found


def read_document(answer: Json) -> Json:
    """Return the pipeline document of a run that read_answer has returned.

    Returns:
        The document; {} if there is none. Its tasks have a component, and depend only on tasks that are
        there. If they depend on themselves, there are none: Kubeflow Pipelines runs no such document.
    """
    given = answer.get("pipeline_spec") or {}
    document = given.get("pipeline_spec") or given
    if not document:
        return {}
    root = document.get("root", {})
    every = root.get("dag", {}).get("tasks", {})
    tasks = {name: step for name, step in every.items() if step.get("componentRef", {}).get("name")}
    tasks = {name: _read_task(step, tasks) for name, step in tasks.items()}
    try:
        order_tasks(tasks)
    except graphlib.CycleError:
        tasks = {}
    executors = document.get("deploymentSpec", {}).get("executors", {})
    fitted = {label: _read_executor(executor) for label, executor in executors.items()}
    deployment = {**document.get("deploymentSpec", {}), "executors": fitted}
    root = {**root, "dag": {**root.get("dag", {}), "tasks": tasks}}
    return {**document, "root": root, "deploymentSpec": deployment}


def order_tasks(tasks: Mapping[str, Json]) -> list[str]:
    """Return the names of a document's tasks, upstream first; raise CycleError if there is no order."""
    graph = {name: _list_upstream(step) for name, step in sorted(tasks.items())}
    return list(graphlib.TopologicalSorter(graph).static_order())


def _list_upstream(step: Json) -> list[str]:
    sources = step.get("inputs", {}).get("artifacts", {}).values()
    made = {
        one["taskOutputArtifact"]["producerTask"] for one in sources if "taskOutputArtifact" in one
    }
    return sorted({*step.get("dependentTasks", ()), *made})


def _read_task(step: Json, tasks: Mapping[str, Json]) -> Json:
    found = dict(step)
    if "dependentTasks" in step:
        found["dependentTasks"] = [name for name in step["dependentTasks"] if name in tasks]
    artifacts = step.get("inputs", {}).get("artifacts", {})
    if artifacts:
        fitted = {
            name: source
            for name, source in artifacts.items()
            if "taskOutputArtifact" not in source or _has_producer(source, tasks)
        }
        found["inputs"] = {**step["inputs"], "artifacts": fitted}
    return found


def _has_producer(source: Json, tasks: Mapping[str, Json]) -> bool:
    made = source["taskOutputArtifact"]
    return "outputArtifactKey" in made and made.get("producerTask") in tasks


def _read_executor(executor: Json) -> Json:
    container = executor.get("container", {})
    if "env" not in container:
        return executor
    env = need(container["env"], "name", "value")
    return {**executor, "container": {**container, "env": env}}
