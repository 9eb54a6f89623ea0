"""Graphs of numbers, what they weigh, and what becomes of them when parts are taken together.

Atoms: nodes that stay together whatever else is done: chains, and all calls of one object.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dag:
    """Things that need each other, and what each one weighs; all sequences are by its number.

    needs: numbers of what it needs, each once
    keys: things of different keys never run in one pod
    work: seconds of one processor; span: seconds of its longest path
    cpu: how many nodes its pod can run at a time
    marks: a digest of the name of its first node; firsts: the position of that node in the workflow
    """

    needs: Sequence[Sequence[int]]
    keys: Sequence[int]
    work: Sequence[float]
    span: Sequence[float]
    cpu: Sequence[int]
    marks: Sequence[int]
    firsts: Sequence[int]

    def __len__(self) -> int:
        return len(self.needs)

    @functools.cached_property
    def followers(self) -> list[list[int]]:
        """For each thing, those that need it."""
        followers: list[list[int]] = [[] for _ in self.needs]
        for thing, needed in enumerate(self.needs):
            for other in needed:
                followers[other].append(thing)
        return followers

    @functools.cached_property
    def order(self) -> list[int]:
        """All things, each behind those that it needs; shorter than the graph if there is a cycle."""
        waiting = [len(needed) for needed in self.needs]
        order = [thing for thing, count in enumerate(waiting) if not count]
        for thing in order:
            for follower in self.followers[thing]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    order.append(follower)
        return order

    def seconds(self, thing: int) -> float:
        """How long a pod works on a thing.

        Source: bound of Graham, 'Bounds on multiprocessing timing anomalies', 1969.
        """
        cpu = self.cpu[thing]
        return self.work[thing] / cpu + self.span[thing] * (1 - 1 / cpu)


class UnionFind:
    """Things, taken together bit by bit (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, thing: int) -> int:
        """Return the thing that stands for the part which a thing is in."""
        parent = self._parent
        while parent[thing] != thing:
            parent[thing] = parent[parent[thing]]
            thing = parent[thing]
        return thing

    def unite(self, one: int, other: int) -> int:
        """Take two parts together; return what stands for both."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low
        return low

    def number(self) -> list[int]:
        """Return the number of each thing's part; parts are numbered by their first things."""
        return number_parts(map(self.find, range(len(self._parent))))


def number_parts(labels: Iterable[int]) -> list[int]:
    """Return labels as numbers without a gap, in the order in which they come first."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def contract(dag: Dag, parts: Sequence[int]) -> Dag:
    """Return the graph of the parts; parts: the number of each thing's part, see number_parts."""
    count = max(parts, default=-1) + 1
    needs: list[set[int]] = [set() for _ in range(count)]
    firsts: list[int] = [-1] * count
    work = [0.0] * count
    for thing, part in enumerate(parts):
        work[part] += dag.work[thing]
        first = firsts[part]
        if first < 0 or dag.firsts[thing] < dag.firsts[first]:
            firsts[part] = thing
        needs[part].update([parts[other] for other in dag.needs[thing]])
    for part, needed in enumerate(needs):
        needed.discard(part)
    return Dag(
        needs=[sorted(needed) for needed in needs],
        keys=[dag.keys[thing] for thing in firsts],
        work=work,
        span=find_spans(dag, parts, count),
        cpu=[dag.cpu[thing] for thing in firsts],
        marks=[dag.marks[thing] for thing in firsts],
        firsts=[dag.firsts[thing] for thing in firsts],
    )


def find_spans(dag: Dag, parts: Sequence[int], count: int) -> list[float]:
    """Return the seconds of the longest path in each part."""
    spans = [0.0] * count
    ends = [0.0] * len(dag)
    for thing in dag.order:
        part, before = parts[thing], 0.0
        for other in dag.needs[thing]:
            if parts[other] == part and ends[other] > before:
                before = ends[other]
        end = ends[thing] = before + dag.span[thing]
        spans[part] = max(spans[part], end)
    return spans


def find_cycles(dag: Dag) -> list[list[int]]:
    """Return the sets of things that need each other, in cycles; none for an acyclic graph.

    Source: Kosaraju's algorithm, in Sharir, 'A strong-connectivity algorithm', 1981.
    """
    if len(dag.order) == len(dag):
        return []
    found, seen = [], set[int]()
    for start in reversed(_search(dag)):
        if start not in seen:
            cycle = [start]
            seen.add(start)
            for thing in cycle:
                new = [other for other in dag.followers[thing] if other not in seen]
                seen.update(new)
                cycle += new
            found += [cycle] if len(cycle) > 1 else []
    return found


def _search(dag: Dag) -> list[int]:
    """Return all things, each when all that it needs has been left: depth first, without recursion."""
    left, seen = [], set[int]()
    for start in range(len(dag)):
        stack = [] if start in seen else [(start, iter(dag.needs[start]))]
        seen.add(start)
        while stack:
            thing, others = stack[-1]
            new = next((other for other in others if other not in seen), None)
            if new is None:
                left.append(thing)
                stack.pop()
            else:
                seen.add(new)
                stack.append((new, iter(dag.needs[new])))
    return left


def join_object_calls(dag: Dag, ties: Sequence[tuple[int, int]]) -> list[int]:
    """Return the parts in which the calls of each object are together.

    ties: pairs of calls of one object

    What lies on a way between two of its calls comes with them. Where it may not, since its key is another,
    the object's calls stay apart.
    """
    while True:
        parts = UnionFind(len(dag))
        for one, other in ties:
            if dag.keys[one] == dag.keys[other]:
                parts.unite(one, other)
        numbers = parts.number()
        whole = contract(dag, numbers)
        broken: set[int] = set()
        members: list[list[int]] = [[] for _ in range(len(whole))]
        for node, number in enumerate(numbers):
            members[number].append(node)
        for cycle in find_cycles(whole):
            nodes = [node for number in cycle for node in members[number]]
            if len({dag.keys[node] for node in nodes}) > 1:
                broken.update(nodes)
            for node in nodes:
                parts.unite(nodes[0], node)
        if not broken:
            return parts.number()
        ties = [tie for tie in ties if tie[0] not in broken]


def join_chains(dag: Dag, most_s: float = math.inf) -> list[int]:
    """Return the parts in which a single follower is together with its single predecessor.

    most_s: what a part takes at most; a chain that takes more becomes several
    """
    parts, taken = UnionFind(len(dag)), [dag.seconds(thing) for thing in range(len(dag))]
    for thing in dag.order:
        needed = dag.needs[thing]
        if len(needed) == 1:
            (other,) = needed
            if len(dag.followers[other]) == 1 and dag.keys[thing] == dag.keys[other]:
                both = taken[parts.find(other)] + taken[thing]
                if both <= most_s:
                    taken[parts.unite(thing, other)] = both
    return parts.number()
