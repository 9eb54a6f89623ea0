"""Groups of a whole graph: which nodes share a pod."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fftasks.fusion.coarsening import Granularity, coarsen, list_levels, pack_levels, round_size
from fftasks.fusion.cost import (
    CostEstimate,
    GraphLimits,
    PodCosts,
    estimate_cost,
    measure_limits,
    sample_durations,
    simulate_samples,
)
from fftasks.fusion.dag import Dag, contract, join_chains, join_object_calls, number_parts
from fftasks.kfp.limits import describe_excess
from fftasks.records import Record

MODES = ("none", "chains", "auto", "limit")
_LEAST_S = 0.001  # also what takes no time has a part in the pods' sizes
_ABOUT_EQUAL = 1.03  # a plan that is so much slower is not, as long as it takes fewer pods
_AS_GOOD = 1.15  # what is kept of the groups before may be so much slower than the best
_PIECES = (2, 3)  # of what a place would have of all nodes: chains that take longer are cut
# how large blocks begin, in parts of what a place would have of the widest level, and how far they grow
_BLOCKS = ((0.53, math.inf), (0.75, 4.0), (2.0, 2.1), (4.0, 4.0))


@dataclass(frozen=True)
class NodePlacement:
    """What decides with which others a node may share a pod.

    key: nodes of different keys never do: what their pods are to be
    cpu: how many nodes its pod can run at a time
    fuse: False keeps the node alone
    seconds: how long it takes, if that is known; else one second is expected
    """

    key: Hashable = None
    cpu: int = 1
    fuse: bool = True
    seconds: float | None = None


_ANYWHERE = NodePlacement()


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that share a pod.

    name: that of the node that is alone; else that of the first one, and "+"
    nodes: their ids, each behind those that it needs
    upstream: names of the groups that it needs
    """

    name: str
    nodes: tuple[str, ...]
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class Grouping:
    """The groups of a workflow, each behind those that it needs.

    mode: how they were made: none, chains or auto; why: a sentence if the setting did not say so
    grain: which of the ways that auto tries was taken; -1 elsewhere
    expected, unfused: what a run costs with them, and without
    seconds: the durations of nodes that were known
    """

    groups: tuple[NodeGroup, ...]
    mode: str
    why: str
    grain: int
    expected: CostEstimate
    unfused: CostEstimate
    seconds: Mapping[str, float] = field(default_factory=dict)


def group_nodes(  # noqa: PLR0913 - the last four are what a cluster is like
    graph: Record,
    workflow: str,
    mode: str,
    *,
    places: Mapping[str, NodePlacement] | None = None,
    pods: PodCosts | None = None,
    limits: GraphLimits | None = None,
    last: int = -1,
) -> Grouping:
    """Return the groups of a workflow's nodes; places: node id -> Place.

    last: the grain of the groups before, which is kept while it is about as good as any

    mode     groups
    none     each node is alone
    chains   a single follower joins its single predecessor; the calls of one object are together
    auto     what is over first on the cluster, with as few pods as pay off
    limit    none while the cluster takes the graph, else auto

    Every node is in one group, groups need each other without a cycle, and the same arguments give the same
    groups. The time it takes grows with the graph, and little faster.
    """
    pods, limits = pods or PodCosts(), limits or GraphLimits()
    ids = graph["workflows"][workflow]["nodes"]
    dag = _number_nodes(graph, ids, places or {})
    unfused = estimate_cost(dag, pods, limits)
    why = ""
    if mode == "limit":
        mode, why = ("none", "") if unfused.fits else ("auto", _explain(dag, limits))
    # The names of all nodes are in the object as well. They are counted in eighths of it, so that an edit
    # that adds a node does not change the room for tasks, which keep at least a half.
    eighth = limits.object_bytes / 8
    eighths = min(math.ceil(len(dag) * limits.object_node_bytes / eighth), 4)
    limits = replace(limits, object_bytes=int(limits.object_bytes - eighths * eighth))
    grain, parts = -1, list(range(len(dag)))
    if mode != "none":
        objects = _join_objects(graph, ids, dag)
        parts = _join_chains(dag, objects)
    if mode == "auto":
        grain, parts = _find_best(dag, objects, pods, limits, last)
    whole = contract(dag, parts)
    names = [graph["nodes"][identity]["name"] for identity in ids]
    return Grouping(
        groups=_name_groups(ids, names, parts, whole),
        mode=mode,
        why=why,
        grain=grain,
        expected=estimate_cost(whole, pods, limits),
        unfused=unfused,
        seconds={i: p.seconds for i, p in (places or {}).items() if p.seconds is not None},
    )


