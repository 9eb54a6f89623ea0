"""Fused runs on the cluster: several nodes in a container, and what comes out is what comes out here."""

import json
import os
import re
import time

import pytest

import fftasks
from fftasks.records import read_record
from fftasks.runner.artifact import is_pack, read_artifact, read_pack
from tests.programs.test_submit import connect, find_run_id
from tests.sample import Sample

WORKFLOW = """
import fftasks
from fftasks import Parameter, Workflow, workflow

@workflow
def draw(seed, scale):
    return [seed * scale, seed + 1]

@workflow
def square(pair):
    return [value * value for value in pair]

@workflow
def add(parts, shift):
    return sum(map(sum, parts)) + shift

@workflow
class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, n):
        self.count += n
        return self.count

drawn = [draw(i, Parameter("scale", 2)).set_name(f"draw {i}") for i in range(COUNT)]
squares = [square(pair).set_name(f"square {i}") for i, pair in enumerate(drawn)]
total = add(squares, 1).set_name("total")
counter = Counter(total)
one = counter.add(squares[0][0]).set_name("one")
two = counter.add(one).set_name("two")
Workflow(total, two, squares[1][0], name="sweep")
"""


# on demand with 10000, which takes minutes; read before the tests' environment is closed
NODES = int(os.environ.get("FFTASKS_TEST_NODES", "1000"))


@pytest.fixture
def sample(tmp_path, registry, kfp_cluster, base_image, monkeypatch):
    project = Sample.make(tmp_path, WORKFLOW.replace("COUNT", "6"))
    connect(project, registry, kfp_cluster, base_image, monkeypatch)
    return project


def find_value(cluster, project, run, node, output="result"):
    """Return what a node left on the cluster, wherever it is."""
    (record,) = [read_record(path) for path in (project.root / ".fftasks/tasks").glob("*.json")]
    (task,) = [name for name, task in record["tasks"].items() if node in task["nodes"]]
    for name, artifact in run.tasks[task].executor_input["outputs"]["artifacts"].items():
        if name == "executor-logs":  # stands in the store under another name
            continue
        path = cluster.store.get_path(artifact["artifacts"][0]["uri"])
        if not is_pack(path) and name == output:
            return read_artifact(path)
        if is_pack(path) and (node, output) in read_pack(path).values:
            return read_pack(path).values[node, output].place.read()
    raise AssertionError(node)


def list_failed(run):
    return [task.log for task in run.tasks.values() if task.state == "FAILED"]


@pytest.mark.parametrize("mode", ["auto", "chains"])
def test_a_fused_run_gives_what_the_run_here_gives(sample, kfp_cluster, cluster, mode):
    environ = {"FFTASKS_KFP__FUSE": mode, "FFTASKS_KFP__PARALLEL_PODS": "2"}
    sample.doit("run")

    output = sample.doit("submit", **environ)
    run = kfp_cluster.wait(find_run_id(output))

    assert run.state == "SUCCEEDED", list_failed(run)
    assert re.search(r"(\d+) tasks?, fused from 16 nodes", output)
    assert len(run.tasks) < 16
    for node in ("total", "two", "square 1"):
        assert find_value(cluster, sample, run, node) == fftasks.load(node, sample.root)


def test_a_graph_that_is_too_large_for_the_cluster_is_fused_and_runs(
    sample, kfp_cluster, cluster, capsys
):
    sample.write("wf.py", WORKFLOW.replace("COUNT", str(NODES // 2)))
    sample.doit("run")

    begin = time.monotonic()
    output = sample.doit(
        "submit", FFTASKS_KFP__PARALLEL_PODS="4", FFTASKS_KFP__POD_OVERHEAD_S="0.05"
    )
    submitted = time.monotonic()
    run = kfp_cluster.wait(find_run_id(output), timeout_s=900)

    nodes = NODES // 2 * 2 + 4
    assert f"fused from {nodes} nodes: {nodes} tasks take about" in output
    assert run.state == "SUCCEEDED", list_failed(run)
    for node in ("total", "two", "square 1"):
        assert find_value(cluster, sample, run, node) == fftasks.load(node, sample.root)
    with capsys.disabled():
        tasks, took = len(run.tasks), (submitted - begin, time.monotonic() - submitted)
        print(f" {nodes} nodes in {tasks} tasks: submit {took[0]:.0f} s, run {took[1]:.0f} s")


def test_an_edit_of_one_node_of_a_group_runs_that_node_and_what_follows(
    sample, kfp_cluster, cluster
):
    sample.write("wf.py", WORKFLOW.replace("COUNT", "6").replace('Parameter("scale", 2)', "2"))
    environ = {
        "FFTASKS_KFP__FUSE": "auto",
        "FFTASKS_KFP__PARALLEL_PODS": "1",
        "FFTASKS_OBJECT_STORE__MOUNT": str(cluster.store.get_path("minio://mlpipeline").parent),
    }
    first = kfp_cluster.wait(find_run_id(sample.doit("submit", **environ)))
    assert first.state == "SUCCEEDED", list_failed(first)
    sample.edit("wf.py", "+ shift", "+ 2 * shift")
    environ["FFTASKS_KFP__POD_OVERHEAD_S"] = "1"  # so that keeping pays off in so small a graph

    [planned] = json.loads(sample.doit("plan", "submit", "--json", **environ))["cluster_nodes"]
    assert planned["expected_s"] == pytest.approx(1.5 + 4, abs=0.1)  # a pod, and what is run in it
    second = kfp_cluster.wait(find_run_id(sample.doit("submit", **environ)))

    assert second.state == "SUCCEEDED", list_failed(second)
    log = "".join(task.log for task in second.tasks.values())
    assert "draw 0 | -- up to date, result reused from the last run" in log
    ran = sorted(re.findall(r"(.*) \| -- done", log))
    assert ran == ["Counter_0000", "one", "total", "two"]
    assert sorted(node["node"] for node in planned["nodes"] if node["computes"]) == ran
    kept = re.findall(r"(.*) \| -- up to date", log)
    assert sorted(node["node"] for node in planned["nodes"] if node["reused"]) == sorted(kept)
    rows = json.loads(sample.doit("status", "--json", **environ))["nodes"]
    shown = {row["node"]: row for row in rows}
    assert {node for node, row in shown.items() if row["shown"] == "cached"} == set(kept)
    assert shown["square 1"]["preview"] == "[4, 4]"  # of the run before
    # what was taken then is a part of the document: it must be known again
    again = sample.doit("plan", "submit", **environ, FFTASKS_KFP__RUN_NAME="another")
    assert "0 to compute, " in again, again
    sample.doit("run")
    for node in ("total", "two", "square 1"):
        assert find_value(cluster, sample, second, node) == fftasks.load(node, sample.root)
    assert find_run_id(sample.doit("submit", **environ)) == second.run_id
    replayed = sample.doit("replay", "total", second.run_id, "--docker", **environ)
    assert "square 0 | -- up to date, result reused from the last run" in replayed
    assert replayed.splitlines()[-1] == repr(fftasks.load("total", sample.root))
    third = kfp_cluster.wait(find_run_id(sample.doit("submit", "--again", **environ)))
    assert {task.is_cached for name, task in third.tasks.items() if "last-run" not in name} == {
        True
    }
    sample.doit("pipeline", **environ, FFTASKS_KFP__CACHING="false")
    assert "importer" not in (sample.root / ".fftasks/pipeline/sweep.yaml").read_text()
