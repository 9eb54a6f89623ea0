"""Bundles: clusters of one stage side by side in one pod, since there are more of them than pods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fftasks.stages.groups.cuts import SIZES, cut, round_size, split
from fftasks.stages.groups.dag import Dag, number_parts
from fftasks.stages.groups.estimate import Limits, Pods, measure

_LITTLE = 0.2  # the part of a pod's time that its overhead may be, to have more pods than places
_NEARLY = 0.5  # what is there of the last round, at least
_FINE = 2 ** (1 / SIZES)
_WORTH = 0.1  # the part of a pod's overhead that its work is worth at least
_COARSER, _COARSEST = 1.04, 4.0  # how much larger bundles become in one step


@dataclass
class _Row:
    """Clusters of one stage and one key, in the order of the workflow.

    size_s: what a bundle of them is to take, on average; least_s: what each one is to take at least
    """

    clusters: list[int] = field(default_factory=list)
    total_s: float = 0.0
    size_s: float = 0.0
    least_s: float = 0.0
    bundles: list[list[int]] = field(default_factory=list)


def bundle_clusters(dag: Dag, stages: Sequence[int], pods: Pods, limits: Limits) -> list[int]:
    """Return the bundle of each cluster, numbered as by number_parts.

    Bundles of a stage are as many as there are pods at a time; fewer where a pod would not be worth its
    overhead, and where the graph of bundles would not fit the limits: there the stages become coarser of
    which it costs least.

    Source: level-based clustering in Singh et al., 'Workflow task clustering for best effort systems with
    Pegasus', 2008.
    """
    rows = _list_rows(dag, stages)
    for row in rows:
        _fit(dag, row, pods, limits)
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
            row.bundles = _taper(dag, row, pods)


def _choose(rows: list[_Row], pressure: list[float]) -> list[_Row]:
    """Return the rows that lose least time by fewer bundles, for what is won."""
    ease = [
        press * len(row.bundles) / row.total_s if len(row.bundles) > 1 else 0.0
        for row, press in zip(rows, pressure, strict=True)
    ]
    least = max(ease, default=0.0) / 2
    return [row for row, one in zip(rows, ease, strict=True) if one and one >= least]


def _list_rows(dag: Dag, stages: Sequence[int]) -> list[_Row]:
    rows: dict[tuple[int, int], _Row] = {}
    for cluster in sorted(range(len(dag)), key=dag.firsts.__getitem__):
        row = rows.setdefault((stages[cluster], dag.keys[cluster]), _Row())
        row.clusters.append(cluster)
        row.total_s += dag.work[cluster] / dag.cpu[cluster]
    return list(rows.values())


def _fit(dag: Dag, row: _Row, pods: Pods, limits: Limits) -> None:
    # what runs beside the longest costs no time; by powers of two, so that an edit hardly changes it
    longest = 2.0 ** math.floor(math.log2(max(map(dag.seconds, row.clusters))))
    even = row.total_s / pods.parallel
    # where pods work long, more of them even out what is not as expected, for little
    rounds = min(max(even * _LITTLE / max(pods.overhead_s, 1.0), 1.0), _count_rounds(pods, limits))
    row.least_s = max(longest, _WORTH * pods.overhead_s)
    row.size_s = round_size(max(row.least_s, even / rounds))
    row.bundles = _taper(dag, row, pods)
    while len(row.bundles) > max(pods.parallel * math.floor(rounds), 1):
        row.size_s = round_size(row.size_s * _FINE)
        row.bundles = _taper(dag, row, pods)


def _count_rounds(pods: Pods, limits: Limits) -> float:
    """Return how many times a run can fill all places with pods before Argo's workflow object is full."""
    tasks = limits.object_bytes / (limits.object_task_bytes + limits.object_edge_bytes)
    return max(float(tasks // pods.parallel), 1.0)


def _taper(dag: Dag, row: _Row, pods: Pods) -> list[list[int]]:
    """Return the bundles of a row: where there are several to a place, each round half of what is left.

    The last ones are small, and even out by how much the ones before took longer than expected.

    Source: factoring in Hummel, Schonberg, Flynn, 'Factoring: a method for scheduling parallel loops', 1992.
    """
    rounds = math.floor(row.total_s / (pods.parallel * row.size_s) + _NEARLY)
    if rounds <= 1:
        return cut(dag, row.clusters, row.size_s)
    bundles, left = list[list[int]](), row.clusters
    share_s = row.size_s * rounds
    for _ in range(rounds - 1):
        share_s /= 2
        size_s = max(share_s, row.least_s)
        first, left = split(dag, left, share_s * pods.parallel, size_s)
        bundles += cut(dag, first, size_s)
    return [*bundles, *cut(dag, left, max(share_s, row.least_s))]


def _number(count: int, rows: list[_Row]) -> tuple[list[int], list[int]]:
    """Return the row of each bundle, and the bundle of each cluster."""
    bundle_of, owner = [0] * count, list[int]()
    for number, row in enumerate(rows):
        for bundle in row.bundles:
            for cluster in bundle:
                bundle_of[cluster] = len(owner)
            owner.append(number)
    return owner, bundle_of


def _press(
    edges: list[tuple[int, int]], owner: list[int], rows: int, limits: Limits
) -> tuple[list[float], float]:
    """Return how much each row has a part in what is too much, and how often it is what there may be."""
    inputs = [0] * len(owner)
    for _, bundle in edges:
        inputs[bundle] += 1
    load = measure(len(owner), inputs, limits)
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
