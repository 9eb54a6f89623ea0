"""Results of the cluster, brought here from a mounted folder and from S3, and nodes replayed with them."""

import json
import shutil
import subprocess
import sys

import pytest

from fftasks.kfp.run import list_task_nodes
from fftasks.runner.artifact import read_artifact
from fftasks.runner.pod import FAILURE_PREFIX
from fftasks.runner.start import make_command
from tests.services.cluster import Cluster
from tests.services.executor_input import Paths
from tests.services.kfp_server import KFPServer
from tests.services.local_pods import LocalPods
from tests.submitted_project import make_project, submit_project

WORKFLOW = """
from fftasks import Workflow, workflow

@workflow
def load(rows):
    return {"rows": rows, "names": ["a", "b"]}

@workflow
def scale(data, factor):
    print("scaling by", factor)
    return [row * factor for row in data["rows"]]

@workflow
def check(scaled, name):
    limit = 10
    assert max(scaled) < limit, f"{name} is too large"
    return "fine"

loaded = load([1, 2, 3])
scaled = scale(loaded, 2.0).set_name("scale it")
Workflow(check(scaled, loaded["names"][1]).set_name("check"), name="scaling")
"""


class Runs:
    """A project with two runs of unlike images: one that succeeded, and one whose last node failed."""

    def __init__(self, root, cluster, server):
        self.cluster, self.server = cluster, server
        self.sample = make_project(root, server, WORKFLOW)
        text = (root / "config/default.yaml").read_text()
        mount = f"object_store:\n  mount: {cluster.folder}/bucket/minio\n"
        self.sample.write("config/default.yaml", text + mount)
        self.good = self._submit("0", "SUCCEEDED")
        self.sample.edit("wf.py", "limit = 10", "limit = 5")
        self.bad = self._submit("1", "FAILED")

    def _submit(self, digit, state):
        _, record = submit_project(self.sample, "registry.test/image@sha256:" + digit * 64)
        run = self.server.wait(record["run_id"])
        assert run.state == state, run.error
        return run.run_id

    def again(self):
        """Submit the document of the last run once more: what it computed is cached now."""
        _, record = submit_project(self.sample, "registry.test/image@sha256:" + "1" * 64)
        return self.server.wait(record["run_id"]).run_id


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    cluster = Cluster(LocalPods(root), tmp_path_factory.mktemp("cluster"))
    with KFPServer(cluster) as server:
        yield Runs(root, cluster, server)


def test_a_result_is_brought_from_a_mounted_folder(runs):
    assert runs.sample.doit("result", "scale it", runs.good) == "[2.0, 4.0, 6.0]\n"
    assert runs.sample.doit("result", "check", runs.good[:8]) == "'fine'\n"
    assert runs.sample.doit("result", "scale it", "--cluster") == "[2.0, 4.0, 6.0]\n"
    shown = json.loads(runs.sample.doit("result", "scale it", runs.good, "--json"))
    assert (shown["run_id"], shown["value"]) == (runs.good, [2.0, 4.0, 6.0])
    assert read_artifact(shown["artifact"]) == [2.0, 4.0, 6.0]


def test_a_result_that_there_is_none_of_says_why(runs):
    output = runs.sample.doit("result", "check", runs.bad, code=1)

    assert "check has no result" in output
    assert "its state is failed" in output
    assert "check failed: AssertionError: b is too large" in output
    assert f"hint: `doit logs check {runs.bad[:8]}` shows why; `doit replay check" in output


def test_a_wrong_name_says_the_nearest_one(runs):
    assert "did you mean 'scale it'?" in runs.sample.doit("result", "scale_it", runs.bad, code=1)
    assert "run 'nothing' not found" in runs.sample.doit("result", "check", "nothing", code=1)


def test_a_cached_result_is_brought_from_the_run_that_has_computed_it(runs):
    last = runs.again()
    status = runs.sample.doit("status", last)

    assert status.count("cached") == 2
    assert runs.sample.doit("result", "scale it", last) == "[2.0, 4.0, 6.0]\n"


def test_a_failed_node_is_replayed_here_and_debugged(runs):
    failed = runs.sample.doit("replay", "check", runs.bad, code=1)

    assert "AssertionError: b is too large" in failed
    assert FAILURE_PREFIX not in failed  # that line is for commands

    process = subprocess.run(
        [sys.executable, "-m", "doit", "replay", "check", runs.bad, "--pdb"],
        cwd=runs.sample.root,
        input="p 'seen', scaled, limit\nq\n",
        capture_output=True,
        text=True,
        check=False,
    )

    assert "('seen', [2.0, 4.0, 6.0], 5)" in process.stdout
    assert process.stderr.count("AssertionError: b is too large") == 1
    assert process.returncode == 1


