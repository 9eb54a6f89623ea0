"""Where the time of a task on the cluster went: its driver, the queue, the image, the command.

KFP's interface says of each step of the engine below it when it was made, when it ended, and when it was
first seen in which state; a pod is PENDING until its container runs. What is before that, the queue and the
pull, only the pod itself can tell apart, and it is there for a while only: see read_pod in ports/kfp_runs.py.

What a run on the cluster tells of each of its nodes, whether they share a pod or not.

It stands in the metadata of what tasks give, and of groups in the logs of their pods: KFP itself knows only
when a pod began and ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fftasks.http.response import parse_json
from fftasks.kfp.pod_log import (
    TaskFailure,
    parse_finish_line,
    split_group_line,
)
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import (
    UNKNOWN_STATE,
    ClusterTask,
    Json,
    read_time,
)

if TYPE_CHECKING:
    from fftasks.kfp.diagnostics import RunDiagnostics
    from fftasks.kfp.metadata import OutputArtifact

_MAIN = "main"  # Argo's name of the container that runs the command


class Span(NamedTuple):
    """A part of a task's time, in seconds since the epoch; end: None if it goes on."""

    name: str
    begin: float
    end: float | None


def list_spans(driver: Json, step: Json, pod: Json | None = None) -> list[Span]:
    """Return the parts of a task's time, as far as somebody says them.

    driver, step: what KFP says of its driver, and of the step that is its pod; {} for nothing
    pod: the pod as Kubernetes has it
    """
    return [*_list_driver(driver), *_list_pod(step, pod or {})]


def _list_driver(driver: Json) -> Iterator[Span]:
    begin = _parse_timestamp(driver.get("start_time"))
    if begin is not None:
        yield Span("driver", begin, _parse_timestamp(driver.get("end_time")))


def _list_pod(step: Json, pod: Json) -> Iterator[Span]:
    begin, end = _parse_timestamp(step.get("start_time")), _parse_timestamp(step.get("end_time"))
    if begin is None or step.get("state") == "SKIPPED":
        return
    ran = _clamp(_find_run(pod) or _find_state(step, "RUNNING"), begin, end)
    placed = _clamp(_find_scheduled_time(pod), begin, ran or end)
    if ran is None and placed is None and step.get("state") != "PENDING":
        yield Span("queue, pull, run", begin, end)  # nobody has seen when it began to run
        return
    waited = ran or end
    if placed is None:
        yield Span("queue, pull", begin, waited)
    else:
        yield Span("queue", begin, placed)
        yield Span("pull", placed, waited)
    if ran is not None:
        yield Span("run", ran, end)


def _find_run(pod: Json) -> float | None:
    """Return when a pod's command began."""
    for container in pod.get("status", {}).get("containerStatuses") or ():
        if container.get("name") == _MAIN:
            for state in (container.get("state") or {}).values():
                return _parse_timestamp((state or {}).get("startedAt"))
    return None


