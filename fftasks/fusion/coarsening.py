"""Coarsen a graph in two steps: join items to parts, and pack parts that can run side by side.

A part is a set of items that run faster in one pod than in pods that wait for each other. Each part has
a level, and depends on parts of lower levels only. So parts are convex, and so is each set of parts
of one level. Packing joins parts of one level, because there are more of them than pods.

split_into_chunks cuts a row of items so that an edit of the row moves few of the cuts.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fftasks.fusion.cost import GraphLimits, PodCosts, measure_limits
from fftasks.fusion.dag import Dag, UnionFind, bound_makespan, number_parts

_WINDOW = 0.1  # maximum distance of a cut from its wanted position, as a part of a chunk
_STRETCH = 8  # chunks in a stretch
_STRETCHES = 0.25  # maximum relative deviation of a stretch from its wanted size
_ROUNDING_ERROR = 1e-6
SIZES_PER_DOUBLING = 16  # number of rounded sizes between a size and its double

_LITTLE = 0.2  # part of a pod's time that its overhead may be, if there are more pods than places
_NEARLY = 0.5  # minimum filling of the last round of pods
_FINE = 2 ** (1 / SIZES_PER_DOUBLING)
_WORTH = 0.1  # minimum work of a pod, as a part of its overhead
_COARSER, _COARSEST = 1.04, 4.0  # minimum and maximum growth of packs in one step


def split_into_chunks(dag: Dag, row: Sequence[int], size_s: float) -> list[list[int]]:
    """Split a row of items into chunks of about equal processor time.

    The row is cut into stretches, and these into chunks. Both kinds of cuts are before the item with the
    lowest mark within a window. So an edit moves only cuts in its stretch, and the stretch likely ends where
    it ended before the edit, so that all later cuts stay.

    Source: content-defined chunking, as in Xia et al., 'FastCDC', 2016.

    Args:
        dag: Graph that contains the items.
        row: Numbers of the items.
        size_s: Wanted processor time of a chunk in seconds.
    """
    row, chunks, size_s = list(row), [], round_size(size_s)
    for stretch in _cut_stretches(dag, row, size_s * _STRETCH):
        loads = _accumulate_loads(dag, stretch)
        count = max(math.ceil(loads[-1] / size_s - _WINDOW), 1)
        wanted = (loads[-1] * number / count for number in range(1, count))
        cuts = {_find_cut(dag, stretch, loads, w, size_s * _WINDOW) for w in wanted}
        cuts |= {0, len(stretch)}
        chunks += [stretch[begin:end] for begin, end in itertools.pairwise(sorted(cuts))]
    return chunks


def split_at_load(
    dag: Dag, row: Sequence[int], first_s: float, size_s: float
) -> tuple[list[int], list[int]]:
    """Split a row of items into two parts.

    Args:
        dag: Graph that contains the items.
        row: Numbers of the items.
        first_s: Wanted processor time of the first part in seconds.
        size_s: Processor time of a chunk in seconds; the cut may be half of it away from the wanted position.
    """
    row = list(row)
    cut = _find_cut(dag, row, _accumulate_loads(dag, row), first_s, size_s / 2)
    return row[:cut], row[cut:]


def round_size(size_s: float) -> float:
    """Round a size up to a multiple of 2^(1/SIZES_PER_DOUBLING), so that small edits do not change it."""
    exponent = math.ceil(math.log2(size_s) * SIZES_PER_DOUBLING - _ROUNDING_ERROR)
    return 2 ** (exponent / SIZES_PER_DOUBLING)


def _cut_stretches(dag: Dag, row: list[int], size_s: float) -> list[list[int]]:
    """Split a row of items into stretches of about equal processor time."""
    loads = _accumulate_loads(dag, row)
    stretches, begin = [], 0
    while loads[-1] - loads[begin] > size_s * (1 + _STRETCHES):
        end = _find_cut(dag, row, loads, loads[begin] + size_s, size_s * _STRETCHES)
        end = max(end, begin + 1)
        stretches.append(row[begin:end])
        begin = end
    return [*stretches, row[begin:]]


def _accumulate_loads(dag: Dag, row: list[int]) -> list[float]:
    """Return the load in seconds before each item of a row, and the load of the whole row."""
    loads = (dag.work[item] / dag.cpu[item] for item in row)
    return list(itertools.accumulate(loads, initial=0.0))


def _find_cut(dag: Dag, row: list[int], loads: list[float], wanted: float, window: float) -> int:
    """Return the position of a cut: the lowest mark within the window, or else the nearest position.

    Args:
        dag: Graph that contains the items.
        row: Numbers of the items.
        loads: Accumulated loads of the row in seconds.
        wanted: Wanted load before the cut in seconds.
        window: Maximum deviation from the wanted load in seconds.
    """
    low, high = bisect_left(loads, wanted - window), bisect_right(loads, wanted + window)
    positions = range(low, min(high, len(row)))
    if positions:
        return min(positions, key=lambda position: dag.marks[row[position]])
    return min((low, max(low - 1, 0)), key=lambda p: abs(loads[min(p, len(row))] - wanted))


@dataclass(frozen=True)
class Granularity:
    """Limits for the sizes of parts.

    Attributes:
        slack_s: Maximum additional duration of a part in seconds, compared with its items in pods of their
            own.
        block_s: Initial size of parts in seconds. They grow by items that depend on them and lower levels
            only. 0: items that depend on the same parts, also indirectly, join all of them.
        most_s: Maximum duration of a part in seconds. Without it, a block at the border of a layer, where
            nothing ends it, would grow far beyond the blocks that run beside it.
    """

    slack_s: float = 0.0
    block_s: float = 0.0
    most_s: float = math.inf


def coarsen(dag: Dag, pods: PodCosts, grain: Granularity) -> tuple[list[int], list[int]]:
    """Join the atoms of a graph to parts.

    The atoms are processed by their depth in the graph. The atoms of one depth either join existing parts
    or start a new level, depending on which ends earlier.

    Source: zeroing of edges in Sarkar, 'Partitioning and scheduling parallel programs for multiprocessors',
    1989, with the dominant path as in Yang, Gerasoulis, 'DSC', 1994. Here a pod writes its results when all
    of its nodes are done, so edges are zeroed for all atoms of one depth and not one by one. Blocks that grow
    become diamonds where neighbours depend on each other, as in Orozco, Gao, 'Diamond tiling', 2009.

    Args:
        dag: Graph of the atoms, which are never split.
        pods: Properties of the pods.
        grain: How large parts become.

    Returns:
        The part of each atom, numbered as by number_parts, and the level of each part.
    """
    state = _Coarsening(dag, pods, grain)
    for atoms in list_levels(dag):
        state.add_atoms(atoms)
    roots = [state.parts.find(atom) for atom in range(len(dag))]
    levels: dict[int, int] = {}
    for root in roots:
        levels.setdefault(root, state.levels[root])
    return number_parts(roots), list(levels.values())


def list_levels(dag: Dag) -> list[list[int]]:
    """Return the items of a graph by their depth, the length of the longest path that ends at the item."""
    depth = [0] * len(dag)
    levels: list[list[int]] = []
    for atom in dag.order:
        depth[atom] = 1 + max((depth[other] for other in dag.needs[atom]), default=-1)
        if depth[atom] == len(levels):
            levels.append([])
        levels[depth[atom]].append(atom)
    return levels


class _Coarsening:
    """The parts so far; the values of a part are stored at the atom that represents it.

    Attributes:
        dag, pods, grain: Arguments of coarsen.
        parts: Part of each atom.
        levels: Level of each part.
        work: Processor time of each part in seconds.
        span: Duration of the longest path in each part in seconds.
        ends: End of each atom in seconds after the start of its part.
    """

    def __init__(self, dag: Dag, pods: PodCosts, grain: Granularity) -> None:
        self.dag, self.pods, self.grain = dag, pods, grain
        self.parts = UnionFind(len(dag))
        self.levels = [0] * len(dag)
        self.work, self.span = list(dag.work), list(dag.span)
        self.ends = list(dag.span)

    def add_atoms(self, atoms: Sequence[int]) -> None:
        """Add the atoms of one depth to existing parts, or start new parts with them."""
        latest = [self._find_latest(atom) for atom in atoms]
        starting: list[int] = []
        for parts, candidates in self._list_candidates(atoms, latest):
            if self._is_better_together(parts, candidates):
                self._join(parts, candidates)
            else:
                starting += candidates
        for atom in starting:
            self.levels[atom] += 1
            self.ends[atom] = self.dag.span[atom]
        if self.grain.block_s:
            self._make_blocks(atoms, latest, starting)

    def _find_latest(self, atom: int) -> frozenset[int]:
        """Set the lowest possible level of an atom; return the parts of this level that it may join."""
        key, level, latest = self.dag.keys[atom], 0, set[int]()
        for other in self.dag.needs[atom]:
            part = self.parts.find(other)
            is_other = self.dag.keys[part] != key
            at_least = self.levels[part] + is_other
            if at_least > level:
                level, latest = at_least, set()
            if at_least == level and not is_other:
                latest.add(part)
        self.levels[atom] = level
        return frozenset(latest)

    def _list_candidates(
        self, depth_atoms: Sequence[int], latest: Sequence[frozenset[int]]
    ) -> Iterator[tuple[set[int], list[int]]]:
        """Yield sets of parts with the atoms that may join all parts of the set."""
        first: dict[int, int] = {}  # part -> number of the first atom that depends on it
        joined = UnionFind(len(depth_atoms))
        for number, parts in enumerate(latest):
            for part in parts if self._may_unite(parts) else ():
                joined.unite(number, first.setdefault(part, number))
        candidates: dict[int, tuple[set[int], list[int]]] = {}
        for number, atom in enumerate(depth_atoms):
            if latest[number]:
                together, atoms = candidates.setdefault(joined.find(number), (set(), []))
                together |= latest[number]
                atoms.append(atom)
        yield from candidates.values()

    def _may_unite(self, parts: frozenset[int]) -> bool:
        return not self.grain.block_s or len(parts) == 1

    def _is_better_together(self, parts: set[int], atoms: list[int]) -> bool:
        """Return whether atoms end earlier in the pod of parts than in pods that wait for it."""
        if not self._may_unite(frozenset(parts)):
            return False
        dag, cpu = self.dag, self.dag.cpu[atoms[0]]
        for atom in atoms:
            before = (o for o in dag.needs[atom] if self.parts.find(o) in parts)
            self.ends[atom] = dag.span[atom] + max(self.ends[other] for other in before)
        old = sum(self.work[part] for part in parts)
        new = sum(dag.work[atom] for atom in atoms)
        span = max(*(self.span[c] for c in parts), *(self.ends[atom] for atom in atoms))
        if (old + new) / cpu > self.grain.most_s:
            return False
        capacity = cpu * self.pods.parallel
        first = max(
            *(bound_makespan(self.work[c], self.span[c], cpu) for c in parts), old / capacity
        )
        then = max(*(bound_makespan(dag.work[a], dag.span[a], cpu) for a in atoms), new / capacity)
        allowed_s = first + self.pods.overhead_s + then + self.grain.slack_s
        return bound_makespan(old + new, span, cpu) <= allowed_s

    def _join(self, parts: Iterable[int], atoms: Sequence[int]) -> None:
        """Join parts and atoms to one part."""
        members = {*parts, *atoms}
        level = self.levels[atoms[0]]
        work = sum(self.work[member] for member in members)
        span = max(self.ends[atom] for atom in atoms)
        span = max(span, *(self.span[member] for member in members))
        root = atoms[0]
        for member in members:
            root = self.parts.unite(root, member)
        self.work[root], self.span[root], self.levels[root] = work, span, level

    def _make_blocks(
        self, atoms: Sequence[int], latest: Sequence[frozenset[int]], starting: list[int]
    ) -> None:
        """Join atoms that start parts and depend on the same parts to blocks.

        Args:
            atoms: Atoms of one depth.
            latest: Parts that each of these atoms may join.
            starting: Atoms that do not join them.
        """
        begins = set(starting)
        rows: dict[tuple[int, int, frozenset[int]], list[int]] = {}
        for atom, parts in zip(atoms, latest, strict=True):
            if atom in begins or not parts:
                key = self.levels[atom], self.dag.keys[atom], parts
                rows.setdefault(key, []).append(atom)
        for row in rows.values():
            ordered = sorted(row, key=self.dag.firsts.__getitem__)
            for block in split_into_chunks(self.dag, ordered, self.grain.block_s):
                self._join((), block)


@dataclass
class _PackedLevel:
    """Parts of one level and one key.

    Attributes:
        parts: Numbers of the parts, in the order of the workflow.
        total_s: Processor time of all parts in seconds.
        size_s: Average size of a pack in seconds.
        least_s: Minimum size of a pack in seconds.
        packs: Parts of each pack.
    """

    parts: list[int] = field(default_factory=list)
    total_s: float = 0.0
    size_s: float = 0.0
    least_s: float = 0.0
    packs: list[list[int]] = field(default_factory=list)


def pack_levels(dag: Dag, levels: Sequence[int], pods: PodCosts, limits: GraphLimits) -> list[int]:
    """Join parts of one level to packs, about as many as pods that run at a time.

    A level has fewer packs if a pod would not be worth its overhead. If the graph of packs would not fit the
    limits, the levels become coarser in which this costs least time.

    Source: level-based clustering in Singh et al., 'Workflow task clustering for best effort systems with
    Pegasus', 2008.

    Args:
        dag: Graph of the parts.
        levels: Level of each part.
        pods: Properties of the pods.
        limits: Limits of the graph.

    Returns:
        The pack of each part, numbered as by number_parts.
    """
    rows = _list_rows(dag, levels)
    for row in rows:
        _choose_pack_size(dag, row, pods, limits)
    edges = [(other, part) for part, needed in enumerate(dag.needs) for other in needed]
    while True:
        owner, pack_of = _number_packs(len(dag), rows)
        count = len(owner)
        pairs = {pack_of[one] * count + pack_of[other] for one, other in edges}
        needs = [divmod(pair, count) for pair in pairs if pair // count != pair % count]
        pressure, excess = _measure_pressure(needs, owner, len(rows), limits)
        chosen = _choose_rows(rows, pressure)
        if not chosen:
            return number_parts(pack_of)
        for row in chosen:
            step = min(max(math.sqrt(excess), _COARSER), _COARSEST)
            row.size_s = round_size(row.size_s * step)
            row.packs = _pack_tapered(dag, row, pods)


def _choose_rows(rows: list[_PackedLevel], pressure: list[float]) -> list[_PackedLevel]:
    """Return the rows in which fewer packs cost the least time in relation to what they save."""
    ease = [
        press * len(row.packs) / row.total_s if len(row.packs) > 1 else 0.0
        for row, press in zip(rows, pressure, strict=True)
    ]
    least = max(ease, default=0.0) / 2
    return [row for row, value in zip(rows, ease, strict=True) if value and value >= least]


def _list_rows(dag: Dag, levels: Sequence[int]) -> list[_PackedLevel]:
    """Return the parts of each level and key, without packs."""
    rows: dict[tuple[int, int], _PackedLevel] = {}
    for part in sorted(range(len(dag)), key=dag.firsts.__getitem__):
        row = rows.setdefault((levels[part], dag.keys[part]), _PackedLevel())
        row.parts.append(part)
        row.total_s += dag.work[part] / dag.cpu[part]
    return list(rows.values())


def _choose_pack_size(dag: Dag, row: _PackedLevel, pods: PodCosts, limits: GraphLimits) -> None:
    """Choose the size of a row's packs, and pack its parts."""
    # Packs that are not longer than the longest part cost no time. The power of two avoids that an edit
    # changes the size.
    longest = 2.0 ** math.floor(math.log2(max(map(dag.seconds, row.parts))))
    even = row.total_s / pods.parallel
    # If pods are long compared with their overhead, more pods than places compensate for durations that are
    # not as expected.
    rounds = min(max(even * _LITTLE / max(pods.overhead_s, 1.0), 1.0), _count_rounds(pods, limits))
    row.least_s = max(longest, _WORTH * pods.overhead_s)
    row.size_s = round_size(max(row.least_s, even / rounds))
    row.packs = _pack_tapered(dag, row, pods)
    while len(row.packs) > max(pods.parallel * math.floor(rounds), 1):
        row.size_s = round_size(row.size_s * _FINE)
        row.packs = _pack_tapered(dag, row, pods)