def test_a_replay_runs_the_code_as_it_is_here_now(runs):
    runs.sample.edit("wf.py", "limit = 5", "limit = 50")
    try:
        assert runs.sample.doit("replay", "check", runs.bad) == "'fine'\n"
    finally:
        runs.sample.edit("wf.py", "limit = 50", "limit = 5")


def test_a_replay_has_the_parameters_of_the_run(runs):
    runs.sample.edit("wf.py", "scale(loaded, 2.0)", "scale(loaded, 3.0)")
    try:
        output = runs.sample.doit("replay", "scale it", runs.bad)
    finally:
        runs.sample.edit("wf.py", "scale(loaded, 3.0)", "scale(loaded, 2.0)")

    assert output == "scaling by 2.0\n[2.0, 4.0, 6.0]\n"


def test_where_results_are_not_is_said(runs):
    nowhere = {"FFTASKS_OBJECT_STORE__MOUNT": str(runs.sample.root / "config")}
    missing = {"FFTASKS_OBJECT_STORE__MOUNT": str(runs.sample.root / "nosuch")}
    runs.sample.doit("result", "check", runs.good)
    folder = runs.sample.root / ".fftasks" / "cluster"
    folder.rename(folder.with_name("kept"))
    try:
        output = runs.sample.doit("result", "check", runs.good, code=1, **nowhere)
        refusal = runs.sample.doit("result", "check", runs.good, code=3, **missing)
    finally:
        folder.with_name("kept").rename(folder)

    assert f"nothing at minio://mlpipeline/v2/artifacts/scaling/{runs.good}" in output
    assert "kfp.pipeline_root" in output
    assert "must hold the buckets" in output
    assert f"object_store.mount: {runs.sample.root}/nosuch does not exist" in refusal


def test_a_profile_and_variables_of_dodo_py_are_not_values_of_run_parameters(runs):
    runs.sample.write("config/minio.yaml", "kfp:\n  run_name: other\n")
    dodo = runs.sample.root / "dodo.py"
    before = dodo.read_text()
    dodo.write_text(f"{before}from doit import get_var\nlevel = get_var('level', '0')\n")
    try:
        result = runs.sample.doit("profile=minio", "level=1", "result", "scale it", "--cluster")
        replayed = runs.sample.doit("profile=minio", "replay", "scale it", runs.good)
        refused = runs.sample.doit("profile=minio", "x=1", "result", "check", runs.good, code=3)
    finally:
        dodo.write_text(before)

    assert (result, replayed) == ("[2.0, 4.0, 6.0]\n", "scaling by 2.0\n[2.0, 4.0, 6.0]\n")
    assert "x: results on Kubeflow Pipelines are selected by run" in refused


def test_a_replay_looks_at_no_fingerprint_of_an_image(runs, monkeypatch):
    from fftasks.pipeline import replay

    words = ["fftasks.runner", "--fingerprint", "sha256:1", "--node", "x"]

    for start in (["python3", "-m"], ["python3", "/opt/fftasks/fftasks/runner/start.py"]):
        local = replay._make_local([*start, *words])
        assert local == [*make_command("fftasks.runner"), "--node", "x"]


def test_a_missing_package_says_which_extra(runs):
    # A verified download of an earlier test would be used without the object store.
    shutil.rmtree(runs.sample.root / ".fftasks/cluster" / runs.good, ignore_errors=True)
    runs.sample.write("s3fs.py", "raise ImportError('no s3fs here')\n")
    try:
        output = runs.sample.doit(
            "result", "load_0000", runs.good, code=3, FFTASKS_OBJECT_STORE__MOUNT="", PYTHONPATH="."
        )
    finally:
        (runs.sample.root / "s3fs.py").unlink()

    assert "pip install 'fftasks[s3]'" in output


def test_a_result_is_brought_from_where_old_backends_leave_it(tmp_path):
    cluster = Cluster(LocalPods(tmp_path / "p"), tmp_path / "cluster", Paths(is_legacy=True))
    mount = {"FFTASKS_OBJECT_STORE__MOUNT": f"{cluster.folder}/bucket/minio"}
    with KFPServer(cluster) as server:
        sample = make_project(tmp_path / "p", server)
        _, record = submit_project(sample)
        server.wait(record["run_id"])

        assert sample.doit("result", "third", "--cluster", **mount) == "8\n"


