"""How long nodes are expected to take: as when they ran last on the cluster, else here, else a second.

Which nodes of a workflow share a task: from settings, known durations, and the groups before.

What runs on the cluster are expected to be like: pods and times, beside those of a task for each node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.fusion.cost import CostEstimate, GraphLimits, PodCosts, make_graph_limits
from fftasks.fusion.grouping import Grouping, NodeGroup, NodePlacement, estimate_groups, group_nodes
from fftasks.kfp.limits import describe_excess, find_excess, get_cluster_limits
from fftasks.pipeline.kubernetes import count_parallel_nodes
from fftasks.pipeline.task_specs import make_tasks
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record
from fftasks.terminal import format_elapsed_time

_SIMILAR = 2.0  # a duration that changed by less changes no groups


@dataclass(frozen=True)
class NodeDurations:
    """How long the nodes of a workflow take, as far as it is known.

    seconds: by node id
    there, here: how many were measured on the cluster, and here
    before: how many only the groups before knew; assumed: how many are not known
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    there: int = 0
    here: int = 0
    before: int = 0
    assumed: int = 0

    def count(self) -> dict[str, Any]:
        """Return how many durations come from where."""
        return {name: count for name, count in asdict(self).items() if name != "seconds"}

    def describe(self) -> str:
        """Return where they come from, in a line."""
        counted = (
            (self.there, "measured on the cluster"),
            (self.here, "measured here"),
            (self.before, "measured earlier"),
            (self.assumed, "assumed to be 1 s"),
        )
        return "durations: " + ", ".join(f"{count} {how}" for count, how in counted if count)


def find_durations(project: Project, workflow: str, before: Mapping[str, float]) -> NodeDurations:
    """Return how long nodes are expected to take.

    The cluster's times come first: it is its runs that are looked ahead to.
    before: node id -> its duration when the groups were made that there are; it stays while it is about right
    """
    from fftasks.pipeline.run_index import read_node_durations  # here: a no-op has no use for it

    graph = project.workflows[workflow]
    ids = graph["workflows"][workflow]["nodes"]
    measured = read_node_durations(project, workflow)
    names = {identity: graph["nodes"][identity]["name"] for identity in ids}
    there = {i: measured[name] for i, name in names.items() if name in measured}
    here = _find_here(project, workflow, set(ids) - there.keys())
    known = {**here, **there}
    kept = {i: one for i, one in before.items() if i in names and _is_similar(one, known.get(i))}
    seconds = {**known, **kept}
    only_before = len(seconds) - len(known)
    return NodeDurations(seconds, len(there), len(here), only_before, len(ids) - len(seconds))


def _is_similar(old: float, new: float | None) -> bool:
    return bool(old) and (new is None or 1 / _SIMILAR < new / old < _SIMILAR)


def _find_here(project: Project, workflow: str, wanted: set[str]) -> dict[str, float]:
    """Return how long nodes took when they last ran here."""
    graph = project.workflows[workflow]
    found = {}
    for label, node in project.nodes.items():
        if node.graph is graph and node.content["id"] in wanted:
            trace = project.find_trace(label)
            if trace is not None:
                found[node.content["id"]] = trace.seconds
    return found


_IGNORED_SETTINGS = ("fuse", "display_name")  # settings that may differ in a pod
_SAFE = (
    0.85  # how much of Argo's workflow object groups that are chosen here may take by the estimate
)
_TIGHTER = 0.85  # by how much less of Argo's workflow object is given to groups that turn out to be too large
_MOST_TRIES = 5


def choose_grouping(
    project: Project, workflow: str, old: Record | None = None, *, mode: str = ""
) -> Grouping | None:
    """Return the groups of a workflow, or None if each node has a task of its own.

    old: the record of the tasks stage, whose groups are kept as far as they are as good
    mode: as the setting kfp.fuse, and instead of it
    """
    kfp, graph, why = project.settings.kfp, project.workflows[workflow], ""
    mode = mode or kfp.fuse
    if mode == "limit":
        why = find_unfused_excess(project, graph, workflow)
        mode = "auto" if why else "none"
    if mode == "none":
        return None
    # here: a no-op has no use for it

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
        # the limits of groups count tasks and edges; the tasks themselves have long names, and constants
        if mode != "auto" or not find_excess(make_tasks(graph, workflow, found.groups), safe):
            break
        limits = replace(limits, object_bytes=int(limits.object_bytes * _TIGHTER))
    return replace(found, why=why)


def choose_limits(project: Project) -> GraphLimits:
    """Return the limits of groups for the KFP release that the settings name."""
    return make_graph_limits(get_cluster_limits(project.settings.kfp.version))


def find_current_tasks(
    project: Project, workflow: str, up_to_date: Collection[str]
) -> tuple[Mapping[str, Record], Record | None]:
    """Return the tasks of a workflow as they would be submitted now, and what is said about their groups.

    up_to_date: the names of the stages that are, as doit has them
    """
    components = read_record(project.record_path("tasks", workflow))
    if components is not None and f"tasks:{workflow}" in up_to_date:
        return components["tasks"], components.get("grouping")
    grouping = choose_grouping(project, workflow, components)
    groups = grouping.groups if grouping else None
    return make_tasks(project.workflows[workflow], workflow, groups), describe_grouping(grouping)


