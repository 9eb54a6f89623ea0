"""The names of Argo's nodes and of their pods, which the answers of Kubeflow Pipelines leave out.

Kubeflow Pipelines executes a run as a workflow of Argo. A row of `task_details` holds the ids of a node's
children but not its own. An id is `<workflow>-<hash of the node's full name>`, so a full name that can be
guessed is found among the ids or not. With stock Kubeflow Pipelines 2.17, Argo retries every node, and the
tries are nodes of their own whose names end in `(0)`, `(1)`, ...:

    digits.root.load.executor                        without tries
    digits(0).root(0).load(0).executor(0)            with tries

A pod is named `<workflow>-<template>-<hash of the node's full name>`.

Source: backend/src/v2/compiler/argocompiler/ (container.go, dag.go, importer.go) of kubeflow/pipelines 2.14.0
to 2.17.0, and workflow/util/pod_name.go of argoproj/argo-workflows.

The tasks of a run, as Kubeflow Pipelines and its metadata store describe them.

Kubeflow Pipelines answers with one row for each node of Argo's workflow, in any order. A task has several:

    <task>            the task; omitted (without a state) behind a failure
    <task>-driver     its driver, a pod
    executor          its own pod; skipped if the result is cached
    <name>(0), ...    the tries of any of them, where Argo retries (see argo.py)
    without a name    written by the launcher of a task that has finished, with the id of its execution in the
                      metadata store

When the workflow object passes 1 MiB, Argo compresses it, and Kubeflow Pipelines updates the named rows no
longer. Then the states come from the metadata store.
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

DRIVER_TEMPLATE = "system-container-driver"
ROOT_DRIVER_TEMPLATE = "system-dag-driver"
IMPORTER_TEMPLATE = "system-importer"
_POD_TEMPLATE = "system-container-impl"


def number_step(name: str) -> str:
    """Return the hash of a node's full name in Argo's ids: FNV-1a with 32 bits, in decimal digits."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(number)


def list_children(row: Json) -> list[str]:
    """Return the ids of the children of a row of `task_details`."""
    return [str(child.get("pod_name", "")) for child in row.get("child_tasks") or ()]


class ArgoNodes:
    """The full names of the nodes of one workflow, as far as its ids tell them.

    Attributes:
        workflow: The name of the workflow; "" if no row has a child.
        root: The full name of the last try of the node that holds the tasks.
        root_driver: The full name of the last try of the driver of the run.
    """

    def __init__(self, rows: Iterable[Json]) -> None:
        ids = {child for row in rows for child in list_children(row)}
        self.workflow = next((one.rpartition("-")[0] for one in sorted(ids) if "-" in one), "")
        self._numbers = {one.rpartition("-")[2] for one in ids}
        whole = self.find_last(self.workflow)
        self.root = self.find_last(f"{whole}.root")
        self.root_driver = self.find_last(f"{whole}.root-driver")

    def has(self, name: str) -> bool:
        """Tell whether the workflow has a node of this full name."""
        return number_step(name) in self._numbers

    def list_attempts(self, name: str) -> list[str]:
        """Return the full names of the tries of a node; [] if Argo does not retry it."""
        tries = (f"{name}({number})" for number in itertools.count())
        return list(itertools.takewhile(self.has, tries)) if self.workflow else []

    def find_last(self, name: str) -> str:
        """Return the full name of the last try of a node; its own name if Argo does not retry it."""
        return (self.list_attempts(name) or [name])[-1]

    def name_pod(self, template: str, name: str) -> str:
        """Return the name of the pod of a node; "" if the workflow is not known to have the node."""
        if not (self.workflow and self.has(name)):
            return ""
        return f"{self.workflow}-{template}-{number_step(name)}"

    def is_child(self, row: Json, name: str) -> bool:
        """Tell whether a row has the node of this full name as a child."""
        return f"{self.workflow}-{number_step(name)}" in list_children(row)


def name_template(document: Json, platform: Json, task: str) -> str:
    """Return the name of the template of a task's pod.

    Args:
        document: The pipeline document.
        platform: The settings for Kubernetes, by executor label.
        task: The name of the task in the document.
    """
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    metadata = platform.get(component.get("executorLabel"), {}).get("podMetadata")
    name = f"retry-{_POD_TEMPLATE}" if "retryPolicy" in step else _POD_TEMPLATE
    if metadata is None:
        return name
    counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
    return f"metadata-{'-'.join(map(str, counts))}-{name}"


