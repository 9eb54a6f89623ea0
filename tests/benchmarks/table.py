"""The table: a figure, its reference in the same run, how often it is that, and what it may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.benchmarks.measure import Cost


@dataclass(frozen=True)
class Row:
    """One line.

    what, reference: in words; figure, base: what was measured, in seconds or bytes
    goal: how often the reference the figure may be; None where there is nothing to reach
    """

    what: str
    figure: float
    reference: str
    base: float
    goal: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """How often the reference it is."""
        return self.figure / self.base

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells, as text."""
        goal = "" if self.goal is None else f"<= {self.goal:g}"
        verdict = "" if self.goal is None else "yes" if self.ratio <= self.goal else "NO"
        figure, base = _format(self.figure, self.unit), _format(self.base, self.unit)
        return (self.what, figure, self.reference, base, f"{self.ratio:.2f}", goal, verdict)


def compare(
    what: str, cost: Cost, reference: str, base: Cost, goal: float | None = None
) -> list[Row]:
    """Return two lines: by the clock, and by the processors' time, which other programs disturb less."""
    return [
        Row(what, cost.wall, reference, base.wall, goal),
        Row(f"{what}, processors", cost.cpu, reference, base.cpu, goal),
    ]


def print_table(title: str, rows: Iterable[Row]) -> None:
    """Print the lines under a title."""
    lines = [("what", "figure", "reference", "", "ratio", "goal", ""), *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  " + "  ".join(cells).rstrip())


def _format(value: float, unit: str) -> str:
    if unit == "kB":
        return f"{value / 1e3:.1f} kB"
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    return f"{value * 1e3:.2f} ms" if value < 0.01 else f"{value:.2f} s"
