"""Which nodes of a workflow share a task: from settings, known durations, and the groups before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace

from fftasks.project import Project
from fftasks.record import Record, digest_json, read_record
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.fit import find_excess
from fftasks.stages.groups import Grouping, Limits, Place, Pods, group_nodes, limit_groups
from fftasks.stages.kfp_tasks import make_tasks
from fftasks.stages.limits import choose_cluster, describe_excess
from fftasks.stages.means import count_cpu

_NO_MATTER = ("fuse", "display_name")  # settings that may differ in a pod
_SAFE = (
    0.85  # how much of Argo's workflow object groups that are chosen here may take by the estimate
)
_TIGHTER = 0.85  # by how much less of Argo's workflow object is given to groups that turn out to be too large
_MOST_TRIES = 5


def find_grouping(
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
    from fftasks.steps.durations import find_durations  # here: a no-op has no use for it

    before = (old or {}).get("grouping") or {}
    known = find_durations(project, workflow, before.get("seconds", {}))
    cluster, limits = choose_cluster(kfp.version), choose_limits(project)
    safe = replace(cluster, object_bytes=int(_SAFE * cluster.object_bytes))
    for _ in range(_MOST_TRIES):
        found = group_nodes(
            graph,
            workflow,
            mode,
            places=list_places(project, workflow, known.seconds),
            pods=get_pods(project),
            limits=limits,
            last=before.get("grain", -1),
        )
        # the limits of groups count tasks and edges; the tasks themselves have long names, and constants
        if mode != "auto" or not find_excess(make_tasks(graph, workflow, found.groups), safe):
            break
        limits = replace(limits, object_bytes=int(limits.object_bytes * _TIGHTER))
    return replace(found, why=why)


def choose_limits(project: Project) -> Limits:
    """Return the limits of groups for the KFP release that the settings name."""
    return limit_groups(choose_cluster(project.settings.kfp.version))


def find_tasks(
    project: Project, workflow: str, up_to_date: Collection[str]
) -> tuple[Mapping[str, Record], Record | None]:
    """Return the tasks of a workflow as they would be submitted now, and what is said about their groups.

    up_to_date: the names of the stages that are, as doit has them
    """
    components = read_record(project.record_path("tasks", workflow))
    if components is not None and f"tasks:{workflow}" in up_to_date:
        return components["tasks"], components.get("grouping")
    grouping = find_grouping(project, workflow, components)
    groups = grouping.groups if grouping else None
    return make_tasks(project.workflows[workflow], workflow, groups), describe_grouping(grouping)


def find_unfused_excess(project: Project, graph: Record, workflow: str) -> str:
    """Return why a cluster would not take a workflow with a task for each node; "" if it does."""
    cluster = choose_cluster(project.settings.kfp.version)
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


def name_choice(project: Project, workflow: str) -> str:
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


def get_pods(project: Project) -> Pods:
    """Return what the settings say of a cluster's pods."""
    return Pods(project.settings.kfp.parallel_pods, project.settings.kfp.pod_overhead_s)


def list_places(project: Project, workflow: str, seconds: Mapping[str, float]) -> dict[str, Place]:
    """Return what decides with which others each node may be; seconds: how long each takes, if known."""
    keys: dict[int, str] = {}  # of the settings, most of which are shared
    places = {}
    for identity, settings in project.list_settings(workflow).items():
        if id(settings) not in keys:
            keys[id(settings)] = _name_settings(settings)
        cpu = count_cpu(settings)
        places[identity] = Place(keys[id(settings)], cpu, settings.fuse, seconds.get(identity))
    return places


def _name_settings(settings: NodeSettings) -> str:
    content = settings.to_json()
    return digest_json({name: content[name] for name in content if name not in _NO_MATTER})