JsonDetails = Mapping[str, Any]
Executions = Mapping[str, "TaskExecution"]  # by task

SUCCESSFUL_STATES = frozenset({"SUCCEEDED", "CACHED", "SKIPPED"})
FINAL_TASK_STATES = frozenset({*SUCCESSFUL_STATES, "FAILED", "CANCELED"})
UNKNOWN_STATE = "UNKNOWN"  # of a task about which neither Kubeflow Pipelines nor the metadata store says anything

_FAR_PAST = datetime(1971, 1, 1, tzinfo=timezone.utc)
_EPOCH_YEAR = 1970  # and before: a time that is none
_LAST_YEAR = 9999  # in another time zone, its end is a time that datetime does not have
_EXECUTOR = "executor"
_START_S = (
    2.0  # how far the start of a pod and of its node may be apart: times are in whole seconds
)
_END_S = (
    20.0,
    120.0,
)  # how much later the controller may notice that a pod has ended: mostly, at most
_LAG_S = 30.0  # how much later a row may be updated than the pod has ended
_QUIET_S = (
    120.0  # a large run without an update for so long is one whose rows are no longer updated
)
_LARGE = 100  # tasks
# of the metadata store's states; CANCELED means that a condition was false
_EXECUTION_STATES = {
    "COMPLETE": "SUCCEEDED",
    "CACHED": "CACHED",
    "FAILED": "FAILED",
    "CANCELED": "SKIPPED",
}


@dataclass(frozen=True)
class ClusterTask:
    """One task of a run.

    Attributes:
        name: The name of the task in the pipeline document.
        nodes: The names of the nodes that the task runs.
        state: One of Kubeflow Pipelines' states; "" if the task has not begun, "CACHED" if its results are
            those of an earlier run, "UNKNOWN" if nothing is known about it.
        began: When the task began; None if it has not.
        ended: When the task ended; None if it has not.
        error: What Kubeflow Pipelines says about a failure; stock releases say nothing.
        pod: The name of its pod (of the last one, if it was retried); "" if it has none or it is not known.
        driver_pod: The name of the pod of its driver; "" if it has none or it is not known.
        driver: The row of its driver; {} if there is none.
        step: What is known of the row of its pod; {} if nothing is.
        group: The name of a group of nodes; "" for one node.
    """

    name: str
    nodes: tuple[str, ...]
    state: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    pod: str = ""
    driver_pod: str = ""
    driver: JsonDetails = field(default_factory=dict, repr=False)
    step: JsonDetails = field(default_factory=dict, repr=False)
    group: str = ""

    @property
    def title(self) -> str:
        """The name of its node; of a group, the first one's, and how many there are."""
        first, more = (self.nodes or (self.name,))[0], len(self.nodes) - 1
        return f"{first} and {more} more in its pod" if more > 0 else first

    @property
    def seconds(self) -> float | None:
        """How long it took; None if it has not ended."""
        if self.began is None or self.ended is None:
            return None
        return max((self.ended - self.began).total_seconds(), 0.0)

    @property
    def has_failed_driver(self) -> bool:
        """Whether the task failed because its driver did, so that its pod was never started."""
        return self.state == "FAILED" and self.driver.get("state") == "FAILED"


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
    return time if _EPOCH_YEAR < time.year < _LAST_YEAR else None


def find_cancel_time(answer: JsonDetails) -> datetime | None:
    """Return when somebody asked a run to end; None if it was not, or has succeeded nevertheless.

    Kubeflow Pipelines shows a canceled run as FAILED. CANCELING in its history is the only trace.
    """
    if answer.get("state") not in ("FAILED", "CANCELED"):
        return None
    for seen in reversed(answer.get("state_history") or ()):
        if seen.get("state") == "CANCELING":
            return read_time(seen.get("update_time")) or _FAR_PAST
    return _FAR_PAST if answer.get("state") == "CANCELED" else None


