"""A run on Kubeflow Pipelines as its REST interface shows it, in words of nodes.

The truth about a run is its own document, which comes with it: the project may have changed since.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fftasks.cluster.details import (
    Details,
    Executions,
    Task,
    find_cancel_time,
    read_error,
    read_time,
)
from fftasks.cluster.shape import order_tasks, read_answer, read_document
from fftasks.errors import FFTasksError, ToolError, WorkflowError, suggest_name
from fftasks.paths import split_path
from fftasks.runtime.members import parse_members
from fftasks.stages.submit import read_description

Json = Mapping[str, Any]

FINAL = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})


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
        object.__setattr__(self, "answer", read_answer(self.answer))

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
        return read_error(self.answer)

    @property
    def workflow(self) -> str:
        """The workflow that was submitted; "" for a run that `doit submit` did not start."""
        return read_description(str(self.answer.get("description", "")))[0]

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
        return self.state in FINAL

    @functools.cached_property
    def document(self) -> Json:
        """The pipeline document that it runs, {} if the answer has none."""
        return read_document(self.answer)

    @property
    def pipeline_name(self) -> str:
        """The name in its document."""
        return str(self.document.get("pipelineInfo", {}).get("name", ""))

    @functools.cached_property
    def details(self) -> Details:
        """What is known of its tasks."""
        return Details(self.answer, self.document, self.executions)

    @functools.cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Its tasks, upstream first."""
        steps = self.document.get("root", {}).get("dag", {}).get("tasks", {})
        return tuple(self._read_task(self.details, name) for name in order_tasks(steps))

    def _read_task(self, details: Details, name: str) -> Task:
        task = details.read_task(name, list_nodes(self.document, name))
        if len(task.nodes) == 1:
            return task
        return replace(task, group=_find_argument(self.document, name, "--node"))

    @functools.cached_property
    def nodes(self) -> dict[str, Task]:
        """The task of each node, by the node's name."""
        return {node: task for task in self.tasks for node in task.nodes}

    def has_left_out(self, task: Task) -> bool:
        """Tell whether it failed before a task began; False if it has no details at all."""
        has_details = bool((self.answer.get("run_details") or {}).get("task_details"))
        return self.state == "FAILED" and has_details and task.state in ("", "PENDING")

    def find_task(self, node: str) -> Task:
        """Return the task that runs a node; raise ToolError with the nearest name if there is none."""
        if node in self.nodes:
            return self.nodes[node]
        by_task = {task.name: task for task in self.tasks}
        if node in by_task:
            return by_task[node]
        raise refuse_name(f"run {self.name!r} has no node {node!r}", node, list(self.nodes))

    def find_file(self, task: Task) -> str:
        """Return the file that builds a task's workflow, from the command of the task; "" if it has none.

        Raises:
            ToolError: The file is not below the project's folder.
        """
        file = _find_argument(self.document, task.name, "--file")
        try:
            return "/".join(split_path(file)) if file else ""
        except ValueError as error:
            attempted = f"task {task.name} of run {self.run_id} has an unsafe --file: {error}"
            raise ToolError(attempted, found=[f"the file is {file!r}"]) from error


def refuse_name(problem: str, name: str, names: list[str]) -> FFTasksError:
    """Return the error for a name that is none, with the nearest one."""
    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")  # noqa: PLR2004
    return ToolError(
        problem, found=[f"there are: {shown or 'none'}"], tip=suggest_name(name, names)
    )


def list_nodes(document: Json, task: str) -> tuple[str, ...]:
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


def list_outputs(document: Json, task: str) -> list[str]:
    """Return the names of a task's artifacts."""
    definitions = find_component(document, task).get("outputDefinitions", {})
    return sorted(definitions.get("artifacts", {}))


def _find_argument(document: Json, task: str, name: str) -> str:
    args = [str(word) for word in find_container(document, task).get("args", ())]
    return args[args.index(name) + 1] if name in args[:-1] else ""
