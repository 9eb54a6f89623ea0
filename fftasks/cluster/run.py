"""A run on Kubeflow Pipelines as its REST interface shows it, in words of nodes.

The truth about a run is its own document, which comes with it: the project may have changed since.
"""

from __future__ import annotations

import functools
import graphlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fftasks.errors import FFTasksError, ToolError, suggest_name
from fftasks.runtime.members import parse_members
from fftasks.stages.submit import read_description

Json = Mapping[str, Any]

FINAL = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_EXECUTOR = "executor"
_POD_TEMPLATE = (
    "system-container-impl"  # of KFP's compiler for Argo, for what runs a task's container
)
_PODS = f"-{_POD_TEMPLATE}-"
_NEAR_S = 4.0  # how far the times of a task and of its pod may be apart, begin and end together


@dataclass(frozen=True)
class Task:
    """One task of a run.

    name: in the document; nodes: the names of those that it runs
    state: of KFP's states, "" if it has not begun, "CACHED" if its results are of an earlier run
    began, ended: None if it has not
    pod: the name of its pod, "" if it cannot be known
    driver, step: what KFP says of its driver, and of the step that is its pod; {} for nothing
    """

    name: str
    nodes: tuple[str, ...]
    state: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    pod: str = ""
    driver: Json = field(default_factory=dict, repr=False)
    step: Json = field(default_factory=dict, repr=False)

    @property
    def seconds(self) -> float | None:
        """How long it took; None if it has not ended."""
        if self.began is None or self.ended is None:
            return None
        return max((self.ended - self.began).total_seconds(), 0.0)


@dataclass(frozen=True)
class ClusterRun:
    """A run, and the tasks of its document, upstream first."""

    answer: Json = field(repr=False)

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
        """One of KFP's states, "" if it has none yet."""
        return str(self.answer.get("state", "")).replace("RUNTIME_STATE_UNSPECIFIED", "")

    @property
    def error(self) -> str:
        """What KFP says about a failure."""
        return _read_error(self.answer)

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
        document = self.answer.get("pipeline_spec") or {}
        inner: Json = document.get("pipeline_spec") or document
        return inner

    @property
    def pipeline_name(self) -> str:
        """The name in its document."""
        return str(self.document.get("pipelineInfo", {}).get("name", ""))

    @functools.cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Its tasks, upstream first."""
        steps = self.document.get("root", {}).get("dag", {}).get("tasks", {})
        details = _Details(self.answer)
        return tuple(
            details.read_task(name, list_nodes(self.document, name)) for name in _order(steps)
        )

    @functools.cached_property
    def nodes(self) -> dict[str, Task]:
        """The task of each node, by the node's name."""
        return {node: task for task in self.tasks for node in task.nodes}

    def has_left_out(self, task: Task) -> bool:
        """Tell whether it failed, or was canceled, before a task began; False if it has no details at all."""
        has_details = bool((self.answer.get("run_details") or {}).get("task_details"))
        ended = self.state in ("FAILED", "CANCELED") and has_details
        return ended and task.state in ("", "PENDING")

    def find_task(self, node: str) -> Task:
        """Return the task that runs a node; raise ToolError with the nearest name if there is none."""
        if node in self.nodes:
            return self.nodes[node]
        by_task = {task.name: task for task in self.tasks}
        if node in by_task:
            return by_task[node]
        raise refuse_name(f"run {self.name!r} has no node {node!r}", node, list(self.nodes))

    def find_file(self, task: Task) -> str:
        """Return the file that builds a task's workflow, as its command says; "" if it does not."""
        args = [str(word) for word in find_container(self.document, task.name).get("args", ())]
        return args[args.index("--file") + 1] if "--file" in args[:-1] else ""


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
    container = executor.get("container", {})
    args = [str(word) for word in container.get("args", ())]
    if "--nodes" in args[:-1]:
        return parse_members(args[args.index("--nodes") + 1]).nodes
    if "--node" in args[:-1]:
        return (args[args.index("--node") + 1],)
    for variable in container.get("env", ()):
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


@functools.lru_cache(maxsize=4096)
def read_time(text: object) -> datetime | None:
    """Return a time of the interface; None for none, and for the year 1970, which stands for none."""
    if not isinstance(text, str):
        return None
    # Python 3.10 reads neither Z nor a fraction of other than 3 or 6 digits
    seconds, fraction = re.match(r"([^.Z+]*)(?:\.(\d+))?", text).groups()  # type: ignore[union-attr]
    try:
        time = datetime.fromisoformat(f"{seconds}.{(fraction or '')[:6]:0<6}+00:00")
    except ValueError:
        return None
    return time if time.timestamp() > 0 else None