class RunDetails:
    """What the rows of a run and the metadata store say about its tasks.

    Attributes:
        is_cut: Whether Kubeflow Pipelines has stopped updating the rows, because the workflow is too large.
        is_quiet: Whether it may have: the run is large and no row was updated for a while.
        finished: How many tasks have finished at least, if the rows are cut.
    """

    def __init__(
        self, answer: JsonDetails, document: JsonDetails, executions: Executions | None = None
    ) -> None:
        """Read the rows.

        Args:
            answer: The run as Kubeflow Pipelines shows it.
            document: The pipeline document.
            executions: What the metadata store knows of the tasks; None if it was not asked, or cannot be.
        """
        self._document, self._platform = document, _read_platform(answer)
        self._run_state, self._canceled = str(answer.get("state", "")), find_cancel_time(answer)
        self._executions = executions
        rows = (answer.get("run_details") or {}).get("task_details") or []
        self._rows: dict[str, list[JsonDetails]] = {}
        for row in sorted(rows, key=lambda row: str(row.get("start_time", ""))):
            self._rows.setdefault(str(row.get("display_name", "")), []).append(row)
        self._steps = ArgoNodes(rows)
        unnamed = self._rows.pop("", [])
        self.finished = len(unnamed)
        self.is_cut = self._is_cut(unnamed)
        self.is_quiet = self.is_cut or self._is_quiet()

    def read_task(self, name: str, nodes: tuple[str, ...]) -> ClusterTask:
        """Return a task of the document."""
        executor = _find_executor(self._document, name)
        if "importer" in executor:
            return self._finish(self._read_importer(name))
        steps = self._steps
        step = f"{steps.root}.{name}"
        whole = steps.find_last(step)
        pods = steps.list_attempts(f"{whole}.{_EXECUTOR}") or [f"{whole}.{_EXECUTOR}"]
        row = self._find_row(name, [*steps.list_attempts(step), *pods])
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
            state=self._judge(row, pod_row, name, pods),
            began=read_time(row.get("start_time")),
            ended=read_time(row.get("end_time")),
            error=read_row_error(row) or read_row_error(pod_row) or task.error,
            pod=self._name_pod(row, name, pods[-1]),
            step=pod_row,
        )
        return self._finish(task)

    def read_root_driver(self) -> ClusterTask:
        """Return the driver of the run itself, which is a task without nodes."""
        row, pod = self._read_driver("root-driver", ROOT_DRIVER_TEMPLATE)
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        state, error = _read_state(row), read_row_error(row)
        return ClusterTask("root-driver", (), state, began, ended, error, "", pod, driver=row)

    def _read_importer(self, name: str) -> ClusterTask:
        """Return a task that registers an artifact which is there already; its node is the pod."""
        steps = self._steps
        step = steps.find_last(f"{steps.root}.{name}")
        row = self._find_row(name, steps.list_attempts(f"{steps.root}.{name}")) or {}
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        pod = steps.name_pod(IMPORTER_TEMPLATE, step)
        return ClusterTask(
            name, (), _read_state(row), began, ended, read_row_error(row), pod, step=row
        )

    def _find_row(self, name: str, children: Iterable[str]) -> JsonDetails | None:
        """Return the row of a node by its shown name, by preference one that has one of these children."""
        rows = self._rows.get(name, [])
        for row in reversed(rows):
            if any(self._steps.is_child(row, child) for child in children):
                return row
        return rows[-1] if rows else None

    def _read_driver(self, name: str, template: str) -> tuple[JsonDetails, str]:
        """Return the row of a driver with the times of its last try, and the name of its pod."""
        steps = self._steps
        parent = steps.root.rpartition(".")[0]
        step = f"{parent}.{name}" if template == ROOT_DRIVER_TEMPLATE else f"{steps.root}.{name}"
        last = steps.find_last(step)
        row = self._find_row(name, steps.list_attempts(step))
        pods = self._rows.get(last.rpartition(".")[2], []) if last != step else []
        if row is None:
            return {}, ""
        times = {
            key: pods[-1][key] for key in ("start_time", "end_time") if pods and key in pods[-1]
        }
        waiting = {"state": "PENDING"} if pods and pods[-1].get("state") == "PENDING" else {}
        still = waiting if row.get("state") == "RUNNING" else {}
        pod = steps.name_pod(template, last) if _read_state(row) else ""  # else it was omitted
        return {**row, **times, **still}, pod

    def _find_pod_row(self, row: JsonDetails, pods: Sequence[str]) -> JsonDetails:
        """Return what is known of the row of a task's last pod.

        The row of a pod has neither an id nor, mostly, a child. It is found by its times; where several rows
        may be it, what they have in common is known.
        """
        if not pods[-1].endswith(")"):
            return _merge(row, _list_fitting(self._rows.get(_EXECUTOR, []), row, is_first=True))
        parents = [
            one for one in self._rows.get(_EXECUTOR, []) if self._steps.is_child(one, pods[-1])
        ]
        parent = parents[-1] if parents else row
        rows = self._rows.get(pods[-1].rpartition(".")[2], [])
        return _merge(parent, _list_fitting(rows, parent, is_first=len(pods) == 1))

    def _judge(self, row: JsonDetails, pod_row: JsonDetails, name: str, pods: Sequence[str]) -> str:
        """Return the state of a task that has a row."""
        state = _read_state(row)
        if state == "SUCCEEDED" and self._is_cached(row, name, pods):
            return "CACHED"
        if state == "SKIPPED":
            return "CACHED"
        return "PENDING" if (state, pod_row.get("state")) == ("RUNNING", "PENDING") else state

    def _is_cached(self, row: JsonDetails, name: str, pods: Sequence[str]) -> bool:
        """Tell whether a task that has succeeded was cached: its pod was skipped."""
        if self._steps.has(pods[-1]) and pods[-1].endswith(")"):
            return False  # there was a pod
        is_retried = self._steps.root.endswith(")")
        if is_retried or "retryPolicy" in self._document["root"]["dag"]["tasks"][name]:
            return bool(self._steps.workflow)
        # Without tries, the rows of pods cannot be told apart: the nearest one decides.
        nearest = {True: float("inf"), False: float("inf")}
        for pod in self._rows.get(_EXECUTOR, []):
            is_skipped = pod.get("state") == "SKIPPED"
            nearest[is_skipped] = min(_measure(pod, row), nearest[is_skipped])
        return nearest[True] < nearest[False]

    def _name_pod(self, row: JsonDetails, name: str, pod: str) -> str:
        template = name_template(self._document, self._platform, name)
        found = self._steps.name_pod(template, pod)
        if found or self._steps.has(pod):
            return found
        child = next((one for one in list_children(row) if "-" in one), "")
        run, _, number = child.rpartition("-")
        return f"{run}-{template}-{number}" if run else ""

    def _finish(self, task: ClusterTask) -> ClusterTask:
        """Complete a task by what the metadata store knows, and by whether the run was canceled."""
        execution = (self._executions or {}).get(task.name)
        if self.is_quiet and task.state not in FINAL_TASK_STATES:
            task = self._read_elsewhere(task, execution)
        elif execution is not None:
            task = _correct(task, execution)
        if execution is not None and execution.pod and task.state != "CACHED":
            task = replace(task, pod=_choose_pod(task.pod, execution.pod))
        if task.state == "CACHED":
            task = replace(task, pod="")
        if self._canceled and task.state not in SUCCESSFUL_STATES and not self._failed_before(task):
            task = replace(task, state="CANCELED")
        return task

    def _failed_before(self, task: ClusterTask) -> bool:
        """Tell whether a task had failed before the run was canceled."""
        ended = read_time(task.step.get("end_time")) or task.ended
        is_over = task.state == "FAILED" and ended is not None and self._canceled is not None
        return is_over and (self._canceled - ended).total_seconds() > 1  # type: ignore[operator]

    def _read_elsewhere(self, task: ClusterTask, execution: TaskExecution | None) -> ClusterTask:
        """Return a task whose row cannot be trusted."""
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

    def _is_cut(self, unnamed: Sequence[JsonDetails]) -> bool:
        """Tell whether the rows are older than what they describe."""
        named = [row for rows in self._rows.values() for row in rows]
        if self._run_state in FINAL_TASK_STATES:
            whole = self._rows.get(self._steps.workflow, [])
            is_open = bool(whole) and _read_state(whole[-1]) in ("", "PENDING", "RUNNING")
            return is_open or (bool(unnamed) and not named)
        newest = self._find_newest(named)
        ends = [time for row in unnamed if (time := read_time(row.get("end_time")))]
        return bool(ends and newest and (max(ends) - newest).total_seconds() > _LAG_S)

    def _is_quiet(self) -> bool:
        tasks = self._document.get("root", {}).get("dag", {}).get("tasks", {})
        newest = self._find_newest(row for rows in self._rows.values() for row in rows)
        if self._run_state in FINAL_TASK_STATES or len(tasks) < _LARGE or newest is None:
            return False
        return (datetime.now(timezone.utc) - newest).total_seconds() > _QUIET_S

    def _find_newest(self, rows: Iterable[JsonDetails]) -> datetime | None:
        """Return when a row was updated last."""
        seen = (one.get("update_time") for row in rows for one in row.get("state_history") or ())
        return max((time for text in seen if (time := read_time(text))), default=None)


