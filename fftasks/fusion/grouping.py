"""Choose the groups of a workflow: which of its nodes share a pod."""

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
_LEAST_S = (
    0.001  # minimum duration of a node, so that nodes without duration count for the sizes of pods
)
_ABOUT_EQUAL = 1.03  # A candidate that is slower by this factor is preferred if it has fewer pods.
_AS_GOOD = 1.15  # The grain of the last groups is kept if it is at most slower by this factor.
# Maximum duration of chains that are cut: 1/2 and 1/3 of the time that each of the parallel pods would have.
_PIECES = (2, 3)
# Initial and maximum sizes of blocks, as parts of the widest level's time on each of the parallel pods.
_BLOCKS = ((0.53, math.inf), (0.75, 4.0), (2.0, 2.1), (4.0, 4.0))


@dataclass(frozen=True)
class NodePlacement:
    """The properties of a node that determine with which nodes it may share a pod.

    Attributes:
        key: Digest of the pod's settings; nodes with different keys never share a pod.
        cpu: Number of nodes that the pod can run at a time.
        fuse: Whether the node may share a pod at all.
        seconds: Duration in seconds; None if it is unknown, then one second is assumed.
    """

    key: Hashable = None
    cpu: int = 1
    fuse: bool = True
    seconds: float | None = None


_ANYWHERE = NodePlacement()


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that share a pod.

    Attributes:
        name: Name of its first node, followed by "+" if there are several nodes.
        nodes: Ids of the nodes in topological order.
        upstream: Names of the upstream groups.
    """

    name: str
    nodes: tuple[str, ...]
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class Grouping:
    """The groups of a workflow.

    Attributes:
        groups: Groups in topological order.
        mode: Mode that was applied: none, chains or auto.
        why: Reason for the mode; "" if the setting names it.
        grain: Number of the candidate that mode auto chose; -1 in other modes.
        expected: Expected cost of a run with these groups.
        unfused: Expected cost of a run with one pod for each node.
        seconds: Id of a node -> its duration in seconds, as far as it was known.
    """

    groups: tuple[NodeGroup, ...]
    mode: str
    why: str
    grain: int
    expected: CostEstimate
    unfused: CostEstimate
    seconds: Mapping[str, float] = field(default_factory=dict)


def group_nodes(  # noqa: PLR0913 - the last four describe the cluster
    graph: Record,
    workflow: str,
    mode: str,
    *,
    places: Mapping[str, NodePlacement] | None = None,
    pods: PodCosts | None = None,
    limits: GraphLimits | None = None,
    last: int = -1,
) -> Grouping:
    """Return the groups of a workflow's nodes.

    Each node is in one group, the graph of the groups is acyclic, and the same arguments give the same
    groups. The duration of the computation grows little faster than the size of the graph.

    mode     groups
    none     each node is alone
    chains   a single follower joins its single predecessor; the calls of one object are together
    auto     the run ends as early as possible, with as few pods as are worthwhile
    limit    none if the graph is within the limits of the cluster, else auto

    Args:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        mode: A mode of the table.
        places: Id of a node -> its properties; other nodes have the default properties.
        pods: Properties of the pods.
        limits: Limits of the graph.
        last: Grain of the last groups, which is kept if it is about as good as the best one; -1 for none.
    """
    pods, limits = pods or PodCosts(), limits or GraphLimits()
    ids = graph["workflows"][workflow]["nodes"]
    dag = _number_nodes(graph, ids, places or {})
    unfused = estimate_cost(dag, pods, limits)
    why = ""
    if mode == "limit":
        mode, why = ("none", "") if unfused.fits else ("auto", _explain_excess(dag, limits))
    # Argo's workflow object also contains the names of all nodes. Their size is rounded up to eighths of the
    # object, so that adding a node does not change the space for tasks, which is at least a half.
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


def estimate_groups(  # noqa: PLR0913 - as in group_nodes
    graph: Record,
    workflow: str,
    groups: Iterable[Sequence[str]],
    *,
    places: Mapping[str, NodePlacement],
    pods: PodCosts,
    limits: GraphLimits,
    shares: Sequence[float] | None = None,
) -> CostEstimate:
    """Return the expected cost of a run with given groups.

    Args:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        groups: Ids of the nodes of each group.
        places: Id of a node -> its properties.
        pods: Properties of the pods.
        limits: Limits of the graph.
        shares: Part of a pod's overhead that each group has; None if each has all of it.
    """
    ids = graph["workflows"][workflow]["nodes"]
    owner = {node: number for number, nodes in enumerate(groups) for node in nodes}
    whole = contract(_number_nodes(graph, ids, places), [owner[identity] for identity in ids])
    return estimate_cost(whole, pods, limits, shares)


def _number_nodes(graph: Record, ids: Sequence[str], places: Mapping[str, NodePlacement]) -> Dag:
    """Return the graph of a workflow's nodes, which are numbered in the order of `ids`."""
    numbers = {identity: number for number, identity in enumerate(ids)}
    nodes = [graph["nodes"][identity] for identity in ids]
    chosen = [places.get(identity, _ANYWHERE) for identity in ids]
    keys: dict[Hashable, int] = {}
    # A node that must not share a pod gets a key of its own.
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
    """Return a digest of a name as an integer of 64 bits."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _explain_excess(dag: Dag, limits: GraphLimits) -> str:
    """Return which limit a graph with one pod for each node exceeds."""
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
    return next(reason for limit, reason in reasons.items() if load[limit] > 1)


def _join_objects(graph: Record, ids: Sequence[str], dag: Dag) -> list[int]:
    """Join the calls of each object; return the number of each node's part."""
    numbers = {identity: number for number, identity in enumerate(ids)}
    nodes = ((number, graph["nodes"][identity]) for identity, number in numbers.items())
    ties = [(number, numbers[node["after"]]) for number, node in nodes if node.get("after")]
    return join_object_calls(dag, ties)


