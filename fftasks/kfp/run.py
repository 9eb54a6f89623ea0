"""The types of what is read of a run that Kubeflow Pipelines shows, and of its pipeline document.

What has another type is taken for absent, here and once. So no other module has to expect a number where a
mapping belongs.

A run on Kubeflow Pipelines as its REST interface shows it, in words of nodes.

The truth about a run is its own document, which comes with it: the project may have changed since.
"""

from __future__ import annotations

import functools
import graphlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from fftasks.errors import (
    FFTasksError,
    ToolError,
    WorkflowError,
    suggest_name,
)
from fftasks.http.response import filter_by_type, require_keys
from fftasks.kfp.task_details import (
    ClusterTask,
    Executions,
    Json,
    RunDetails,
    find_cancel_time,
    read_row_error,
    read_time,
)
from fftasks.path_validation import split_untrusted_path
from fftasks.records import Record
from fftasks.runner.task import parse_members

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings


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


def drop_invalid_fields(answer: object) -> Json:
    """Return a run without what has a type that Kubeflow Pipelines does not give it."""
    found: Json = filter_by_type(answer, _RUN) or {}
    return found


def read_run_document(answer: Json) -> Json:
    """Return the pipeline document of a run that drop_invalid_fields has returned.

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
    env = require_keys(container["env"], "name", "value")
    return {**executor, "container": {**container, "env": env}}


FINAL_RUN_STATES = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})


@dataclass(frozen=True)
class ClusterRun:
    """A run, and the tasks of its document, upstream first.

    Attributes:
        answer: The run as Kubeflow Pipelines shows it.
        executions: What the metadata store knows of its tasks; None if it was not asked or cannot be reached.
    """

    answer: Json = field(repr=False)
    executions: Executions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Take what has an unexpected type for absent."""
        object.__setattr__(self, "answer", drop_invalid_fields(self.answer))

    @property
    def run_id(self) -> str:
        """Its identity."""
        return str(self.answer.get("run_id", ""))

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.answer.get("display_name", ""))

    @property
    def state(self) -> str:
        """One of KFP's states, "" if it has none yet; CANCELED for a run that KFP shows as FAILED."""
        if find_cancel_time(self.answer):
            return "CANCELED"
        return str(self.answer.get("state", "")).replace("RUNTIME_STATE_UNSPECIFIED", "")

    @property
    def error(self) -> str:
        """What KFP says about a failure."""
        return read_row_error(self.answer)

    @property
    def workflow(self) -> str:
        """The workflow that was submitted; "" for a run that `doit submit` did not start."""
        return parse_run_description(str(self.answer.get("description", "")))[0]

    @property
    def began(self) -> datetime | None:
        """When it was made."""
        return read_time(self.answer.get("created_at"))

    @property
    def ended(self) -> datetime | None:
        """When it ended, None if it has not."""
        return read_time(self.answer.get("finished_at"))

    @property
    def is_over(self) -> bool:
        """Tell whether its state is the last one."""
        return self.state in FINAL_RUN_STATES

    @functools.cached_property
    def document(self) -> Json:
        """The pipeline document that it runs, {} if the answer has none."""
        return read_run_document(self.answer)

    @property
    def pipeline_name(self) -> str:
        """The name in its document."""
        return str(self.document.get("pipelineInfo", {}).get("name", ""))

    @functools.cached_property
    def details(self) -> RunDetails:
        """What is known of its tasks."""
        return RunDetails(self.answer, self.document, self.executions)

    @functools.cached_property
    def tasks(self) -> tuple[ClusterTask, ...]:
        """Its tasks, upstream first."""
        steps = self.document.get("root", {}).get("dag", {}).get("tasks", {})
        return tuple(self._read_task(self.details, name) for name in order_tasks(steps))

    def _read_task(self, details: RunDetails, name: str) -> ClusterTask:
        task = details.read_task(name, list_task_nodes(self.document, name))
        if len(task.nodes) == 1:
            return task
        return replace(task, group=_find_argument(self.document, name, "--node"))

    @functools.cached_property
    def nodes(self) -> dict[str, ClusterTask]:
        """The task of each node, by the node's name."""
        return {node: task for task in self.tasks for node in task.nodes}

    def never_started(self, task: ClusterTask) -> bool:
        """Tell whether it failed before a task began; False if it has no details at all."""
        has_details = bool((self.answer.get("run_details") or {}).get("task_details"))
        return self.state == "FAILED" and has_details and task.state in ("", "PENDING")

    def find_task(self, node: str) -> ClusterTask:
        """Return the task that runs a node; raise ToolError with the nearest name if there is none."""
        if node in self.nodes:
            return self.nodes[node]
        by_task = {task.name: task for task in self.tasks}
        if node in by_task:
            return by_task[node]
        raise explain_unknown_name(
            f"run {self.name!r} has no node {node!r}", node, list(self.nodes)
        )

    def find_file(self, task: ClusterTask) -> str:
        """Return the file that builds a task's workflow, from the command of the task; "" if it has none.

        Raises:
            ToolError: The file is not below the project's folder.
        """
        file = _find_argument(self.document, task.name, "--file")
        try:
            return "/".join(split_untrusted_path(file)) if file else ""
        except ValueError as error:
            attempted = f"task {task.name} of run {self.run_id} has an unsafe --file: {error}"
            raise ToolError(attempted, found=[f"the file is {file!r}"]) from error


