"""`doit status`, `runs`, `cancel` and `logs` as a user types them; RUN is found by id, beginning and name."""

import dataclasses
import json
import time

import pytest

from tests.services.kfp_script import Script
from tests.services.kfp_server import Fault, KFPServer
from tests.submitted_project import make_project, submit_project

NODES = ("first node", "second", "third")


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """Give a project with two runs that have begun, and wait."""
    with KFPServer(Script((None, None))) as server:
        sample = make_project(tmp_path_factory.mktemp("project"), server)
        old = submit_project(sample)[1]["run_id"]
        sample.edit("config/default.yaml", "kfp:", "kfp:\n  run_name: the new one")
        time.sleep(1.1)  # Kubeflow Pipelines has times in whole seconds
        new = submit_project(sample)[1]["run_id"]
        yield sample, server, old, new


def test_status_for_tools_names_every_node(submitted):
    sample, _, old, new = submitted

    shown = json.loads(sample.doit("status", "--json"))
    other = json.loads(sample.doit("status", old[:8], "--json"))

    assert (shown["run_id"], other["run_id"]) == (new, old)
    assert tuple(node["node"] for node in shown["nodes"]) == NODES
    assert {node["shown"] for node in shown["nodes"]} == {"waiting"}


def test_a_run_is_found_by_its_name(submitted):
    sample, _, old, new = submitted

    assert new in sample.doit("status", "the new one")
    assert old in sample.doit("status", "chain")


def test_a_beginning_of_many_ids_lists_them(submitted):
    sample, server, old, _ = submitted
    twin = old[:4] + "0" * 4 + old[8:]
    server.api.runs[twin] = dataclasses.replace(server.api.runs[old], run_id=twin)
    try:
        output = sample.doit("status", old[:4], code=1)
    finally:
        del server.api.runs[twin]

    assert "is a prefix of the IDs of 2 runs" in output
    assert twin in output


def test_runs_lists_what_was_submitted(submitted):
    sample, server, old, new = submitted
    lines = sample.doit("runs").splitlines()

    assert [line.split()[1] for line in lines[1:]] == [f"{new[:8]}*", old[:8]]
    assert [run["run_id"] for run in json.loads(sample.doit("runs", "--json"))] == [new, old]
    assert "no runs in experiment 'other'" in sample.doit("runs", FFTASKS_KFP__EXPERIMENT="other")


def test_logs_say_what_there_is_not(submitted):
    sample, *_ = submitted

    assert "has not started" in sample.doit("logs", "third", code=1)
    assert "did you mean 'third'?" in sample.doit("logs", "thirds", code=1)
    assert "usage: doit logs NODE [RUN]" in sample.doit("logs", code=3)


def test_cancel_ends_one_run_also_with_a_workflow_that_is_broken(submitted):
    sample, server, old, _ = submitted
    sample.edit("wf.py", "@workflow", "1 / 0\n@workflow")

    assert "cancellation requested" in sample.doit("cancel", old[:8])

    assert server.wait(old).state == "FAILED"  # as Kubeflow Pipelines shows it
    assert [run.is_terminated.is_set() for run in server.runs] == [True, False]
    assert "has already ended: canceled" in sample.doit("cancel", old)


def test_without_a_run_each_says_how_to_get_one(tmp_path):
    with KFPServer() as server:
        sample = make_project(tmp_path, server)
        for command in (
            ["status"],
            ["cancel"],
            ["logs", "x"],
            ["replay", "x"],
            ["result", "x", "-c"],
        ):
            assert "hint: `doit submit` starts one" in sample.doit(*command, code=1)
        assert "`doit submit` starts one" in sample.doit("runs")


@pytest.mark.parametrize(
    "command", [("report",), ("graph", "--run"), ("status",), ("logs", "third")]
)
def test_a_run_that_cannot_be_looked_for_is_named_with_the_cure(submitted, command):
    sample, server, *_ = submitted
    server.faults.append(Fault(status=401, path="/experiments"))

    output = sample.doit(*command, "nope", code=1)

    assert output.startswith("cannot look for run 'nope' in experiment 'Default'\n")
    assert ("no local run begins with 'nope'" in output) is (command[0] in ("report", "graph"))
    assert "HTTP 401" in output
    assert "kfp.token" in output


def test_a_host_that_is_away_is_said(tmp_path, submitted):
    sample, _, old, _ = submitted
    output = sample.doit("status", old, code=1, FFTASKS_KFP__HOST="http://localhost:1")

    assert "no connection to http://localhost:1" in output
    assert "kfp.host" in output
