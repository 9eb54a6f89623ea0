"""The decorator: what stays of a function, and what cannot be decorated."""

import inspect

import pytest

from fftasks.api import task, workflow
from fftasks.errors import WorkflowError


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


def test_async_functions_are_refused():
    async def later():
        return 1

    with pytest.raises(WorkflowError, match="is async"):
        workflow(later)


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (lambda: workflow(5), "@workflow needs a function or a class, not 5"),
        (lambda: workflow(reads="data/x.csv"), "reads must be a list of paths, not 'data/x.csv'"),
        (lambda: workflow(reads=[1]), r"reads must be a list of paths, not \[1\]"),
        (lambda: workflow(version=2), "version must be a string, not 2"),
    ],
)
def test_misuse_is_an_error_at_its_line(decorate, said):
    with pytest.raises(WorkflowError, match=said) as caught:
        decorate()

    assert f"{__file__}:{decorate.__code__.co_firstlineno}" in str(caught.value)
