"""Durations as they may come: longer or shorter than expected, by what a node's name says.

What is chosen by durations that all come as expected does badly when they do not: pods that would end at
the same time wait for the longest of them.

Source: Kleywegt, Shapiro, Homem-de-Mello, 'The sample average approximation method for stochastic discrete
optimization', 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from fftasks.stages.groups.dag import Dag, find_spans
from fftasks.stages.groups.estimate import Pods, run_pods

DRAWS = 2
_SIGMA = 0.5  # of a lognormal distribution: two of three durations are within a factor of 1.6
_BITS = 64 // DRAWS  # of a mark, for each draw
_NORMAL = NormalDist()


def draw_durations(dag: Dag) -> list[Dag]:
    """Return a graph of nodes with other durations, a few times; the same ones for the same names.

    A node that comes or goes changes those of no other.
    """
    return [_draw(dag, number) for number in range(DRAWS)]


def run_drawn(draws: Sequence[Dag], parts: Sequence[int], whole: Dag, pods: Pods) -> float:
    """Return when the last pod ends, on average; whole: the graph of the parts, which stays as it is."""
    ends = []
    for drawn in draws:
        work = [0.0] * len(whole)
        for part, seconds in zip(parts, drawn.work, strict=True):
            work[part] += seconds
        span = find_spans(drawn, parts, len(whole)) if max(whole.cpu) > 1 else work
        weights = zip(work, span, whole.cpu, strict=True)
        lasts = [pods.overhead_s + w / cpu + s * (1 - 1 / cpu) for w, s, cpu in weights]
        ends.append(run_pods(whole, lasts, pods.parallel))
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
