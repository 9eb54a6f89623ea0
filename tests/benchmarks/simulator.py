"""A cluster that only counts: when each pod and each node in it would begin and end.

A pod begins when all that it needs has ended and one of the places for pods is free, those first that have
waited longest, as in Kubernetes' queue; its first node begins after the pod's overhead. In it, as many nodes
run at a time as it has processors. A pod gives its results when all of it has ended.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """When the last pod ended, how many there were, and how long they were there, times their processors."""

    seconds: float
    pods: int
    cpu_s: float


def simulate(
    needs: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    seconds: Sequence[float],
    *,
    parallel: int,
    overhead_s: float,
    cpu: int = 1,
) -> Cost:
    """Return what a run costs; needs: of each node; groups: the nodes of each pod, upstream first."""
    owner = {node: number for number, group in enumerate(groups) for node in group}
    upstream = [
        {owner[other] for node in group for other in needs[node]} - {number}
        for number, group in enumerate(groups)
    ]
    lasts = [overhead_s + run_pod(needs, group, seconds, cpu) for group in groups]
    return Cost(run_all(upstream, lasts, parallel), len(groups), cpu * sum(lasts))


def run_pod(
    needs: Sequence[Sequence[int]], group: Sequence[int], seconds: Sequence[float], cpu: int
) -> float:
    """Return how long the nodes of a pod take."""
    number = {node: place for place, node in enumerate(group)}
    inside = [[number[other] for other in needs[node] if other in number] for node in group]
    return run_all(inside, [seconds[node] for node in group], cpu)


def run_all(
    needs: Sequence[Mapping | Sequence | set], lasts: Sequence[float], places: int
) -> float:
    """Return when the last of some things ends: each begins when it may, and there is a place."""
    waiting = [len(needed) for needed in needs]
    followers: list[list[int]] = [[] for _ in needs]
    for thing, needed in enumerate(needs):
        for other in needed:
            followers[other].append(thing)
    ready = collections.deque(thing for thing, count in enumerate(waiting) if not count)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < places:
            thing = ready.popleft()
            heapq.heappush(running, (now + lasts[thing], thing))
        now, thing = heapq.heappop(running)
        for follower in followers[thing]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return now


def find_bounds(
    needs: Sequence[Sequence[int]],
    seconds: Sequence[float],
    *,
    parallel: int,
    overhead_s: float,
    cpu: int = 1,
) -> tuple[float, float]:
    """Return two times that no run can be below.

    The first is max(longest path + overhead, work / capacity). The second knows that pods begin with their
    overhead, and wait for each other's ends: a node that needs all others either runs in one pod with all
    of them, or in a pod that begins when another one has ended.
    """
    ends: list[float] = []
    for node, needed in enumerate(needs):
        ends.append(seconds[node] + max((ends[other] for other in needed), default=0.0))
    work, capacity = sum(seconds), parallel * cpu
    longest = max(ends)
    plain = max(longest + overhead_s, work / capacity)
    further = max(longest, work / capacity) + overhead_s
    if count_needed(needs) == len(needs) - 1:
        alone = overhead_s + work / cpu
        apart = 2 * overhead_s + max(work / capacity, seconds[-1] + min(seconds))
        further = max(further, min(alone, apart))
    return plain, further


def count_needed(needs: Sequence[Sequence[int]]) -> int:
    """Return how many nodes the last one needs, directly or by way of others."""
    seen, queue = {len(needs) - 1}, [len(needs) - 1]
    while queue:
        new = set(needs[queue.pop()]) - seen
        seen |= new
        queue.extend(new)
    return len(seen) - 1
