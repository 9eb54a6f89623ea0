"""Results that are not there yet: what they can be used for, and where they are found."""

import pickle
import types
from collections import namedtuple

import pytest

from fftasks.api import Item, workflow
from fftasks.api.node import find_results, format_path, replace_results
from fftasks.errors import WorkflowError

Pair = namedtuple("Pair", "left right")


@workflow
def add(a, b=2, *rest):
    return a + b


def test_items_are_taken_to_any_depth():
    node = add(1).set_name("n")

    item = node["k"][0][1:3][:, 2]

    assert isinstance(item, Item)
    assert repr(item) == "n['k'][0][1:3][(slice(None, None, None), 2)]"


@pytest.mark.parametrize(
    "use",
    [
        lambda node: list(node),
        lambda node: [*node[0]],
        lambda node: (lambda a, b: None)(*node),
        lambda node: bool(node),
        lambda node: node[add(2)],
        lambda node: node + 1,
        lambda node: 2 * node[0],
        lambda node: -node,
        lambda node: node > 3,
        lambda node: min(node, add(2)),
    ],
)
def test_a_node_has_no_value_yet(use):
    with pytest.raises(WorkflowError, match="no value yet"):
        use(add(1))


def test_unpacking_says_what_to_write_instead():
    with pytest.raises(WorkflowError, match=r"write a, b = n\[0\], n\[1\]"):
        _a, _b = add(1).set_name("n")


def test_an_item_is_of_its_node():
    assert add(1).set_name("n")[0]["k"].get_name() == "n"


@pytest.mark.parametrize("hidden", [add(1), add(1)[0]])
def test_a_node_hidden_in_an_object_is_found_when_that_is_stored(hidden):
    with pytest.raises(WorkflowError, match="is hidden inside an object"):
        pickle.dumps(types.SimpleNamespace(node=hidden))


def test_nodes_in_a_set_are_found_in_the_order_in_which_they_were_made():
    nodes = [add(i) for i in range(20)]

    assert [result.node for result in find_results({*nodes, 1, "x"})] == nodes


def test_replacing_keeps_types_and_untouched_objects():
    node, untouched = add(1), [1, 2]
    value = (node, [untouched, {node}], Pair(node, 2), {"a": node, node: 1})

    replaced = replace_results(value, lambda result: 7)

    assert replaced == (7, [[1, 2], {7}], Pair(7, 2), {"a": 7, 7: 1})
    assert type(replaced[2]) is Pair
    assert replaced[1][0] is untouched


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), ((0, "k"), "[0]['k']"), ((slice(1, None),), "[1:]"), ((slice(1, 9, 2),), "[1:9:2]")],
)
def test_format_path(path, text):
    assert format_path(path) == text
