"""An array of 1 GB from node to node, beside writing and mapping the same bytes."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fftasks.runner.artifact import read_artifact, write_artifact
from tests.benchmarks.measure import Cost, alternate
from tests.benchmarks.table import Row, compare

TITLE = "an array of 1 GB"

_SIZE = 1 << 30


def measure(folder: Path) -> Iterator[Row]:
    """Yield writing and loading, each beside plain writing and mapping, and the memory that it takes."""
    import numpy as np

    array = np.random.default_rng(0).integers(0, 1 << 62, size=_SIZE // 8)
    folder.mkdir()
    ours, plain = folder / "ours", folder / "plain"
    # the first ones pay for memory that the machine has not touched yet
    _take(lambda: write_artifact(ours, array), ours)
    figure, base = alternate(
        5,
        lambda: _take(lambda: write_artifact(ours, array), ours),
        lambda: _take(lambda: plain.write_bytes(memoryview(array).cast("B")), plain),
    )
    yield from compare("write, with the digest", figure, "write", base, 1.5)
    write_artifact(ours, array)
    plain.write_bytes(memoryview(array).cast("B"))
    loaded, mapped = alternate(
        5, lambda: _take(lambda: read_artifact(ours)), lambda: _take(lambda: _map(plain))
    )
    yield Row("load", loaded.wall, "10 ms", 0.01, 1)
    total, plainly = figure.wall + loaded.wall, base.wall + mapped.wall
    yield Row("write and load", total, "write and mmap", plainly, 1.5)
    yield Row("most memory", _peak(ours), "the array", _SIZE, 1.1, "bytes")


def _take(act: Callable[[], object], written: Path | None = None) -> Cost:
    if written is not None:
        written.unlink(missing_ok=True)
    begin, cpu = time.perf_counter(), time.process_time()
    act()
    return Cost(time.perf_counter() - begin, time.process_time() - cpu)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _peak(path: Path) -> int:
    code = (
        "import sys, numpy, pathlib, resource\n"
        "from fftasks.runner.artifact import read_artifact, write_artifact\n"
        f"array = numpy.ones({_SIZE // 8})\n"
        f"before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - {_SIZE >> 10}\n"
        "write_artifact(pathlib.Path(sys.argv[1]), array)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout
    return int(printed) * 1024
