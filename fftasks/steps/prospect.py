"""What runs on the cluster are expected to be like: pods and times, beside those of a task for each node."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fftasks.cluster.show import format_seconds
from fftasks.project import Project
from fftasks.record import Record
from fftasks.stages.fit import find_excess
from fftasks.stages.groups import Estimate, Group, estimate_groups
from fftasks.stages.kfp_tasks import make_tasks
from fftasks.stages.limits import choose_cluster
from fftasks.steps.durations import Durations, find_durations
from fftasks.steps.grouping import (
    choose_limits,
    find_tasks,
    find_unfused_excess,
    get_pods,
    list_places,
)

_SHOWN = 3
_CACHED, _WITH_KEPT = 0.5, 1.5  # of a pod's overhead: a driver only; importers before it
_Tasks = Mapping[str, Record]


@dataclass(frozen=True)
class Prospect:
    """What a run of a workflow on the cluster is expected to be like, if all nodes are computed.

    mode: how they are grouped; why: a sentence if the setting did not say so
    unfused: what it would be like with a task for each node
    excess, unfused_excess: why the cluster would not take it, "" if it does
    """

    workflow: str
    nodes: int
    mode: str
    why: str
    groups: tuple[Group, ...]
    expected: Estimate
    excess: str
    unfused: Estimate
    unfused_excess: str
    durations: Durations

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "durations": self.durations.count()}

    def describe(self) -> Iterator[str]:
        """Yield it in lines."""
        expected = _describe_estimate(self.expected, self.excess)
        yield f"{self.workflow}, if all is computed: {expected}"
        if self.mode != "none":
            yield f"  {self.mode}{f': {self.why}' if self.why else ' (kfp.fuse)'}"
            unfused = _describe_estimate(self.unfused, self.unfused_excess)
            yield f"  unfused: {unfused.removesuffix(f': {self.why}')}"  # it has just been said
        yield f"  {self.durations.describe()}"

    def list_groups(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each group of several nodes, and which nodes these are."""
        for group in self.groups:
            if len(group.nodes) > 1:
                shown = ", ".join(group.nodes[:_SHOWN])
                more = f" and {len(group.nodes) - _SHOWN} more" if len(group.nodes) > _SHOWN else ""
                yield group.name, f"{shown}{more}"


def look_ahead(project: Project, workflow: str, up_to_date: Collection[str]) -> Prospect:
    """Return what a run of a workflow would be like, if it was submitted now.

    up_to_date: the names of the stages that are, as doit has them
    """
    graph = project.workflows[workflow]
    tasks, grouping = find_tasks(project, workflow, up_to_date)
    known = _find_durations(project, workflow, grouping)
    alone = make_tasks(graph, workflow)
    return Prospect(
        workflow=workflow,
        nodes=len(alone),
        mode=grouping["mode"] if grouping else "none",
        why=grouping["why"] if grouping else "",
        groups=tuple(_list_groups(graph, tasks)),
        expected=_estimate(project, workflow, tasks, known),
        excess=find_excess(tasks, choose_cluster(project.settings.kfp.version)),
        unfused=_estimate(project, workflow, alone, known),
        unfused_excess=find_unfused_excess(project, graph, workflow),
        durations=known,
    )


def expect_seconds(
    project: Project,
    workflow: str,
    tasks: _Tasks,
    grouping: Record | None,
    computed: Mapping[str, bool],
) -> float:
    """Return how long a run takes that computes some nodes only.

    computed: for each node that shares its task with one that is computed, by its id, whether it is itself;
        of others, the task is taken from the cluster's cache
    """
    known = _find_durations(project, workflow, grouping)
    seconds = {i: known.seconds.get(i, 1.0) if is_so else 0.0 for i, is_so in computed.items()}
    idle = {node for task in tasks.values() for node in task["nodes"] if node not in computed}
    known = replace(known, seconds={**dict.fromkeys(idle, 0.0), **seconds})
    shares = [_share_overhead(task["nodes"], computed) for task in tasks.values()]
    return _estimate(project, workflow, tasks, known, shares).seconds


def _find_durations(project: Project, workflow: str, grouping: Record | None) -> Durations:
    return find_durations(project, workflow, (grouping or {}).get("seconds", {}))


def _estimate(
    project: Project,
    workflow: str,
    tasks: _Tasks,
    durations: Durations,
    shares: Sequence[float] | None = None,
) -> Estimate:
    """Return what tasks cost; shares: how much of a pod's overhead each one has."""
    return estimate_groups(
        project.workflows[workflow],
        workflow,
        [task["nodes"] for task in tasks.values()],
        places=list_places(project, workflow, durations.seconds),
        pods=get_pods(project),
        limits=choose_limits(project),
        shares=shares,
    )


def _share_overhead(nodes: Sequence[str], computed: Mapping[str, bool]) -> float:
    known = [computed[node] for node in nodes if node in computed]
    if not known:
        return _CACHED
    return 1.0 if all(known) else _WITH_KEPT


def _list_groups(graph: Record, tasks: _Tasks) -> Iterator[Group]:
    names = {key: task["name"] for key, task in tasks.items()}
    for task in tasks.values():
        nodes = tuple(graph["nodes"][node]["name"] for node in task["nodes"])
        yield Group(task["name"], nodes, tuple(names[other] for other in task["upstream"]))


def _describe_estimate(estimate: Estimate, excess: str) -> str:
    pods = f"{estimate.pods} pod{'s' * (estimate.pods != 1)}"
    seconds, path, whole = map(format_seconds, (estimate.seconds, estimate.path_s, estimate.pod_s))
    fits = f"; the cluster would not take it: {excess}" if excess else ""
    return f"{pods}, {seconds} expected, longest path {path}, {whole} of pods{fits}"