def estimate_groups(  # noqa: PLR0913 - as of group_nodes
    graph: Record,
    workflow: str,
    groups: Iterable[Sequence[str]],
    *,
    places: Mapping[str, NodePlacement],
    pods: PodCosts,
    limits: GraphLimits,
    shares: Sequence[float] | None = None,
) -> CostEstimate:
    """Return what a run costs whose groups are known; groups: the ids of the nodes of each.

    shares: how much of a pod's overhead each group has, if not all of it
    """
    ids = graph["workflows"][workflow]["nodes"]
    owner = {node: number for number, nodes in enumerate(groups) for node in nodes}
    whole = contract(_number_nodes(graph, ids, places), [owner[identity] for identity in ids])
    return estimate_cost(whole, pods, limits, shares)


def _number_nodes(graph: Record, ids: Sequence[str], places: Mapping[str, NodePlacement]) -> Dag:
    numbers = {identity: number for number, identity in enumerate(ids)}
    nodes = [graph["nodes"][identity] for identity in ids]
    chosen = [places.get(identity, _ANYWHERE) for identity in ids]
    keys: dict[Hashable, int] = {}
    # a key of its own is what keeps a node alone
    own = [("fuse", p.key, p.cpu) if p.fuse else ("alone", i) for i, p in enumerate(chosen)]
    seconds = [1.0 if p.seconds is None else max(p.seconds, _LEAST_S) for p in chosen]
    return Dag(
        needs=[sorted({numbers[other] for other in node["upstream"]}) for node in nodes],
        keys=[keys.setdefault(key, len(keys)) for key in own],
        work=seconds,
        span=seconds,
        cpu=[max(place.cpu, 1) for place in chosen],
        marks=[_mark(node["name"]) for node in nodes],
        firsts=range(len(ids)),
    )


