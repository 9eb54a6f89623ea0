"""LocalWorkflow and its storage, as FunctionFuse's scripts and notebooks use them."""

import numpy as np
import pytest

from fftasks import LocalWorkflow, Parameter, storage_factory, workflow
from fftasks.errors import ParameterError, SettingsError

CALLS = []


@workflow
def add(a, b):
    CALLS.append((a, b))
    return a + b


@workflow
def count(values):
    CALLS.append("count")
    return len(list(values))


@workflow
def twice(pair):
    return {"sum": sum(pair), "pair": pair}


@workflow
class Counter:
    def __init__(self, start):
        self.n = start

    def add(self, k):
        self.n += k
        return self.n


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


@pytest.fixture
def storage(tmp_path):
    return storage_factory({"kind": "file", "options": {"path": tmp_path / "storage"}})


def test_run_returns_the_result_of_a_single_node():
    assert LocalWorkflow(add(add(1, 1), 1), workflow_name="w").run() == 3


def test_run_returns_a_list_in_the_order_of_the_leaves():
    first, second = add(1, 1), add(2, 2)

    assert LocalWorkflow(second, first, workflow_name="w").run() == [4, 2]


def test_items_may_be_leaves():
    node = twice([add(1, 2), 4])

    assert LocalWorkflow(node["sum"], node["pair"][0], workflow_name="w").run() == [7, 3]


def test_a_workflow_may_run_twice_and_share_nodes_with_another():
    one = add(1, 1)
    first = LocalWorkflow(add(one, 1), workflow_name="first")
    second = LocalWorkflow(add(one, 2), workflow_name="second")

    assert [first.run(), second.run(), first.run()] == [3, 4, 3]


def test_passing_a_root_runs_what_follows():
    root = add(1, 1)
    add(root, 10)

    assert LocalWorkflow(root, workflow_name="w").run() == 2
    assert CALLS == [(1, 1), (2, 10)]


def test_a_function_cannot_change_what_another_one_sees():
    @workflow
    def make():
        return [1]

    @workflow
    def spoil(values):
        values.append(2)
        return values

    made = make()

    assert LocalWorkflow(spoil(made), spoil(made), made, workflow_name="w").run() == [
        [1, 2],
        [1, 2],
        [1],
    ]


def test_objects_keep_their_state_from_call_to_call():
    counter = Counter(add(1, 1))
    first, second = counter.add(1), counter.add(add(3, 4))

    assert LocalWorkflow(second, first, workflow_name="w").run() == [10, 3]


def test_what_a_function_raises_is_raised():
    @workflow
    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        LocalWorkflow(fail(), workflow_name="w").run()


def test_decorated_functions_are_plain_inside_a_node():
    @workflow
    def outer(x):
        return add(x, 1)

    assert LocalWorkflow(outer(1), workflow_name="w").run() == 2


def test_arrays_and_lambdas_pass_between_nodes():
    @workflow
    def apply(function, array):
        return function(array)

    result = LocalWorkflow(apply(lambda a: a * 2, np.arange(3)), workflow_name="w").run()

    assert result.tolist() == [0, 2, 4]


def test_a_storage_gives_results_while_nothing_has_changed(storage):
    def run(a):
        node = add(a, 1).set_name("sum")
        flow = LocalWorkflow(node, workflow_name="w")
        flow.set_storage(storage)
        return flow.run()

    results = [run(1), run(1), run(5), run(5)]

    assert results == [2, 2, 6, 6]
    assert CALLS == [(1, 1), (5, 1)]


def test_a_change_upstream_is_seen_through_the_storage(storage):
    def run(a):
        flow = LocalWorkflow(add(add(a, 1).set_name("x"), 1).set_name("y"), workflow_name="w")
        flow.set_storage(storage)
        return flow.run()

    assert [run(1), run(2)] == [3, 4]


def test_another_function_of_the_same_name_is_seen_through_the_storage(storage):
    def run(function):
        node = workflow(function)(3).set_name("x")
        flow = LocalWorkflow(node, workflow_name="w")
        flow.set_storage(storage)
        return flow.run()

    def make(source):
        names = {}
        exec(source, names)
        return names["f"]

    assert run(make("def f(x): return x + 1")) == 4
    assert run(make("def f(x): return x + 2")) == 5


def test_values_of_run_parameters_are_given_by_name_and_checked(storage):
    flow = LocalWorkflow(add(Parameter("alpha", default=1), 1), workflow_name="w")
    flow.set_storage(storage)

    assert (flow.workflow_name, flow.run(), flow.run(alpha=5), flow.run()) == ("w", 2, 6, 2)
    assert CALLS == [(1, 1), (5, 1), (1, 1)]
    with pytest.raises(ParameterError, match="'beta'"):
        flow.run(beta=1)
    with pytest.raises(ParameterError, match="'alpha'"):
        flow.run(alpha="much")


def test_what_looks_different_in_each_process_is_not_kept(storage):
    for _ in range(2):
        flow = LocalWorkflow(count(iter([1, 2])), workflow_name="w")
        flow.set_storage(storage)

        assert flow.run() == 2
    assert len(CALLS) == 2


def test_logged_nodes_run_anew(storage):
    flow = LocalWorkflow(add(1, 1).set_name("sum"), workflow_name="w")
    flow.set_storage(storage)
    flow.log_nodes("s.m")

    flow.run()
    flow.run()

    assert len(CALLS) == 2


def test_a_storage_can_be_read_and_cleaned(storage):
    flow = LocalWorkflow(add(add(1, 1).set_name("a/b"), 1).set_name("c"), workflow_name="w/x")
    flow.set_storage(storage)
    flow.run()

    assert storage.list_tasks("w/x") == ["a/b", "c"]
    assert storage.list_tasks("w/x", "a*") == ["a/b"]
    assert storage.read_task("w/x", "a/b") == 2
    storage.remove_task("w/x", "c")
    assert storage.list_tasks("w/x") == ["a/b"]
    with pytest.raises(FileNotFoundError, match="no result of 'c'"):
        storage.read_task("w/x", "c")
    with pytest.raises(FileNotFoundError, match="no result of 'c'"):
        storage.remove_task("w/x", "c")
    storage.remove_workflow("w/x")
    assert storage.list_tasks("w/x") == []


def test_values_can_be_saved_by_hand(storage):
    storage.save("w", "mine", [1, 2])

    assert storage.read_task("w", "mine") == [1, 2]
    assert storage.list_tasks("w") == ["mine"]


def test_a_damaged_result_is_made_again(storage):
    flow = LocalWorkflow(add(1, 1).set_name("sum"), workflow_name="w")
    flow.set_storage(storage)
    flow.run()
    next(storage.path.rglob("*.artifact")).write_bytes(b"x")

    assert flow.run() == 2
    assert len(CALLS) == 2


@pytest.mark.parametrize(
    "options", [{}, {"kind": "S3", "options": {"path": "x"}}, {"kind": "file"}, 3]
)
def test_an_unknown_storage_is_an_error(options):
    with pytest.raises(SettingsError, match="storage_factory"):
        storage_factory(options)
