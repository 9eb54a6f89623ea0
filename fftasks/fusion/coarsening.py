"""Cuts: a row of things becomes pieces of about one size, and an edit of the row moves few of its ends.

Clusters: atoms that are better run one after the other in one pod than in pods that wait for each other.

Every cluster has a stage, and what it needs is in clusters of earlier stages: so clusters are convex, and so
is every set of clusters of one stage.

Bundles: clusters of one stage side by side in one pod, since there are more of them than pods.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fftasks.fusion.cost import GraphLimits, PodCosts, measure_limits
from fftasks.fusion.dag import Dag, UnionFind, number_parts

_WINDOW = 0.1  # how much further than wanted, in pieces, an end may be
_STRETCH = 8  # how many pieces a stretch has
_ALMOST = 1e-6  # what a size of these may be off
SIZES_PER_DOUBLING = 16  # how many sizes there are between one and its double
_STRETCHES = 0.25  # how much smaller or larger than wanted a stretch may be


def split_into_chunks(dag: Dag, row: Sequence[int], size_s: float) -> list[list[int]]:
    """Return a row of things as pieces that take a processor about size_s each.

    The row is cut into stretches, and these into equal pieces. Both end, within a window, before the thing
    of the least mark. So an edit moves ends in its stretch, if any; and the end of a stretch is after an
    edit likely the old one, from which on all ends are.

    Source: boundaries in the content, as in Xia et al., 'FastCDC', 2016.
    """
    row, pieces, size_s = list(row), [], round_size(size_s)
    for stretch in _cut_stretches(dag, row, size_s * _STRETCH):
        loads = _add_up(dag, stretch)
        count = max(math.ceil(loads[-1] / size_s - _WINDOW), 1)
        wanted = (loads[-1] * number / count for number in range(1, count))
        ends = {_find_end(dag, stretch, loads, w, size_s * _WINDOW) for w in wanted}
        ends |= {0, len(stretch)}
        pieces += [stretch[begin:end] for begin, end in itertools.pairwise(sorted(ends))]
    return pieces


def split_at_load(
    dag: Dag, row: Sequence[int], first_s: float, size_s: float
) -> tuple[list[int], list[int]]:
    """Return a row of things in two, where about first_s of it are over, within half a piece of size_s."""
    row = list(row)
    end = _find_end(dag, row, _add_up(dag, row), first_s, size_s / 2)
    return row[:end], row[end:]


def round_size(size_s: float) -> float:
    """Return the next of some sizes: an edit that changes a little what is wanted changes nothing."""
    return 2 ** (math.ceil(math.log2(size_s) * SIZES_PER_DOUBLING - _ALMOST) / SIZES_PER_DOUBLING)


def _cut_stretches(dag: Dag, row: list[int], size_s: float) -> list[list[int]]:
    loads = _add_up(dag, row)
    stretches, begin = [], 0
    while loads[-1] - loads[begin] > size_s * (1 + _STRETCHES):
        end = _find_end(dag, row, loads, loads[begin] + size_s, size_s * _STRETCHES)
        end = max(end, begin + 1)
        stretches.append(row[begin:end])
        begin = end
    return [*stretches, row[begin:]]


def _add_up(dag: Dag, row: list[int]) -> list[float]:
    """Return the load of all that is before each thing, and of all."""
    loads = (dag.work[thing] / dag.cpu[thing] for thing in row)
    return list(itertools.accumulate(loads, initial=0.0))


def _find_end(dag: Dag, row: list[int], loads: list[float], wanted: float, window: float) -> int:
    """Return before which thing to end: the least mark in the window, or else what is nearest."""
    low, high = bisect_left(loads, wanted - window), bisect_right(loads, wanted + window)
    places = range(low, min(high, len(row)))
    if places:
        return min(places, key=lambda place: dag.marks[row[place]])
    return min((low, max(low - 1, 0)), key=lambda place: abs(loads[min(place, len(row))] - wanted))


@dataclass(frozen=True)
class Granularity:
    """How much is taken together.

    slack_s: how much longer a cluster may take than its parts in pods of their own
    block_s: clusters begin as blocks of this size, which grow by what needs nothing but them and earlier
        stages; 0: what needs the same clusters, directly or by way of each other, joins them all
    most_s: what a cluster takes at most: a block at the border of a layer, where nothing ends it, would else
        grow far beyond those that are to run beside it
    """

    slack_s: float = 0.0
    block_s: float = 0.0
    most_s: float = math.inf


def coarsen(dag: Dag, pods: PodCosts, grain: Granularity) -> tuple[list[int], list[int]]:
    """Return the cluster of each atom, numbered as by number_parts, and the stage of each cluster.

    Atoms are looked at level by level. Those of a level that may join clusters do so, or begin the next
    stage all together, whatever is over first.

    Source: zeroing of edges in Sarkar, 'Partitioning and scheduling parallel programs for multiprocessors',
    1989, with the dominant path as in Yang, Gerasoulis, 'DSC', 1994; here a pod gives its results when all
    of it is done, so edges are zeroed level by level and not one by one. Blocks that grow become diamonds
    where neighbours need each other, as in Orozco, Gao, 'Diamond tiling', 2009.
    """
    state = _Coarsening(dag, pods, grain)
    for level in list_levels(dag):
        state.take(level)
    roots = [state.parts.find(atom) for atom in range(len(dag))]
    stages: dict[int, int] = {}
    for root in roots:
        stages.setdefault(root, state.stages[root])
    return number_parts(roots), list(stages.values())


def list_levels(dag: Dag) -> list[list[int]]:
    """Return the things whose longest way from a beginning is equally long, level by level."""
    depth = [0] * len(dag)
    levels: list[list[int]] = []
    for atom in dag.order:
        depth[atom] = 1 + max((depth[other] for other in dag.needs[atom]), default=-1)
        if depth[atom] == len(levels):
            levels.append([])
        levels[depth[atom]].append(atom)
    return levels


class _Coarsening:
    """Clusters as far as they are made: what they weigh stands at the atom that stands for each."""

    def __init__(self, dag: Dag, pods: PodCosts, grain: Granularity) -> None:
        self.dag, self.pods, self.grain = dag, pods, grain
        self.parts = UnionFind(len(dag))
        self.stages = [0] * len(dag)
        self.work, self.span = list(dag.work), list(dag.span)
        self.ends = list(dag.span)  # of each atom, within its cluster

    def take(self, level: Sequence[int]) -> None:
        """Let the atoms of a level join clusters, or begin some."""
        latest = [self._find_latest(atom) for atom in level]
        beginning: list[int] = []
        for clusters, atoms in self._list_candidates(level, latest):
            if self._is_better_together(clusters, atoms):
                self._join(clusters, atoms)
            else:
                beginning += atoms
        for atom in beginning:
            self.stages[atom] += 1
            self.ends[atom] = self.dag.span[atom]
        if self.grain.block_s:
            self._make_blocks(level, latest, beginning)

    def _find_latest(self, atom: int) -> frozenset[int]:
        """Set the atom's earliest stage; return the clusters of its key that are of this stage."""
        key, stage, latest = self.dag.keys[atom], 0, set[int]()
        for other in self.dag.needs[atom]:
            cluster = self.parts.find(other)
            is_other = self.dag.keys[cluster] != key
            at_least = self.stages[cluster] + is_other
            if at_least > stage:
                stage, latest = at_least, set()
            if at_least == stage and not is_other:
                latest.add(cluster)
        self.stages[atom] = stage
        return frozenset(latest)

    def _list_candidates(
        self, level: Sequence[int], latest: Sequence[frozenset[int]]
    ) -> Iterator[tuple[set[int], list[int]]]:
        """Yield clusters, and the atoms that may join all of them."""
        first: dict[int, int] = {}  # cluster -> the first atom that needs it
        joined = UnionFind(len(level))
        for number, clusters in enumerate(latest):
            for cluster in clusters if self._may_unite(clusters) else ():
                joined.unite(number, first.setdefault(cluster, number))
        candidates: dict[int, tuple[set[int], list[int]]] = {}
        for number, atom in enumerate(level):
            if latest[number]:
                together, atoms = candidates.setdefault(joined.find(number), (set(), []))
                together |= latest[number]
                atoms.append(atom)
        yield from candidates.values()

    def _may_unite(self, clusters: frozenset[int]) -> bool:
        return not self.grain.block_s or len(clusters) == 1

    def _is_better_together(self, clusters: set[int], atoms: list[int]) -> bool:
        if not self._may_unite(frozenset(clusters)):
            return False
        dag, cpu = self.dag, self.dag.cpu[atoms[0]]
        for atom in atoms:
            before = (o for o in dag.needs[atom] if self.parts.find(o) in clusters)
            self.ends[atom] = dag.span[atom] + max(self.ends[other] for other in before)
        old = sum(self.work[cluster] for cluster in clusters)
        new = sum(dag.work[atom] for atom in atoms)
        span = max(*(self.span[c] for c in clusters), *(self.ends[atom] for atom in atoms))
        if (old + new) / cpu > self.grain.most_s:
            return False
        capacity = cpu * self.pods.parallel
        first = max(
            *(_estimate_makespan(self.work[c], self.span[c], cpu) for c in clusters), old / capacity
        )
        then = max(
            *(_estimate_makespan(dag.work[a], dag.span[a], cpu) for a in atoms), new / capacity
        )
        allowed_s = first + self.pods.overhead_s + then + self.grain.slack_s
        return _estimate_makespan(old + new, span, cpu) <= allowed_s

    def _join(self, clusters: Iterable[int], atoms: Sequence[int]) -> None:
        things = {*clusters, *atoms}
        stage = self.stages[atoms[0]]
        work = sum(self.work[thing] for thing in things)
        span = max(self.ends[atom] for atom in atoms)
        span = max(span, *(self.span[thing] for thing in things))
        root = atoms[0]
        for thing in things:
            root = self.parts.unite(root, thing)
        self.work[root], self.span[root], self.stages[root] = work, span, stage

    def _make_blocks(
        self, level: Sequence[int], latest: Sequence[frozenset[int]], beginning: list[int]
    ) -> None:
        """Let atoms that begin clusters do so together, those that need the same."""
        begins = set(beginning)
        rows: dict[tuple[int, int, frozenset[int]], list[int]] = {}
        for atom, clusters in zip(level, latest, strict=True):
            if atom in begins or not clusters:
                key = self.stages[atom], self.dag.keys[atom], clusters
                rows.setdefault(key, []).append(atom)
        for row in rows.values():
            for piece in split_into_chunks(
                self.dag, sorted(row, key=self._place), self.grain.block_s
            ):
                self._join((), piece)

    def _place(self, atom: int) -> int:
        return self.dag.firsts[atom]