def find_unfused_excess(project: Project, graph: Record, workflow: str) -> str:
    """Return why a cluster would not take a workflow with a task for each node; "" if it does."""
    cluster = get_cluster_limits(project.settings.kfp.version)
    count, least = len(graph["workflows"][workflow]["nodes"]), choose_limits(project)
    if (size := count * least.object_task_bytes) > 2 * cluster.object_bytes:  # saves making tasks
        return describe_excess(count, size, cluster.object_bytes)
    return find_excess(make_tasks(graph, workflow), cluster)


def describe_grouping(grouping: Grouping | None) -> Record | None:
    """Return what the record of the tasks stage says about the groups."""
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
    """Return how many tasks there are, and why they are fewer than nodes."""
    count, groups = len(components["tasks"]), components.get("grouping")
    tasks = f"{count} task{'s' * (count != 1)}"
    if not groups:
        return tasks
    nodes = sum(len(task["nodes"]) for task in components["tasks"].values())
    why = f": {groups['why']}" if groups["why"] else ""
    return f"{tasks}, fused from {nodes} nodes{why}"


def digest_group_settings(project: Project, workflow: str) -> str:
    """Return a name for all that decides the groups, durations aside: they alone change none."""
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
    """Return what the settings say of a cluster's pods."""
    return PodCosts(project.settings.kfp.parallel_pods, project.settings.kfp.pod_overhead_s)


def list_placements(
    project: Project, workflow: str, seconds: Mapping[str, float]
) -> dict[str, NodePlacement]:
    """Return what decides with which others each node may be; seconds: how long each takes, if known."""
    keys: dict[int, str] = {}  # of the settings, most of which are shared
    places = {}
    for identity, settings in project.list_settings(workflow).items():
        if id(settings) not in keys:
            keys[id(settings)] = _name_settings(settings)
        cpu = count_parallel_nodes(settings)
        places[identity] = NodePlacement(
            keys[id(settings)], cpu, settings.fuse, seconds.get(identity)
        )
    return places


def _name_settings(settings: NodeSettings) -> str:
    content = settings.to_json()
    return digest_json({name: content[name] for name in content if name not in _IGNORED_SETTINGS})


_SHOWN = 3
_CACHED, _WITH_KEPT = 0.5, 1.5  # of a pod's overhead: a driver only; importers before it
_Tasks = Mapping[str, Record]


@dataclass(frozen=True)
class RunEstimate:
    """What a run of a workflow on the cluster is expected to be like, if all nodes are computed.

    mode: how they are grouped; why: a sentence if the setting did not say so
    unfused: what it would be like with a task for each node
    excess, unfused_excess: why the cluster would not take it, "" if it does
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


def estimate_run(project: Project, workflow: str, up_to_date: Collection[str]) -> RunEstimate:
    """Return what a run of a workflow would be like, if it was submitted now.

    up_to_date: the names of the stages that are, as doit has them
    """
    graph = project.workflows[workflow]
    tasks, grouping = find_current_tasks(project, workflow, up_to_date)
    known = _find_durations(project, workflow, grouping)
    alone = make_tasks(graph, workflow)
    return RunEstimate(
        workflow=workflow,
        nodes=len(alone),
        mode=grouping["mode"] if grouping else "none",
        why=grouping["why"] if grouping else "",
        groups=tuple(_list_groups(graph, tasks)),
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


def _find_durations(project: Project, workflow: str, grouping: Record | None) -> NodeDurations:
    return find_durations(project, workflow, (grouping or {}).get("seconds", {}))


def _estimate(
    project: Project,
    workflow: str,
    tasks: _Tasks,
    durations: NodeDurations,
    shares: Sequence[float] | None = None,
) -> CostEstimate:
    """Return what tasks cost; shares: how much of a pod's overhead each one has."""
    return estimate_groups(
        project.workflows[workflow],
        workflow,
        [task["nodes"] for task in tasks.values()],
        places=list_placements(project, workflow, durations.seconds),
        pods=get_pod_costs(project),
        limits=choose_limits(project),
        shares=shares,
    )


def _share_overhead(nodes: Sequence[str], computed: Mapping[str, bool]) -> float:
    known = [computed[node] for node in nodes if node in computed]
    if not known:
        return _CACHED
    return 1.0 if all(known) else _WITH_KEPT


def _list_groups(graph: Record, tasks: _Tasks) -> Iterator[NodeGroup]:
    names = {key: task["name"] for key, task in tasks.items()}
    for task in tasks.values():
        nodes = tuple(graph["nodes"][node]["name"] for node in task["nodes"])
        yield NodeGroup(task["name"], nodes, tuple(names[other] for other in task["upstream"]))


def _describe_estimate(estimate: CostEstimate, excess: str) -> str:
    pods = f"{estimate.pods} pod{'s' * (estimate.pods != 1)}"
    seconds, path, whole = map(
        format_elapsed_time, (estimate.seconds, estimate.path_s, estimate.pod_s)
    )
    fits = f"; the cluster would not take it: {excess}" if excess else ""
    return f"{pods}, {seconds} expected, longest path {path}, {whole} of pods{fits}"
