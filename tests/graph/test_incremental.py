"""Graph records after edits: without an import where that is safe, and then exactly what an import gives.

FFTASKS_PROPERTY: how many random projects; FFTASKS_PROPERTY_SEED: of the first one.
"""

import os
import random

import pytest

from fftasks.graph import record as graph
from fftasks.graph.observed_inputs import GraphFile
from fftasks.graph.record import load_graph
from tests.codehash.project_generator import Generator, format_project
from tests.codehash.sample_project import write

PROJECTS = int(os.environ.get("FFTASKS_PROPERTY", "140")) // 28
SEED = int(os.environ.get("FFTASKS_PROPERTY_SEED", "0"))

FILES = {
    "wf.py": '''\
"""Train models."""
import math

import lib
from fftasks import Metrics, Parameter, Workflow, workflow
from lib import steps, tidy as clean_up

LIMIT = 10


def count_models(base):
    """Say how many."""
    return base + 1


def name_model(i):
    return f"model {i}"


@workflow
def load(path, limit: int = LIMIT) -> list:
    """Read the data."""
    rows = [float(x) for x in path.split(",")]  # a comment
    return clean_up(rows)[:limit]


@workflow(reads=[])
def train(rows, alpha):
    return scale(rows, alpha)


def scale(rows, factor):
    return [math.sqrt(row) * factor for row in rows]


@workflow
class Counter:
    def __init__(self, start):
        self.total = start

    def add(self, rows):
        self.total += len(rows)
        return self.total


@workflow
def judge(models, total):
    return max(map(sum, models)), total


def never(x):
    return x


data = load("1,2,3")
counter = Counter(0)
models = []
for i, fit in enumerate([train] * count_models(2)):
    models.append(fit(data, Parameter("alpha", default=0.5)).set_name(name_model(i)))
total = counter.add(data)
flow = Workflow(judge(models, total), name="flow")
flow.query("model.*").set(
    cpu=2,
)
''',
    "lib.py": """\
import shelf

SIZE = shelf.measure(3)


def tidy(rows):
    return sorted(rows)


def steps():
    return SIZE
""",
    "shelf.py": """\
def measure(x):
    return x * 2


def unused():
    return 1
""",
}


class Counted:
    """A project whose graph is loaded again and again."""

    def __init__(self, folder, files, monkeypatch):
        self.source = GraphFile(folder, "wf.py", folder / ".fftasks")
        self.imports = 0
        self._make, self._files = graph._make_in_child, dict(files)
        monkeypatch.setattr(graph, "_make_in_child", self._count)
        monkeypatch.chdir(folder)
        write(folder, files)

    def _count(self, source):
        self.imports += 1
        return self._make(source)

    def edit(self, name, old, new):
        assert self._files[name].count(old) == 1, old
        self._files[name] = self._files[name].replace(old, new)
        (self.source.root / name).write_text(self._files[name])

    def check(self):
        """Load the record; return whether that took an import. It is what an import gives, in any case."""
        before = self.imports
        found = load_graph(self.source)
        made = self._make(self.source)
        assert made["inputs"].items() <= found["inputs"].items()
        for name in made.keys() - {"inputs"}:
            assert found[name] == made[name], name
        return self.imports > before


@pytest.fixture
def project(tmp_path, monkeypatch):
    counted = Counted(tmp_path, FILES, monkeypatch)
    assert counted.check()
    assert not counted.check()
    return counted


BODIES = [
    ("wf.py", "float(x) for x", "float(x) + 1 for x"),
    ("wf.py", '"""Read the data."""', '"""Read all of the data."""'),
    ("wf.py", "  # a comment", ""),
    ("wf.py", "    return scale(rows, alpha)", "    alpha = alpha * 2\n    return scale(rows, alpha)"),
    ("wf.py", "math.sqrt(row) * factor", "math.exp(row) * factor"),
    ("wf.py", "    return x\n", "    return x + 1\n"),
    ("wf.py", "    return max(map(sum, models)), total", "    import json\n\n    return json.dumps(models)"),
    ("wf.py", '"""Train models."""\n', '"""Train models.\n\nAll of them.\n"""\n\n'),
    ("lib.py", "sorted(rows)", "sorted(rows, reverse=True)"),
    ("shelf.py", "return 1", "return 2"),
]  # fmt: skip