def _estimate_makespan(work: float, span: float, cpu: int) -> float:
    return work / cpu + span * (1 - 1 / cpu)


_LITTLE = 0.2  # the part of a pod's time that its overhead may be, to have more pods than places
_NEARLY = 0.5  # what is there of the last round, at least
_FINE = 2 ** (1 / SIZES_PER_DOUBLING)
_WORTH = 0.1  # the part of a pod's overhead that its work is worth at least
_COARSER, _COARSEST = 1.04, 4.0  # how much larger bundles become in one step


@dataclass
class _PackedLevel:
    """Clusters of one stage and one key, in the order of the workflow.

    size_s: what a bundle of them is to take, on average; least_s: what each one is to take at least
    """

    clusters: list[int] = field(default_factory=list)
    total_s: float = 0.0
    size_s: float = 0.0
    least_s: float = 0.0
    bundles: list[list[int]] = field(default_factory=list)


def pack_levels(dag: Dag, stages: Sequence[int], pods: PodCosts, limits: GraphLimits) -> list[int]:
    """Return the bundle of each cluster, numbered as by number_parts.

    Bundles of a stage are as many as there are pods at a time; fewer where a pod would not be worth its
    overhead, and where the graph of bundles would not fit the limits: there the stages become coarser of
    which it costs least.

    Source: level-based clustering in Singh et al., 'Workflow task clustering for best effort systems with
    Pegasus', 2008.
    """
    rows = _list_rows(dag, stages)
    for row in rows:
        _choose_pack_size(dag, row, pods, limits)
    edges = [(other, cluster) for cluster, needed in enumerate(dag.needs) for other in needed]
    while True:
        owner, bundle_of = _number(len(dag), rows)
        count = len(owner)
        pairs = {bundle_of[one] * count + bundle_of[other] for one, other in edges}
        needs = [divmod(pair, count) for pair in pairs if pair // count != pair % count]
        pressure, excess = _press(needs, owner, len(rows), limits)
        chosen = _choose(rows, pressure)
        if not chosen:
            return number_parts(bundle_of)
        for row in chosen:
            step = min(max(math.sqrt(excess), _COARSER), _COARSEST)
            row.size_s = round_size(row.size_s * step)
            row.bundles = _pack_tapered(dag, row, pods)


def _choose(rows: list[_PackedLevel], pressure: list[float]) -> list[_PackedLevel]:
    """Return the rows that lose least time by fewer bundles, for what is won."""
    ease = [
        press * len(row.bundles) / row.total_s if len(row.bundles) > 1 else 0.0
        for row, press in zip(rows, pressure, strict=True)
    ]
    least = max(ease, default=0.0) / 2
    return [row for row, one in zip(rows, ease, strict=True) if one and one >= least]


def _list_rows(dag: Dag, stages: Sequence[int]) -> list[_PackedLevel]:
    rows: dict[tuple[int, int], _PackedLevel] = {}
    for cluster in sorted(range(len(dag)), key=dag.firsts.__getitem__):
        row = rows.setdefault((stages[cluster], dag.keys[cluster]), _PackedLevel())
        row.clusters.append(cluster)
        row.total_s += dag.work[cluster] / dag.cpu[cluster]
    return list(rows.values())


def _choose_pack_size(dag: Dag, row: _PackedLevel, pods: PodCosts, limits: GraphLimits) -> None:
    # what runs beside the longest costs no time; by powers of two, so that an edit hardly changes it
    longest = 2.0 ** math.floor(math.log2(max(map(dag.seconds, row.clusters))))
    even = row.total_s / pods.parallel
    # where pods work long, more of them even out what is not as expected, for little
    rounds = min(max(even * _LITTLE / max(pods.overhead_s, 1.0), 1.0), _count_rounds(pods, limits))
    row.least_s = max(longest, _WORTH * pods.overhead_s)
    row.size_s = round_size(max(row.least_s, even / rounds))
    row.bundles = _pack_tapered(dag, row, pods)
    while len(row.bundles) > max(pods.parallel * math.floor(rounds), 1):
        row.size_s = round_size(row.size_s * _FINE)
        row.bundles = _pack_tapered(dag, row, pods)


def _count_rounds(pods: PodCosts, limits: GraphLimits) -> float:
    """Return how many times a run can fill all places with pods before Argo's workflow object is full."""
    tasks = limits.object_bytes / (limits.object_task_bytes + limits.object_edge_bytes)
    return max(float(tasks // pods.parallel), 1.0)


def _pack_tapered(dag: Dag, row: _PackedLevel, pods: PodCosts) -> list[list[int]]:
    """Return the bundles of a row: where there are several to a place, each round half of what is left.

    The last ones are small, and even out by how much the ones before took longer than expected.

    Source: factoring in Hummel, Schonberg, Flynn, 'Factoring: a method for scheduling parallel loops', 1992.
    """
    rounds = math.floor(row.total_s / (pods.parallel * row.size_s) + _NEARLY)
    if rounds <= 1:
        return split_into_chunks(dag, row.clusters, row.size_s)
    bundles, left = list[list[int]](), row.clusters
    share_s = row.size_s * rounds
    for _ in range(rounds - 1):
        share_s /= 2
        size_s = max(share_s, row.least_s)
        first, left = split_at_load(dag, left, share_s * pods.parallel, size_s)
        bundles += split_into_chunks(dag, first, size_s)
    return [*bundles, *split_into_chunks(dag, left, max(share_s, row.least_s))]


def _number(count: int, rows: list[_PackedLevel]) -> tuple[list[int], list[int]]:
    """Return the row of each bundle, and the bundle of each cluster."""
    bundle_of, owner = [0] * count, list[int]()
    for number, row in enumerate(rows):
        for bundle in row.bundles:
            for cluster in bundle:
                bundle_of[cluster] = len(owner)
            owner.append(number)
    return owner, bundle_of


def _press(
    edges: list[tuple[int, int]], owner: list[int], rows: int, limits: GraphLimits
) -> tuple[list[float], float]:
    """Return how much each row has a part in what is too much, and how often it is what there may be."""
    inputs = [0] * len(owner)
    for _, bundle in edges:
        inputs[bundle] += 1
    load = measure_limits(len(owner), inputs, limits)
    pressure = [0.0] * rows
    if load["object"] > 1:
        for row in owner:
            pressure[row] += 1
    for other, bundle in edges:
        if load["argument"] > 1 or load["object"] > 1:
            pressure[owner[other]] += 1
            pressure[owner[bundle]] += 1
        if inputs[bundle] > limits.inputs:
            pressure[owner[other]] += 1
    return pressure, max(load.values())
