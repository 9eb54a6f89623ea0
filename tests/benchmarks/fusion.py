"""Fusion: what runs of the usual graphs would cost on a cluster, unfused, as chains, and with auto.

Durations are drawn from a lognormal distribution, as those of batch jobs are, and auto does not know them: it
expects the mean for each. Goals hold for nodes of a minute, where the bound can be reached at all; short
nodes wait for pods more than they work, and each barrier costs a pod's overhead that the bound does not know.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fftasks.fusion import GraphLimits, NodePlacement, PodCosts, group_nodes
from tests.benchmarks.simulator import find_bounds, simulate
from tests.benchmarks.table import Row
from tests.shapes import SHAPES, make_record

TITLE = "fusion: expected runs on a cluster of 50 pods, 20 s a pod"
SIZES = (100, 1000, 10_000, 100_000)

_PODS = PodCosts(50, 20.0)
_SIGMA = 0.5
_GOAL = 1.3


def measure(folder: Path) -> Iterator[Row]:
    """Print a table of costs, and yield how auto compares with the bound, and how long it takes."""
    del folder
    print(
        f"\n{'shape':12} {'nodes':>7} {'a node':>7} {'':>8} {'fits':>5} {'time':>9} {'pods':>7} {'cpu-s':>10}"
    )
    for mean_s in (1.0, 60.0):
        for name in SHAPES:
            for count in SIZES:
                if name != "shuffles" or count <= 1000:
                    yield from _measure(name, count, mean_s)
    yield from _measure_growth()


def _measure(shape: str, count: int, mean_s: float) -> Iterator[Row]:
    needs = SHAPES[shape](count)
    seconds = draw_seconds(len(needs), mean_s)
    record = make_record(needs)
    places = dict.fromkeys(record["nodes"], NodePlacement(seconds=mean_s))
    found = {
        mode: group_nodes(record, "w", mode, places=places, pods=_PODS)
        for mode in ("none", "chains", "auto")
    }
    costs = {}
    for mode, grouping in found.items():
        groups = [[int(node[5:]) for node in group.nodes] for group in grouping.groups]
        cost = costs[mode] = simulate(
            needs, groups, seconds, parallel=_PODS.parallel, overhead_s=_PODS.overhead_s
        )
        print(
            f"{shape:12} {count:7} {mean_s:5.0f} s {mode:>8} {'yes' if grouping.expected.fits else 'no':>5}"
            f" {cost.seconds:9.0f} {cost.pods:7} {cost.cpu_s:10.0f}"
        )
    plain, further = find_bounds(
        needs, seconds, parallel=_PODS.parallel, overhead_s=_PODS.overhead_s
    )
    print(
        f"{shape:12} {count:7} {mean_s:5.0f} s    bound {'':5} {plain:9.0f}"
        f"   (pods' waits known: {further:.0f})"
    )
    what = f"{shape}, {count} nodes of {mean_s:g} s"
    yield Row(
        what, costs["auto"].seconds, "bound", plain, _GOAL if mean_s > _PODS.overhead_s else None
    )
    yield Row(f"{what}, pods' waits known", costs["auto"].seconds, "bound", further)


def draw_seconds(count: int, mean_s: float, seed: int = 1) -> list[float]:
    """Return durations with a mean, the same ones each time."""
    numbers = random.Random(seed)
    drawn = [numbers.lognormvariate(0.0, _SIGMA) for _ in range(count)]
    return [one * mean_s * count / sum(drawn) for one in drawn]


def _measure_growth() -> Iterator[Row]:
    for name in SHAPES:
        if name != "shuffles":
            small, large = (_time(name, count) for count in (1000, 10_000))
            yield Row(f"{name}: grouping 10,000 nodes", large, "a second", 1.0, 1.0)
            yield Row(f"{name}: grouping 10,000 nodes", large, "1,000 nodes", small, 15)


def _time(shape: str, count: int) -> float:
    record = make_record(SHAPES[shape](count))
    lasts: Sequence[float] = []
    for _ in range(3):
        begin = time.process_time()
        group_nodes(record, "w", "auto", pods=_PODS, limits=GraphLimits())
        lasts = [*lasts, time.process_time() - begin]
    return min(lasts)