def _mark(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _explain(dag: Dag, limits: GraphLimits) -> str:
    inputs = list(map(len, dag.needs))
    load = measure_limits(len(dag), inputs, limits)
    object_size = int(load["object"] * limits.object_bytes)
    reasons = {
        "object": describe_excess(len(dag), object_size, limits.object_bytes),
        "inputs": f"a node with {max(inputs, default=0)} inputs, and a task takes about"
        f" {limits.inputs}",
        "argument": f"{sum(inputs)} edges, which would not fit one argument of"
        f" {limits.argument_bytes} bytes",
    }
    return next(reason for what, reason in reasons.items() if load[what] > 1)


def _join_objects(graph: Record, ids: Sequence[str], dag: Dag) -> list[int]:
    numbers = {identity: number for number, identity in enumerate(ids)}
    nodes = ((number, graph["nodes"][identity]) for identity, number in numbers.items())
    ties = [(number, numbers[node["after"]]) for number, node in nodes if node.get("after")]
    return join_object_calls(dag, ties)


def _join_chains(dag: Dag, objects: Sequence[int], most_s: float = math.inf) -> list[int]:
    return _compose(objects, join_chains(contract(dag, objects), most_s))


@dataclass(frozen=True)
class _Candidate:
    """A way to group nodes: the group of each, what is expected, and its seconds with other durations."""

    parts: list[int]
    expected: CostEstimate
    drawn_s: float


def _find_best(
    dag: Dag, objects: Sequence[int], pods: PodCosts, limits: GraphLimits, last: int
) -> tuple[int, list[int]]:
    """Return which grain lets the last pod end first, and its groups; objects: what stays whole."""
    ways = list(_list_candidates(dag, objects, pods, limits))
    fitting = [n for n, way in enumerate(ways) if way.expected.fits]
    if not fitting:  # the pipeline stage says by how much
        fitting = [min(range(len(ways)), key=lambda n: ways[n].expected.pods)]
    least_s = min(ways[n].drawn_s for n in fitting)
    if last in fitting and ways[last].drawn_s <= least_s * _AS_GOOD:
        return last, ways[last].parts
    enough = [n for n in fitting if ways[n].drawn_s <= least_s * _ABOUT_EQUAL]
    best = min(enough, key=lambda n: (ways[n].expected.pods, n))
    return best, ways[best].parts


def _list_candidates(
    dag: Dag, objects: Sequence[int], pods: PodCosts, limits: GraphLimits
) -> Iterator[_Candidate]:
    """Yield the ways to group nodes that are tried, always as many: their numbers are the grains."""
    draws = sample_durations(dag)
    chains = _join_chains(dag, objects)
    atoms = contract(dag, chains)

    def weigh(parts: list[int], whole: Dag) -> _Candidate:
        expected = estimate_cost(whole, pods, limits)
        drawn_s = simulate_samples(draws, parts, whole, pods) if expected.fits else math.inf
        return _Candidate(parts, expected, drawn_s)

    yield (whole_chains := weigh(chains, atoms))
    known: dict[tuple[int, ...], _Candidate] = {}  # many grains give the same clusters
    for grain in _list_grains(atoms, pods):
        clusters, stages = coarsen(atoms, pods, grain)
        if (same := (*clusters, *stages)) not in known:
            whole = contract(atoms, clusters)
            bundles = pack_levels(whole, stages, pods, limits)
            parts = _compose(chains, _compose(clusters, bundles))
            known[same] = weigh(parts, contract(whole, bundles))
        yield known[same]
    share_s = sum(map(dag.seconds, range(len(dag)))) / pods.parallel
    for pieces in _PIECES:
        parts = _join_chains(dag, objects, round_size(share_s / pieces))
        yield whole_chains if parts == chains else weigh(parts, contract(dag, parts))


def _list_grains(atoms: Dag, pods: PodCosts) -> Iterator[Granularity]:
    loads = [work / cpu for work, cpu in zip(atoms.work, atoms.cpu, strict=True)]
    share_s = sum(loads) / pods.parallel
    for slack_s in (0.0, pods.overhead_s, share_s / 4, share_s / 1.5, math.inf):
        yield Granularity(slack_s)
    widest = max(sum(loads[atom] for atom in level) for level in list_levels(atoms))
    for times, most in _BLOCKS:
        block_s = times * widest / pods.parallel
        yield Granularity(max(block_s, pods.overhead_s), block_s, most * block_s)


def _compose(parts: Sequence[int], further: Sequence[int]) -> list[int]:
    return number_parts(further[part] for part in parts)


def _name_groups(
    ids: Sequence[str], names: Sequence[str], parts: Sequence[int], whole: Dag
) -> tuple[NodeGroup, ...]:
    members: list[list[int]] = [[] for _ in range(len(whole))]
    for number, part in enumerate(parts):
        members[part].append(number)
    taken = set(names)
    labels = []
    for nodes in members:
        label = names[nodes[0]]
        while len(nodes) > 1 and label in taken:
            label += "+"
        labels.append(label)
    return tuple(
        NodeGroup(
            name=labels[part],
            nodes=tuple(ids[number] for number in members[part]),
            upstream=tuple(labels[other] for other in whole.needs[part]),
        )
        for part in whole.order
    )