GRAPHS = [
    ("wf.py", "return base + 1", "return base + 2"),
    ("wf.py", 'f"model {i}"', 'f"model number {i}"'),
    ("wf.py", "LIMIT = 10", "LIMIT = 11"),
    ("wf.py", "limit: int = LIMIT", "limit: int = 3"),
    ("wf.py", "limit: int = LIMIT", "limit: float = LIMIT"),
    ("wf.py", "-> list:", "-> Metrics:"),
    ("wf.py", "reads=[]", "reads=['data.csv']"),
    ("wf.py", "@workflow(reads=[])\n", "@workflow(reads=[], version='1')\n"),
    ("wf.py", "def judge(models, total)", "def judge(models, total, more=())"),
    ("wf.py", "@workflow\ndef load", "def load"),
    ("wf.py", "def scale(rows, factor)", "@workflow\ndef scale(rows, factor)"),
    ("wf.py", "self.total += len(rows)", "self.total -= len(rows)"),
    ("wf.py", "    return max(map(sum, models)), total", "    yield total"),
    ("wf.py", "    return max(map(sum, models)), total", "    return Metrics(best=total)"),
    ("wf.py", "    return max(map(sum, models)), total", "    return never(total)"),
    ("wf.py", "default=0.5", "default=0.6"),
    ("wf.py", "cpu=2", "cpu=3"),
    ("wf.py", "counter = Counter(0)", "counter = Counter(1)"),
    ("wf.py", "models = []", "models = [train.func([1.0], 2.0)]"),
    ("wf.py", "models = []", "print(open(__file__).read())\nmodels = []"),
    ("wf.py", "models = []", "models = list(map(train.func, [], []))"),
    ("lib.py", "SIZE = shelf.measure(3)", "SIZE = shelf.measure(4)"),
    ("shelf.py", "x * 2", "x * 3"),
    ("shelf.py", "def unused():", "def unused(x=print('imported')):"),
]


@pytest.mark.parametrize(("name", "old", "new"), BODIES, ids=range(len(BODIES)))
def test_an_edit_of_what_nodes_do_imports_nothing(project, name, old, new):
    project.edit(name, old, new)

    assert not project.check()
    assert not project.check()


@pytest.mark.parametrize(("name", "old", "new"), GRAPHS, ids=range(len(GRAPHS)))
def test_an_edit_of_what_may_change_the_graph_imports(project, name, old, new):
    project.edit(name, old, new)

    try:
        assert project.check()
    except graph.WorkflowError:
        assert project.imports == 2


def test_edits_one_after_the_other_add_up(project):
    project.edit("wf.py", "x\n", "x\n\n\n")
    assert not project.check()
    project.edit("lib.py", "sorted(rows)", "list(rows)")
    project.edit("wf.py", "LIMIT = 10", "LIMIT = 12")
    assert project.check()
    project.edit("wf.py", "factor for", "factor + 1 for")
    assert not project.check()


