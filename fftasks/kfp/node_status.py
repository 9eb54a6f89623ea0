"""State, duration and result preview of each node of a run on Kubeflow Pipelines (KFP).

KFP records only when a task starts and ends, and when each of its steps was first seen in which state. A
pod is PENDING until its container runs. Only the pod itself shows when it was scheduled, so queueing and
pulling the image can be distinguished only while the pod exists. Durations and previews of single nodes
come from the metadata of their outputs, and for groups from the logs of their pods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

_MAIN_CONTAINER = "main"  # Argo's name of the container that runs the command
_MAX_LOGS = 50  # logs that are read of groups whose outputs have no metrics
_HAVE_LOGS = frozenset({"RUNNING", "SUCCEEDED", "FAILED", "CANCELED"})
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
_FAILURES = 3  # failed tasks that are listed in a message


@dataclass(frozen=True)
class NodeMetrics:
    """Duration and result of a node that has finished.

    Attributes:
        seconds: Duration of its function in seconds; None if it is unknown.
        preview: Beginning of its result.
        kind: Type and shape of its result.
        is_reused: Whether it was not executed, because its result comes from an earlier run.
    """

    seconds: float | None = None
    preview: str = ""
    kind: str = ""
    is_reused: bool = False


Accounts = Mapping[str, NodeMetrics]  # by the name of the node
OutputsByTask = Mapping[
    str, Mapping[str, "OutputArtifact"]
]  # by the names of the task and the output


class Span(NamedTuple):
    """A phase of a task.

    Attributes:
        name: "driver", "queue", "pull", "run", or several of them joined by ", " if they are not separable.
        begin: Start in seconds since the epoch.
        end: End in seconds since the epoch; None if the phase has not ended.
    """

    name: str
    begin: float
    end: float | None


def list_spans(driver: Json, step: Json, pod: Json | None = None) -> list[Span]:
    """Return the known phases of a task.

    Args:
        driver: Row of the driver in KFP's answer; {} if there is none.
        step: Row of the pod in KFP's answer; {} if there is none.
        pod: The pod as Kubernetes describes it; None if it is unknown.
    """
    spans = []
    begin = _parse_timestamp(driver.get("start_time"))
    if begin is not None:
        spans.append(Span("driver", begin, _parse_timestamp(driver.get("end_time"))))
    pod = pod or {}
    begin, end = _parse_timestamp(step.get("start_time")), _parse_timestamp(step.get("end_time"))
    if begin is None or step.get("state") == "SKIPPED":
        return spans
    started = _clamp(_find_command_start(pod) or _find_state_time(step, "RUNNING"), begin, end)
    scheduled = _clamp(_find_scheduled_time(pod), begin, started or end)
    if started is None and scheduled is None and step.get("state") != "PENDING":
        return [*spans, Span("queue, pull, run", begin, end)]  # the start of the command is unknown
    pulled = started or end
    if scheduled is None:
        spans.append(Span("queue, pull", begin, pulled))
    else:
        spans += [Span("queue", begin, scheduled), Span("pull", scheduled, pulled)]
    if started is not None:
        spans.append(Span("run", started, end))
    return spans


def _find_command_start(pod: Json) -> float | None:
    """Return when the command of a pod started; None if it is unknown."""
    for container in pod.get("status", {}).get("containerStatuses") or ():
        if container.get("name") == _MAIN_CONTAINER:
            for state in (container.get("state") or {}).values():
                return _parse_timestamp((state or {}).get("startedAt"))
    return None


def _find_scheduled_time(pod: Json) -> float | None:
    """Return when a pod was assigned to a machine; None if it is unknown."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "True"):
            return _parse_timestamp(condition.get("lastTransitionTime"))
    return None


def _find_state_time(step: Json, state: str) -> float | None:
    """Return when a step was first seen in a state; None if it was not."""
    for seen in step.get("state_history") or ():
        if seen.get("state") == state:
            return _parse_timestamp(seen.get("update_time"))
    return None


def _clamp(moment: float | None, begin: float, end: float | None) -> float | None:
    """Limit a time to a range, because clocks differ and KFP's times are whole seconds."""
    if moment is None:
        return None
    return max(begin, moment if end is None else min(moment, end))


def _parse_timestamp(text: object) -> float | None:
    moment = read_time(text)
    return None if moment is None else moment.timestamp()


