"""Caching on the cluster: after an edit exactly what changed runs, on backends of every version."""

import json
import re
import shutil

import pytest

from fftasks.records import read_record
from tests.pipeline.sdk_compiler import parse_document
from tests.programs.test_submit import connect, find_run_id
from tests.sample import Sample
from tests.services.cluster import Cluster
from tests.services.kfp_pipeline import read_parameters, read_pipeline
from tests.services.kfp_run import Run
from tests.services.kfp_server import KFPServer
from tests.services.launcher import Ending
from tests.services.object_store import get_local_path

WORKFLOW = """
from fftasks import Workflow, workflow


def scale(x):
    return x * 2


@workflow
def load(path):
    return len(open(path).read())


@workflow
def clean(data):
    return data + 1


@workflow
def train(data):
    return scale(data)


@workflow(reads=[])
def count():
    return 7


@workflow
def report(model, number):
    return [model, number]


data = load("data.txt").set_name("load")
cleaned = clean(data).set_name("clean")
model = train(cleaned).set_name("train")
number = count().set_name("count")
Workflow(report(model, number).set_name("report"), name="flow")
"""


def put_result(pod):
    """Stand for a pod: what a node gives does not matter here, only which nodes are run."""
    executor_input = json.loads(pod.args[pod.args.index("--executor-input") + 1])
    uri = executor_input["outputs"]["artifacts"]["result"]["artifacts"][0]["uri"]
    (pod.folder / get_local_path(uri).relative_to("/")).write_text(pod.name)
    return Ending()


@pytest.fixture
def server(tmp_path):
    """Give a KFP server on whose cluster a pod is a function: nothing is pulled."""
    with KFPServer(Cluster(put_result, tmp_path / "cluster")) as server:
        yield server


@pytest.fixture
def sample(tmp_path, registry, server, base_image, monkeypatch):
    project = Sample.make(tmp_path / tmp_path.name, WORKFLOW.replace("@workflow\ndef load", READS))
    project.write("data.txt", "abc")
    connect(project, registry, server, base_image, monkeypatch)
    return project


READS = '@workflow(reads=["data.txt"])\ndef load'


def submit(sample, server, *arguments):
    """Submit, wait, and return which tasks ran; all others took their results from the cache."""
    return list_computed(server.wait(find_run_id(sample.doit("submit", *arguments))))


def made(output):
    """Return the tasks that doit said were done."""
    return re.findall(r"^\.  (\w+)", output, re.MULTILINE)


def list_computed(run):
    assert run.state == "SUCCEEDED", run.error
    assert {task.state for task in run.tasks.values()} <= {"SUCCEEDED", "SKIPPED"}
    return {name for name, task in run.tasks.items() if task.state == "SUCCEEDED"}


def run_on_backend(document, cluster):
    """Run a pipeline document on another cluster, and return which tasks were computed there."""
    pipeline = read_pipeline(document)
    run = Run(pipeline, read_parameters(pipeline, {}), {"display_name": "x"})
    run.execute(cluster)
    return list_computed(run)


def read_references(sample):
    [path] = (sample.root / ".fftasks" / "pins").glob("*.json")
    return {name: task["reference"] for name, task in read_record(path)["tasks"].items()}


def read_document(sample):
    [path] = (sample.root / ".fftasks" / "pipeline").glob("*.yaml")
    return parse_document(path.read_text())


EDITS = (
    # the file, what is replaced, by what, and which tasks are computed then
    ("wf.py", "x * 2", "x * 3", {"train", "report"}),
    ("wf.py", "x * 3", "x * 2", set()),  # it is known from the first run
    ("data.txt", "abc", "abcd", {"load", "clean", "train", "report"}),
)


def test_after_an_edit_exactly_what_changed_and_what_needs_it_runs(sample, server, tmp_path):
    newer = Cluster(put_result, tmp_path / "newer", honours_cache_key=True)

    assert submit(sample, server) == {"load", "clean", "train", "count", "report"}
    assert run_on_backend(read_document(sample), newer)
    sample.edit("wf.py", "return x * 2", "return x * 2  # twice")
    server.requests.clear()
    stages = made(sample.doit("submit"))
    stages.remove("components")  # they are beside the pins
    assert stages == ["context", "image", "push", "pins"]
    assert len(server.runs) == 1  # a comment makes an image, and no run
    assert [request.path for request in server.requests] == [
        f"/apis/v2beta1/runs/{server.runs[0].run_id}"
    ]
    for path, old, new, computed in EDITS:
        sample.edit(path, old, new)
        assert submit(sample, server) == computed, (path, new)
        assert run_on_backend(read_document(sample), newer) == computed, (path, new)


def test_images_are_shared_through_the_registry_until_they_are_gone(
    sample, server, registry, tmp_path
):
    submit(sample, server)
    older = read_references(sample)["load"]
    shutil.copytree(sample.root, tmp_path / "theirs", ignore=shutil.ignore_patterns(".fftasks"))
    theirs = Sample(tmp_path / "theirs")
    theirs.edit("wf.py", "x * 2", "x * 3")

    assert submit(theirs, server) == {"train", "report"}
    assert read_references(theirs)["load"] == older

    registry.delete(older.partition("/")[2].partition("@")[0], older.partition("@")[2])
    theirs.edit("wf.py", "x * 3", "x * 4")
    theirs.doit("pipeline")
    assert "1 of 2 images were removed from the registry" in theirs.doit("plan", "submit")
    submit(theirs, server)

    newest = read_record(theirs.root / ".fftasks" / "push.json")["reference"]
    assert read_references(theirs) == dict.fromkeys(read_references(theirs), newest)