@pytest.mark.parametrize(
    "odd",
    [
        "@workflow\ndef odd(x):\n    return x\n\nodd.func(1)\n",
        "@workflow\ndef odd(x):\n    return x\n\nf = odd\ngetattr(f, 'func')(1)\n",
        "@workflow\ndef odd(x):\n    return x\n\nimport inspect\ninspect.unwrap(odd)(1)\n",
        "@workflow\ndef odd(x):\n    return x\n\nprint(odd.__wrapped__(1))\n",
        "import functools\ndef odd(x):\n    return x\n\nfunctools.partial(odd, 1)()\n",
        "def odd(x):\n    return x\n\nprint(*map(odd, [1]))\n",
        "def odd(x):\n    return x\n\nprint(globals()['odd'](1))\n",
        "def odd(x):\n    return x\n\nclass Table:\n    size = odd(1)\n",
        "def odd(x):\n    return x\n\nclass Table:\n    def __init_subclass__(cls):\n        cls.x = odd(1)\n"
        "class Sub(Table):\n    pass\n",
        "def keep(f):\n    f(1)\n    return f\n\n@keep\ndef odd(x):\n    return x\n",
        "import contextlib as c\n@c.contextmanager\ndef odd(x):\n    yield x\n\nwith odd(1):\n    y = 1\n",
        "def odd(x):\n    return x\n\ndef other(x=odd(1)):\n    pass\n",
        "def odd(x):\n    return x\n\nassert [*(odd(i) for i in range(2))]\n",
        "def odd(x):\n    return x\n\nimport atexit\natexit.register(odd, 1)\n",
        "def odd(x):\n    return x\n\ndef __getattr__(name):\n    return odd(1)\nimport wf\nwf.something\n",
    ],
    ids=range(15),
)
def test_a_body_that_is_executed_when_the_file_is_imported_is_no_node(project, odd):
    project.edit("wf.py", "data = load(", f"{odd}\ndata = load(")
    assert project.check()
    project.edit(
        "wf.py", odd, odd.replace("return x", "return x + 0").replace("yield x", "yield 2")
    )

    assert project.check()


def test_what_only_a_value_tells_is_found_by_an_import(project):
    project.edit("wf.py", 'load("1,2,3")', 'load("1,2,3", limit=len)')
    project.check()
    project.edit("wf.py", "float(x) for x", "float(x) - 1 for x")
    imported_before = project.imports
    assert not project.check()
    project.edit("wf.py", "limit=len", "limit=never")
    project.check()
    project.edit("wf.py", "    return x\n", "    return x + 1\n")

    assert project.check()
    assert project.imports > imported_before


def test_code_that_python_refuses_is_said(project):
    project.edit("wf.py", "    return x\n", "    nonlocal x\n    return x\n")

    with pytest.raises(graph.WorkflowError, match="nonlocal"):
        load_graph(project.source)


def test_a_file_that_is_gone_is_said(project):
    (project.source.root / "shelf.py").unlink()

    with pytest.raises(graph.WorkflowError, match="shelf"):
        load_graph(project.source)


def test_random_edits_of_random_projects(tmp_path, monkeypatch):
    found = [
        _check_project(tmp_path / str(seed), seed, monkeypatch)
        for seed in range(SEED, SEED + PROJECTS)
    ]

    edits, without = (sum(counts) for counts in zip(*found, strict=True))
    print(f"{edits} edits, {without} without an import")
    assert without > edits / 10


def _check_project(folder, seed, monkeypatch):
    generator, choice = Generator(seed), random.Random(seed)
    files = generator.make_project()
    files["wf.py"] = [
        "from fftasks import Workflow, workflow",
        *files["wf.py"],
        "Workflow(node(1).set_name('a'), node(2), name='w')",
    ]
    folder.mkdir()
    project = Counted(folder, format_project(files), monkeypatch)
    edits = without = 0
    for _ in range(12):
        edited = generator.edit(files)
        write(folder, format_project(edited))
        try:
            without += not project.check()
        except graph.WorkflowError:
            continue
        edits += 1
        files = edited if choice.random() < 0.5 else files
    return edits, without


@pytest.mark.parametrize(
    ("body", "appears"),
    [
        ("import extra; print(extra.X)", "extra.py"),
        ("from tools import extra; print(extra.X)", "tools/extra.py"),
        ("from tools.deep import extra; print(extra.X)", "tools/deep/extra.py"),
        ("import runpy; runpy.run_path('job.py')", "job.py"),
        ("import importlib; importlib.import_module(x)", "tools/deep/extra.py"),
    ],
)
def test_code_that_a_body_looks_for_and_that_appears_later_counts(project, body, appears):
    write(project.source.root, {"tools/__init__.py": ""})
    project.edit("wf.py", "    return max(", f"    {body}\n    return max(")
    project.check()
    before = load_graph(project.source)["nodes"]["judge_0000"]["code"]

    write(project.source.root, {appears: "X = 1\n"})

    project.check()
    assert load_graph(project.source)["nodes"]["judge_0000"]["code"] != before
