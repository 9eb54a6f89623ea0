"""The tasks of a run: their states, times and pods, from Kubeflow Pipelines (KFP) and its metadata store.

KFP executes a run as a workflow of Argo. The field `task_details` of a run has one row for each node of the
workflow, in any order. A task has several rows:

    <task>            the task; without a state if it was omitted after a failure
    <task>-driver     its driver, a pod
    executor          its own pod; skipped if the result is cached
    <name>(0), ...    the attempts of any of them, if Argo retries them
    without a name    written by the launcher of a finished task, with the id of its execution in the
    metadata
                      store

When the workflow object exceeds 1 MiB, Argo compresses it, and KFP stops updating the named rows. Then the
states come from the metadata store.

A row contains the ids of a node's children, but not its own id. An id is `<workflow>-<hash of the node's
full name>`, so the full name of a node can be guessed and looked up among the ids. In a stock KFP 2.17,
Argo retries every node, and the attempts are nodes of their own whose names end in `(0)`, `(1)`, ...:

    digits.root.load.executor                        without attempts
    digits(0).root(0).load(0).executor(0)            with attempts

A pod is named `<workflow>-<template>-<hash of the node's full name>`.

Source: backend/src/v2/compiler/argocompiler/ (container.go, dag.go, importer.go) of kubeflow/pipelines
2.14.0 to 2.17.0, and workflow/util/pod_name.go of argoproj/argo-workflows.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fftasks.kfp.metadata import TaskExecution

Json = Mapping[str, Any]
Executions = Mapping[str, "TaskExecution"]  # by the name of the task

SUCCESSFUL_STATES = frozenset({"SUCCEEDED", "CACHED", "SKIPPED"})
FINAL_TASK_STATES = frozenset({*SUCCESSFUL_STATES, "FAILED", "CANCELED"})
UNKNOWN_STATE = "UNKNOWN"  # neither KFP nor the metadata store has the state of the task

_FAR_PAST = datetime(1971, 1, 1, tzinfo=timezone.utc)
_EPOCH_YEAR = 1970  # KFP writes times up to this year for a missing time
_LAST_YEAR = 9999  # the end of this year cannot be converted to every time zone
_EXECUTOR = "executor"
_START_S = 2.0  # maximum difference between the starts of a pod and of its node, in whole seconds
# how much later than the end of a pod the controller may notice it: in most cases, at most
_END_S = (20.0, 120.0)
_LAG_S = 30.0  # how much later than the end of a pod its row may be updated
_QUIET_S = (
    120.0  # in a large run without an update for this time, rows are probably not updated any more
)
_LARGE_TASKS = 100  # number of tasks from which on a run is large
# state in the metadata store -> state of the task; CANCELED means that a condition was false
_EXECUTION_STATES = {
    "COMPLETE": "SUCCEEDED",
    "CACHED": "CACHED",
    "FAILED": "FAILED",
    "CANCELED": "SKIPPED",
}

DRIVER_TEMPLATE = "system-container-driver"
ROOT_DRIVER_TEMPLATE = "system-dag-driver"
IMPORTER_TEMPLATE = "system-importer"
_POD_TEMPLATE = "system-container-impl"


def hash_node_name(name: str) -> str:
    """Return the hash of a node's full name in Argo's ids: 32-bit FNV-1a as a decimal number."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(number)


def list_children(row: Json) -> list[str]:
    """Return the ids of the children of a row of `task_details`."""
    return [str(child.get("pod_name", "")) for child in row.get("child_tasks") or ()]


