"""Which nodes of a workflow share a task: from settings, known durations, and the groups before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fftasks.project import Project
from fftasks.record import Record, digest_json, read_record
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.components import make_tasks
from fftasks.stages.fit import find_excess
from fftasks.stages.groups import Estimate, Group, Grouping, Limits, Place, Pods, group_nodes
from fftasks.stages.limits import Cluster
from fftasks.stages.means import count_cpu

_NO_MATTER = ("fuse", "display_name")  # settings that may differ in a pod
_SHOWN = 3
_HOUR = 3600
_SIMILAR = 2.0  # a duration that changed by less changes no groups


def find_grouping(
    project: Project, workflow: str, old: Record | None = None, *, mode: str = ""
) -> Grouping | None:
    """Return the groups of a workflow, or None if each node has a task of its own.

    old: the record of the components stage, whose groups are kept as far as they are as good
    mode: as the setting kfp.fuse, and instead of it
    """
    kfp, graph, why = project.settings.kfp, project.workflows[workflow], ""
    mode = mode or kfp.fuse
    if mode == "limit":
        why = find_unfused_excess(graph, workflow)
        mode = "auto" if why else "none"
    if mode == "none":
        return None
    before = (old or {}).get("grouping") or {}
    return replace(_group(project, workflow, mode, before), why=why)


def _group(project: Project, workflow: str, mode: str, before: Record) -> Grouping:
    kfp, cluster = project.settings.kfp, Cluster()
    return group_nodes(
        project.workflows[workflow],
        workflow,
        mode,
        places=_list_places(project, workflow, before.get("seconds", {})),
        pods=Pods(kfp.parallel_pods, kfp.pod_overhead_s),
        limits=Limits(cluster.tasks, cluster.inputs, cluster.argument_bytes),
        last=before.get("grain", -1),
    )


def find_unfused_excess(graph: Record, workflow: str) -> str:
    """Return why a cluster would not take a workflow with a task for each node; "" if it does."""
    cluster, count = Cluster(), len(graph["workflows"][workflow]["nodes"])
    if count > cluster.tasks:  # many a second sooner
        return f"{count} nodes, and a run holds about {cluster.tasks} tasks"
    return find_excess(make_tasks(graph, workflow), cluster)


def describe_grouping(grouping: Grouping | None) -> Record | None:
    """Return what the record of the components stage says about the groups."""
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
    """Return how many components there are, and why they are fewer than nodes."""
    count, groups = len(components["tasks"]), components.get("grouping")
    if not groups:
        return f"{count} components"
    nodes = sum(len(task["nodes"]) for task in components["tasks"].values())
    why = f": {groups['why']}" if groups["why"] else ""
    return f"{count} components, fused from {nodes} nodes{why},"


@dataclass(frozen=True)
class Prospect:
    """What a run of a workflow on the cluster is expected to be like.

    groups: None if each node has a task of its own; unfused: what it would be like then
    """

    workflow: str
    nodes: int
    mode: str
    why: str
    groups: tuple[Group, ...]
    expected: Estimate
    unfused: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def describe(self) -> Iterator[str]:
        """Yield it in lines."""
        yield f"{self.workflow}: {_describe_estimate(self.expected)}"
        if self.expected.pods < self.nodes:
            yield f"  {self.mode}{f': {self.why}' if self.why else ' (kfp.fuse)'}"
            yield f"  unfused: {_describe_estimate(self.unfused)}"

    def list_groups(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each group of several nodes, and which nodes these are."""
        for group in self.groups:
            if len(group.nodes) > 1:
                shown = ", ".join(group.nodes[:_SHOWN])
                more = f" and {len(group.nodes) - _SHOWN} more" if len(group.nodes) > _SHOWN else ""
                yield group.name, f"{shown}{more}"


def look_ahead(project: Project, workflow: str) -> Prospect:
    """Return what a run of a workflow would be like, if it was submitted now."""
    graph = project.workflows[workflow]
    old = read_record(project.record_path("components", workflow))
    found = find_grouping(project, workflow, old) or _group(project, workflow, "none", {})
    count = len(graph["workflows"][workflow]["nodes"])
    return Prospect(
        workflow, count, found.mode, found.why, found.groups, found.expected, found.unfused
    )


def _describe_estimate(estimate: Estimate) -> str:
    fits = "" if estimate.fits else "; the cluster would not take it"
    return (
        f"{estimate.pods} pod{'s' * (estimate.pods != 1)}, {_describe_time(estimate.seconds)} expected,"
        f" longest path {_describe_time(estimate.path_s)}, {_describe_time(estimate.pod_s)} of pods{fits}"
    )


def _describe_time(seconds: float) -> str:
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004
    return f"{whole // _HOUR} h {whole % _HOUR // 60} min"


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


def _list_places(project: Project, workflow: str, before: Mapping[str, float]) -> dict[str, Place]:
    """Return what decides with which others each node may be; before: the durations of the last time."""
    keys: dict[int, str] = {}  # of the settings, most of which are shared
    known = _find_seconds(project, workflow)
    places = {}
    for identity, settings in project.list_settings(workflow).items():
        if id(settings) not in keys:
            keys[id(settings)] = _name_settings(settings)
        seconds, old = known.get(identity), before.get(identity)
        if old and (seconds is None or 1 / _SIMILAR < seconds / old < _SIMILAR):
            seconds = old
        cpu = count_cpu(settings)
        places[identity] = Place(keys[id(settings)], cpu, settings.fuse, seconds)
    return places


def _name_settings(settings: NodeSettings) -> str:
    content = settings.to_json()
    return digest_json({name: content[name] for name in content if name not in _NO_MATTER})


def _find_seconds(project: Project, workflow: str) -> dict[str, float]:
    """Return how long nodes took when they last ran here."""
    graph = project.workflows[workflow]
    wanted = set(graph["workflows"][workflow]["nodes"])
    found = {}
    for label, node in project.nodes.items():
        if node.graph is graph and node.content["id"] in wanted:
            trace = project.find_trace(label)
            if trace is not None:
                found[node.content["id"]] = trace.seconds
    return found
