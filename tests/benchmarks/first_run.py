"""The first run of 1000 trivial nodes by two workers, beside a bare loop and others who do such things."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.graphs import make_project, make_tree
from tests.benchmarks.measure import Cost, alternate, doit, run
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

_LUIGI = """\
import pickle
import luigi

NEEDS = {needs}

class Step(luigi.Task):
    i = luigi.IntParameter()

    def requires(self):
        return [Step(k) for k in NEEDS[self.i]]

    def output(self):
        return luigi.LocalTarget(f"out/{{self.i}}", format=luigi.format.Nop)

    def run(self):
        with self.output().open("w") as file:
            pickle.dump(self.i, file)

luigi.build([Step(len(NEEDS) - 1)], local_scheduler=True, workers=2, log_level="ERROR")
"""


def measure(folder: Path) -> Iterator[Row]:
    """Yield the first run beside each of the others; a peer is left out if it is not installed."""
    needs = make_tree(_COUNT)
    ours = make_project(folder / "ours", needs)
    bare = _write_script(folder / "bare", _BARE.replace("COUNT", str(_COUNT)))
    figure, base = alternate(3, lambda: _run_ours(ours), lambda: _run_script(bare))
    yield from compare("fftasks", figure, "bare loop", base, 3)
    if importlib.util.find_spec("luigi"):
        script = _write_script(folder / "luigi", _LUIGI.format(needs=needs))
        (peer,) = alternate(1, lambda: _run_script(script))
        yield from compare("fftasks", figure, "luigi", peer, 1)


def _run_ours(folder: Path) -> Cost:
    shutil.rmtree(folder / ".fftasks", ignore_errors=True)
    return doit(folder, "run", "-n", "2")


def _write_script(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "script.py").write_text(text)
    return folder


def _run_script(folder: Path) -> Cost:
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    return run([sys.executable, "script.py"], folder)
