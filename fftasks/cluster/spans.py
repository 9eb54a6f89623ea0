"""Where the time of a task on the cluster went: its driver, the queue, the image, the command.

KFP's interface says of each step of the engine below it when it was made, when it ended, and when it was
first seen in which state; a pod is PENDING until its container runs. What is before that, the queue and the
pull, only the pod itself can tell apart, and it is there for a while only: see read_pod in ports/kfp_runs.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fftasks.cluster.details import Json, read_time

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
    begin = _read(driver.get("start_time"))
    if begin is not None:
        yield Span("driver", begin, _read(driver.get("end_time")))


def _list_pod(step: Json, pod: Json) -> Iterator[Span]:
    begin, end = _read(step.get("start_time")), _read(step.get("end_time"))
    if begin is None or step.get("state") == "SKIPPED":
        return
    ran = _fit(_find_run(pod) or _find_state(step, "RUNNING"), begin, end)
    placed = _fit(_find_placed(pod), begin, ran or end)
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
                return _read((state or {}).get("startedAt"))
    return None


def _find_placed(pod: Json) -> float | None:
    """Return when a pod was given its machine."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "True"):
            return _read(condition.get("lastTransitionTime"))
    return None


def _find_state(step: Json, state: str) -> float | None:
    """Return when a step was first seen in a state."""
    for seen in step.get("state_history") or ():
        if seen.get("state") == state:
            return _read(seen.get("update_time"))
    return None


def _fit(moment: float | None, begin: float, end: float | None) -> float | None:
    """Return a moment between two others: clocks differ, and the interface has whole seconds."""
    if moment is None:
        return None
    return max(begin, moment if end is None else min(moment, end))


def _read(text: object) -> float | None:
    moment = read_time(text)
    return None if moment is None else moment.timestamp()
