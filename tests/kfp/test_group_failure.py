"""A group that fails on the cluster: which node it was, wherever a run is looked at."""

import json
import shlex

import pytest

from fftasks.kfp.pod_log import read_task_failure
from fftasks.report.polling import watch_runs
from fftasks.report.run_report import describe_run
from tests.services.cluster import Cluster
from tests.services.kfp_server import KFPServer
from tests.services.local_pods import LocalPods
from tests.submitted_project import make_project, submit_project

FAILING = """
from fftasks import Workflow, workflow

@workflow
def load():
    print("loading")
    return [1, 2]

@workflow
def check(values):
    print("looking at", len(values))
    raise ValueError("two are too many")

@workflow
def tell(values):
    return "all is well"

checked = check(load().set_name("load")).set_name("check it")
Workflow(tell(checked).set_name("tell"), tell(checked).set_name("after"), name="failing")
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Give a project with a run whose one group has failed at its second node."""
    folder = tmp_path_factory.mktemp("failed")
    root = folder / "project"
    with KFPServer(Cluster(LocalPods(root), folder / "cluster")) as server:
        sample = make_project(
            root, server, FAILING, kfp="  fuse: auto\nnodes: {after: {fuse: false}}"
        )
        project, record = submit_project(sample)
        assert server.wait(record["run_id"]).state == "FAILED"
        yield sample, project, record["run_id"]


def test_status_blames_the_node_that_failed(failed):
    sample, _, run_id = failed

    shown = {
        row["node"]: row["shown"] for row in json.loads(sample.doit("status", "--json"))["nodes"]
    }
    printed = sample.doit("status")

    assert shown == {"load": "ran", "check it": "failed", "tell": "skipped", "after": "skipped"}
    assert "check it (of its group, 1 of 3 nodes had finished) failed" in printed
    assert f"hint: `doit logs 'check it' {run_id[:8]}` shows its log" in printed


def test_the_log_of_a_node_ends_with_its_error(failed):
    sample, _, _ = failed

    log = sample.doit("logs", "check it")
    other = sample.doit("logs", "load")

    assert log.startswith("looking at 2\ncheck it raised ValueError")
    assert "ValueError: two are too many" in log
    assert other.startswith("loading\n-- done in")
    assert "ValueError" not in other


def test_following_it_ends_with_the_node_and_how_to_debug_it(failed, capsys):
    _, project, run_id = failed

    code = watch_runs(project, [run_id])

    printed = capsys.readouterr().out
    assert code == 1
    assert "load and 2 more in its pod  failed" in printed
    assert "  check it (of its group, 1 of 3 nodes had finished) failed" in printed
    assert f"`doit replay 'check it' {run_id[:8]} --pdb`" in printed


@pytest.mark.parametrize("debugger", [(), ("--pdb",)])
def test_it_is_run_here_with_what_it_needs_of_its_group(failed, debugger):
    sample, _, _ = failed

    printed = sample.doit("replay", "check it", *debugger, code=1)

    assert "load | loading" in printed
    assert "ValueError: two are too many" in printed
    assert "tell" not in printed
    assert ("-> raise ValueError" in printed) is bool(debugger)


def test_what_needs_it_cannot_be_run_here_and_says_who_failed(failed):
    sample, _, run_id = failed

    printed = sample.doit("replay", "after", code=1)

    assert printed.startswith("after cannot be run here: an input is missing or not verified\n")
    assert "load and 2 more in its pod has no result" in printed
    assert "its state is failed" in printed
    assert "check it (of its group, 1 of 3 nodes had finished) failed" in printed
    assert f"`doit logs 'check it' {run_id[:8]}` shows why" in printed


def test_its_page_shows_one_failure_with_the_error(failed):
    _, project, _ = failed

    tasks = {task["name"]: task for task in describe_run(project, cluster=True)["tasks"]}

    assert [name for name, task in tasks.items() if task["state"] == "failed"] == ["check it"]
    assert "ValueError: two are too many" in tasks["check it"]["error"]
    assert not tasks["load"].get("error")


def test_a_result_of_a_failed_group_is_missed_with_the_node_that_failed(failed):
    sample, _, run_id = failed
    printed = {
        node: sample.doit("result", node, "--cluster", code=1)
        for node in ("load", "check it", "tell")
    }

    for node, state in (("load", "ran"), ("check it", "failed"), ("tell", "skipped")):
        assert printed[node].startswith(f"{node} has no result in run {run_id}\n")
        assert f"its state is {state}\n" in printed[node]
        assert f"doit replay {shlex.quote(node)} {run_id[:8]}" in printed[node]
    blamed = "keeps no results: check it (of its group, 1 of 3 nodes had finished) failed"
    assert blamed in printed["load"]
    assert f"`doit logs 'check it' {run_id[:8]}`" in printed["tell"]
    assert "ValueError: two are too many" in printed["check it"]


def test_a_log_that_blames_nobody_leaves_it_open():
    outcome = read_task_failure("a | -- done in 0.1 s\nKilled\n", ("a", "b"))

    assert (outcome.failed, outcome.finished) == ("", frozenset())


def test_names_with_bars_are_told_apart():
    error = "c raised X\n  hint: the other lines of its log begin with 'c'\n"

    outcome = read_task_failure(f"a | b | -- done in 0.1 s\n{error}", ("a | b", "b", "c"))

    assert (outcome.failed, outcome.finished, outcome.error) == ("c", {"a | b"}, error)
