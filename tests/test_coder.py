"""One text makes many functions: each node has the result of its own."""

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
