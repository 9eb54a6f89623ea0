"""The guard: while a graph is built, nothing of it runs."""

import pytest

from fftasks import KFPWorkflow, LocalWorkflow, workflow
from fftasks.api.workflow_graph import NotRun, collecting_workflows


@workflow
def step(x):
    return x


def test_while_a_graph_is_built_workflows_are_noted_and_nothing_runs():
    with collecting_workflows() as noted:
        local = LocalWorkflow(step(1), step(2), workflow_name="l")
        cluster = KFPWorkflow(step(1), workflow_name="k")
        first, second = local.run()
        handle = cluster.run()

    assert noted == [local, cluster]
    assert isinstance(first, NotRun)
    assert isinstance(handle.run_id, NotRun)


def test_what_is_not_run_can_be_used_in_any_way():
    value = NotRun()

    assert f"{value['x'][0].y(1) + 2 > 3:.2f}".startswith("<not run")
    assert list(value) == []


def test_what_is_not_run_promises_no_protocol():
    with pytest.raises(AttributeError, match="__array__"):
        NotRun().__array__()
