"""The first run of 1000 trivial nodes by two workers, beside a bare loop and others who do such things.

FFTASKS_PEERS=<a Python that has luigi, redun, metaflow, snakemake>, if they are not beside fftasks.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.graphs import make_project, make_tree
from tests.benchmarks.measure import Cost, alternate, doit, run
from tests.benchmarks.peers import PEERS, Peer
from tests.benchmarks.table import Row, compare

TITLE = "first run of 1000 trivial nodes, two workers"

_COUNT = 1000

_BARE = """\
import os, pickle

def run(numbers):
    for i in numbers:
        child = os.fork()
        if child == 0:
            with open(f"out/.{i}", "wb") as file:
                pickle.dump(i, file)
            os.rename(f"out/.{i}", f"out/{i}")
            os._exit(0)
        os.waitpid(child, 0)

workers = []
for k in range(2):
    workers.append(os.fork())
    if workers[-1] == 0:
        run(range(k, COUNT, 2))
        os._exit(0)
for worker in workers:
    os.waitpid(worker, 0)
"""


def measure(folder: Path) -> Iterator[Row]:
    """Yield the first run beside each of the others; a peer is left out if it is not installed.

    Each is in a folder of its own: where thousands of files were deleted a moment ago, ext4 takes thirty
    times as long to make one.
    """
    needs = make_tree(_COUNT)
    new = (folder / str(number) for number in itertools.count())
    figure, base = alternate(
        5,
        lambda: doit(make_project(next(new), needs), "run", "-n", "2"),
        lambda: _run_script(next(new), _BARE.replace("COUNT", str(_COUNT))),
    )
    yield from compare("fftasks", figure, "bare loop", base, 3)
    python = os.environ.get("FFTASKS_PEERS", sys.executable)
    for peer in PEERS:
        has_peer = [python, "-c", f"import {peer.module}"]
        if not subprocess.run(has_peer, capture_output=True, check=False).returncode:
            yield from _compare_peer(peer, python, new)


def _compare_peer(peer: Peer, python: str, new: Iterator[Path]) -> Iterator[Row]:
    needs = make_tree(peer.count)
    ours, theirs = alternate(
        1,
        lambda: doit(make_project(next(new), needs), "run", "-n", "2"),
        lambda: peer.measure(python, next(new), needs),
    )
    yield from compare(f"fftasks, {peer.count} nodes", ours, peer.name, theirs, 1)


def _run_script(folder: Path, text: str) -> Cost:
    (folder / "out").mkdir(parents=True)
    (folder / "script.py").write_text(text)
    return run([sys.executable, "script.py"], folder)
