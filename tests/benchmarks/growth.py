"""Ten times as many nodes: how much longer it takes, and how much more memory; 10 is linear."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.graphs import (
    Shape,
    make_chain,
    make_fans,
    make_full_layers,
    make_layers,
    make_project,
)
from tests.benchmarks.measure import Cost, doit
from tests.benchmarks.table import Row

TITLE = "growth from 1000 to 10000 nodes"

_SHAPES: dict[str, Shape] = {
    "chain": make_chain,
    "fans of 1000": make_fans,
    "100 x 100 layers, 10 each": make_layers,
    "100 x 100 layers, 100 each": make_full_layers,
}


def measure(folder: Path) -> Iterator[Row]:
    """Yield what ten times as many nodes cost, for each shape: the first run, and a no-op."""
    for number, (name, shape) in enumerate(_SHAPES.items()):
        small = _measure(folder / f"{number}-small", shape(1000))
        large = _measure(folder / f"{number}-large", shape(10_000))
        for what in small:
            yield Row(f"{name}: {what}", large[what].cpu, "1000 nodes", small[what].cpu, 12)
        memory = [costs["no-op"].memory_bytes for costs in (large, small)]
        yield Row(f"{name}: memory", memory[0], "1000 nodes", memory[1], 10, "bytes")


def _measure(folder: Path, needs: list[list[int]]) -> dict[str, Cost]:
    project = make_project(folder, needs)
    last = f"run:node_{len(needs) - 1}"
    return {
        "first run": doit(project),
        "no-op": doit(project, memory=True),
        "no-op of the last one": doit(project, last),
    }