def _count_rounds(pods: PodCosts, limits: GraphLimits) -> float:
    """Return how many times Argo's workflow object has room for all pods that run at a time."""
    tasks = limits.object_bytes / (limits.object_task_bytes + limits.object_edge_bytes)
    return max(float(tasks // pods.parallel), 1.0)


def _pack_tapered(dag: Dag, row: _PackedLevel, pods: PodCosts) -> list[list[int]]:
    """Pack the parts of a row; if there are several rounds of pods, each round gets half of the rest.

    The last packs are small, so that they compensate for earlier ones that took longer than expected.

    Source: factoring in Hummel, Schonberg, Flynn, 'Factoring: a method for scheduling parallel loops', 1992.
    """
    rounds = math.floor(row.total_s / (pods.parallel * row.size_s) + _NEARLY)
    if rounds <= 1:
        return split_into_chunks(dag, row.parts, row.size_s)
    packs, left = list[list[int]](), row.parts
    share_s = row.size_s * rounds
    for _ in range(rounds - 1):
        share_s /= 2
        size_s = max(share_s, row.least_s)
        first, left = split_at_load(dag, left, share_s * pods.parallel, size_s)
        packs += split_into_chunks(dag, first, size_s)
    return [*packs, *split_into_chunks(dag, left, max(share_s, row.least_s))]


def _number_packs(count: int, rows: list[_PackedLevel]) -> tuple[list[int], list[int]]:
    """Return the row of each pack, and the pack of each of `count` parts."""
    pack_of, owner = [0] * count, list[int]()
    for number, row in enumerate(rows):
        for pack in row.packs:
            for part in pack:
                pack_of[part] = len(owner)
            owner.append(number)
    return owner, pack_of


def _measure_pressure(
    edges: list[tuple[int, int]], owner: list[int], rows: int, limits: GraphLimits
) -> tuple[list[float], float]:
    """Return how much each row contributes to exceeding the limits, and the used part of the worst limit.

    Args:
        edges: Pairs of an upstream pack and a pack that depends on it.
        owner: Row of each pack.
        rows: Number of rows.
        limits: Limits of the graph.
    """
    inputs = [0] * len(owner)
    for _, pack in edges:
        inputs[pack] += 1
    load = measure_limits(len(owner), inputs, limits)
    pressure = [0.0] * rows
    if load["object"] > 1:
        for row in owner:
            pressure[row] += 1
    for other, pack in edges:
        if load["argument"] > 1 or load["object"] > 1:
            pressure[owner[other]] += 1
            pressure[owner[pack]] += 1
        if inputs[pack] > limits.inputs:
            pressure[owner[other]] += 1
    return pressure, max(load.values())
