"""Graphs of trivial nodes by their shapes, as a project of fftasks and as a plain dodo.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Shape = Callable[
    [int], list[list[int]]
]  # how many -> for each node, which of those before it it needs

_WORKFLOW = """\
from fftasks import Workflow, workflow

@workflow(reads=[])
def step(i, upstream):
    return i

nodes = []
for needs in NEEDS:
    i = len(nodes)
    nodes.append(step(i, [nodes[k] for k in needs]).set_name(f"node_{i}"))
Workflow(nodes[-1], name="w")
"""

_PLAIN = """\
DOIT_CONFIG = {"backend": "sqlite3", "verbosity": 2, "default_tasks": ["node"]}

def write(path):
    open(path, "w").close()

def task_node():
    for i, needs in enumerate(NEEDS):
        yield {
            "name": str(i),
            "actions": [(write, [f"out/{i}"])],
            "file_dep": [f"out/{k}" for k in needs] or ["dodo.py"],
            "targets": [f"out/{i}"],
        }
"""


def make_tree(count: int) -> list[list[int]]:
    """Return a tree: half of the nodes need nothing, each other one needs two, the last one all."""
    mirrored = [[k for k in (2 * i + 1, 2 * i + 2) if k < count] for i in range(count)]
    return [[count - 1 - k for k in needs] for needs in reversed(mirrored)]


def make_chain(count: int) -> list[list[int]]:
    """Return a chain: each node needs the one before."""
    return [[i - 1] if i else [] for i in range(count)]


def make_fans(count: int) -> list[list[int]]:
    """Return fans of 1000: 999 nodes that need nothing but the last fan's end, and one that needs them."""
    return [
        list(range(i - 999, i)) if i % 1000 == 999 else [i - i % 1000 - 1] if i >= 1000 else []
        for i in range(count)
    ]


def make_layers(count: int) -> list[list[int]]:
    """Return layers of 100 nodes; each needs ten of the layer before, and the last node needs all."""
    layers = [
        [i - i % 100 - 100 + (i + k) % 100 for k in range(10)] if i >= 100 else []
        for i in range(count - 1)
    ]
    return [*layers, list(range(max(count - 101, 0), count - 1))]


def make_full_layers(count: int) -> list[list[int]]:
    """Return layers of 100 nodes; each node needs all of the layer before."""
    return [list(range(i - i % 100 - 100, i - i % 100)) if i >= 100 else [] for i in range(count)]


def make_project(folder: Path, needs: list[list[int]]) -> Path:
    """Write a project of fftasks, and return its folder."""
    return write_project(folder, f"NEEDS = {needs}\n{_WORKFLOW}")


def write_project(folder: Path, text: str) -> Path:
    """Write a project of one file, wf.py, and return its folder."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "default.yaml").write_text("workflows: [wf.py]\n")
    (folder / "dodo.py").write_text("from fftasks.tasks import *\n")
    (folder / "wf.py").write_text(text)
    return folder


def make_plain(folder: Path, needs: list[list[int]]) -> Path:
    """Write a plain dodo.py with as many tasks, and return its folder."""
    (folder / "out").mkdir(parents=True)
    (folder / "dodo.py").write_text(f"NEEDS = {needs}\n{_PLAIN}")
    return folder