def _join_chains(dag: Dag, objects: Sequence[int], most_s: float = math.inf) -> list[int]:
    """Join chains of parts, such as those of _join_objects; return the number of each node's part."""
    return _compose(objects, join_chains(contract(dag, objects), most_s))


@dataclass(frozen=True)
class _Candidate:
    """A possible grouping.

    Attributes:
        parts: Number of each node's group.
        expected: Expected cost of a run.
        sampled_s: Average duration of a run with sampled durations in seconds; infinite if it does not fit.
    """

    parts: list[int]
    expected: CostEstimate
    sampled_s: float


def _find_best(
    dag: Dag, objects: Sequence[int], pods: PodCosts, limits: GraphLimits, last: int
) -> tuple[int, list[int]]:
    """Return the grain of the best candidate, and the number of each node's group.

    Args:
        dag: Graph of the nodes.
        objects: Number of the part that each node belongs to and that must not be split.
        pods: Properties of the pods.
        limits: Limits of the graph.
        last: Grain that is preferred if it is about as good as the best one; -1 for none.
    """
    candidates = list(_list_candidates(dag, objects, pods, limits))
    fitting = [n for n, candidate in enumerate(candidates) if candidate.expected.fits]
    if not fitting:  # Stage pipeline will report the exceeded limit.
        fitting = [min(range(len(candidates)), key=lambda n: candidates[n].expected.pods)]
    least_s = min(candidates[n].sampled_s for n in fitting)
    if last in fitting and candidates[last].sampled_s <= least_s * _AS_GOOD:
        return last, candidates[last].parts
    equal = [n for n in fitting if candidates[n].sampled_s <= least_s * _ABOUT_EQUAL]
    best = min(equal, key=lambda n: (candidates[n].expected.pods, n))
    return best, candidates[best].parts


def _list_candidates(
    dag: Dag, objects: Sequence[int], pods: PodCosts, limits: GraphLimits
) -> Iterator[_Candidate]:
    """Yield the candidates of mode auto; their number is always the same, so their positions are the grains.

    The candidates are: whole chains, parts of each granularity, and chains cut at each maximum duration.
    """
    samples = sample_durations(dag)
    chains = _join_chains(dag, objects)
    atoms = contract(dag, chains)

    def evaluate(parts: list[int], whole: Dag) -> _Candidate:
        expected = estimate_cost(whole, pods, limits)
        sampled_s = simulate_samples(samples, parts, whole, pods) if expected.fits else math.inf
        return _Candidate(parts, expected, sampled_s)

    yield (whole_chains := evaluate(chains, atoms))
    known: dict[tuple[int, ...], _Candidate] = {}  # Many granularities result in the same parts.
    for grain in _list_grains(atoms, pods):
        coarse, levels = coarsen(atoms, pods, grain)
        if (key := (*coarse, *levels)) not in known:
            whole = contract(atoms, coarse)
            packs = pack_levels(whole, levels, pods, limits)
            parts = _compose(chains, _compose(coarse, packs))
            known[key] = evaluate(parts, contract(whole, packs))
        yield known[key]
    share_s = sum(map(dag.seconds, range(len(dag)))) / pods.parallel
    for pieces in _PIECES:
        parts = _join_chains(dag, objects, round_size(share_s / pieces))
        yield whole_chains if parts == chains else evaluate(parts, contract(dag, parts))


def _list_grains(atoms: Dag, pods: PodCosts) -> Iterator[Granularity]:
    """Yield the granularities that mode auto tries."""
    loads = [work / cpu for work, cpu in zip(atoms.work, atoms.cpu, strict=True)]
    share_s = sum(loads) / pods.parallel
    for slack_s in (0.0, pods.overhead_s, share_s / 4, share_s / 1.5, math.inf):
        yield Granularity(slack_s)
    widest = max(sum(loads[atom] for atom in level) for level in list_levels(atoms))
    for times, most in _BLOCKS:
        block_s = times * widest / pods.parallel
        yield Granularity(max(block_s, pods.overhead_s), block_s, most * block_s)


def _compose(parts: Sequence[int], further: Sequence[int]) -> list[int]:
    """Return the number of each item's part, given parts of items and parts of these parts."""
    return number_parts(further[part] for part in parts)


def _name_groups(
    ids: Sequence[str], names: Sequence[str], parts: Sequence[int], whole: Dag
) -> tuple[NodeGroup, ...]:
    """Return the groups in topological order.

    Args:
        ids: Ids of the nodes.
        names: Names of the nodes.
        parts: Number of each node's group.
        whole: Graph of the groups.
    """
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
