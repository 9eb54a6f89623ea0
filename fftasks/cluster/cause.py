"""Explain in one line why a task failed or does not start, from its log and its pod.

Kubeflow Pipelines itself gives no reason (seen with 2.17: none of 43 runs had an error text).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fftasks.cluster.log import explain_launcher, find_exit, is_killed
from fftasks.runtime.failure import find_failure

Json = Mapping[str, Any]

_MAIN = "main"  # Argo's name of the container that runs the command
_USUAL = frozenset({"ContainerCreating", "PodInitializing", "Completed", "Error", ""})
_OUT_OF_MEMORY = "OOMKilled"
_LONGEST = 300  # characters of what Kubernetes says


def explain_log(log: str, memory_limit: str = "") -> str:
    """Return why a task failed, as its log tells it; "" if the log does not.

    Args:
        log: The log of the pod of the task, or of its driver.
        memory_limit: The memory limit of the container; "" if it has none.
    """
    if is_killed(log):
        limit = f"its memory limit is {memory_limit}" if memory_limit else "it has no memory limit"
        return (
            f"was killed by SIGKILL from outside, probably because it ran out of memory ({limit})"
        )
    if error := explain_launcher(log):
        return error
    failure = find_failure(log)
    return failure.reason if failure else ""


def explain_exit(log: str) -> str:
    """Return how the command of a task ended, where its log says nothing better; "" if not even that."""
    ended = find_exit(log)
    return f"its command ended with {ended}" if ended else ""


def explain_pod(pod: Json, events: Iterable[Json] = (), memory_limit: str = "") -> str:
    """Return why a pod failed or does not start, in the words of Kubernetes; "" if nothing is unusual.

    Args:
        pod: The pod as Kubernetes has it; {} if it is not known.
        events: The events of the pod.
        memory_limit: The memory limit of its main container; "" if it has none.
    """
    status = pod.get("status") or {}
    if status.get("reason"):  # such as Evicted, DeadlineExceeded
        return _join(status.get("reason"), status.get("message"))
    states = [one.get("state") or {} for one in _list_statuses(status)]
    has_begun = bool(states and {"running", "terminated"}.intersection(states[0]))
    for ended in (state.get("terminated") or {} for state in states):
        if reason := _explain_end(ended, memory_limit):
            return reason
    waiting = [state.get("waiting") or {} for state in states]
    waiting += [
        condition
        for condition in status.get("conditions") or ()
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False")
    ]
    for waits in waiting:
        if waits.get("reason", "") not in _USUAL:
            return _join(waits.get("reason"), waits.get("message"))
    return "" if has_begun else _explain_events(events)  # they may be older than the container


def _explain_end(ended: Json, memory_limit: str) -> str:
    """Return why a container ended; "" if it has not, or as the log tells it."""
    failure = find_failure(str(ended.get("message") or ""))
    if failure is not None:  # our entry point leaves it there as well
        return failure.reason
    if ended.get("reason") == _OUT_OF_MEMORY:
        limit = f"memory limit {memory_limit}" if memory_limit else "no memory limit"
        return _join(_OUT_OF_MEMORY, f"it ran out of memory ({limit})")
    is_usual = ended.get("reason", "") in _USUAL
    return "" if is_usual else _join(ended.get("reason"), ended.get("message"))


def _list_statuses(status: Json) -> Iterator[Json]:
    """Yield the states of the containers, the main one first."""
    inits = status.get("initContainerStatuses") or ()
    found = [*(status.get("containerStatuses") or ()), *inits]
    yield from sorted(found, key=lambda one: one.get("name") != _MAIN)


def _explain_events(events: Iterable[Json]) -> str:
    """Return the latest warning about a pod."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    latest = max(warnings, key=_find_time, default={})
    return _join(latest.get("reason"), latest.get("message")) if latest else ""


def _find_time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _join(reason: object, message: object) -> str:
    words = " ".join(str(message or "").split())[:_LONGEST]
    return f"{reason}: {words}" if reason and words else str(reason or words)
