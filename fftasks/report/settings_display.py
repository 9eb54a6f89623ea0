"""Settings of a node that differ from the defaults, from the project or from the document of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.http.response import filter_by_type, parse_json
from fftasks.kfp.run import ClusterRun, find_component, find_container
from fftasks.kfp.task_details import ClusterTask
from fftasks.pipeline.kubernetes import (
    make_executor,
    make_pod_settings,
    make_resources,
    make_retry_policy,
)
from fftasks.runner.scheduler import RESOURCES_VARIABLE, PodResources

_RESOURCES = {
    "resourceCpuRequest": "cpu",
    "resourceCpuLimit": "cpu_limit",
    "resourceMemoryRequest": "memory",
    "resourceMemoryLimit": "memory_limit",
}
_POD_SETTINGS = {
    "timeout_s": "timeout_s",
    "retries": "retries",
    "wait_s": "retry_wait_s",
    "factor": "retry_factor",
    "max_wait_s": "retry_max_wait_s",
}
_FFTASKS_VARIABLES = frozenset(
    {"FFFUNCTION", "FFPREVIEW", RESOURCES_VARIABLE}
)  # variables that the stages set


def format_changed_settings(settings: NodeSettings) -> dict[str, str]:
    """Return the settings that differ from the defaults: name -> value, and where it is set."""
    return dict(line.split(": ", 1) for line in settings.describe())


def find_run_settings(
    run: ClusterRun, task: ClusterTask, settings: NodeSettings | None = None
) -> dict[str, str]:
    """Return the settings that a node had in a run.

    Args:
        run: The run.
        task: Task that ran the node.
        settings: Current settings of the node. They are returned, with the places where they are set, if they
            agree with the document of the run.
    """
    document, platform = run.document, _find_platform(run, task)
    container = find_container(document, task.name)
    step = document.get("root", {}).get("dag", {}).get("tasks", {}).get(task.name, {})
    if settings is not None and _matches_settings(container, step, platform, settings, task):
        found = format_changed_settings(settings)
    else:
        found = {**dict(_list_container(container, step)), **_list_platform(platform)}
    return {**found, **({"image": str(container["image"])} if "image" in container else {})}


def _matches_settings(
    container: Mapping[str, Any],
    step: Mapping[str, Any],
    platform: Mapping[str, Any],
    settings: NodeSettings,
    task: ClusterTask,
) -> bool:
    given = make_pod_settings(settings, len(task.nodes))
    all_env = {one["name"]: one["value"] for one in container.get("env", ())}
    env = {name: value for name, value in all_env.items() if name not in _FFTASKS_VARIABLES}
    return (
        make_resources(given) == container.get("resources", {})
        and make_retry_policy(given) == step.get("retryPolicy", {})
        and make_executor(given) == platform
        and dict(settings.env) == env
        and given.env.get(RESOURCES_VARIABLE) == all_env.get(RESOURCES_VARIABLE)
    )


def _find_platform(run: ClusterRun, task: ClusterTask) -> Mapping[str, Any]:
    given = run.answer.get("pipeline_spec") or {}
    kubernetes = (given.get("platform_spec") or {}).get("platforms", {}).get("kubernetes", {})
    executors = kubernetes.get("deploymentSpec", {}).get("executors", {})
    found: Mapping[str, Any] = executors.get(
        find_component(run.document, task.name).get("executorLabel"), {}
    )
    return found


def _list_container(
    container: Mapping[str, Any], step: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    resources = container.get("resources", {})
    for key, name in _RESOURCES.items():
        if key in resources:
            yield name, str(resources[key])
    accelerator = resources.get("accelerator", {})
    if accelerator:
        yield "gpu", f"{accelerator.get('resourceCount', '')} {accelerator.get('resourceType', '')}"
    for variable in container.get("env", ()):
        if variable["name"] not in _FFTASKS_VARIABLES:
            yield f"env.{variable['name']}", str(variable["value"])
        elif variable["name"] == RESOURCES_VARIABLE:
            yield from _list_pod_settings(variable["value"])
    if step.get("retryPolicy"):
        yield "pod_retries", str(step["retryPolicy"].get("maxRetryCount", ""))
    if not step.get("cachingOptions", {}).get("enableCache"):
        yield "cache", "false"


def _list_pod_settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings in the JSON variable of the entry point; none if its format is unknown."""
    try:
        means = filter_by_type(parse_json(text), {}) or {}
    except ValueError:
        return
    for key, value in means.items():
        if key in _POD_SETTINGS and value != getattr(PodResources(), key):
            yield _POD_SETTINGS[key], str(value)


def _list_platform(platform: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings for Kubernetes, with the keys of KFP's Kubernetes extension."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in sorted(platform.items())
    }
