"""Which run is meant."""

import pytest

from fftasks.errors import ToolError
from fftasks.kfp.connection import NotFoundError
from fftasks.project import open_project
from fftasks.report.run_status import resolve_run
from tests.services.kfp_server import Fault, KFPServer
from tests.submitted_project import make_project, submit_project


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    with KFPServer() as server:
        sample = make_project(tmp_path_factory.mktemp("project"), server)
        first = submit_project(sample)[1]["run_id"]
        project, record = submit_project(sample)
        yield server, project, first, record["run_id"]


def test_a_run_is_its_id_its_beginning_its_name_or_the_last(two_runs):
    _, project, first, last = two_runs
    unique = next(n for n in range(1, 37) if first[:n] != last[:n])

    assert resolve_run(project).run_id == last
    assert resolve_run(project, first).run_id == first
    assert resolve_run(project, first[:unique]).run_id == first
    assert resolve_run(project, resolve_run(project).name).run_id == last


def test_a_run_that_is_none_is_said_with_the_experiment(two_runs):
    with pytest.raises(NotFoundError, match="run 'nothing' not found in experiment") as caught:
        resolve_run(two_runs[1], "nothing")

    assert "`doit runs`" in caught.value.tip


def test_a_host_that_does_not_answer_is_said_with_what_was_looked_for(two_runs):
    server, project, *_ = two_runs
    server.faults.extend(Fault(status=500) for _ in range(9))

    with pytest.raises(ToolError, match="cannot look for run 'sums'"):
        resolve_run(project, "sums")
    server.faults.clear()


def test_a_last_run_that_was_deleted_is_said(two_runs):
    server, project, _, last = two_runs
    kept = server.api.runs.pop(last)

    with pytest.raises(NotFoundError) as caught:
        resolve_run(project)
    server.api.runs[last] = kept

    assert "it was deleted, or kfp.host has changed" in caught.value.tip


def test_before_the_first_run_there_is_none(tmp_path):
    with KFPServer() as server:
        sample = make_project(tmp_path, server)

        with pytest.raises(ToolError, match="there is no run on Kubeflow Pipelines yet"):
            resolve_run(open_project(sample.root))
