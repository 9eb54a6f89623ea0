"""Choose which nodes of a workflow share a task, from settings and known durations, and estimate the run.

The pure algorithms are in the package fusion. This module collects their inputs from the project.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fftasks.fusion.cost import CostEstimate, GraphLimits, PodCosts, make_graph_limits
from fftasks.fusion.grouping import Grouping, NodeGroup, NodePlacement, estimate_groups, group_nodes
from fftasks.kfp.limits import describe_excess, find_excess, get_cluster_limits
from fftasks.pipeline.kubernetes import count_parallel_nodes
from fftasks.pipeline.task_specs import make_tasks
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record
from fftasks.terminal import format_elapsed_time

_SIMILAR = 2.0  # A duration that changed by a smaller factor does not change the groups.
_IGNORED_SETTINGS = ("fuse", "display_name")  # Nodes with different values may share a pod.
_SAFE = 0.85  # part of Argo's workflow object that automatic groups may use, by the estimate
_TIGHTER = 0.85  # factor for the size limit if the tasks of the groups turn out to be too large
_MOST_TRIES = 5
_SHOWN = 3  # nodes in the description of a group
_CACHED = 0.5  # part of a pod's overhead for a cached task, which runs a driver only
_WITH_KEPT = 1.5  # the same for a task that reuses packs, because importers run before it

_Tasks = Mapping[str, Record]


@dataclass(frozen=True)
class NodeDurations:
    """Durations of the nodes of a workflow, as far as they are known, and where they come from.

    Attributes:
        seconds: Id of a node -> its duration in seconds.
        there: Number of durations that were measured on the cluster.
        here: Number of durations that were measured on this machine.
        before: Number of durations that are known only from the last grouping.
        assumed: Number of nodes with an unknown duration.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    there: int = 0
    here: int = 0
    before: int = 0
    assumed: int = 0

    def count(self) -> dict[str, Any]:
        """Return the number of durations from each source."""
        return {name: count for name, count in asdict(self).items() if name != "seconds"}

    def describe(self) -> str:
        """Return a line with the number of durations from each source."""
        counted = (
            (self.there, "measured on the cluster"),
            (self.here, "measured here"),
            (self.before, "measured earlier"),
            (self.assumed, "assumed to be 1 s"),
        )
        return "durations: " + ", ".join(f"{count} {how}" for count, how in counted if count)


def find_durations(project: Project, workflow: str, before: Mapping[str, float]) -> NodeDurations:
    """Return the expected durations of a workflow's nodes.

    Durations on the cluster take precedence over those on this machine, because the estimates are for runs on
    the cluster. A duration of the last grouping is used as long as it is similar, so that groups are stable.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        before: Id of a node -> its duration in seconds when the current groups were chosen.
    """
    # Imported here, because a run in which every stage is up to date does not need it.
    from fftasks.pipeline.run_index import read_node_durations

    graph = project.workflows[workflow]
    ids = graph["workflows"][workflow]["nodes"]
    measured = read_node_durations(project, workflow)
    names = {identity: graph["nodes"][identity]["name"] for identity in ids}
    there = {i: measured[name] for i, name in names.items() if name in measured}
    here = {}
    for label, node in project.nodes.items():
        identity = node.content["id"]
        if node.graph is graph and identity in names and identity not in there:
            trace = project.find_trace(label)
            if trace is not None:
                here[identity] = trace.seconds
    known = {**here, **there}
    kept = {i: old for i, old in before.items() if i in names and _is_similar(old, known.get(i))}
    seconds = {**known, **kept}
    only_before = len(seconds) - len(known)
    return NodeDurations(seconds, len(there), len(here), only_before, len(ids) - len(seconds))


def _is_similar(old: float, new: float | None) -> bool:
    return bool(old) and (new is None or 1 / _SIMILAR < new / old < _SIMILAR)


def choose_grouping(
    project: Project, workflow: str, old: Record | None = None, *, mode: str = ""
) -> Grouping | None:
    """Return the groups of a workflow, or None if each node has a task of its own.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        old: Last record of stage tasks, whose groups are preferred if they are about as good as the best.
        mode: Value that replaces setting kfp.fuse; "" for the setting.
    """
    kfp, graph, why = project.settings.kfp, project.workflows[workflow], ""
    mode = mode or kfp.fuse
    if mode == "limit":
        why = find_unfused_excess(project, graph, workflow)
        mode = "auto" if why else "none"
    if mode == "none":
        return None

    before = (old or {}).get("grouping") or {}
    known = find_durations(project, workflow, before.get("seconds", {}))
    cluster, limits = get_cluster_limits(kfp.version), choose_limits(project)
    safe = replace(cluster, object_bytes=int(_SAFE * cluster.object_bytes))
    for _ in range(_MOST_TRIES):
        found = group_nodes(
            graph,
            workflow,
            mode,
            places=list_placements(project, workflow, known.seconds),
            pods=get_pod_costs(project),
            limits=limits,
            last=before.get("grain", -1),
        )
        # The limits of groups are estimated from numbers of tasks and edges. The tasks themselves also have
        # names and constants, which may be long.
        if mode != "auto" or not find_excess(make_tasks(graph, workflow, found.groups), safe):
            break
        limits = replace(limits, object_bytes=int(limits.object_bytes * _TIGHTER))
    return replace(found, why=why)


