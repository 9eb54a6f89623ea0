"""Inputs of nodes: one for each upstream artifact, and what becomes of repeated uses in the function."""

import pytest

from fftasks import LocalWorkflow, workflow
from fftasks.api.node import NodeInput, name_inputs
from fftasks.runner.artifact import write_artifact
from fftasks.runner.job import Job, call_node, run_job


@workflow
def load():
    return [1, 2]


@workflow
def use(a=None, b=None, *rest, **more):
    return a, b, rest, more


@workflow
class Shelf:
    def __init__(self, book):
        self.books = [book]

    def put(self, *books, **named):
        self.books += [*books, named]
        return self.books


X, Y = load().set_name("x"), load().set_name("y")


def make_call(*arguments, **named):
    """Return a call of an object whose last call before it is `before`, and the object's construction."""
    shelf = Shelf(X)
    construction = shelf._fftasks_node
    before = shelf.put(Y)
    return construction, before, shelf.put(*arguments, **named)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (use(X), {"a": X}),
        (use(X, X), {"a": X}),
        (use(X[0], X[1]), {"a": X}),
        (use(1, X[0], last=X), {"b": X}),
        (use(Y, X, last=[X, Y]), {"a": Y, "b": X}),
        (use([X, X[0], {"k": X}]), {"a_0": X}),
        (use([X, X, Y]), {"a_0": X, "a_2": Y}),
        (use([X], X, last=X), {"a_0": X}),
        (use({X, Y}, {X: Y}), {"a_0": X, "a_1": Y}),
        (use({X[0]: X[1]}, (X[1:],)), {"a_0": X}),
        (use(1, 2, X, [X, Y]), {"rest_0": X, "rest_1_1": Y}),
        (use([X, Y], a_1=Y), {"a_0": X, "a_1_": Y}),
        (use(A=X[0], more=[X, Y]), {"a": X, "more_1": Y}),
        (use(1, A=X), {"a_": X}),  # KFP's SDK cannot pass two things of one name
        (use([X], 2, a_0=3, A_0=Y), {"a_0_": X, "a_0__": Y}),
    ],
)
def test_an_artifact_is_one_input_named_by_its_first_use(node, expected):
    wanted = {name: NodeInput(other, "result") for name, other in expected.items()}

    assert name_inputs(node) == wanted


def test_object_and_results_of_its_calls_are_different_artifacts():
    construction, before, node = make_call(X, X[0], last=X)

    assert name_inputs(before) == {
        "self": NodeInput(construction, "result"),
        "books_0": NodeInput(Y, "result"),
    }
    assert name_inputs(node) == {
        "self": NodeInput(before, "state"),
        "books_0": NodeInput(X, "result"),
    }

    construction, before, node = make_call(last=None)
    node.args = (before, before[0])
    assert name_inputs(node) == {
        "self": NodeInput(before, "state"),
        "books_0": NodeInput(before, "result"),
    }


def test_object_that_is_self_and_an_argument_is_one_input():
    construction = Shelf(X)._fftasks_node
    shelf = Shelf(Y)
    shelf._fftasks_node = shelf._fftasks_last = construction

    node = shelf.put(construction, [construction], last=construction)

    assert name_inputs(node) == {"self": NodeInput(construction, "result")}


@workflow
def compare(a, b, *rest, **more):
    return [a is b, *(one is a for one in rest), *(one is a for one in more.values())]


@workflow
def compare_items(a, b):
    return a[0] is b


@workflow
def change(a, b):
    a.append(3)
    return b


@workflow
def nest():
    return [[1], [2]]


def run_from_files(node, folder):
    """Run a node as a pod does, with equal results of different nodes in one file, as the store has them."""
    outputs = {"result": str(folder / "made")}
    paths = {}
    for name, needed in name_inputs(node).items():
        value = needed.node.func()
        paths[name] = str(folder / f"{value!r}.artifact")
        write_artifact(paths[name], value)
    report = run_job(node, Job("", node.name, paths, outputs))
    assert not report.error
    from fftasks.runner.artifact import read_artifact

    return read_artifact(outputs["result"])


N = nest().set_name("n")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (compare(X, X), [True]),
        (compare(X, Y), [False]),
        (compare(X, X, X, last=X, other=Y), [True, True, True, False]),
        (compare([X], [X]), [False]),
        (compare_items([X], X), True),
        (compare_items(N, N[0]), True),
        (compare(N[0], N[0]), [True]),
        (compare(N[0], N[1]), [False]),
        (change(X, X), [1, 2, 3]),
        (change(X, Y), [1, 2]),
        (change(N[0], N), [[1, 3], [2]]),
    ],
)
def test_repeated_uses_are_one_object_as_in_plain_python(node, expected, tmp_path):
    assert run_from_files(node, tmp_path) == expected
    assert LocalWorkflow(node, workflow_name="w").run() == expected


def test_a_node_loads_each_artifact_once():
    asked = []

    def read(needed):
        asked.append(needed)
        return [1, 2]

    result = call_node(use(X, X[0], [X, Y], last=X[1]), read)["result"]

    assert result == ([1, 2], 1, ([[1, 2], [1, 2]],), {"last": 2})
    assert asked == [NodeInput(X, "result"), NodeInput(Y, "result")]
