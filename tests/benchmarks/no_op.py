"""A run with nothing to do, beside plain doit with as many tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.graphs import make_plain, make_project, make_tree
from tests.benchmarks.measure import alternate, doit, plain_doit
from tests.benchmarks.table import Row, compare

TITLE = "no-op"


def measure(folder: Path) -> Iterator[Row]:
    """Yield time and memory by the number of nodes."""
    for count in (10, 100, 1000, 5000):
        yield from _measure(folder / str(count), count)


def _measure(folder: Path, count: int) -> Iterator[Row]:
    ours = make_project(folder / "ours", make_tree(count))
    plain = make_plain(folder / "plain", make_tree(count))
    first = doit(ours, memory=True), plain_doit(plain, memory=True)
    figure, base = alternate(7, lambda: doit(ours), lambda: plain_doit(plain))
    yield from compare(f"{count} nodes", figure, "plain doit", base, 1.5)
    again = doit(ours, memory=True), plain_doit(plain, memory=True)
    if count >= 1000:
        for name, pair in (("first run", first), ("no-op", again)):
            memory = [cost.memory_bytes for cost in pair]
            yield Row(f"memory, {name} of {count}", memory[0], "plain doit", memory[1], 2, "bytes")