def choose_limits(project: Project) -> GraphLimits:
    """Return the limits of groups for the KFP release in setting kfp.version."""
    return make_graph_limits(get_cluster_limits(project.settings.kfp.version))


def find_current_tasks(
    project: Project, workflow: str, up_to_date: Collection[str]
) -> tuple[Mapping[str, Record], Record | None]:
    """Return the tasks of a workflow that would be submitted now, and the description of their groups.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        up_to_date: Names of the doit tasks that are up to date, such as "tasks:WORKFLOW".
    """
    components = read_record(project.record_path("tasks", workflow))
    if components is not None and f"tasks:{workflow}" in up_to_date:
        return components["tasks"], components.get("grouping")
    grouping = choose_grouping(project, workflow, components)
    groups = grouping.groups if grouping else None
    return make_tasks(project.workflows[workflow], workflow, groups), describe_grouping(grouping)


def find_unfused_excess(project: Project, graph: Record, workflow: str) -> str:
    """Return why the cluster would reject a workflow with one task for each node; "" if it would not.

    Args:
        project: The current project.
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
    """
    cluster = get_cluster_limits(project.settings.kfp.version)
    count, least = len(graph["workflows"][workflow]["nodes"]), choose_limits(project)
    # This estimate saves making the tasks of a workflow that is far too large.
    if (size := count * least.object_task_bytes) > 2 * cluster.object_bytes:
        return describe_excess(count, size, cluster.object_bytes)
    return find_excess(make_tasks(graph, workflow), cluster)


def describe_grouping(grouping: Grouping | None) -> Record | None:
    """Return the entry `grouping` in the record of stage tasks."""
    if grouping is None:
        return None
    return {
        "mode": grouping.mode,
        "why": grouping.why,
        "grain": grouping.grain,
        "expected": asdict(grouping.expected),
        "unfused": asdict(grouping.unfused),
        "seconds": {i: round(s, 3) for i, s in grouping.seconds.items()},
    }


def describe_tasks(components: Record) -> str:
    """Return a line with the number of tasks, and why they are fewer than the nodes."""
    count, groups = len(components["tasks"]), components.get("grouping")
    tasks = f"{count} task{'s' * (count != 1)}"
    if not groups:
        return tasks
    nodes = sum(len(task["nodes"]) for task in components["tasks"].values())
    why = f": {groups['why']}" if groups["why"] else ""
    return f"{tasks}, fused from {nodes} nodes{why}"


def digest_group_settings(project: Project, workflow: str) -> str:
    """Return the digest of all inputs of the grouping except durations, which alone do not change groups."""
    kfp, graph = project.settings.kfp, project.workflows[workflow]
    if kfp.fuse == "none":
        return "none"
    layers = [
        [layer.pattern, {k: v.value for k, v in layer.values.items()}]
        for layer in project.settings.nodes
    ]
    ids = graph["workflows"][workflow]["nodes"]
    coded = [graph["nodes"][identity].get("settings") for identity in ids]
    return digest_json([kfp.fuse, kfp.pod_overhead_s, kfp.parallel_pods, layers, coded])


def get_pod_costs(project: Project) -> PodCosts:
    """Return the number of parallel pods and the overhead of a pod in the settings."""
    return PodCosts(project.settings.kfp.parallel_pods, project.settings.kfp.pod_overhead_s)


def list_placements(
    project: Project, workflow: str, seconds: Mapping[str, float]
) -> dict[str, NodePlacement]:
    """Return the properties of each node that determine which nodes may share a pod with it.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        seconds: Id of a node -> its duration in seconds, as far as it is known.
    """
    keys: dict[int, str] = {}  # Many nodes share one object with their settings.
    placements = {}
    for identity, settings in project.list_settings(workflow).items():
        if id(settings) not in keys:
            content = settings.to_json()
            keys[id(settings)] = digest_json(
                {name: content[name] for name in content if name not in _IGNORED_SETTINGS}
            )
        cpu = count_parallel_nodes(settings)
        placements[identity] = NodePlacement(
            keys[id(settings)], cpu, settings.fuse, seconds.get(identity)
        )
    return placements


