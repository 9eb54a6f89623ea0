"""One text makes many functions: each node has the result of its own."""

import shutil

import pytest

import fftasks
from tests.sample import Sample

WORKFLOW = """
import functools

from fftasks import Workflow, workflow


def multiply(factor):
    def inner(x):
        return x * factor

    return inner


def scale(factor):
    def wrap(f):
        @functools.wraps(f)
        def run(x):
            return apply(f, x) * factor

        return run

    return wrap


def apply(f, x):
    return f(x)


def same(x):
    return x


class Model:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, x):
        return x * self.factor


@workflow
def twice(x):
    return x * 2


def make_class(factor):
    @workflow
    class Made:
        rate = factor

        def predict(self, x):
            return x * self.rate

    return Made


two = twice(5)


@workflow
def twice(x):
    return x * 3


def count(factor):
    def inner(x, depth=2):
        return x * factor if depth == 0 else inner(x, depth - 1)

    return inner


in_loop = {k: (lambda x, k=k: x * k) for k in (2, 3)}
nodes = [two.set_name("redefined 2"), twice(5).set_name("redefined 3")]
for k in (2, 3):

    @workflow
    def in_for(x, k=k):
        return x * k

    nodes += [
        in_for(5).set_name(f"for {k}"),
        workflow(multiply(k))(5).set_name(f"closure {k}"),
        workflow(scale(k)(same))(5).set_name(f"wrapped {k}"),
        workflow(in_loop[k])(5).set_name(f"lambda {k}"),
        workflow(Model(k).predict)(5).set_name(f"method {k}"),
        workflow(functools.partial(multiply(k)))(5).set_name(f"partial {k}"),
        workflow(count(k))(5).set_name(f"recursive {k}"),
        make_class(k)().predict(5).set_name(f"class {k}"),
    ]
Workflow(*nodes, name="w")
"""
KINDS = "redefined for closure wrapped lambda method partial recursive class".split()
FACTORY = """
from fftasks import Workflow, workflow
from lib import scale

def same(x):
    return x

Workflow(workflow(scale(2)(same))(5).set_name("two"), workflow(scale(3)(same))(5).set_name("three"), name="w")
"""
LIB = """
import functools

def scale(factor):
    def wrap(f):
        @functools.wraps(f)
        def run(x):
            return help(f(x)) * factor
        return run
    return wrap

def help(x):
    return x

def other(x):
    return x
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    sample = Sample.make(tmp_path_factory.mktemp("made"), WORKFLOW)
    sample.doit("run")
    return sample


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_one_text_do_not_share_a_result(made, kind):
    assert [fftasks.load(f"{kind} {k}", made.root) for k in (2, 3)] == [10, 15]


def test_what_wraps_a_function_counts_and_nothing_beside_it(tmp_path):
    sample = Sample.make(tmp_path, FACTORY)
    sample.write("lib.py", LIB)
    assert sample.ran() == ["three", "two"]

    sample.edit("wf.py", "scale(2)", "scale(4)")
    assert "wf.py: same(), with what it was made of changed" in sample.doit("plan", "two")
    assert sample.ran() == ["two"]
    sample.edit("lib.py", "    return wrap", "    # what wraps it\n    return wrap")
    sample.edit("lib.py", "def other(x):\n    return x", "def other(x):\n    return -x")
    assert sample.ran() == []
    sample.edit("lib.py", "def help(x):\n    return x", "def help(x):\n    return -x")
    assert sample.ran() == ["three", "two"]


ALIKE = """
from fftasks import Workflow, workflow

@workflow(reads=[])
def one():
    return eval("1")

@workflow(reads=[])
def two():
    return eval("2")

@workflow(version="1")
def three():
    return 3

@workflow(version="1")
def four():
    return 4

@workflow(reads=[])
class Box:
    def five(self):
        return 5
    def six(self):
        return 6

box = Box()
nodes = [one(), two(), three(), four(), box.five(), box.six()]
names = ["one", "two", "three", "four", "five", "six"]
Workflow(*[node.set_name(name) for node, name in zip(nodes, names)], name="w")
"""


def test_functions_that_are_alike_in_all_but_their_names_do_not_share_a_result(tmp_path):
    sample = Sample.make(tmp_path, ALIKE)
    names = ("one", "two", "three", "four", "five", "six")

    for name in ("run:one", "run:three", "run:five", "run"):  # one after the other
        sample.doit("run", name)

    assert [fftasks.load(name, tmp_path) for name in names] == [1, 2, 3, 4, 5, 6]


PACKAGE = """
import tiny
from fftasks import Workflow, workflow

@workflow
def user():
    return tiny.f()

@workflow
def other():
    return 1

Workflow(user().set_name("user"), other().set_name("other"), name="w")
"""


def test_another_version_of_a_package_runs_what_uses_it_and_nothing_else(tmp_path):
    site = tmp_path / "site-packages"
    sample = Sample.make(tmp_path / "project", PACKAGE)

    def install(version: str) -> None:
        info = site / f"tiny-{version}.dist-info"
        info.mkdir(parents=True)
        (site / "tiny.py").write_text("def f():\n    return 1\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        (info / "RECORD").write_text("tiny.py,,\n")

    install("1.0")
    assert sample.ran(PYTHONPATH=str(site)) == ["other", "user"]
    shutil.rmtree(site)
    install("2.0")

    assert "tiny 2.0 is new" in sample.doit("plan", "user", PYTHONPATH=str(site))
    assert sample.ran(PYTHONPATH=str(site)) == ["user"]


LESS = """\
from fftasks import Workflow, workflow

def a_tidy(x):
    return x

@workflow
def node(x):
    return a_tidy(x)

Workflow(node(1).set_name("node"), name="w")
"""


def test_what_a_node_uses_no_more_is_not_said_to_be_gone(tmp_path):
    sample = Sample.make(tmp_path, LESS)
    assert sample.ran() == ["node"]

    sample.edit("wf.py", "return a_tidy(x)", "return x")

    assert "wf.py: function node() changed (and 1 more)" in sample.doit("plan", "node")
    assert "function a_tidy() is not used any more" in sample.doit("plan", "-v", "node")
