"""A run on Kubeflow Pipelines (KFP) in terms of nodes, read from the answer of KFP's REST interface.

The pipeline document of the run is part of the answer and the only source about the run, because the
project may have changed since. Fields that have an unexpected type are dropped here once, so that other
modules need not check types.
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


FINAL_RUN_STATES = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_DESCRIPTION = re.compile(r"fftasks: workflow (.+?), pipeline (sha256:[0-9a-f]{64})", re.DOTALL)

# fields that are read from a run and from its pipeline document; see filter_by_type
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
    """Return the answer for a run without the fields that are not used or have an unexpected type."""
    found: Json = filter_by_type(answer, _RUN) or {}
    return found


def read_run_document(answer: Json) -> Json:
    """Return the pipeline document of a run.

    Args:
        answer: Result of drop_invalid_fields.

    Returns:
        The document; {} if there is none. All tasks have a component and depend only on existing tasks. If
        the dependencies have a cycle, there are no tasks, because KFP cannot have executed them.
    """
    given = answer.get("pipeline_spec") or {}
    document = given.get("pipeline_spec") or given
    if not document:
        return {}
    root = document.get("root", {})
    every = root.get("dag", {}).get("tasks", {})
    tasks = {name: step for name, step in every.items() if step.get("componentRef", {}).get("name")}
    tasks = {name: _drop_invalid_sources(step, tasks) for name, step in tasks.items()}
    try:
        order_tasks(tasks)
    except graphlib.CycleError:
        tasks = {}
    executors = document.get("deploymentSpec", {}).get("executors", {})
    fitted = {label: _drop_invalid_env(executor) for label, executor in executors.items()}
    deployment = {**document.get("deploymentSpec", {}), "executors": fitted}
    root = {**root, "dag": {**root.get("dag", {}), "tasks": tasks}}
    return {**document, "root": root, "deploymentSpec": deployment}


def order_tasks(tasks: Mapping[str, Json]) -> list[str]:
    """Return the names of some tasks of a document, upstream first.

    Raises:
        graphlib.CycleError: The dependencies have a cycle.
    """
    graph = {name: _list_upstream(step) for name, step in sorted(tasks.items())}
    return list(graphlib.TopologicalSorter(graph).static_order())


def _list_upstream(step: Json) -> list[str]:
    sources = step.get("inputs", {}).get("artifacts", {}).values()
    made = {
        one["taskOutputArtifact"]["producerTask"] for one in sources if "taskOutputArtifact" in one
    }
    return sorted({*step.get("dependentTasks", ()), *made})


def _drop_invalid_sources(step: Json, tasks: Mapping[str, Json]) -> Json:
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


def _drop_invalid_env(executor: Json) -> Json:
    container = executor.get("container", {})
    if "env" not in container:
        return executor
    env = require_keys(container["env"], "name", "value")
    return {**executor, "container": {**container, "env": env}}


@dataclass(frozen=True)
class ClusterRun:
    """A run on Kubeflow Pipelines.

    Attributes:
        answer: The run as KFP's REST interface describes it, without invalid fields.
        executions: Executions of its tasks in the metadata store; None if the store was not read or cannot
            be reached.
    """

    answer: Json = field(repr=False)
    executions: Executions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Drop fields that have an unexpected type."""
        object.__setattr__(self, "answer", drop_invalid_fields(self.answer))

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return str(self.answer.get("run_id", ""))

    @property
    def name(self) -> str:
        """Display name of the run."""
        return str(self.answer.get("display_name", ""))

    @property
    def state(self) -> str:
        """State in KFP's terms, "" for none yet; CANCELED for a canceled run, which is FAILED in KFP."""
        if find_cancel_time(self.answer):
            return "CANCELED"
        return str(self.answer.get("state", "")).replace("RUNTIME_STATE_UNSPECIFIED", "")

    @property
    def error(self) -> str:
        """Error message of KFP; "" for none."""
        return read_row_error(self.answer)

    @property
    def workflow(self) -> str:
        """Name of the workflow; "" for a run that `doit submit` did not start."""
        return parse_run_description(str(self.answer.get("description", "")))[0]

    @property
    def began(self) -> datetime | None:
        """When the run was created."""
        return read_time(self.answer.get("created_at"))

    @property
    def ended(self) -> datetime | None:
        """When the run ended; None if it has not ended."""
        return read_time(self.answer.get("finished_at"))

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self.state in FINAL_RUN_STATES

    @functools.cached_property
    def document(self) -> Json:
        """Pipeline document of the run; {} if the answer has none."""
        return read_run_document(self.answer)

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline in the document."""
        return str(self.document.get("pipelineInfo", {}).get("name", ""))

    @functools.cached_property
    def details(self) -> RunDetails:
        """The reader for the tasks of the run."""
        return RunDetails(self.answer, self.document, self.executions)

    @functools.cached_property
    def tasks(self) -> tuple[ClusterTask, ...]:
        """The tasks of the run, upstream first."""
        steps = self.document.get("root", {}).get("dag", {}).get("tasks", {})
        tasks = []
        for name in order_tasks(steps):
            task = self.details.read_task(name, list_task_nodes(self.document, name))
            if len(task.nodes) != 1:
                task = replace(task, group=_find_argument(self.document, name, "--node"))
            tasks.append(task)
        return tuple(tasks)

    @functools.cached_property
    def nodes(self) -> dict[str, ClusterTask]:
        """The task that executes each node, by the name of the node."""
        return {node: task for task in self.tasks for node in task.nodes}

    def never_started(self, task: ClusterTask) -> bool:
        """Return whether the run failed before a task started; False if the run has no task details."""
        has_details = bool((self.answer.get("run_details") or {}).get("task_details"))
        return self.state == "FAILED" and has_details and task.state in ("", "PENDING")

    def find_task(self, node: str) -> ClusterTask:
        """Return the task that executes a node.

        Args:
            node: Name of the node, or of the task itself.

        Raises:
            ToolError: The run has no such node. The hint is the nearest name.
        """
        if node in self.nodes:
            return self.nodes[node]
        by_task = {task.name: task for task in self.tasks}
        if node in by_task:
            return by_task[node]
        raise explain_unknown_name(
            f"run {self.name!r} has no node {node!r}", node, list(self.nodes)
        )

    def find_file(self, task: ClusterTask) -> str:
        """Return the workflow file in the command of a task; "" if it has none.

        Raises:
            ToolError: The path leads out of the project folder.
        """
        file = _find_argument(self.document, task.name, "--file")
        try:
            return "/".join(split_untrusted_path(file)) if file else ""
        except ValueError as error:
            attempted = f"task {task.name} of run {self.run_id} has an unsafe --file: {error}"
            raise ToolError(attempted, found=[f"the file is {file!r}"]) from error


def explain_unknown_name(problem: str, name: str, names: list[str]) -> FFTasksError:
    """Return the error for an unknown name.

    Args:
        problem: What failed, as the first part of the message.
        name: The unknown name.
        names: The existing names; the nearest one becomes the hint.
    """
    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")  # noqa: PLR2004
    return ToolError(
        problem, found=[f"there are: {shown or 'none'}"], tip=suggest_name(name, names)
    )


def list_task_nodes(document: Json, task: str) -> tuple[str, ...]:
    """Return the names of the nodes that a task executes, from its command.

    Args:
        document: Pipeline document.
        task: Name of the task.

    Returns:
        The names; () for an importer; the name of the task if the command names no node.
    """
    executor = find_executor(document, task)
    if "importer" in executor:  # it registers an existing artifact
        return ()
    if members := _find_argument(document, task, "--nodes"):
        with suppress(WorkflowError):  # another program may use an option of the same name
            return parse_members(members).nodes
    if node := _find_argument(document, task, "--node"):
        return (node,)
    for variable in find_container(document, task).get("env", ()):
        if variable.get("name") == "FFFUNCTION":
            return (str(variable.get("value", "")),)
    step = document["root"]["dag"]["tasks"][task]
    return (str(step.get("taskInfo", {}).get("name") or task),)


def find_executor(document: Json, task: str) -> Json:
    """Return the executor of a task: {"container": …} or {"importer": …}; {} if it is missing."""
    executors = document.get("deploymentSpec", {}).get("executors", {})
    executor: Json = executors.get(find_component(document, task).get("executorLabel"), {})
    return executor


def find_container(document: Json, task: str) -> Json:
    """Return the container (image, command, args, env) of a task; {} if it has none."""
    container: Json = find_executor(document, task).get("container", {})
    return container


def find_component(document: Json, task: str) -> Json:
    """Return the component of a task; {} if it is missing."""
    step = document["root"]["dag"]["tasks"][task]
    component: Json = document.get("components", {}).get(step["componentRef"]["name"], {})
    return component


def list_artifact_names(document: Json, task: str) -> list[str]:
    """Return the names of the output artifacts of a task."""
    definitions = find_component(document, task).get("outputDefinitions", {})
    return sorted(definitions.get("artifacts", {}))


def _find_argument(document: Json, task: str, name: str) -> str:
    args = [str(word) for word in find_container(document, task).get("args", ())]
    return args[args.index(name) + 1] if name in args[:-1] else ""


def format_run_description(pipeline: Record, settings: KFPSettings) -> str:
    """Return the description of a run: workflow, digest of the pipeline, and the labels in the settings.

    Args:
        pipeline: Record of the pipeline stage.
        settings: Section `kfp` of the settings.
    """
    labels = "".join(f", {name}={value}" for name, value in sorted(settings.labels.items()))
    return f"fftasks: workflow {pipeline['workflow']}, pipeline {pipeline['output']}{labels}"


def parse_run_description(text: str) -> tuple[str, str]:
    """Return the workflow and the pipeline's digest in a description; "" and "" for any other text."""
    found = _DESCRIPTION.match(text)
    return (found[1], found[2]) if found else ("", "")