@dataclass(frozen=True)
class RunEstimate:
    """The expected duration and number of pods of a run that computes all nodes of a workflow.

    Attributes:
        workflow: Name of the workflow.
        nodes: Number of nodes.
        mode: Mode of the grouping: none, chains or auto.
        why: Reason for the mode; "" if kfp.fuse sets it.
        groups: Groups of the run.
        expected: Cost of the run.
        excess: Why the cluster would reject the run; "" if it would not.
        unfused: Cost of a run with one task for each node.
        unfused_excess: Why the cluster would reject that run; "" if it would not.
        durations: Durations that the estimate is based on.
    """

    workflow: str
    nodes: int
    mode: str
    why: str
    groups: tuple[NodeGroup, ...]
    expected: CostEstimate
    excess: str
    unfused: CostEstimate
    unfused_excess: str
    durations: NodeDurations

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with all attributes; durations are replaced by their numbers."""
        return {**asdict(self), "durations": self.durations.count()}

    def describe(self) -> Iterator[str]:
        """Yield the lines for the terminal."""
        expected = _describe_estimate(self.expected, self.excess)
        yield f"{self.workflow}, if all is computed: {expected}"
        if self.mode != "none":
            yield f"  {self.mode}{f': {self.why}' if self.why else ' (kfp.fuse)'}"
            unfused = _describe_estimate(self.unfused, self.unfused_excess)
            # The reason for the mode is in the line before.
            yield f"  unfused: {unfused.removesuffix(f': {self.why}')}"
        yield f"  {self.durations.describe()}"

    def list_groups(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each group with several nodes, and the names of its first nodes."""
        for group in self.groups:
            if len(group.nodes) > 1:
                shown = ", ".join(group.nodes[:_SHOWN])
                more = f" and {len(group.nodes) - _SHOWN} more" if len(group.nodes) > _SHOWN else ""
                yield group.name, f"{shown}{more}"


def estimate_run(project: Project, workflow: str, up_to_date: Collection[str]) -> RunEstimate:
    """Return the estimate of a run that is submitted now and computes all nodes.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        up_to_date: Names of the doit tasks that are up to date, such as "tasks:WORKFLOW".
    """
    graph = project.workflows[workflow]
    tasks, grouping = find_current_tasks(project, workflow, up_to_date)
    known = find_durations(project, workflow, (grouping or {}).get("seconds", {}))
    names = {key: task["name"] for key, task in tasks.items()}
    groups = (
        NodeGroup(
            name=task["name"],
            nodes=tuple(graph["nodes"][node]["name"] for node in task["nodes"]),
            upstream=tuple(names[other] for other in task["upstream"]),
        )
        for task in tasks.values()
    )
    alone = make_tasks(graph, workflow)
    return RunEstimate(
        workflow=workflow,
        nodes=len(alone),
        mode=grouping["mode"] if grouping else "none",
        why=grouping["why"] if grouping else "",
        groups=tuple(groups),
        expected=_estimate(project, workflow, tasks, known),
        excess=find_excess(tasks, get_cluster_limits(project.settings.kfp.version)),
        unfused=_estimate(project, workflow, alone, known),
        unfused_excess=find_unfused_excess(project, graph, workflow),
        durations=known,
    )


def estimate_partial_run(
    project: Project,
    workflow: str,
    tasks: _Tasks,
    grouping: Record | None,
    computed: Mapping[str, bool],
) -> float:
    """Return the expected duration in seconds of a run that computes only some nodes.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        tasks: Tasks of the run by name.
        grouping: Entry `grouping` in the record of stage tasks.
        computed: Id of a node -> whether it is computed, for all nodes of tasks that run. Other tasks are
            taken from KFP's cache.
    """
    known = find_durations(project, workflow, (grouping or {}).get("seconds", {}))
    seconds = {i: known.seconds.get(i, 1.0) if runs else 0.0 for i, runs in computed.items()}
    cached = {node for task in tasks.values() for node in task["nodes"] if node not in computed}
    known = replace(known, seconds={**dict.fromkeys(cached, 0.0), **seconds})
    shares = []
    for task in tasks.values():
        states = [computed[node] for node in task["nodes"] if node in computed]
        shares.append(_CACHED if not states else 1.0 if all(states) else _WITH_KEPT)
    return _estimate(project, workflow, tasks, known, shares).seconds


def _estimate(
    project: Project,
    workflow: str,
    tasks: _Tasks,
    durations: NodeDurations,
    shares: Sequence[float] | None = None,
) -> CostEstimate:
    """Return the expected cost of a run.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        tasks: Tasks of the run by name.
        durations: Durations of the nodes.
        shares: Part of a pod's overhead that each task has; None if each has all of it.
    """
    return estimate_groups(
        project.workflows[workflow],
        workflow,
        [task["nodes"] for task in tasks.values()],
        places=list_placements(project, workflow, durations.seconds),
        pods=get_pod_costs(project),
        limits=choose_limits(project),
        shares=shares,
    )


def _describe_estimate(estimate: CostEstimate, excess: str) -> str:
    pods = f"{estimate.pods} pod{'s' * (estimate.pods != 1)}"
    seconds, path, whole = map(
        format_elapsed_time, (estimate.seconds, estimate.path_s, estimate.pod_s)
    )
    fits = f"; the cluster would not take it: {excess}" if excess else ""
    return f"{pods}, {seconds} expected, longest path {path}, {whole} of pods{fits}"
