"""Execution settings of a pod, as the environment variable FFMEANS has them."""

import pytest

from fftasks.errors import WorkflowError
from fftasks.runner.scheduler import PodResources, read_pod_resources


def test_without_the_variable_all_is_as_by_default(monkeypatch):
    monkeypatch.delenv("FFMEANS", raising=False)

    assert read_pod_resources() == PodResources()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"timeout": 2}', "timeout: 2"),
        ('{"timeout_s": "2"}', "timeout_s: '2'"),
        ('{"retries": true}', "retries: True"),
        ('{"wait_s": null}', "wait_s: None"),
        ("timeout_s: 2", "is not a JSON object"),
        ("[2]", "is not a JSON object"),
    ],
)
def test_a_value_that_cannot_be_read_is_an_error_that_names_it(text, problem, monkeypatch):
    monkeypatch.setenv("FFMEANS", text)

    with pytest.raises(WorkflowError, match="FFMEANS") as caught:
        read_pod_resources()

    assert problem in str(caught.value)


def test_numbers_may_be_whole_where_fractions_are_allowed(monkeypatch):
    monkeypatch.setenv("FFMEANS", '{"wait_s": 2, "factor": 1.5}')

    assert read_pod_resources() == PodResources(wait_s=2, factor=1.5)
