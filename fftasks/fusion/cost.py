"""Estimate what a graph of groups costs on a cluster, and whether it fits the cluster's limits.

The estimate is repeated with sampled durations, which are longer or shorter than expected. A grouping that is
chosen for the expected durations only does badly with others: pods that would end at the same time wait for
the longest of them.

Source: Kleywegt, Shapiro, Homem-de-Mello, 'The sample average approximation method for stochastic discrete
optimization', 2002.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from fftasks.fusion.dag import Dag, bound_makespan, find_spans
from fftasks.kfp.limits import ClusterLimits

DRAWS = 2  # samples of the durations
_SIGMA = 0.5  # of a lognormal distribution: two of three durations are within a factor of 1.6
_BITS = 64 // DRAWS  # bits of a mark for each sample
_NORMAL = NormalDist()


@dataclass(frozen=True)
class PodCosts:
    """Properties of the pods on a cluster.

    Attributes:
        parallel: Number of pods that run at a time.
        overhead_s: Time in seconds before the first node of a pod runs.
    """

    parallel: int = 50
    overhead_s: float = 20.0


@dataclass(frozen=True)
class GraphLimits:
    """The limits of a pipeline's graph, derived from kfp.limits.ClusterLimits.

    Attributes:
        object_bytes: Maximum size of the workflow object in which Argo stores a run.
        object_task_bytes: Size of a task in that object.
        object_edge_bytes: Size of an input of a task in that object.
        object_node_bytes: Size of the name of a node in that object, in the arguments of groups.
        inputs: Maximum number of inputs of one task.
        argument_bytes: Maximum size of the argument that describes the graph.
        task_bytes: Size of a task in that argument.
        edge_bytes: Size of an input of a task in that argument.
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
    """Return the limits of a graph of groups on a cluster; the sizes are fitted as in kfp/limits.py."""
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
    """The expected cost of a run.

    Attributes:
        seconds: Duration of the run.
        path_s: Duration of the longest path in seconds, including the overhead of pods.
        pods: Number of pods.
        pod_s: Total duration of all pods in seconds.
        fits: Whether the graph is within the limits of the cluster.
    """

    seconds: float
    path_s: float
    pods: int
    pod_s: float
    fits: bool


def measure_limits(tasks: int, inputs: Sequence[int], limits: GraphLimits) -> dict[str, float]:
    """Return the used part of each limit; a graph with a value above 1 does not fit.

    Args:
        tasks: Number of tasks.
        inputs: Number of inputs of each task.
        limits: Limits of the graph.

    Returns:
        Parts of the limits "object", "inputs" and "argument".
    """
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
    """Return the expected cost of a graph in which each item has a pod of its own.

    Args:
        dag: Graph of the groups.
        pods: Properties of the pods.
        limits: Limits of the graph.
        shares: Part of a pod's overhead that each item has; None if each has all of it.
    """
    shares = shares or [1.0] * len(dag)
    seconds = [share * pods.overhead_s + dag.seconds(item) for item, share in enumerate(shares)]
    ends = [0.0] * len(dag)
    for item in dag.order:
        ends[item] = seconds[item] + max((ends[other] for other in dag.needs[item]), default=0.0)
    return CostEstimate(
        seconds=simulate_pods(dag, seconds, pods.parallel),
        path_s=max(ends, default=0.0),
        pods=len(dag),
        pod_s=sum(seconds),
        fits=max(measure_limits(len(dag), list(map(len, dag.needs)), limits).values()) <= 1,
    )


def simulate_pods(dag: Dag, seconds: Sequence[float], parallel: int) -> float:
    """Return the end of the last pod in seconds; pods start in the order in which they become ready.

    Args:
        dag: Graph of the groups, with one pod for each item.
        seconds: Duration of each pod.
        parallel: Number of pods that run at a time.
    """
    waiting = [len(needed) for needed in dag.needs]
    ready = [item for item, count in enumerate(waiting) if not count]
    running: list[tuple[float, int]] = []
    now, started = 0.0, 0
    while started < len(ready) or running:
        while started < len(ready) and len(running) < parallel:
            heapq.heappush(running, (now + seconds[ready[started]], ready[started]))
            started += 1
        now, done = heapq.heappop(running)
        for follower in dag.followers[done]:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return now


def sample_durations(dag: Dag) -> list[Dag]:
    """Return copies of a graph of nodes with sampled durations.

    The sampled factors depend on the names of nodes only, so they are the same each time, and adding or
    removing a node does not change the durations of others.
    """
    samples = []
    for number in range(DRAWS):
        factors = [_sample_factor(mark >> number * _BITS) for mark in dag.marks]
        sample = replace(
            dag,
            work=[factor * work for factor, work in zip(factors, dag.work, strict=True)],
            span=[factor * span for factor, span in zip(factors, dag.span, strict=True)],
        )
        samples.append(sample)
    return samples


def simulate_samples(
    samples: Sequence[Dag], parts: Sequence[int], whole: Dag, pods: PodCosts
) -> float:
    """Return the average end of the last pod in seconds, over sampled durations.

    Args:
        samples: Graphs of the nodes with sampled durations.
        parts: Number of each node's group.
        whole: Graph of the groups.
        pods: Properties of the pods.
    """
    ends = []
    for sample in samples:
        work = [0.0] * len(whole)
        for part, seconds in zip(parts, sample.work, strict=True):
            work[part] += seconds
        span = find_spans(sample, parts, len(whole)) if max(whole.cpu) > 1 else work
        weights = zip(work, span, whole.cpu, strict=True)
        durations = [pods.overhead_s + bound_makespan(*weight) for weight in weights]
        ends.append(simulate_pods(whole, durations, pods.parallel))
    return sum(ends) / len(ends)


def _sample_factor(mark: int) -> float:
    """Return a lognormal factor with mean 1; the mark determines its quantile."""
    quantile = (mark % (1 << _BITS) + 0.5) / (1 << _BITS)
    return math.exp(_SIGMA * _NORMAL.inv_cdf(quantile) - _SIGMA**2 / 2)
