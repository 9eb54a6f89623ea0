"""Cuts: a row of things becomes pieces of about one size, and an edit of the row moves few of its ends."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from fftasks.stages.groups.dag import Dag

_WINDOW = 0.1  # how much further than wanted, in pieces, an end may be
_STRETCH = 8  # how many pieces a stretch has
_ALMOST = 1e-6  # what a size of these may be off
SIZES = 16  # how many sizes there are between one and its double
_STRETCHES = 0.25  # how much smaller or larger than wanted a stretch may be


def cut(dag: Dag, row: Sequence[int], size_s: float) -> list[list[int]]:
    """Return a row of things as pieces that take a processor about size_s each.

    The row is cut into stretches, and these into equal pieces. Both end, within a window, before the thing
    of the least mark. So an edit moves ends in its stretch, if any; and the end of a stretch is after an
    edit likely the old one, from which on all ends are.

    Source: boundaries in the content, as in Xia et al., 'FastCDC', 2016.
    """
    row, pieces, size_s = list(row), [], round_size(size_s)
    for stretch in _cut_stretches(dag, row, size_s * _STRETCH):
        loads = _add_up(dag, stretch)
        count = max(math.ceil(loads[-1] / size_s - _WINDOW), 1)
        wanted = (loads[-1] * number / count for number in range(1, count))
        ends = {_find_end(dag, stretch, loads, w, size_s * _WINDOW) for w in wanted}
        ends |= {0, len(stretch)}
        pieces += [stretch[begin:end] for begin, end in itertools.pairwise(sorted(ends))]
    return pieces


def split(
    dag: Dag, row: Sequence[int], first_s: float, size_s: float
) -> tuple[list[int], list[int]]:
    """Return a row of things in two, where about first_s of it are over, within half a piece of size_s."""
    row = list(row)
    end = _find_end(dag, row, _add_up(dag, row), first_s, size_s / 2)
    return row[:end], row[end:]


def round_size(size_s: float) -> float:
    """Return the next of some sizes: an edit that changes a little what is wanted changes nothing."""
    return 2 ** (math.ceil(math.log2(size_s) * SIZES - _ALMOST) / SIZES)


def _cut_stretches(dag: Dag, row: list[int], size_s: float) -> list[list[int]]:
    loads = _add_up(dag, row)
    stretches, begin = [], 0
    while loads[-1] - loads[begin] > size_s * (1 + _STRETCHES):
        end = _find_end(dag, row, loads, loads[begin] + size_s, size_s * _STRETCHES)
        end = max(end, begin + 1)
        stretches.append(row[begin:end])
        begin = end
    return [*stretches, row[begin:]]


def _add_up(dag: Dag, row: list[int]) -> list[float]:
    """Return the load of all that is before each thing, and of all."""
    loads = (dag.work[thing] / dag.cpu[thing] for thing in row)
    return list(itertools.accumulate(loads, initial=0.0))


def _find_end(dag: Dag, row: list[int], loads: list[float], wanted: float, window: float) -> int:
    """Return before which thing to end: the least mark in the window, or else what is nearest."""
    low, high = bisect_left(loads, wanted - window), bisect_right(loads, wanted + window)
    places = range(low, min(high, len(row)))
    if places:
        return min(places, key=lambda place: dag.marks[row[place]])
    return min((low, max(low - 1, 0)), key=lambda place: abs(loads[min(place, len(row))] - wanted))
