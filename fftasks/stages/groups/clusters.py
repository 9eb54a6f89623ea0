"""Clusters: atoms that are better run one after the other in one pod than in pods that wait for each other.

Every cluster has a stage, and what it needs is in clusters of earlier stages: so clusters are convex, and so
is every set of clusters of one stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fftasks.stages.groups.cuts import cut
from fftasks.stages.groups.dag import Dag, Parts, number_parts
from fftasks.stages.groups.estimate import Pods


@dataclass(frozen=True)
class Grain:
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


def find_clusters(dag: Dag, pods: Pods, grain: Grain) -> tuple[list[int], list[int]]:
    """Return the cluster of each atom, numbered as by number_parts, and the stage of each cluster.

    Atoms are looked at level by level. Those of a level that may join clusters do so, or begin the next
    stage all together, whatever is over first.

    Source: zeroing of edges in Sarkar, 'Partitioning and scheduling parallel programs for multiprocessors',
    1989, with the dominant path as in Yang, Gerasoulis, 'DSC', 1994; here a pod gives its results when all
    of it is done, so edges are zeroed level by level and not one by one. Blocks that grow become diamonds
    where neighbours need each other, as in Orozco, Gao, 'Diamond tiling', 2009.
    """
    state = _State(dag, pods, grain)
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


class _State:
    """Clusters as far as they are made: what they weigh stands at the atom that stands for each."""

    def __init__(self, dag: Dag, pods: Pods, grain: Grain) -> None:
        self.dag, self.pods, self.grain = dag, pods, grain
        self.parts = Parts(len(dag))
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
        joined = Parts(len(level))
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
        first = max(*(_last(self.work[c], self.span[c], cpu) for c in clusters), old / capacity)
        then = max(*(_last(dag.work[a], dag.span[a], cpu) for a in atoms), new / capacity)
        allowed_s = first + self.pods.overhead_s + then + self.grain.slack_s
        return _last(old + new, span, cpu) <= allowed_s

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
            for piece in cut(self.dag, sorted(row, key=self._place), self.grain.block_s):
                self._join((), piece)

    def _place(self, atom: int) -> int:
        return self.dag.firsts[atom]


def _last(work: float, span: float, cpu: int) -> float:
    return work / cpu + span * (1 - 1 / cpu)
