"""What Kubeflow Pipelines says about the tasks of a run, and the names of their pods, which it does not say.

A pod is called <workflow>-<template>-<number>. Argo makes the number of the step's full name; KFP's compiler
has a template for tasks that are tried again, and one for each number of labels and annotations:
https://github.com/kubeflow/pipelines, backend/src/v2/compiler/argocompiler/container.go
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]

_EXECUTOR = "executor"
_POD_TEMPLATE = "system-container-impl"
_NEAR_S = 4.0  # how far the times of a task and of its pod may be apart, begin and end together


@dataclass(frozen=True)
class Task:
    """One task of a run.

    name: in the document; nodes: the names of those that it runs
    state: of KFP's states, "" if it has not begun, "CACHED" if its results are of an earlier run
    began, ended: None if it has not
    pod: the name of its pod, "" if it cannot be known
    driver, step: what KFP says of its driver, and of the step that is its pod; {} for nothing
    group: what several nodes are called together, "" for one
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


class Details:
    """What the interface says about tasks: an entry for each step of the engine below KFP, Argo.

    task            the step that stands for it; cached or not, it has succeeded in the end
    <task>-driver   its driver
    executor        the pod of some task; skipped if that is cached. Which task it belongs to is not said:
                    a task has the ids of its children, and an entry does not have its own
    """

    def __init__(self, answer: Json, document: Json) -> None:
        self._document, self._platform = document, _read_platform(answer)
        rows = (answer.get("run_details") or {}).get("task_details") or []
        self._rows: dict[str, Json] = {}
        self._pods: list[Json] = []
        for row in sorted(rows, key=lambda row: str(row.get("start_time", ""))):
            name = str(row.get("display_name", ""))
            if name == _EXECUTOR:
                self._pods.append(row)
            self._rows[name] = row  # of a run that was retried, the last one
        self._numbers = {_get_hash(child) for row in rows for child in _list_children(row)}

    def read_task(self, name: str, nodes: tuple[str, ...]) -> Task:
        row = self._rows.get(name)
        driver = self._rows.get(f"{name}-driver", {})
        if row is None:
            failed = driver.get("state") == "FAILED"
            state = "FAILED" if failed else ""
            return Task(name, nodes, state, error=read_error(driver), driver=driver)
        state = str(row.get("state", ""))
        began, ended = read_time(row.get("start_time")), read_time(row.get("end_time"))
        if self._is_cached(row, state):
            state = "CACHED"
        error = read_error(row) or read_error(driver)
        pod = self._find_pod(row, name)
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

    def _find_pod(self, row: Json, task: str) -> str:
        """Return the name of the pod that a task has, or had last; "" if there is none yet."""
        step = next((child for child in _list_children(row) if "-" in child), "")
        run, _, number = step.rpartition("-")
        number = self._find_last_try(run, task) or number
        for pod in self._list_pods(row):
            return f"{str(pod['pod_name']).rpartition('-')[0]}-{number}"
        return (
            f"{run}-{name_template(self._document, self._platform, task)}-{number}" if run else ""
        )

    def _find_last_try(self, run: str, task: str) -> str:
        """Return the number of a task's last pod, "" if the task is not one that is tried again."""
        numbers = (number_step(f"{run}.root.{task}.executor({n})") for n in itertools.count())
        tries = list(itertools.takewhile(self._numbers.__contains__, numbers))
        return tries[-1] if tries else ""


def number_step(name: str) -> str:
    """Return the number by which Argo knows a step of its workflow: FNV-1a of the step's full name."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(number)


def name_template(document: Json, platform: Json, task: str) -> str:
    """Return what KFP's compiler calls the template of a task's pod; it is a part of the pod's name."""
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    metadata = platform.get(component.get("executorLabel"), {}).get("podMetadata")
    name = f"retry-{_POD_TEMPLATE}" if "retryPolicy" in step else _POD_TEMPLATE
    if metadata is None:
        return name
    counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
    return f"metadata-{'-'.join(map(str, counts))}-{name}"


def _read_platform(answer: Json) -> Json:
    """Return what Kubernetes is to do, by executor label."""
    spec = (answer.get("pipeline_spec") or {}).get("platform_spec") or {}
    kubernetes = spec.get("platforms", {}).get("kubernetes", {})
    executors: Json = kubernetes.get("deploymentSpec", {}).get("executors", {})
    return executors


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


def read_error(row: Json) -> str:
    """Return what an entry of the interface, or a run, says about its failure; "" if it says nothing."""
    error = row.get("error")
    return str(error.get("message", "")).strip() if isinstance(error, dict) else ""
