"""The pods of a run as Kubernetes has them: objects, events and logs.

After Kubernetes' API (core/v1 Pod and Event), as far as somebody looks for the reason why a pod does not run.
KFP says nothing about it; the page's server hands the objects on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.services.argo import FINAL, Step, number_node
from tests.services.kfp_run import write_time

if TYPE_CHECKING:
    from tests.services.argo import Node
    from tests.services.kfp_run import Run

_PHASES = {"PENDING": "Pending", "RUNNING": "Running", "SUCCEEDED": "Succeeded"}


def read_log(node: Node) -> str | None:
    """Return the log of the container `main`; None before it has started, which Kubernetes refuses."""
    step = node.pod
    if step is None or not any(state != "PENDING" for _, state in step.history):
        return None
    return None if step.waits else step.log


def describe_pod(run: Run, node: Node, name: str, namespace: str) -> dict[str, Any]:
    """Return the object of a pod."""
    step = node.pod or Step()
    labels = {"workflows.argoproj.io/workflow": run.argo_name, "pipeline/runid": run.run_id}
    annotations = {
        "workflows.argoproj.io/node-id": f"{run.argo_name}-{number_node(node.name)}",
        "workflows.argoproj.io/node-name": node.name,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": step.uid,
            "creationTimestamp": write_time(step.started),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": {"containers": [{"name": "wait"}, {"name": "main"}]},
        "status": {
            "phase": _PHASES.get(step.state, "Failed"),
            "conditions": [_describe_placing(step)],
            "containerStatuses": [
                {"name": "main", "ready": step.state == "RUNNING", "state": _describe_state(step)},
                {"name": "wait", "ready": step.state == "RUNNING"},
            ],
        },
    }


def _describe_placing(step: Step) -> dict[str, str]:
    condition = {"type": "PodScheduled"}
    if step.waits and step.waits[0] == "scheduling":
        when = write_time(step.started)
        return condition | {
            "status": "False",
            "lastTransitionTime": when,
            "reason": step.waits[1],
            "message": step.waits[2],
        }
    is_placed = bool(step.placed) or step.state != "PENDING"
    when = write_time(step.placed or step.started)
    return condition | {"status": "True" if is_placed else "False", "lastTransitionTime": when}


def _describe_state(step: Step) -> dict[str, Any]:
    if step.waits:
        place, reason, message = step.waits
        if place in ("image", "config"):
            return {"waiting": {"reason": reason, "message": message}}
        return {"waiting": {"reason": "PodInitializing"}}
    running = step.find_time("RUNNING")
    if step.state in FINAL:
        ended = {
            "startedAt": write_time(running or step.started),
            "finishedAt": write_time(step.ended),
            "exitCode": step.exit_code,
            "reason": step.end_reason or ("Error" if step.exit_code else "Completed"),
        }
        return {"terminated": ended}
    if running:
        return {"running": {"startedAt": write_time(running)}}
    return {"waiting": {"reason": "PodInitializing"}}


def describe_events(run: Run, node: Node, name: str, namespace: str) -> list[dict[str, Any]]:
    """Return the events of a pod, oldest first."""
    step = node.pod or Step()
    found: list[tuple[str, str, str, float]] = []
    place, reason, message = step.waits or ("", "", "")
    if place == "scheduling":
        found.append(("Warning", "FailedScheduling", message, step.started))
    elif step.placed or step.state != "PENDING":
        words = f"Successfully assigned {namespace}/{name} to node-1"
        found.append(("Normal", "Scheduled", words, step.placed or step.started))
    if place == "mount":
        found.append(("Warning", "FailedMount", message, step.placed))
    elif place == "config":
        found.append(("Warning", "Failed", f"Error: {message}", step.placed))
    elif place == "image":
        found.append(("Warning", "Failed", f"Failed to pull image: {message}", step.placed))
        found.append(("Normal", "BackOff", "Back-off pulling image", step.placed))
    if step.find_time("RUNNING"):
        found.append(("Normal", "Started", "Started container main", step.find_time("RUNNING")))
    return [
        {
            "metadata": {"name": f"{name}.{number:016x}", "namespace": namespace},
            "involvedObject": {
                "kind": "Pod",
                "namespace": namespace,
                "name": name,
                "uid": step.uid,
            },
            "type": kind,
            "reason": cause,
            "message": words,
            "count": 1,
            "firstTimestamp": write_time(when),
            "lastTimestamp": write_time(when),
        }
        for number, (kind, cause, words, when) in enumerate(found, 1)
    ]