def test_a_result_is_brought_from_s3(tmp_path):
    from moto.server import ThreadedMotoServer

    root = "s3://results/team"
    cluster = Cluster(LocalPods(tmp_path / "p"), tmp_path / "cluster")
    store = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    store.start()
    with KFPServer(cluster) as server:
        try:
            sample = make_project(tmp_path / "p", server, kfp=f"  pipeline_root: {root}")
            _, record = submit_project(sample)
            assert server.wait(record["run_id"]).state == "SUCCEEDED"
            host, port = store.get_host_and_port()
            settings = {
                "FFTASKS_OBJECT_STORE__ENDPOINT": f"http://{host}:{port}",
                "FFTASKS_OBJECT_STORE__ACCESS_KEY": "someone",
                "FFTASKS_OBJECT_STORE__SECRET_KEY": "s3cret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            _upload(cluster.folder / "bucket", settings)

            assert sample.doit("result", "third", "--cluster", **settings) == "8\n"
            assert sample.doit("replay", "third", **settings) == "8\n"
            refused = {**settings, "FFTASKS_OBJECT_STORE__ENDPOINT": "http://localhost:1"}
            output = sample.doit("result", "first node", "-c", code=1, **refused)
        finally:
            store.stop()
    assert "object_store.endpoint" in output
    assert "s3cret" not in output


def _upload(folder, settings):
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=settings["FFTASKS_OBJECT_STORE__ENDPOINT"],
        aws_access_key_id="someone",
        aws_secret_access_key="s3cret",
        region_name="us-east-1",
    )
    for bucket in folder.glob("*/*"):
        client.create_bucket(Bucket=bucket.name)
        for path in bucket.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), bucket.name, path.relative_to(bucket).as_posix())


GROUP = """
from fftasks import Workflow, workflow

@workflow
def double(x):
    assert x < 4, "too large"
    return 2 * x

first = double(1).set_name("first")
second = double(first).set_name("second")
Workflow(double(second).set_name("third"), name="grouped")
"""


def group_tasks(document):
    """Return a document in which first and second share a container, as runtime/task.py wants it."""
    from fftasks.runner.task import TaskNodes, format_members, name_group_input

    tasks, components = document["root"]["dag"]["tasks"], document["components"]
    executors = document["deploymentSpec"]["executors"]
    names = {list_task_nodes(document, task)[0]: task for task in tasks}
    alone, group = names["first"], names["second"]
    executor = executors[components[tasks[group]["componentRef"]["name"]]["executorLabel"]]
    members = TaskNodes(("first", "second"), (("second", "result"),))
    args = ["--file", "wf.py", "--workflow", "grouped", "--node", "second"]
    args += ["--nodes", format_members(members), "--executor-input", "{{$}}"]
    executor["container"]["args"] = args
    component = components[tasks[group]["componentRef"]["name"]]
    artifact = component["outputDefinitions"]["artifacts"]["result"]
    component["outputDefinitions"]["artifacts"] = {"values": artifact, "inner": artifact}
    del tasks[group]["inputs"], component["inputDefinitions"], tasks[group]["dependentTasks"]
    label = components[tasks[alone]["componentRef"]["name"]]["executorLabel"]
    del components[tasks.pop(alone)["componentRef"]["name"]], executors[label]
    third = tasks[names["third"]]
    source = third["inputs"]["artifacts"].pop("x")["taskOutputArtifact"]
    name = name_group_input("second")
    source["outputArtifactKey"] = "values"
    third["inputs"]["artifacts"][name] = {"taskOutputArtifact": source}
    definitions = components[third["componentRef"]["name"]]["inputDefinitions"]["artifacts"]
    definitions[name] = definitions.pop("x")
    executor = executors[components[third["componentRef"]["name"]]["executorLabel"]]
    args = executor["container"]["args"]
    args[0:0] = ["--nodes", format_members(TaskNodes(("third",), (("third", "result"),)))]
    return document


def test_nodes_that_share_a_container_are_nodes(tmp_path, monkeypatch):
    from fftasks.pipeline import submit

    cluster = Cluster(LocalPods(tmp_path / "p"), tmp_path / "cluster")
    mount = {"FFTASKS_OBJECT_STORE__MOUNT": f"{cluster.folder}/bucket/minio"}
    parse = submit.parse_documents

    def parse_grouped(text):
        document, platform = parse(text)
        return group_tasks(document), platform

    monkeypatch.setattr(submit, "parse_documents", parse_grouped)
    with KFPServer(cluster) as server:
        sample = make_project(tmp_path / "p", server, GROUP)
        _, record = submit_project(sample)
        run = server.wait(record["run_id"])
        assert run.state == "FAILED", [task.log for task in run.tasks.values()]

        status = sample.doit("status")
        results = [
            sample.doit("result", node, "--cluster", **mount) for node in ("first", "second")
        ]
        failed = sample.doit("replay", "third", code=1, **mount)
        replayed = sample.doit("replay", "first", **mount)
        debugged = sample.doit("replay", "first", "--pdb", **mount)

    assert [line.split()[1:3] for line in status.splitlines()[2:5]] == [
        ["first", "ran"], ["second", "ran"], ["third", "failed"]
    ]  # fmt: skip
    assert results == ["2\n", "4\n"]
    assert "too large" in failed
    assert replayed.splitlines()[-1] == "2"
    assert debugged.splitlines()[-1] == "2"
    assert not any("second" in text for text in (replayed, debugged))
