"""Nodes: their names, their parents, and what is refused."""

from collections import namedtuple

import pytest

from fftasks.api import Node, workflow
from fftasks.errors import WorkflowError

Pair = namedtuple("Pair", "left right")


@workflow
def add(a, b=2, *rest, scale=1, **named):
    """Add two numbers."""
    return (a + b) * scale


def test_calling_makes_a_node_with_a_default_name():
    @workflow
    def fresh():
        return 1

    first, second = fresh(), fresh()

    assert isinstance(first, Node)
    prefix = "test_calling_makes_a_node_with_a_default_name.<locals>.fresh"
    assert (first.name, second.name) == (f"{prefix}_0000", f"{prefix}_0001")


def test_functions_of_one_name_give_nodes_of_different_names():
    def make():
        @workflow
        def same():
            return 1

        return same()

    assert make().name != make().name


@pytest.mark.parametrize(
    "name", ["circles, Nearest Neighbors-model", "a/b", "../x", "ü", "x" * 500, "a\nb"]
)
def test_any_name_is_legal(name):
    assert add(1).set_name(name).get_name() == name


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_must_be_a_string(name):
    with pytest.raises(WorkflowError, match="a name must be a non-empty string"):
        add(1).set_name(name)


def test_nodes_in_containers_are_parents():
    one, two, three, four = (add(i) for i in range(4))

    node = add([one, (two, 5)], {"k": [three]}, Pair(1, four[0]))

    assert node.parents == [one, two, three, four]


def test_a_list_that_is_changed_later_does_not_change_the_call():
    models = [add(1)]
    node = add(models)

    models.append(node)

    assert node.args == ([models[0]],)


def test_a_list_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(WorkflowError, match="contains itself"):
        add(endless)
