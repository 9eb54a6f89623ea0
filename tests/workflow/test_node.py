"""Nodes: calls, items, what is found in arguments, and what is refused."""

import inspect
from collections import namedtuple

import pytest

from fftasks.errors import WorkflowError
from fftasks.workflow import Item, Node, task, workflow
from fftasks.workflow.node import find_results, format_path, replace_results

Pair = namedtuple("Pair", "left right")


@workflow
def add(a, b=2, *rest, scale=1, **named):
    """Add two numbers."""
    return (a + b) * scale


def test_decorated_function_keeps_name_docstring_and_signature():
    assert (add.__name__, add.__doc__) == ("add", "Add two numbers.")
    assert str(inspect.signature(add)) == "(a, b=2, *rest, scale=1, **named)"
    assert add.func(1) == 3


def test_task_is_another_name_of_workflow():
    assert task is workflow


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
    with pytest.raises(WorkflowError, match="a name must be a string"):
        add(1).set_name(name)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: add(), "missing a required argument: 'a'"),
        (lambda: add(1, 2, a=1), "multiple values for argument 'a'"),
        (lambda: workflow(lambda x: x)(1, 2), "too many positional arguments"),
        (lambda: workflow(lambda x: x)(y=1), "missing a required argument: 'x'"),
    ],
)
def test_a_wrong_call_is_an_error_at_its_line(call, said):
    with pytest.raises(WorkflowError) as caught:
        call()

    line = call.__code__.co_firstlineno
    assert f"{__file__}:{line}:" in str(caught.value)
    assert said in str(caught.value)


def test_async_functions_are_refused():
    async def later():
        return 1

    with pytest.raises(WorkflowError, match="is async"):
        workflow(later)


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
    ],
)
def test_a_node_has_no_value_yet(use):
    with pytest.raises(WorkflowError, match="no value yet"):
        use(add(1))


def test_unpacking_says_what_to_write_instead():
    with pytest.raises(WorkflowError, match=r"write a, b = n\[0\], n\[1\]"):
        _a, _b = add(1).set_name("n")


def test_nodes_in_containers_are_parents():
    one, two, three, four = (add(i) for i in range(4))

    node = add([one, (two, 5)], {"k": [three]}, Pair(1, four[0]))

    assert node.parents == [one, two, three, four]


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


def test_arguments_have_the_names_of_the_parameters():
    node = add(1, 2, 3, 4, scale=5, other=6)

    assert node.arguments == {"a": 1, "b": 2, "rest_0": 3, "rest_1": 4, "scale": 5, "other": 6}


def test_arguments_that_are_no_identifiers_get_names_that_are():
    node = add(1, **{"a b": 2, "c d": 3})

    assert node.arguments == {"a": 1, "argument": 2, "argument_2": 3}
    assert node.replace_arguments({"argument": 9}) == ((1,), {"a b": 9, "c d": 3})


def test_a_builtin_without_a_signature_is_legal():
    assert workflow(min)(1, 2).arguments == {"arg_0": 1, "arg_1": 2}


@pytest.mark.parametrize(
    ("path", "text"),
    [((), ""), ((0, "k"), "[0]['k']"), ((slice(1, None),), "[1:]"), ((slice(1, 9, 2),), "[1:9:2]")],
)
def test_format_path(path, text):
    assert format_path(path) == text