def collect_node_metrics(run: ClusterRun, evidence: RunDiagnostics) -> dict[str, NodeMetrics]:
    """Return the metrics of the nodes of a run, from the metadata store and from logs of groups.

    Args:
        run: The run.
        evidence: Reads the metadata store and the logs.

    Returns:
        The metrics by the name of the node; nodes without known metrics are missing.
    """
    executions = evidence.executions or {}
    outputs = {name: one.outputs for name, one in executions.items()}
    metrics = read_node_metrics(run, outputs)
    groups = [task for task in run.tasks if len(task.nodes) > 1 and task.began]
    missing = [task for task in groups if metrics.keys().isdisjoint(task.nodes)]
    for task in [task for task in missing if task.state in _HAVE_LOGS][-_MAX_LOGS:]:
        metrics |= parse_group_progress(evidence.read_log(task) or "", task.nodes)
    return metrics


def read_node_metrics(run: ClusterRun, outputs: OutputsByTask) -> dict[str, NodeMetrics]:
    """Return the metrics in the metadata of outputs, by the name of the node; see metadata.py."""
    found: dict[str, NodeMetrics] = {}
    for task in run.tasks:
        given = outputs.get(task.name, {})
        if "result" in given and len(task.nodes) == 1:
            found[task.nodes[0]] = _parse_metrics(given["result"].properties)
        elif "inner" in given:
            found |= _parse_group_metrics(task.nodes, given["inner"].properties)
    return found


def parse_group_progress(log: str, nodes: Sequence[str]) -> dict[str, NodeMetrics]:
    """Return the metrics of the finished nodes of a group from its log, by the name of the node.

    Args:
        log: Log of the pod of the group.
        nodes: Names of the nodes of the group.
    """
    found, known = {}, frozenset(nodes)
    for line in log.splitlines():
        node, text = split_group_line(line, known)
        took = parse_finish_line(text) if node else None
        if took is not None:
            found[node] = NodeMetrics(_parse_seconds(took), is_reused=not took)
    return found


def list_node_durations(run: ClusterRun, accounts: Accounts) -> dict[str, float]:
    """Return the durations of nodes in seconds, by the name of the node.

    Args:
        run: The run.
        accounts: Known metrics of its nodes. A node without metrics gets the duration of the command of its
            pod, if it is the only node in it.
    """
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
    """Return the metrics of the nodes of a group from the metadata of its output; see runner/task.py."""
    found = {
        node: NodeMetrics(_parse_seconds(word.lstrip("=")), is_reused=word.startswith("="))
        for node, word in zip(nodes, str(properties.get("seconds", "")).split(), strict=False)
    }
    try:
        described = parse_json(properties.get("nodes", "{}"))
    except (AttributeError, TypeError, ValueError):
        return found
    for node, one in described.items() if isinstance(described, dict) else ():
        if isinstance(one, dict):
            found[node] = replace(_parse_metrics(one), is_reused=bool(one.get("kept")))
    return found


def _parse_metrics(properties: Mapping[str, Any]) -> NodeMetrics:
    """Return the metrics of a node from the metadata of its result."""
    kind = " ".join(str(properties[key]) for key in ("python_type", "shape") if key in properties)
    seconds = properties.get("seconds")
    number = _parse_seconds(str(seconds)) if isinstance(seconds, (int, float)) else None
    return NodeMetrics(number, str(properties.get("preview", "")), kind)


def _parse_seconds(text: str) -> float | None:
    """Return a finite number; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def convert_kfp_state(state: str) -> str:
    """Return the state in fftasks' terms for a state in KFP's terms; unknown states count as waiting."""
    return _STATE_NAMES.get(state, "waiting")


def get_task_state(run: ClusterRun, task: ClusterTask) -> str:
    """Return the state of a task in fftasks' terms; it is skipped if the run failed before it started."""
    return "skipped" if run.never_started(task) else convert_kfp_state(task.state)


def get_node_state(
    run: ClusterRun,
    task: ClusterTask,
    node: str,
    outcome: TaskFailure | None,
    account: NodeMetrics | None = None,
) -> str:
    """Return the state of a node in fftasks' terms.

    Args:
        run: The run.
        task: The task that executes the node.
        node: Name of the node.
        outcome: How the task failed; None if it has not failed.
        account: Metrics of the node; None if it has not finished or they are unknown.
    """
    state = get_task_state(run, task)
    if state == "failed" and outcome is not None and outcome.failed and len(task.nodes) > 1:
        if node == outcome.failed:
            return state
        state = "ran" if node in outcome.finished else "skipped"
    if account is not None and len(task.nodes) > 1 and state in ("ran", "running"):
        return "cached" if account.is_reused else "ran"
    return state


def format_task_error(task: ClusterTask, outcome: TaskFailure | None = None) -> str:
    """Return the message about a failed task: the node that failed, and the reason if it is known."""
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
    """Return the messages about the first three failed tasks of a run, one line each.

    Args:
        run: The run.
        outcomes: How tasks failed, by the name of the task.
    """
    failed = [task for task in run.tasks if task.state == "FAILED"]
    return [format_task_error(task, outcomes.get(task.name)) for task in failed[:_FAILURES]]
