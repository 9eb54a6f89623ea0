"""What a graph of groups is expected to cost on a cluster, and whether it fits there."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from fftasks.stages.groups.dag import Dag
from fftasks.stages.limits import Cluster


@dataclass(frozen=True)
class Pods:
    """The cluster's pods: how many run at a time, and what each one costs before its first node runs."""

    parallel: int = 50
    overhead_s: float = 20.0


@dataclass(frozen=True)
class Limits:
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


def limit_groups(cluster: Cluster) -> Limits:
    """Return the limits of a graph of groups on a cluster; the bytes are fitted as in stages/limits.py."""
    steps = 2 if cluster.has_retry_steps else 1
    return Limits(
        object_bytes=cluster.object_bytes,
        object_task_bytes=2620 + 1440 * steps,
        object_edge_bytes=520 + 370 * steps,
        object_node_bytes=5 + 10 * steps,
        inputs=cluster.inputs,
        argument_bytes=cluster.argument_bytes,
    )


@dataclass(frozen=True)
class Estimate:
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


def measure(tasks: int, inputs: Sequence[int], limits: Limits) -> dict[str, float]:
    """Return how much of each limit a graph takes; above 1 it does not fit. inputs: of each task."""
    edges = sum(inputs)
    size = tasks * limits.task_bytes + edges * limits.edge_bytes
    object_size = tasks * limits.object_task_bytes + edges * limits.object_edge_bytes
    return {
        "object": object_size / limits.object_bytes,
        "inputs": max(inputs, default=0) / limits.inputs,
        "argument": size / limits.argument_bytes,
    }


def estimate(
    dag: Dag, pods: Pods, limits: Limits, shares: Sequence[float] | None = None
) -> Estimate:
    """Return what a graph costs if each thing has a pod of its own, which waits for all that it needs.

    shares: how much of a pod's overhead each one has, if not all of it
    """
    shares = shares or [1.0] * len(dag)
    seconds = [share * pods.overhead_s + dag.seconds(thing) for thing, share in enumerate(shares)]
    ends = [0.0] * len(dag)
    for thing in dag.order:
        ends[thing] = seconds[thing] + max((ends[o] for o in dag.needs[thing]), default=0.0)
    return Estimate(
        seconds=run_pods(dag, seconds, pods.parallel),
        path_s=max(ends, default=0.0),
        pods=len(dag),
        pod_s=sum(seconds),
        fits=max(measure(len(dag), list(map(len, dag.needs)), limits).values()) <= 1,
    )


def run_pods(dag: Dag, seconds: Sequence[float], parallel: int) -> float:
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
