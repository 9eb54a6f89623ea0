"""What a graph of groups is expected to cost on a cluster, and whether it fits there.

Durations as they may come: longer or shorter than expected, by what a node's name says.

What is chosen by durations that all come as expected does badly when they do not: pods that would end at
the same time wait for the longest of them.

Source: Kleywegt, Shapiro, Homem-de-Mello, 'The sample average approximation method for stochastic discrete
optimization', 2002.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from fftasks.fusion.dag import Dag, find_spans
from fftasks.kfp.limits import ClusterLimits


@dataclass(frozen=True)
class PodCosts:
    """The cluster's pods: how many run at a time, and what each one costs before its first node runs."""

    parallel: int = 50
    overhead_s: float = 20.0


@dataclass(frozen=True)
class GraphLimits:
    """The limits of a pipeline's graph; see Cluster in stages/limits.py.

    Attributes:
        object_bytes: Size of the workflow object in which Argo keeps a run.
        object_task_bytes: What a task takes in it.
        object_edge_bytes: What an input of a task takes in it.
        object_node_bytes: What the name of each node takes in it, in the arguments of groups.
        inputs: Number of inputs of one task.
        argument_bytes: Size of the argument that describes the graph.
        task_bytes: What a task takes in that argument.
        edge_bytes: What an input of a task takes in that argument.
    """

    object_bytes: int = 1 << 20
    object_task_bytes: int = 5500
    object_edge_bytes: int = 1260
    object_node_bytes: int = 25
    inputs: int = 230
    argument_bytes: int = 128 * 1024
    task_bytes: int = 330
    edge_bytes: int = 130


def make_graph_limits(cluster: ClusterLimits) -> GraphLimits:
    """Return the limits of a graph of groups on a cluster; the bytes are fitted as in stages/limits.py."""
    steps = 2 if cluster.has_retry_steps else 1
    return GraphLimits(
        object_bytes=cluster.object_bytes,
        object_task_bytes=2620 + 1440 * steps,
        object_edge_bytes=520 + 370 * steps,
        object_node_bytes=5 + 10 * steps,
        inputs=cluster.inputs,
        argument_bytes=cluster.argument_bytes,
    )


@dataclass(frozen=True)
class CostEstimate:
    """What is expected of a run.

    seconds: from its start to its end; path_s: the longest path, pods' overheads included
    pods: how many; pod_s: how long they are there, all taken together
    fits: whether the cluster takes the graph at all
    """

    seconds: float
    path_s: float
    pods: int
    pod_s: float
    fits: bool


def measure_limits(tasks: int, inputs: Sequence[int], limits: GraphLimits) -> dict[str, float]:
    """Return how much of each limit a graph takes; above 1 it does not fit. inputs: of each task."""
    edges = sum(inputs)
    size = tasks * limits.task_bytes + edges * limits.edge_bytes
    object_size = tasks * limits.object_task_bytes + edges * limits.object_edge_bytes
    return {
        "object": object_size / limits.object_bytes,
        "inputs": max(inputs, default=0) / limits.inputs,
        "argument": size / limits.argument_bytes,
    }


def estimate_cost(
    dag: Dag, pods: PodCosts, limits: GraphLimits, shares: Sequence[float] | None = None
) -> CostEstimate:
    """Return what a graph costs if each thing has a pod of its own, which waits for all that it needs.

    shares: how much of a pod's overhead each one has, if not all of it
    """
    shares = shares or [1.0] * len(dag)
    seconds = [share * pods.overhead_s + dag.seconds(thing) for thing, share in enumerate(shares)]
    ends = [0.0] * len(dag)
    for thing in dag.order:
        ends[thing] = seconds[thing] + max((ends[o] for o in dag.needs[thing]), default=0.0)
    return CostEstimate(
        seconds=simulate_pods(dag, seconds, pods.parallel),
        path_s=max(ends, default=0.0),
        pods=len(dag),
        pod_s=sum(seconds),
        fits=max(measure_limits(len(dag), list(map(len, dag.needs)), limits).values()) <= 1,
    )


def simulate_pods(dag: Dag, seconds: Sequence[float], parallel: int) -> float:
    """Return when the last pod ends; pods begin in the order in which they become ready."""
    waiting = [len(needed) for needed in dag.needs]
    ready = [thing for thing, count in enumerate(waiting) if not count]
    running: list[tuple[float, int]] = []
    now, begun = 0.0, 0
    while begun < len(ready) or running:
        while begun < len(ready) and len(running) < parallel:
            heapq.heappush(running, (now + seconds[ready[begun]], ready[begun]))
            begun += 1
        now, done = heapq.heappop(running)
        for follower in dag.followers[done]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return now


DRAWS = 2
_SIGMA = 0.5  # of a lognormal distribution: two of three durations are within a factor of 1.6
_BITS = 64 // DRAWS  # of a mark, for each draw
_NORMAL = NormalDist()


def sample_durations(dag: Dag) -> list[Dag]:
    """Return a graph of nodes with other durations, a few times; the same ones for the same names.

    A node that comes or goes changes those of no other.
    """
    return [_draw(dag, number) for number in range(DRAWS)]


def simulate_samples(
    draws: Sequence[Dag], parts: Sequence[int], whole: Dag, pods: PodCosts
) -> float:
    """Return when the last pod ends, on average; whole: the graph of the parts, which stays as it is."""
    ends = []
    for drawn in draws:
        work = [0.0] * len(whole)
        for part, seconds in zip(parts, drawn.work, strict=True):
            work[part] += seconds
        span = find_spans(drawn, parts, len(whole)) if max(whole.cpu) > 1 else work
        weights = zip(work, span, whole.cpu, strict=True)
        lasts = [pods.overhead_s + w / cpu + s * (1 - 1 / cpu) for w, s, cpu in weights]
        ends.append(simulate_pods(whole, lasts, pods.parallel))
    return sum(ends) / len(ends)


def _draw(dag: Dag, number: int) -> Dag:
    factors = [_find_factor(mark >> number * _BITS) for mark in dag.marks]
    return replace(
        dag,
        work=[factor * work for factor, work in zip(factors, dag.work, strict=True)],
        span=[factor * span for factor, span in zip(factors, dag.span, strict=True)],
    )


def _find_factor(mark: int) -> float:
    place = (mark % (1 << _BITS) + 0.5) / (1 << _BITS)
    return math.exp(_SIGMA * _NORMAL.inv_cdf(place) - _SIGMA**2 / 2)
