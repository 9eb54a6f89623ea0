"""What a program costs: its time, its processors' time, its memory, with all that it starts."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PLAIN = """\
import importlib.metadata, sys
find = importlib.metadata.entry_points

def find_others(**chosen):
    return [point for point in find(**chosen) if not point.value.startswith("fftasks.")]

importlib.metadata.entry_points = find_others

from doit.doit_cmd import DoitMain
sys.exit(DoitMain().run(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, seconds of all processors, and the most memory of the program itself."""

    wall: float
    cpu: float = 0.0
    memory_bytes: int = 0


def run(command: Sequence[str], folder: Path, *, memory: bool = False) -> Cost:
    """Run a program to its end and return what it cost; its output goes nowhere unless it fails.

    memory: watch how much it needs; looking costs it a little time
    """
    # a worker that outlives its parent becomes a child of this process, and its time counts
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    begin = time.perf_counter()
    log = folder / "benchmark.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    peak = _watch_memory(process.pid) if memory else 0
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime + _reap()
    if process.returncode:
        sys.exit(f"{' '.join(command)} in {folder}:\n{log.read_text()[-3000:]}")
    return Cost(wall, cpu, peak)


def doit(folder: Path, *arguments: str, memory: bool = False) -> Cost:
    """Run doit in a project."""
    return run([sys.executable, "-m", "doit", *arguments], folder, memory=memory)


def plain_doit(folder: Path, *arguments: str, memory: bool = False) -> Cost:
    """Run doit as it is where fftasks is not installed: its commands are replaced by ours else."""
    return run([sys.executable, "-c", _PLAIN, *arguments], folder, memory=memory)


def alternate(times: int, *takes: Callable[[], Cost]) -> list[Cost]:
    """Return the median cost of each of some measurements, taken in turns, as the machine is shared."""
    rounds = [[take() for take in takes] for _ in range(times)]
    return [median(costs) for costs in zip(*rounds, strict=True)]


def median(costs: Sequence[Cost]) -> Cost:
    """Return the medians of what was measured several times."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        int(statistics.median(cost.memory_bytes for cost in costs)),
    )


def _watch_memory(pid: int) -> int:
    peak, status = 0, Path(f"/proc/{pid}/status")
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        # the process may be gone between two looks: its last lines have no memory any more
        with suppress(OSError, IndexError):
            peak = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
        time.sleep(0.002)
    return peak


def _reap() -> float:
    """Wait for what is left behind, and return its processors' time."""
    seconds = 0.0
    with suppress(ChildProcessError):
        while True:
            _, _, usage = os.wait4(-1, 0)
            seconds += usage.ru_utime + usage.ru_stime
    return seconds
