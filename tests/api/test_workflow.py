"""The workflow: coverage, order, names."""

import pytest

from fftasks import LocalWorkflow
from fftasks.api import Workflow, workflow
from fftasks.errors import WorkflowError


@workflow
def step(*values):
    return values


@workflow
class Counter:
    def add(self):
        return 1


def test_nodes_come_behind_those_they_need():
    a = step(1)
    b, c = step(a), step(a)
    d = step(b, c)

    assert Workflow(d, name="w").nodes == [a, b, c, d]


def test_a_chain_may_be_long():
    node = step()
    for _ in range(20_000):
        node = step(node)

    assert len(Workflow(node, name="w").nodes) == 20_001


def test_only_what_the_leaves_need_is_covered():
    a = step(1)
    b, _other = step(a), step(a)

    assert Workflow(b, name="w").nodes == [a, b]


def test_drop_ins_cover_what_follows_from_the_nodes_that_are_passed():
    a = step(1)
    b, c = step(a), step(a)

    assert LocalWorkflow(a, workflow_name="w").nodes == [a, b, c]
    assert LocalWorkflow(b, workflow_name="w").nodes == [a, b]
    assert LocalWorkflow(a, workflow_name="w", descendants=False).nodes == [a]


def test_several_workflows_over_the_same_nodes_see_the_same():
    a = step(1)
    b = step(a)

    assert Workflow(b, name="one").nodes == Workflow(b, name="two").nodes == [a, b]


def test_two_nodes_of_one_name_are_refused_with_both_places():
    a = step(1).set_name("same")
    b = step(a).set_name("same")

    with pytest.raises(WorkflowError) as caught:
        _ = Workflow(b, name="w").nodes

    assert str(a.site) in str(caught.value)
    assert str(b.site) in str(caught.value)


def test_a_cycle_is_refused():
    a = step(1)
    b = step(a)
    a.parents.append(b)

    with pytest.raises(WorkflowError, match="form a cycle"):
        _ = Workflow(b, name="w").nodes


@pytest.mark.parametrize("leaf", [3, "x", step, None])
def test_a_leaf_must_be_a_node(leaf):
    with pytest.raises(WorkflowError, match="is not a node"):
        Workflow(leaf, name="w")


def test_a_workflow_needs_leaves():
    with pytest.raises(WorkflowError, match="has no leaves"):
        Workflow(name="w")


def test_find_nodes_matches_whole_names():
    a = step(1).set_name("train a")
    b = step(a).set_name("train b")
    flow = Workflow(b, name="w")

    assert flow.find_nodes("train .") == [a, b]
    assert flow.find_nodes("train") == []
    assert flow.find_nodes() == [a, b]
    assert list(flow.graph_traversal()) == [("train a", a), ("train b", b)]


def test_a_function_can_be_replaced():
    a = step(1)
    flow = LocalWorkflow(a, workflow_name="w")

    flow.replace_func(a, lambda *values: "replaced")

    assert flow.run() == "replaced"


def test_a_workflow_says_what_it_was_asked_for():
    node = step(1).set_name("a")

    assert repr(Workflow(node, node["k"], name="w")) == "Workflow(a, a['k'], name='w')"


def test_an_object_as_a_leaf_stands_for_its_last_call():
    counter = Counter()
    last = counter.add()

    assert Workflow(counter, name="w").leaves == (last,)
