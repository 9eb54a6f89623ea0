"""A pipeline compiled, beside kfp's own compiler, both from a graph in memory to the text of the file."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fftasks.kfp.limits import ClusterLimits
from fftasks.pipeline import compiler, task_specs
from tests.benchmarks.measure import Cost, alternate, median
from tests.benchmarks.table import Row, compare
from tests.pipeline.sdk_compiler import compile_pipeline
from tests.pipeline.test_compiler import REFERENCE
from tests.pipeline.test_components import Ref, make_graph, make_pins

TITLE = "compiling a pipeline"

_SIZES = (10, 100, 1000, 3000)
_GOAL_SIZE, _GOAL = 1000, 1 / 20
_TRACED_SIZE = 100  # tracing memory takes its time
# KFP takes no such pipelines; the compilers are to be compared
_NO_LIMITS = ClusterLimits(object_bytes=10**9, argument_bytes=10**9)


def measure(folder: Path) -> Iterator[Row]:
    """Yield what the pipeline stage takes for chains of several lengths, and what the SDK takes."""
    folder.mkdir(parents=True, exist_ok=True)
    ours: dict[int, Cost] = {}
    for size in _SIZES:
        made = task_specs.make_tasks_record(make_graph(_make_chain(size)), "sums")
        pins = make_pins(made, REFERENCE)
        takes = (
            lambda made=made, pins=pins: _compile(made, pins),
            lambda made=made, pins=pins: compile_pipeline(made, pins, folder),
        )
        times = 3 if size < _GOAL_SIZE else 1
        ours[size] = median([_time(takes[0]) for _ in range(5)])
        _, theirs = alternate(times, *(lambda take=take: _time(take) for take in takes))
        goal = _GOAL if size == _GOAL_SIZE else None
        yield from compare(f"{size} nodes", ours[size], "kfp's compiler", theirs, goal)
        if size == _TRACED_SIZE:
            memory = [_peak(take) for take in takes]
            yield Row(f"{size} nodes: memory", memory[0], "kfp's compiler", memory[1], 1, "bytes")
            lengths = len(takes[0]()), (folder / "theirs.yaml").stat().st_size
            yield Row(f"{size} nodes: the file", lengths[0], "kfp's", lengths[1], None, "bytes")
    yield Row("3000 nodes", ours[3000].cpu, "1000 nodes", ours[1000].cpu, 3.6)


def _make_chain(size: int) -> dict[str, Any]:
    return {
        f"node_{i}": {"rate": 0.5, **({"a": Ref(f"node_{i - 1}")} if i else {})}
        for i in range(size)
    }


def _compile(made: dict[str, Any], pins: dict[str, Any]) -> str:
    _, text = compiler.compile_pipeline(
        made, pins, compiler.CompileOptions(caching=True, version="0", cluster=_NO_LIMITS)
    )
    return text


def _time(take: Callable[[], object]) -> Cost:
    gc.collect()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    take()
    return Cost(time.perf_counter() - begin, time.process_time() - begin_cpu)


def _peak(take: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        take()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