def _correct(task: ClusterTask, execution: TaskExecution) -> ClusterTask:
    """Return a task with what its row says less exactly than the metadata store."""
    if task.state in ("SUCCEEDED", "CACHED"):
        state = _EXECUTION_STATES.get(execution.state)
        return replace(task, state=state) if state in ("SUCCEEDED", "CACHED") else task
    if task.state == "RUNNING" and execution.state == "RUNNING" and "state" not in task.step:
        return replace(task, state="RUNNING" if execution.pod else "PENDING")
    return task


def _choose_pod(found: str, known: str) -> str:
    """Return the name of the last pod.

    Args:
        found: The name made of the workflow's ids.
        known: The name that the launcher of the last pod that has begun has left in the metadata store.
    """
    number = found.rpartition("-")[2]
    return f"{known.rpartition('-')[0]}-{number}" if number else known


def _read_state(row: JsonDetails) -> str:
    state = str(row.get("state") or "")
    return "" if state == "RUNTIME_STATE_UNSPECIFIED" else state


def _find_executor(document: JsonDetails, task: str) -> JsonDetails:
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    executors = document.get("deploymentSpec", {}).get("executors", {})
    executor: JsonDetails = executors.get(component.get("executorLabel"), {})
    return executor


def _read_platform(answer: JsonDetails) -> JsonDetails:
    """Return the settings for Kubernetes, by executor label."""
    spec = (answer.get("pipeline_spec") or {}).get("platform_spec") or {}
    kubernetes = spec.get("platforms", {}).get("kubernetes", {})
    executors: JsonDetails = kubernetes.get("deploymentSpec", {}).get("executors", {})
    return executors


