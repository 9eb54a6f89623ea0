"""Other tools that run a graph of functions: the same trivial nodes in the words of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import Cost, run

Needs = list[list[int]]

_LUIGI = """\
import json
import pickle
import luigi

NEEDS = json.load(open("needs.json"))

class Step(luigi.Task):
    i = luigi.IntParameter()

    def requires(self):
        return [Step(k) for k in NEEDS[self.i]]

    def output(self):
        return luigi.LocalTarget(f"out/{self.i}", format=luigi.format.Nop)

    def run(self):
        with self.output().open("w") as file:
            pickle.dump(self.i, file)

luigi.build([Step(len(NEEDS) - 1)], local_scheduler=True, workers=2, log_level="ERROR")
"""

_REDUN = """\
import json
from redun import task

redun_namespace = "bench"
NEEDS = json.load(open("needs.json"))

@task(executor="process")
def step(i, upstream):
    return i

@task()
def main():
    done = []
    for i, needs in enumerate(NEEDS):
        done.append(step(i, [done[k] for k in needs]))
    return done[-1]
"""
_REDUN_START = """\
import sys
from redun.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""
_REDUN_SETTINGS = """\
[backend]
db_uri = sqlite:///redun.db
[executors.default]
type = local
max_workers = 2
[executors.process]
type = local
mode = process
max_workers = 2
"""

_METAFLOW = """\
import json
from metaflow import FlowSpec, step

class Flow(FlowSpec):
    @step
    def start(self):
        self.numbers = list(range(len(json.load(open("needs.json"))) - 3))
        self.next(self.work, foreach="numbers")

    @step
    def work(self):
        self.result = self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.results = [each.result for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Flow()
"""

_SNAKEMAKE = """\
import json

NEEDS = json.load(open("needs.json"))

rule all:
    input: f"out/{len(NEEDS) - 1}"

rule step:
    output: "out/{i}"
    input: lambda wildcards: [f"out/{k}" for k in NEEDS[int(wildcards.i)]]
    run:
        import pickle
        with open(output[0], "wb") as file:
            pickle.dump(int(wildcards.i), file)
"""


@dataclass(frozen=True)
class Peer:
    """A tool with processes of its own for its nodes.

    count: how many nodes it is given: some take seconds for each
    files: name -> text; arguments: of the Python that has it
    """

    name: str
    module: str
    count: int
    files: dict[str, str]
    arguments: tuple[str, ...]

    def measure(self, python: str, folder: Path, needs: Needs) -> Cost:
        """Return what running the nodes costs in a new folder."""
        (folder / "out").mkdir(parents=True)
        for name, text in {**self.files, "needs.json": json.dumps(needs)}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return run(["env", "USERNAME=benchmark", python, *self.arguments], folder)


PEERS: Sequence[Peer] = (
    Peer("luigi", "luigi", 1000, {"script.py": _LUIGI}, ("script.py",)),
    Peer(
        "redun",
        "redun",
        100,
        {"script.py": _REDUN, "start.py": _REDUN_START, ".redun/redun.ini": _REDUN_SETTINGS},
        ("start.py", "run", "script.py", "main"),
    ),
    Peer(
        "Metaflow",
        "metaflow",
        20,
        {"script.py": _METAFLOW},
        ("script.py", "--quiet", "run", "--max-workers", "2"),
    ),
    Peer(
        "Snakemake",
        "snakemake",
        20,
        {"Snakefile": _SNAKEMAKE},
        ("-m", "snakemake", "--cores", "2", "--quiet", "all"),
    ),
)