def _find_scheduled_time(pod: Json) -> float | None:
    """Return when a pod was given its machine."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "True"):
            return _parse_timestamp(condition.get("lastTransitionTime"))
    return None


def _find_state(step: Json, state: str) -> float | None:
    """Return when a step was first seen in a state."""
    for seen in step.get("state_history") or ():
        if seen.get("state") == state:
            return _parse_timestamp(seen.get("update_time"))
    return None


def _clamp(moment: float | None, begin: float, end: float | None) -> float | None:
    """Return a moment between two others: clocks differ, and the interface has whole seconds."""
    if moment is None:
        return None
    return max(begin, moment if end is None else min(moment, end))


def _parse_timestamp(text: object) -> float | None:
    moment = read_time(text)
    return None if moment is None else moment.timestamp()


_MOST_LOGS = 50  # that are asked for, of pods that tell nothing otherwise
_HAVE_LOGS = frozenset({"RUNNING", "SUCCEEDED", "FAILED", "CANCELED"})


@dataclass(frozen=True)
class NodeMetrics:
    """What is told of a node that has a result.

    seconds: how long its function took, None if that is not told
    preview: the beginning of its result; kind: type and shape of it
    is_kept: it did not run, and has its result from the run before
    """

    seconds: float | None = None
    preview: str = ""
    kind: str = ""
    is_reused: bool = False


Accounts = Mapping[str, NodeMetrics]  # by node
Outputs = Mapping[str, Mapping[str, "OutputArtifact"]]  # by task and output


def collect_node_metrics(run: ClusterRun, evidence: RunDiagnostics) -> dict[str, NodeMetrics]:
    """Return what is told of the nodes of a run, as far as somebody can be asked."""
    executions = evidence.executions or {}
    outputs = {name: one.outputs for name, one in executions.items()}
    accounts = read_node_metrics(run, outputs)
    groups = [task for task in run.tasks if len(task.nodes) > 1 and task.began]
    silent = [task for task in groups if accounts.keys().isdisjoint(task.nodes)]
    for task in [task for task in silent if task.state in _HAVE_LOGS][-_MOST_LOGS:]:
        accounts |= parse_group_progress(evidence.read_log(task) or "", task.nodes)
    return accounts


def read_node_metrics(run: ClusterRun, outputs: Outputs) -> dict[str, NodeMetrics]:
    """Return what the metadata of outputs tell; see ports/kfp_metadata.py."""
    found: dict[str, NodeMetrics] = {}
    for task in run.tasks:
        given = outputs.get(task.name, {})
        if "result" in given and len(task.nodes) == 1:
            found[task.nodes[0]] = _parse_metrics(given["result"].properties)
        elif "inner" in given:
            found |= _parse_group_metrics(task.nodes, given["inner"].properties)
    return found


def parse_group_progress(log: str, nodes: Sequence[str]) -> dict[str, NodeMetrics]:
    """Return what the log of a group tells: its nodes that are done, and how long they took."""
    found, known = {}, frozenset(nodes)
    for line in log.splitlines():
        node, text = split_group_line(line, known)
        took = parse_finish_line(text) if node else None
        if took is not None:
            found[node] = NodeMetrics(_parse(took), is_reused=not took)
    return found


def list_node_durations(run: ClusterRun, accounts: Accounts) -> dict[str, float]:
    """Return how long nodes took: their functions, or else, of a pod that has one node, its command."""
    found = {node: one.seconds for node, one in accounts.items() if one.seconds is not None}
    for task in run.tasks:
        if len(task.nodes) == 1 and task.nodes[0] not in found and task.state == "SUCCEEDED":
            for span in list_spans(task.driver, task.step):
                if span.name == "run" and span.end is not None:
                    found[task.nodes[0]] = span.end - span.begin
    return found


def _parse_group_metrics(
    nodes: Sequence[str], properties: Mapping[str, Any]
) -> dict[str, NodeMetrics]:
    """Return what a group tells of its nodes; see runtime/task.py."""
    found = {
        node: NodeMetrics(_parse(word.lstrip("=")), is_reused=word.startswith("="))
        for node, word in zip(nodes, str(properties.get("seconds", "")).split(), strict=False)
    }
    try:
        told = parse_json(properties.get("nodes", "{}"))
    except (AttributeError, TypeError, ValueError):
        return found
    for node, one in told.items() if isinstance(told, dict) else ():
        if isinstance(one, dict):
            found[node] = replace(_parse_metrics(one), is_reused=bool(one.get("kept")))
    return found


def _parse_metrics(told: Mapping[str, Any]) -> NodeMetrics:
    kind = " ".join(str(told[key]) for key in ("python_type", "shape") if key in told)
    seconds = told.get("seconds")
    number = _parse(str(seconds)) if isinstance(seconds, (int, float)) else None
    return NodeMetrics(number, str(told.get("preview", "")), kind)


def _parse(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_STATE_NAMES = {
    "": "waiting",
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "ran",
    "CACHED": "cached",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELING": "canceled",
    "CANCELED": "canceled",
    "PAUSED": "waiting",
    UNKNOWN_STATE: "unknown",
}


_FAILURES = 3


def convert_kfp_state(state: str) -> str:
    """Return the word of state.py for a state of KFP's; what is unknown counts as waiting."""
    return _STATE_NAMES.get(state, "waiting")


def get_task_state(run: ClusterRun, task: ClusterTask) -> str:
    """Return the word for a task's state: skipped, not waiting, if the run has ended without it."""
    return "skipped" if run.never_started(task) else convert_kfp_state(task.state)


def get_node_state(
    run: ClusterRun,
    task: ClusterTask,
    node: str,
    outcome: TaskFailure | None,
    account: NodeMetrics | None = None,
) -> str:
    """Return the word for a node's state.

    outcome: of its group, if that has failed; account: what is told of it, if it is done
    """
    word = get_task_state(run, task)
    if word == "failed" and outcome is not None and outcome.failed and len(task.nodes) > 1:
        if node == outcome.failed:
            return word
        word = "ran" if node in outcome.finished else "skipped"
    if account is not None and len(task.nodes) > 1 and word in ("ran", "running"):
        return "cached" if account.is_reused else "ran"
    return word


def format_task_error(task: ClusterTask, outcome: TaskFailure | None = None) -> str:
    """Return which node of a task failed, and why, as far as it is known."""
    reason = (outcome.reason if outcome else "") or task.error
    because = f": {reason}" if reason else ""
    if task.has_failed_driver:
        kind = "node" if len(task.nodes) == 1 else "nodes"
        return f"the driver of {kind} {task.title} failed before the {kind} started{because}"
    name = task.title
    if outcome and outcome.failed and len(task.nodes) > 1:
        counted = f"{len(outcome.finished)} of {len(task.nodes)} nodes had finished"
        name = f"{outcome.failed} (of its group, {counted})"
    return f"{name} failed{because}"


def list_task_errors(run: ClusterRun, outcomes: Mapping[str, TaskFailure]) -> list[str]:
    """Return the failures that kept the nodes behind them from starting, one each line."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    return [format_task_error(task, outcomes.get(task.name)) for task in failed[:_FAILURES]]