class _Details:
    """What the interface says about tasks: an entry for each step of the engine below KFP, Argo.

    task            the step that stands for it; cached or not, it has succeeded in the end
    <task>-driver   its driver
    executor        the pod of some task; skipped if that is cached. Which task it belongs to is not said:
                    a task has the ids of its children, and an entry does not have its own
    """

    def __init__(self, answer: Json) -> None:
        rows = (answer.get("run_details") or {}).get("task_details") or []
        self._rows: dict[str, Json] = {}
        self._pods: list[Json] = []
        for row in sorted(rows, key=lambda row: str(row.get("start_time", ""))):
            name = str(row.get("display_name", ""))
            if name == _EXECUTOR:
                self._pods.append(row)
            self._rows[name] = row  # of a run that was retried, the last one

    def read_task(self, name: str, nodes: tuple[str, ...]) -> Task:
        row = self._rows.get(name)
        driver = self._rows.get(f"{name}-driver", {})
        if row is None:
            failed = driver.get("state") == "FAILED"
            state = "FAILED" if failed else ""
            return Task(name, nodes, state, error=_read_error(driver), driver=driver)
        state = str(row.get("state", ""))
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        if self._is_cached(row, state):
            state = "CACHED"
        error = _read_error(row) or _read_error(driver)
        pod = self._find_pod(row)
        return Task(name, nodes, state, began, ended, error, pod, driver, self._find_step(row))

    def _is_cached(self, row: Json, state: str) -> bool:
        if state == "SKIPPED":
            return True
        pods = list(self._list_pods(row))
        if pods:
            return state == "SUCCEEDED" and all(pod.get("state") == "SKIPPED" for pod in pods)
        # without ids: the pod whose times are nearest to those of the step. In doubt it is not cached
        distances: dict[bool, float] = {}
        for pod in self._pods:
            is_skipped, distance = pod.get("state") == "SKIPPED", _measure(pod, row)
            distances[is_skipped] = min(distance, distances.get(is_skipped, math.inf))
        nearest = distances.get(True, math.inf)
        return state == "SUCCEEDED" and nearest < distances.get(False, math.inf)

    def _list_pods(self, row: Json) -> Iterator[Json]:
        children = {_get_hash(child) for child in _list_children(row)}
        yield from (
            pod for pod in self._pods if _get_hash(str(pod.get("pod_name", ""))) in children
        )

    def _find_step(self, row: Json) -> Json:
        """Return the entry of a task's pod; where several may be it, what they have in common."""
        for pod in self._list_pods(row):
            return pod
        near = [pod for pod in self._pods if _measure(pod, row) <= _NEAR_S]
        least = min((_measure(pod, row) for pod in near), default=0.0)
        found = [pod for pod in near if _measure(pod, row) == least]
        kept = ("start_time", "end_time", "state", "state_history")
        return {key: found[0].get(key) for key in kept if found and _is_common(key, found)}

    def _find_pod(self, row: Json) -> str:
        for pod in self._list_pods(row):
            return str(pod["pod_name"])
        # Argo's id of a step is <run>-<number>, the name of its pod <run>-<template>-<number>
        for child in _list_children(row):
            run, _, number = child.rpartition("-")
            return f"{run}{_PODS}{number}" if run else ""
        return ""


def _is_common(key: str, rows: list[Json]) -> bool:
    return all(row.get(key) == rows[0].get(key) for row in rows)


def _list_children(row: Json) -> list[str]:
    return [str(child.get("pod_name", "")) for child in row.get("child_tasks") or ()]


def _measure(pod: Json, step: Json) -> float:
    """Return how far the begins and the ends of two entries are apart, in seconds."""
    distance = 0.0
    for key in ("start_time", "end_time"):
        one, other = read_time(pod.get(key)), read_time(step.get(key))
        if one and other:
            distance += abs((one - other).total_seconds())
        elif one or other:
            return math.inf
    return distance


def _get_hash(name: str) -> str:
    return name.rpartition("-")[2] or "?"


def _read_error(row: Json) -> str:
    error = row.get("error")
    return str(error.get("message", "")).strip() if isinstance(error, dict) else ""


def _order(steps: Json) -> Iterator[str]:
    """Yield the names of a document's tasks, upstream first."""
    graph = {name: sorted(step.get("dependentTasks", ())) for name, step in sorted(steps.items())}
    yield from graphlib.TopologicalSorter(graph).static_order()