def _merge(parent: JsonDetails, rows: Sequence[JsonDetails]) -> JsonDetails:
    """Return what rows have in common, and the times of the node above them where they differ."""
    if not rows:
        return {}
    keys = ("start_time", "end_time", "state", "state_history", "error")
    common = {key: rows[0][key] for key in keys if key in rows[0] and _is_common(key, rows)}
    return {"start_time": parent.get("start_time"), "end_time": parent.get("end_time"), **common}


def _is_common(key: str, rows: Sequence[JsonDetails]) -> bool:
    return all(row.get(key) == rows[0].get(key) for row in rows)


def _list_fitting(
    rows: Sequence[JsonDetails], parent: JsonDetails, *, is_first: bool
) -> list[JsonDetails]:
    """Return the rows that may be that of the last pod below a node; is_first: it is also the first one."""
    for end_s in _END_S:
        found = [row for row in rows if _fits(row, parent, end_s, is_first=is_first)]
        if found and _read_state(parent) not in FINAL_TASK_STATES:
            return [row for row in found if _read_state(row) not in FINAL_TASK_STATES] or found
        if found:
            return found
    return []


def _fits(pod: JsonDetails, parent: JsonDetails, end_s: float, *, is_first: bool) -> bool:
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


def _measure(pod: JsonDetails, step: JsonDetails) -> float:
    """Return how far the begins and the ends of two entries are apart, in seconds."""
    distance = 0.0
    for key in ("start_time", "end_time"):
        one, other = read_time(pod.get(key)), read_time(step.get(key))
        if one and other:
            distance += abs((one - other).total_seconds())
        elif one or other:
            return float("inf")
    return distance


def read_row_error(row: JsonDetails) -> str:
    """Return what a row or a run says about its failure; "" if it says nothing."""
    error = row.get("error")
    return str(error.get("message", "")).strip() if isinstance(error, dict) else ""
