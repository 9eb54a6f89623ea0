"""Directed acyclic graphs of numbered items with weights, and the graphs that result when items are joined.

An item is a node of the workflow, or a set of nodes that are joined: a chain, the calls of one object, or a
whole group.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dag:
    """A graph of numbered items; all sequences are indexed by the number of the item.

    Attributes:
        needs: Numbers of the upstream items, without duplicates.
        keys: Placement key; items with different keys never share a pod.
        work: Processor time in seconds.
        span: Duration of the longest path of nodes in the item, in seconds.
        cpu: Number of nodes that the pod of the item can run at a time.
        marks: Digest of the name of the item's first node, as an integer of 64 bits.
        firsts: Position of the item's first node in the workflow.
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
        """Numbers of the downstream items of each item."""
        followers: list[list[int]] = [[] for _ in self.needs]
        for item, needed in enumerate(self.needs):
            for other in needed:
                followers[other].append(item)
        return followers

    @functools.cached_property
    def order(self) -> list[int]:
        """Numbers of the items in topological order; items in or behind a cycle are missing."""
        waiting = [len(needed) for needed in self.needs]
        order = [item for item, count in enumerate(waiting) if not count]
        for item in order:
            for follower in self.followers[item]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    order.append(follower)
        return order

    def seconds(self, item: int) -> float:
        """Return an upper bound of the time in seconds that a pod needs for an item.

        Source: bound of Graham, 'Bounds on multiprocessing timing anomalies', 1969.
        """
        return bound_makespan(self.work[item], self.span[item], self.cpu[item])


def bound_makespan(work: float, span: float, cpu: int) -> float:
    """Return an upper bound of the time in seconds that a pod needs; see Dag.seconds.

    Args:
        work: Processor time in seconds.
        span: Duration of the longest path in seconds.
        cpu: Number of nodes that the pod can run at a time.
    """
    return work / cpu + span * (1 - 1 / cpu)


class UnionFind:
    """A partition of numbered items, in which parts are united step by step."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the representative of the part that contains an item: its item with the lowest number."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def unite(self, one: int, other: int) -> int:
        """Unite the parts of two items; return the representative of the united part."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low
        return low

    def number(self) -> list[int]:
        """Return the number of each item's part; parts are numbered in the order of their first items."""
        return number_parts(map(self.find, range(len(self._parent))))


def number_parts(labels: Iterable[int]) -> list[int]:
    """Replace labels by consecutive numbers, in the order of their first occurrence."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def contract(dag: Dag, parts: Sequence[int]) -> Dag:
    """Return the graph whose items are the parts of a graph.

    Args:
        dag: The graph.
        parts: Number of each item's part, as number_parts returns it.
    """
    count = max(parts, default=-1) + 1
    needs: list[set[int]] = [set() for _ in range(count)]
    firsts: list[int] = [-1] * count
    work = [0.0] * count
    for item, part in enumerate(parts):
        work[part] += dag.work[item]
        first = firsts[part]
        if first < 0 or dag.firsts[item] < dag.firsts[first]:
            firsts[part] = item
        needs[part].update([parts[other] for other in dag.needs[item]])
    for part, needed in enumerate(needs):
        needed.discard(part)
    return Dag(
        needs=[sorted(needed) for needed in needs],
        keys=[dag.keys[item] for item in firsts],
        work=work,
        span=find_spans(dag, parts, count),
        cpu=[dag.cpu[item] for item in firsts],
        marks=[dag.marks[item] for item in firsts],
        firsts=[dag.firsts[item] for item in firsts],
    )


def find_spans(dag: Dag, parts: Sequence[int], count: int) -> list[float]:
    """Return the duration in seconds of the longest path in each part.

    Args:
        dag: The graph.
        parts: Number of each item's part.
        count: Number of parts.
    """
    spans = [0.0] * count
    ends = [0.0] * len(dag)
    for item in dag.order:
        part, before = parts[item], 0.0
        for other in dag.needs[item]:
            if parts[other] == part and ends[other] > before:
                before = ends[other]
        end = ends[item] = before + dag.span[item]
        spans[part] = max(spans[part], end)
    return spans


def find_cycles(dag: Dag) -> list[list[int]]:
    """Return the strongly connected components with several items; none for an acyclic graph.

    Source: Kosaraju's algorithm, in Sharir, 'A strong-connectivity algorithm', 1981.
    """
    if len(dag.order) == len(dag):
        return []
    found, seen = [], set[int]()
    for start in reversed(_list_postorder(dag)):
        if start not in seen:
            cycle = [start]
            seen.add(start)
            for item in cycle:
                new = [other for other in dag.followers[item] if other not in seen]
                seen.update(new)
                cycle += new
            found += [cycle] if len(cycle) > 1 else []
    return found


def _list_postorder(dag: Dag) -> list[int]:
    """Return all items in the postorder of a depth-first search along upstream edges, without recursion."""
    left, seen = [], set[int]()
    for start in range(len(dag)):
        stack = [] if start in seen else [(start, iter(dag.needs[start]))]
        seen.add(start)
        while stack:
            item, others = stack[-1]
            new = next((other for other in others if other not in seen), None)
            if new is None:
                left.append(item)
                stack.pop()
            else:
                seen.add(new)
                stack.append((new, iter(dag.needs[new])))
    return left


def join_object_calls(dag: Dag, ties: Sequence[tuple[int, int]]) -> list[int]:
    """Join the calls of each object, together with all nodes on a path between two of its calls.

    If a node on such a path has another key, so that it cannot share the pod, the calls stay apart.

    Args:
        dag: Graph of the nodes.
        ties: Pairs of calls of one object.

    Returns:
        Number of each node's part.
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
    """Join each item that is the only follower of its only predecessor to that predecessor.

    Args:
        dag: The graph.
        most_s: Maximum duration of a part in seconds; a longer chain becomes several parts.

    Returns:
        Number of each item's part.
    """
    parts, durations = UnionFind(len(dag)), [dag.seconds(item) for item in range(len(dag))]
    for item in dag.order:
        needed = dag.needs[item]
        if len(needed) == 1:
            (other,) = needed
            if len(dag.followers[other]) == 1 and dag.keys[item] == dag.keys[other]:
                both = durations[parts.find(other)] + durations[item]
                if both <= most_s:
                    durations[parts.unite(item, other)] = both
    return parts.number()
