"""Durations as they may come: around those that are expected, and the same for the same names."""

import statistics

import pytest

from fftasks.fusion.cost import DRAWS, sample_durations
from fftasks.fusion.dag import Dag
from fftasks.fusion.grouping import _mark


def make_dag(names):
    count = len(names)
    return Dag(
        needs=[[] for _ in names],
        keys=[0] * count,
        work=[60.0] * count,
        span=[60.0] * count,
        cpu=[1] * count,
        marks=[_mark(name) for name in names],
        firsts=range(count),
    )


def test_they_are_around_what_is_expected():
    drawn = sample_durations(make_dag([f"node {i}" for i in range(4000)]))

    assert len(drawn) == DRAWS
    for one in drawn:
        assert statistics.mean(one.work) == pytest.approx(60, rel=0.05)
        assert statistics.stdev(one.work) == pytest.approx(60 * 0.533, rel=0.1)
    assert drawn[0].work != drawn[1].work


def test_those_of_a_node_do_not_change_with_others():
    few, more = (sample_durations(make_dag(names)) for names in (["a", "b"], ["c", "a", "b"]))

    assert [one.work for one in few] == [one.work[1:] for one in more]
