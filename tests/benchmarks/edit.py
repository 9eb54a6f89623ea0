"""One of 100 functions is edited in a graph of 1000 nodes, beside a no-op and the nodes themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from fftasks.cache.store import Store
from fftasks.records import read_record
from tests.benchmarks.graphs import write_project
from tests.benchmarks.measure import Cost, alternate, doit
from tests.benchmarks.table import Row

TITLE = "edit one of 100 functions in a graph of 1000 nodes"

_HEAD = "from fftasks import Workflow, workflow\n"
_FUNCTION = """
@workflow(reads=[])
def step_{k}(i, upstream):
    return i, {value}
"""
_GRAPH = """
nodes = []
for k, step in enumerate([{names}]):
    for i in range(10):
        nodes.append(step(i, None).set_name(f"node_{{k}}_{{i}}"))
Workflow(*nodes[:5], *nodes[5:], name="w")
"""


def measure(folder: Path) -> Iterator[Row]:
    """Yield the run after the edit beside a no-op in which these ten nodes run for another reason."""
    project = write_project(folder, _write(0))
    doit(project)
    values = itertools.count(1)
    edited, again, nothing = alternate(
        5,
        lambda: _edit(project, next(values)),
        lambda: _lose(project),
        lambda: doit(project),
    )
    for kind, unit in (("wall", ""), ("cpu", ", processors")):
        figure, base = getattr(edited, kind), getattr(again, kind)
        yield Row(f"run after the edit{unit}", figure, "the same nodes, no edit", base)
        yield Row(f"what the edit adds{unit}", figure - base, "0.1 s", 0.1, 1)
        yield Row(f"the nodes themselves{unit}", base, "no-op", getattr(nothing, kind))


def _write(value: int) -> str:
    functions = [_FUNCTION.format(k=k, value=value if k == 50 else 0) for k in range(100)]
    names = ", ".join(f"step_{k}" for k in range(100))
    return _HEAD + "".join(functions) + _GRAPH.format(names=names)


def _edit(project: Path, value: int) -> Cost:
    (project / "wf.py").write_text(_write(value))
    return doit(project)


def _lose(project: Path) -> Cost:
    store = Store(project / ".fftasks")
    for i in range(10):
        path = store.node_path(f"node-50-{i}")
        record = read_record(path)
        assert record is not None
        store.artifact_path(record["output"]).unlink(missing_ok=True)
    return doit(project)