class ArgoNodes:
    """The nodes of one Argo workflow, found by guessing full names and looking up their hashes.

    Attributes:
        workflow: Name of the workflow; "" if no row has a child.
        root: Full name of the last attempt of the node that contains the tasks.
        root_driver: Full name of the last attempt of the run's driver.
    """

    def __init__(self, rows: Iterable[Json]) -> None:
        ids = {child for row in rows for child in list_children(row)}
        self.workflow = next((one.rpartition("-")[0] for one in sorted(ids) if "-" in one), "")
        self._hashes = {one.rpartition("-")[2] for one in ids}
        top = self.find_last(self.workflow)
        self.root = self.find_last(f"{top}.root")
        self.root_driver = self.find_last(f"{top}.root-driver")

    def has(self, name: str) -> bool:
        """Return whether the workflow has a node of this full name."""
        return hash_node_name(name) in self._hashes

    def list_attempts(self, name: str) -> list[str]:
        """Return the full names of the attempts of a node; [] if Argo does not retry it."""
        attempts = (f"{name}({number})" for number in itertools.count())
        return list(itertools.takewhile(self.has, attempts)) if self.workflow else []

    def find_last(self, name: str) -> str:
        """Return the full name of the last attempt of a node; the given name if Argo does not retry it."""
        return (self.list_attempts(name) or [name])[-1]

    def name_pod(self, template: str, name: str) -> str:
        """Return the name of the pod of a node; "" if the node was not found in the workflow."""
        if not (self.workflow and self.has(name)):
            return ""
        return f"{self.workflow}-{template}-{hash_node_name(name)}"

    def is_child(self, row: Json, name: str) -> bool:
        """Return whether a row has the node of this full name as a child."""
        return f"{self.workflow}-{hash_node_name(name)}" in list_children(row)


def name_template(document: Json, platform: Json, task: str) -> str:
    """Return the name of the Argo template of a task's pod.

    Args:
        document: Pipeline document.
        platform: Kubernetes settings by executor label.
        task: Name of the task in the document.
    """
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    metadata = platform.get(component.get("executorLabel"), {}).get("podMetadata")
    name = f"retry-{_POD_TEMPLATE}" if "retryPolicy" in step else _POD_TEMPLATE
    if metadata is None:
        return name
    counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
    return f"metadata-{'-'.join(map(str, counts))}-{name}"


@dataclass(frozen=True)
class ClusterTask:
    """A task of a run.

    Attributes:
        name: Name of the task in the pipeline document.
        nodes: Names of the nodes that the task executes.
        state: State in KFP's terms; "" if the task has not started, "CACHED" if its results come from an
            earlier run, "UNKNOWN" if its state cannot be found.
        began: Start time; None if the task has not started.
        ended: End time; None if the task has not ended.
        error: Error message of KFP; stock releases have none.
        pod: Name of its last pod; "" if it has none or the name is unknown.
        driver_pod: Name of the pod of its driver; "" if it has none or the name is unknown.
        driver: Row of its driver; {} if it has none.
        step: Known fields of the row of its pod; {} if there are none.
        group: Name of the group of nodes; "" if the task executes a single node.
    """

    name: str
    nodes: tuple[str, ...]
    state: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    pod: str = ""
    driver_pod: str = ""
    driver: Json = field(default_factory=dict, repr=False)
    step: Json = field(default_factory=dict, repr=False)
    group: str = ""

    @property
    def title(self) -> str:
        """The name of the node; for a group, the name of the first node and the number of others."""
        first, more = (self.nodes or (self.name,))[0], len(self.nodes) - 1
        return f"{first} and {more} more in its pod" if more > 0 else first

    @property
    def seconds(self) -> float | None:
        """Duration in seconds; None if the task has not ended."""
        if self.began is None or self.ended is None:
            return None
        return max((self.ended - self.began).total_seconds(), 0.0)

    @property
    def has_failed_driver(self) -> bool:
        """Whether the task failed because its driver failed, so that its pod never started."""
        return self.state == "FAILED" and self.driver.get("state") == "FAILED"