def explain_unknown_name(problem: str, name: str, names: list[str]) -> FFTasksError:
    """Return the error for a name that is none, with the nearest one."""
    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")  # noqa: PLR2004
    return ToolError(
        problem, found=[f"there are: {shown or 'none'}"], tip=suggest_name(name, names)
    )


def list_task_nodes(document: Json, task: str) -> tuple[str, ...]:
    """Return the names of the nodes that a task runs, as its command says; its own name if it does not."""
    executor = find_executor(document, task)
    if "importer" in executor:  # it takes what is there already
        return ()
    if members := _find_argument(document, task, "--nodes"):
        with suppress(WorkflowError):  # the run of another program may use the same option
            return parse_members(members).nodes
    if node := _find_argument(document, task, "--node"):
        return (node,)
    for variable in find_container(document, task).get("env", ()):
        if variable.get("name") == "FFFUNCTION":
            return (str(variable.get("value", "")),)
    step = document["root"]["dag"]["tasks"][task]
    return (str(step.get("taskInfo", {}).get("name") or task),)


def find_executor(document: Json, task: str) -> Json:
    """Return what a task is executed by: {"container": …} or {"importer": …}; {} if it is not there."""
    executors = document.get("deploymentSpec", {}).get("executors", {})
    executor: Json = executors.get(find_component(document, task).get("executorLabel"), {})
    return executor


def find_container(document: Json, task: str) -> Json:
    """Return the container (image, command, args, env) of a task; {} if it has none."""
    container: Json = find_executor(document, task).get("container", {})
    return container


def find_component(document: Json, task: str) -> Json:
    """Return the component of a task; {} if it is not there."""
    step = document["root"]["dag"]["tasks"][task]
    component: Json = document.get("components", {}).get(step["componentRef"]["name"], {})
    return component


def list_artifact_names(document: Json, task: str) -> list[str]:
    """Return the names of a task's artifacts."""
    definitions = find_component(document, task).get("outputDefinitions", {})
    return sorted(definitions.get("artifacts", {}))


def _find_argument(document: Json, task: str, name: str) -> str:
    args = [str(word) for word in find_container(document, task).get("args", ())]
    return args[args.index(name) + 1] if name in args[:-1] else ""


_DESCRIPTION = re.compile(r"fftasks: workflow (.+?), pipeline (sha256:[0-9a-f]{64})", re.DOTALL)


def format_run_description(pipeline: Record, settings: KFPSettings) -> str:
    """Return what a run says about itself: its workflow, its pipeline's digest, the settings' labels."""
    labels = "".join(f", {name}={value}" for name, value in sorted(settings.labels.items()))
    return f"fftasks: workflow {pipeline['workflow']}, pipeline {pipeline['output']}{labels}"


def parse_run_description(text: str) -> tuple[str, str]:
    """Return the workflow and the pipeline's digest that `describe` wrote; "" and "" if it did not."""
    found = _DESCRIPTION.match(text)
    return (found[1], found[2]) if found else ("", "")
