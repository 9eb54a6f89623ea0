"""Arguments: those that fit no call of the function, and the names of those that do."""

import pytest

from fftasks.api import workflow
from fftasks.errors import WorkflowError


@workflow
def add(a, b=2, *rest, scale=1, **named):
    return (a + b) * scale


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


def test_arguments_have_the_names_of_the_parameters():
    node = add(1, 2, 3, 4, scale=5, other=6)

    assert node.arguments == {"a": 1, "b": 2, "rest_0": 3, "rest_1": 4, "scale": 5, "other": 6}


def test_arguments_that_are_no_identifiers_get_names_that_are():
    node = add(1, **{"a b": 2, "c d": 3})

    assert node.arguments == {"a": 1, "argument": 2, "argument_2": 3}
    assert node.replace_arguments({"argument": 9}) == ((1,), {"a b": 9, "c d": 3})


def test_a_builtin_without_a_signature_is_legal():
    assert workflow(min)(1, 2).arguments == {"arg_0": 1, "arg_1": 2}


def test_a_function_that_cannot_be_hashed_is_legal():
    class Add:
        __hash__ = None

        def __call__(self, a, b):
            return a + b

    assert workflow(Add())(1, 2).arguments == {"a": 1, "b": 2}
    with pytest.raises(WorkflowError, match="missing a required argument: 'b'"):
        workflow(Add())(1)