@functools.lru_cache(maxsize=4096)
def read_time(text: object) -> datetime | None:
    """Parse a time in KFP's interface; return None if it is missing or in 1970, which means missing."""
    if not isinstance(text, str):
        return None
    # Python 3.10 parses neither "Z" nor fractions unless they have 3 or 6 digits
    seconds, fraction = re.match(r"([^.Z+]*)(?:\.(\d+))?", text).groups()  # type: ignore[union-attr]
    try:
        time = datetime.fromisoformat(f"{seconds}.{(fraction or '')[:6]:0<6}+00:00")
    except ValueError:
        return None
    return time if _EPOCH_YEAR < time.year < _LAST_YEAR else None


def find_cancel_time(answer: Json) -> datetime | None:
    """Return when a run was canceled; None if it was not canceled, or succeeded nevertheless.

    KFP shows a canceled run as FAILED. The only sign of the cancellation is CANCELING in its history.
    """
    if answer.get("state") not in ("FAILED", "CANCELED"):
        return None
    for seen in reversed(answer.get("state_history") or ()):
        if seen.get("state") == "CANCELING":
            return read_time(seen.get("update_time")) or _FAR_PAST
    return _FAR_PAST if answer.get("state") == "CANCELED" else None


class RunDetails:
    """Reads the tasks of a run from its rows and from the metadata store.

    Attributes:
        is_cut: Whether KFP has stopped updating the rows because the workflow is too large.
        is_quiet: Whether it may have stopped: the rows are cut, or the run is large and no row was updated
            for two minutes.
        finished: Minimum number of finished tasks, if the rows are cut.
    """

    def __init__(self, answer: Json, document: Json, executions: Executions | None = None) -> None:
        """Sort the rows by their display names.

        Args:
            answer: The run as KFP describes it.
            document: Pipeline document.
            executions: Executions in the metadata store; None if it was not read or cannot be reached.
        """
        self._document, self._platform = document, _read_platform(answer)
        self._run_state, self._canceled = str(answer.get("state", "")), find_cancel_time(answer)
        self._executions = executions
        rows = (answer.get("run_details") or {}).get("task_details") or []
        self._rows: dict[str, list[Json]] = {}
        for row in sorted(rows, key=lambda row: str(row.get("start_time", ""))):
            self._rows.setdefault(str(row.get("display_name", "")), []).append(row)
        self._argo = ArgoNodes(rows)
        unnamed = self._rows.pop("", [])
        self.finished = len(unnamed)
        self.is_cut = self._is_cut(unnamed)
        self.is_quiet = self.is_cut or self._is_quiet()

    def read_task(self, name: str, nodes: tuple[str, ...]) -> ClusterTask:
        """Return a task of the pipeline document.

        Args:
            name: Name of the task in the document.
            nodes: Names of the nodes that it executes.
        """
        executor = _find_executor(self._document, name)
        if "importer" in executor:
            return self._finish(self._read_importer(name))
        argo = self._argo
        step = f"{argo.root}.{name}"
        last = argo.find_last(step)
        pods = argo.list_attempts(f"{last}.{_EXECUTOR}") or [f"{last}.{_EXECUTOR}"]
        row = self._find_row(name, [*argo.list_attempts(step), *pods])
        driver, driver_pod = self._read_driver(f"{name}-driver", DRIVER_TEMPLATE)
        task = ClusterTask(
            name, nodes, driver=driver, driver_pod=driver_pod, error=read_row_error(driver)
        )
        if row is None or not _read_state(row):
            state = "FAILED" if driver.get("state") == "FAILED" else ""
            began = read_time(driver.get("start_time")) if state else None
            ended = read_time(driver.get("end_time")) if state else None
            return self._finish(replace(task, state=state, began=began, ended=ended))
        pod_row = self._find_pod_row(row, pods)
        task = replace(
            task,
            state=self._find_state(row, pod_row, name, pods),
            began=read_time(row.get("start_time")),
            ended=read_time(row.get("end_time")),
            error=read_row_error(row) or read_row_error(pod_row) or task.error,
            pod=self._name_pod(row, name, pods[-1]),
            step=pod_row,
        )
        return self._finish(task)

    def read_root_driver(self) -> ClusterTask:
        """Return the driver of the run itself as a task without nodes."""
        row, pod = self._read_driver("root-driver", ROOT_DRIVER_TEMPLATE)
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        state, error = _read_state(row), read_row_error(row)
        return ClusterTask("root-driver", (), state, began, ended, error, "", pod, driver=row)

    def _read_importer(self, name: str) -> ClusterTask:
        """Return a task that registers an existing artifact; its Argo node is the pod itself."""
        argo = self._argo
        step = argo.find_last(f"{argo.root}.{name}")
        row = self._find_row(name, argo.list_attempts(f"{argo.root}.{name}")) or {}
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        pod = argo.name_pod(IMPORTER_TEMPLATE, step)
        return ClusterTask(
            name, (), _read_state(row), began, ended, read_row_error(row), pod, step=row
        )

    def _find_row(self, name: str, children: Iterable[str]) -> Json | None:
        """Return the row with a display name, preferably one that has one of some children."""
        rows = self._rows.get(name, [])
        for row in reversed(rows):
            if any(self._argo.is_child(row, child) for child in children):
                return row
        return rows[-1] if rows else None

    def _read_driver(self, name: str, template: str) -> tuple[Json, str]:
        """Return the row of a driver with the times of its last attempt, and the name of its pod."""
        argo = self._argo
        parent = argo.root.rpartition(".")[0]
        step = f"{parent}.{name}" if template == ROOT_DRIVER_TEMPLATE else f"{argo.root}.{name}"
        last = argo.find_last(step)
        row = self._find_row(name, argo.list_attempts(step))
        pods = self._rows.get(last.rpartition(".")[2], []) if last != step else []
        if row is None:
            return {}, ""
        times = {
            key: pods[-1][key] for key in ("start_time", "end_time") if pods and key in pods[-1]
        }
        waiting = {"state": "PENDING"} if pods and pods[-1].get("state") == "PENDING" else {}
        state = waiting if row.get("state") == "RUNNING" else {}
        pod = (
            argo.name_pod(template, last) if _read_state(row) else ""
        )  # omitted, if without a state
        return {**row, **times, **state}, pod

    def _find_pod_row(self, row: Json, pods: Sequence[str]) -> Json:
        """Return the known fields of the row of a task's last pod.

        The row of a pod has no id and usually no child, so it is found by its times. If several rows match,
        only the fields that are equal in all of them are known.
        """
        if not pods[-1].endswith(")"):
            return _merge(row, _list_fitting(self._rows.get(_EXECUTOR, []), row, is_first=True))
        parents = [
            one for one in self._rows.get(_EXECUTOR, []) if self._argo.is_child(one, pods[-1])
        ]
        parent = parents[-1] if parents else row
        rows = self._rows.get(pods[-1].rpartition(".")[2], [])
        return _merge(parent, _list_fitting(rows, parent, is_first=len(pods) == 1))

    def _find_state(self, row: Json, pod_row: Json, name: str, pods: Sequence[str]) -> str:
        """Return the state of a task that has a row.

        Args:
            row: Row of the task.
            pod_row: Known fields of the row of its last pod.
            name: Name of the task.
            pods: Full names of the Argo nodes of its pods.
        """
        state = _read_state(row)
        if state == "SUCCEEDED" and self._is_cached(row, name, pods):
            return "CACHED"
        if state == "SKIPPED":
            return "CACHED"
        return "PENDING" if (state, pod_row.get("state")) == ("RUNNING", "PENDING") else state

    def _is_cached(self, row: Json, name: str, pods: Sequence[str]) -> bool:
        """Return whether a task that succeeded was cached, which means that its pod was skipped."""
        if self._argo.has(pods[-1]) and pods[-1].endswith(")"):
            return False  # the task had a pod
        is_retried = self._argo.root.endswith(")")
        if is_retried or "retryPolicy" in self._document["root"]["dag"]["tasks"][name]:
            return bool(self._argo.workflow)
        # Without attempts, rows of pods cannot be assigned to tasks: the row with the nearest times
        # decides.
        nearest = {True: float("inf"), False: float("inf")}
        for pod in self._rows.get(_EXECUTOR, []):
            is_skipped = pod.get("state") == "SKIPPED"
            nearest[is_skipped] = min(_measure_distance(pod, row), nearest[is_skipped])
        return nearest[True] < nearest[False]

    def _name_pod(self, row: Json, name: str, pod: str) -> str:
        template = name_template(self._document, self._platform, name)
        found = self._argo.name_pod(template, pod)
        if found or self._argo.has(pod):
            return found
        child = next((one for one in list_children(row) if "-" in one), "")
        run, _, number = child.rpartition("-")
        return f"{run}-{template}-{number}" if run else ""

    def _finish(self, task: ClusterTask) -> ClusterTask:
        """Return a task with corrections from the metadata store and from the cancellation of the run."""
        execution = (self._executions or {}).get(task.name)
        if self.is_quiet and task.state not in FINAL_TASK_STATES:
            task = self._replace_state(task, execution)
        elif execution is not None:
            task = _refine_state(task, execution)
        if execution is not None and execution.pod and task.state != "CACHED":
            task = replace(task, pod=_choose_pod(task.pod, execution.pod))
        if task.state == "CACHED":
            task = replace(task, pod="")
        if self._canceled and task.state not in SUCCESSFUL_STATES and not self._failed_before(task):
            task = replace(task, state="CANCELED")
        return task

    def _failed_before(self, task: ClusterTask) -> bool:
        """Return whether a task failed before the run was canceled."""
        ended = read_time(task.step.get("end_time")) or task.ended
        is_over = task.state == "FAILED" and ended is not None and self._canceled is not None
        return is_over and (self._canceled - ended).total_seconds() > 1  # type: ignore[operator]

    def _replace_state(self, task: ClusterTask, execution: TaskExecution | None) -> ClusterTask:
        """Return a task whose row may be outdated with the state of its execution or of the run."""
        is_over = self._run_state in FINAL_TASK_STATES
        if execution is not None:
            running = UNKNOWN_STATE if is_over else "RUNNING" if execution.pod else "PENDING"
            state = _EXECUTION_STATES.get(execution.state, running)
            ended = execution.updated if state in FINAL_TASK_STATES else None
            return replace(task, state=state, began=execution.created, ended=ended)
        if not self.is_cut:
            return task
        if self._run_state == "SUCCEEDED":
            return replace(task, state="SUCCEEDED")
        return replace(task, state=UNKNOWN_STATE if self._executions is None else "")

    def _is_cut(self, unnamed: Sequence[Json]) -> bool:
        """Return whether KFP has stopped updating the rows."""
        named = [row for rows in self._rows.values() for row in rows]
        if self._run_state in FINAL_TASK_STATES:
            top = self._rows.get(self._argo.workflow, [])
            is_open = bool(top) and _read_state(top[-1]) in ("", "PENDING", "RUNNING")
            return is_open or (bool(unnamed) and not named)
        newest = self._find_newest(named)
        ends = [time for row in unnamed if (time := read_time(row.get("end_time")))]
        return bool(ends and newest and (max(ends) - newest).total_seconds() > _LAG_S)

    def _is_quiet(self) -> bool:
        tasks = self._document.get("root", {}).get("dag", {}).get("tasks", {})
        newest = self._find_newest(row for rows in self._rows.values() for row in rows)
        if self._run_state in FINAL_TASK_STATES or len(tasks) < _LARGE_TASKS or newest is None:
            return False
        return (datetime.now(timezone.utc) - newest).total_seconds() > _QUIET_S

    def _find_newest(self, rows: Iterable[Json]) -> datetime | None:
        """Return when one of some rows was last updated; None if they have no history."""
        seen = (one.get("update_time") for row in rows for one in row.get("state_history") or ())
        return max((time for text in seen if (time := read_time(text))), default=None)


