"""What is known of nodes that share a pod: their own times, not the pod's, and what they showed."""

import json
import re

import pytest

from fftasks.kfp.client import fetch_run
from fftasks.kfp.metadata import OutputArtifact
from fftasks.kfp.node_status import (
    NodeMetrics,
    list_node_durations,
    parse_group_progress,
    read_node_metrics,
)
from fftasks.kfp.run import ClusterRun
from fftasks.pipeline.run_index import read_node_durations, record_submission
from fftasks.report.run_report import describe_run
from tests.services.cluster import Cluster
from tests.services.kfp_script import Script, list_steps
from tests.services.kfp_server import Fault, KFPServer
from tests.services.local_pods import LocalPods
from tests.submitted_project import make_project, submit_project

PACED = """
import time
from fftasks import Workflow, workflow

@workflow
def wait(seconds, *others):
    time.sleep(seconds)
    return ["waited", seconds]

short = wait(0).set_name("short")
long = wait(0.5, short).set_name("long")
Workflow(wait(0, long).set_name("end"), name="paced")
"""
GROUP = ("short", "long", "end")


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """Give a server, and a project with a run of one group that has succeeded."""
    folder = tmp_path_factory.mktemp("fused")
    root = folder / "project"
    with KFPServer(Cluster(LocalPods(root), folder / "cluster")) as server:
        sample = make_project(root, server, PACED, kfp="  fuse: auto")
        project, record = submit_project(sample)
        record_submission(project, "paced", {node: {} for node in GROUP}, {}, None)
        assert server.wait(record["run_id"]).state == "SUCCEEDED"
        yield server, sample, project, record["run_id"]


def read_times(sample):
    rows = json.loads(sample.doit("status", "--json"))["nodes"]
    assert {row["group"] for row in rows} == {"short+"}
    return {row["node"]: row["seconds"] for row in rows}


def test_status_gives_each_node_of_a_group_its_own_time(fused):
    _, sample, _, _ = fused

    times, printed = read_times(sample), sample.doit("status")

    assert times["short"] < 0.5 <= times["long"]
    assert re.search(r"short +ran +0\.\d\d s\n", printed)
    assert re.search(r"long +ran +\d\.\d\d s\n", printed)


def test_without_the_metadata_store_the_log_of_the_pod_tells_it(fused):
    server, sample, _, _ = fused
    server.faults.append(Fault(status=404, path="ml_metadata", times=100))

    times = read_times(sample)

    server.faults.clear()
    assert times["short"] < 0.5 <= times["long"]


def test_where_nobody_tells_a_time_it_is_the_pods_and_status_says_so(fused):
    server, sample, _, _ = fused
    server.faults.append(Fault(status=404, path="ml_metadata|log", times=100))

    times, printed = read_times(sample), sample.doit("status")

    server.faults.clear()
    assert times == dict.fromkeys(GROUP)
    assert re.search(r"short +ran +in group short\+, \d+ s\n", printed)


def test_times_that_were_seen_are_known_when_nodes_are_grouped(fused):
    _, sample, project, _ = fused

    sample.doit("status")

    seconds = read_node_durations(project, "paced")
    assert set(seconds) == set(GROUP)
    assert seconds["short"] < 0.5 <= seconds["long"]


def test_its_page_has_the_times_and_the_results(fused):
    _, _, project, run_id = fused

    tasks = {task["name"]: task for task in describe_run(project, run_id)["tasks"]}

    assert tasks["short"]["seconds"] < 0.5 <= tasks["long"]["seconds"]
    assert tasks["long"]["preview"] == "['waited', 0.5]"
    assert tasks["long"]["reason"] == "in group short+"


def test_nodes_of_a_pod_that_runs_are_done_as_its_log_says(tmp_path):
    with KFPServer() as server:
        _, record = submit_project(make_project(tmp_path, server, PACED, kfp="  fuse: auto"))
        [task] = server.api.runs[record["run_id"]].pipeline.order_tasks()
    log = "short | -- done in 0.2 s\nlong | -- up to date, result reused from the last run\nend | hello\n"
    script = Script(*list_steps([task], "RUNNING"), logs={task: log})
    with KFPServer(script) as server:
        sample = make_project(tmp_path, server, PACED, kfp="  fuse: auto")
        submit_project(sample)

        rows = json.loads(sample.doit("status", "--json"))["nodes"]

    assert {row["node"]: (row["shown"], row["seconds"]) for row in rows} == {
        "short": ("ran", 0.2),
        "long": ("cached", None),
        "end": ("running", None),
    }


def make_run(answer, **properties):
    """Return what metadata with these properties tell of the nodes of a run's one group."""
    run = ClusterRun(answer)
    [task] = run.tasks
    return run, read_node_metrics(run, {task.name: {"inner": OutputArtifact("", properties)}})


def test_what_is_told_of_some_and_the_times_of_all_are_put_together(fused):
    server, _, project, run_id = fused
    answer = fetch_run(project.settings.kfp, run_id)
    told = {"short": {"seconds": 1.5, "python_type": "int", "preview": "3", "kept": True}}

    run, accounts = make_run(answer, nodes=json.dumps(told), seconds="1.51 =20 -")

    assert accounts["short"] == NodeMetrics(1.5, "3", "int", is_reused=True)
    assert accounts["long"] == NodeMetrics(20.0, is_reused=True)
    assert accounts["end"] == NodeMetrics()
    assert list_node_durations(run, accounts) == {"short": 1.5, "long": 20.0}


@pytest.mark.parametrize("properties", [{}, {"nodes": "{", "seconds": ""}, {"nodes": "[1]"}])
def test_metadata_of_another_form_tell_nothing(fused, properties):
    _, _, project, run_id = fused

    assert make_run(fetch_run(project.settings.kfp, run_id), **properties)[1] == {}


def test_the_log_of_a_group_tells_who_is_done_in_what_time():
    log = "a | b | -- done in 1234 s\nb | -- done in 0.1 s (says the user)\nc | x\n-- done in 1 s\n"

    assert parse_group_progress(log, ("a | b", "b", "c")) == {"a | b": NodeMetrics(1234.0)}


def test_a_page_without_values_replaces_no_times_by_those_of_pods(tmp_path):
    with KFPServer(Cluster(LocalPods(tmp_path / "project"), tmp_path / "cluster")) as server:
        sample = make_project(tmp_path / "project", server, PACED, kfp="report: {previews: false}")
        project, record = submit_project(sample)
        record_submission(project, "paced", {node: {} for node in GROUP}, {}, None)
        assert server.wait(record["run_id"]).state == "SUCCEEDED"
        sample.doit("status")
        before = read_node_durations(project, "paced")

        describe_run(project, record["run_id"])

    assert before.keys() == set(GROUP)
    assert read_node_durations(project, "paced") == before