def _refine_state(task: ClusterTask, execution: TaskExecution) -> ClusterTask:
    """Return a task with the state in the metadata store if that is more precise than the row."""
    if task.state in ("SUCCEEDED", "CACHED"):
        state = _EXECUTION_STATES.get(execution.state)
        return replace(task, state=state) if state in ("SUCCEEDED", "CACHED") else task
    if task.state == "RUNNING" and execution.state == "RUNNING" and "state" not in task.step:
        return replace(task, state="RUNNING" if execution.pod else "PENDING")
    return task


def _choose_pod(found: str, known: str) -> str:
    """Return the name of the last pod of a task.

    Args:
        found: Name derived from the ids of the workflow; "" if it is unknown.
        known: Name in the metadata store, written by the launcher of the last pod that started.
    """
    number = found.rpartition("-")[2]
    return f"{known.rpartition('-')[0]}-{number}" if number else known


def _read_state(row: Json) -> str:
    state = str(row.get("state") or "")
    return "" if state == "RUNTIME_STATE_UNSPECIFIED" else state


def _find_executor(document: Json, task: str) -> Json:
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    executors = document.get("deploymentSpec", {}).get("executors", {})
    executor: Json = executors.get(component.get("executorLabel"), {})
    return executor


def _read_platform(answer: Json) -> Json:
    """Return the Kubernetes settings of a run by executor label."""
    spec = (answer.get("pipeline_spec") or {}).get("platform_spec") or {}
    kubernetes = spec.get("platforms", {}).get("kubernetes", {})
    executors: Json = kubernetes.get("deploymentSpec", {}).get("executors", {})
    return executors


def _merge(parent: Json, rows: Sequence[Json]) -> Json:
    """Return the fields that are equal in some rows; times that differ are those of the parent node."""
    if not rows:
        return {}
    keys = ("start_time", "end_time", "state", "state_history", "error")
    common = {
        key: rows[0][key]
        for key in keys
        if key in rows[0] and all(row.get(key) == rows[0].get(key) for row in rows)
    }
    return {"start_time": parent.get("start_time"), "end_time": parent.get("end_time"), **common}


def _list_fitting(rows: Sequence[Json], parent: Json, *, is_first: bool) -> list[Json]:
    """Return the rows that may belong to the last pod below a node.

    Args:
        rows: Candidates.
        parent: Row of the node.
        is_first: Whether the last pod is also the first one, so that it started with the node.
    """
    for end_s in _END_S:
        found = [row for row in rows if _fits(row, parent, end_s, is_first=is_first)]
        if found and _read_state(parent) not in FINAL_TASK_STATES:
            return [row for row in found if _read_state(row) not in FINAL_TASK_STATES] or found
        if found:
            return found
    return []


def _fits(pod: Json, parent: Json, end_s: float, *, is_first: bool) -> bool:
    begin, outer = read_time(pod.get("start_time")), read_time(parent.get("start_time"))
    if begin is None or outer is None:
        return False
    late = (begin - outer).total_seconds()
    if late < -_START_S or (is_first and late > _START_S):
        return False
    state, whole = _read_state(pod), _read_state(parent)
    if whole in ("SUCCEEDED", "FAILED") and state not in (whole, "SKIPPED"):
        return False
    end, limit = read_time(pod.get("end_time")), read_time(parent.get("end_time"))
    if limit is None:
        return True
    return end is not None and -_START_S <= (limit - end).total_seconds() <= end_s


def _measure_distance(pod: Json, step: Json) -> float:
    """Return the sum of the differences between the starts and the ends of two rows, in seconds."""
    distance = 0.0
    for key in ("start_time", "end_time"):
        one, other = read_time(pod.get(key)), read_time(step.get(key))
        if one and other:
            distance += abs((one - other).total_seconds())
        elif one or other:
            return float("inf")
    return distance


def read_row_error(row: Json) -> str:
    """Return the error message in a row or a run; "" for none."""
    error = row.get("error")
    return str(error.get("message", "")).strip() if isinstance(error, dict) else ""
