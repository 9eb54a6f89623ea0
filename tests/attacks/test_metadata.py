"""Attacks by the metadata store, by answers about runs and by their documents: no file they name is read."""

import base64
import json
import os
import subprocess
import zlib

import pytest

from fftasks.config.tree import KFPSettings
from fftasks.errors import FFTasksError, SettingsError, ToolError, WorkflowError
from fftasks.kfp.diagnostics import (
    Kubectl,
    find_pipeline_root,
    locate_download,
    read_cluster_run,
    resolve_artifact_uri,
)
from fftasks.kfp.run import ClusterRun, list_task_nodes
from fftasks.pipeline import replay
from fftasks.pipeline import run_index as memory
from fftasks.pipeline.download import Verifier, download_output, download_unverified
from fftasks.project import open_project
from fftasks.report import cluster_run_content as outputs
from fftasks.report.run_report import describe_run
from fftasks.runner.task import parse_members
from tests.services.cluster import Cluster
from tests.services.executor_input import LOGS, Paths
from tests.services.kfp_server import Fault, KFPServer
from tests.services.local_pods import LocalPods
from tests.submitted_project import make_project, submit_project

TEXT = """
from fftasks import Markdown, Workflow, workflow

@workflow
def tell(x):
    print("printed", x)
    if x > 1:
        raise ValueError("too large")
    return Markdown("# Title")

Workflow(tell(1).set_name("tell"), name="show")
"""
SECRET = "the content of a private key"


class Played:
    """A project whose run has ended, and what an attacker makes of its metadata."""

    def __init__(self, folder, server, cluster, text, kfp):
        self.folder, self.server = folder, server
        mount = f"{kfp}object_store:\n  mount: {cluster.folder}/bucket/minio\n"
        self.mount = cluster.folder / "bucket/minio"
        self.sample = make_project(folder / "project", server, text, kfp=mount)
        _, record = submit_project(self.sample)
        self.run = server.wait(record["run_id"])
        [self.task] = self.run.tasks.values()
        self.secret = folder / "secret"
        self.secret.write_text(SECRET)

    @property
    def project(self):
        open_project.cache_clear()
        return open_project(self.sample.root)

    def name(self, output, uri):
        """Let the metadata store name another place of an output; return where it was."""
        [artifact] = [artifact for name, artifact in self.task.published if name == output]
        before = artifact.uri
        artifact.uri = uri
        return before

    def describe(self):
        outputs._unreachable_stores.clear()
        outputs._ended_outputs.clear()
        return describe_run(self.project, cluster=True)


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Give a function that submits a workflow to a cluster, and waits for the end of the run."""
    started = []

    def start(text=TEXT, kfp="", paths=None):
        folder = tmp_path_factory.mktemp("played")
        pods = LocalPods(folder / "project")
        cluster = Cluster(pods, folder / "cluster", paths or Paths())
        server = KFPServer(cluster)
        server.__enter__()
        started.append(server)
        return Played(folder, server, cluster, text, kfp)

    yield start
    for server in started:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def good(play):
    return play()


@pytest.fixture
def played(good):
    """Give a run that has succeeded; the metadata store tells the truth again afterwards."""
    before = [(artifact, artifact.uri) for _, artifact in good.task.published]
    yield good
    good.server.faults = []
    for artifact, uri in before:
        artifact.uri = uri


def list_uris(played):
    """Return URIs that would lead to the secret, if they were followed."""
    up = os.path.relpath(played.secret, played.mount)
    own = next(artifact.uri for name, artifact in played.task.published if name == "markdown")
    encoded = up.replace("..", "%2e%2e")
    (played.mount / "other").mkdir(exist_ok=True)
    (played.mount / "other/secret").write_text(SECRET)
    (played.mount / "mlpipeline/v2/artifacts2").mkdir(exist_ok=True)
    (played.mount / "mlpipeline/v2/artifacts2/secret").write_text(SECRET)
    link = played.mount / own.removeprefix("minio://").rpartition("/")[0] / "link"
    if not link.is_symlink():
        link.symlink_to(played.secret)
    return {
        "a path": str(played.secret),
        "a relative path": os.path.relpath(played.secret, played.sample.root),
        "a file": f"file://{played.secret}",
        "upwards": f"minio://{up}",
        "upwards from a bucket": f"minio://mlpipeline/../{up}",
        "upwards from the root": f"minio://mlpipeline/v2/artifacts/../../../{up}",
        "upwards from its own place": f"{own}/../../../../../../../../{up}",
        "encoded": f"minio://mlpipeline/v2/artifacts/{encoded}",
        "another bucket": "minio://other/secret",
        "a root that begins so": "minio://mlpipeline/v2/artifacts2/secret",
        "with a query": "minio://other/secret?minio://mlpipeline/v2/artifacts/x",
        "another scheme": "s3://mlpipeline/v2/artifacts2/secret",
        "a link": f"{own.rpartition('/')[0]}/link",
    }


NAMES = """a path, a relative path, a file, upwards, upwards from a bucket, upwards from the root, encoded
upwards from its own place, another bucket, a root that begins so, with a query, another scheme, a link"""
NAMES = [name.strip() for name in NAMES.replace("\n", ",").split(",")]


def test_the_text_that_the_run_gave_is_shown(played):
    assert "# Title" in json.dumps(played.describe())


@pytest.mark.parametrize("name", NAMES)
def test_a_uri_that_leads_elsewhere_is_not_shown_on_the_page(played, name):
    uri = list_uris(played)[name]
    target = locate_download(played.project.folder, *find_task(played), "markdown")
    target.unlink(missing_ok=True)
    played.name("markdown", uri)

    content = played.describe()

    assert SECRET not in json.dumps(content)
    assert "not shown" in content["notice"]
    assert not target.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_is_elsewhere_is_not_printed(played, name):
    uri = list_uris(played)[name]
    folder = locate_download(played.project.folder, *find_task(played), "x").parent
    played.name(LOGS, uri)
    played.run.pods_are_gone = True
    played.server.requests.clear()
    # the bucket of the cluster's own server is the same folder, and its links are not our business
    played.server.faults = [Fault(status=404, path="/artifacts/get", times=9)]

    said = played.sample.doit("logs", "tell", code=1)

    assert SECRET not in said
    assert not [path for path in folder.rglob("*") if SECRET in path.read_text()]
    if name != "a link":  # that one is found out when it is read
        assert not [one for one in played.server.requests if "artifacts/get" in one.path]


def test_the_log_that_the_run_left_is_printed(played):
    played.run.pods_are_gone = True

    assert "printed 1" in played.sample.doit("logs", "tell")


def find_task(played):
    run = read_cluster_run(played.project.settings.kfp, played.run.run_id)
    return run, run.find_task("tell")


def test_a_cached_result_is_read_from_the_folder_of_another_run(play):
    played = play()
    first = played.run.run_id
    _, record = submit_project(played.sample)
    second = played.server.wait(record["run_id"])
    [task] = second.tasks.values()
    assert first in dict(task.published)["markdown"].uri

    assert "# Title" in json.dumps(played.describe())


def test_a_cluster_with_another_root_is_told_which_setting_to_change(play):
    root = "minio://mlpipeline/private-artifacts/team/v2/artifacts"
    played = play(paths=Paths(root))

    notice = played.describe()["notice"]

    assert f"'{root}/show/{played.run.run_id}" in notice
    assert "minio://mlpipeline/v2/artifacts (the default of Kubeflow Pipelines)" in notice
    assert "set kfp.pipeline_root" in notice
    played.run.pods_are_gone = True
    said = played.sample.doit("logs", "tell", code=1)
    assert f"'{root}/show/{played.run.run_id}" in said
    assert "set kfp.pipeline_root" in said

    played.sample.edit("config/default.yaml", "kfp:", f"kfp:\n  pipeline_root: {root}")

    assert "# Title" in json.dumps(played.describe())
    assert "printed 1" in played.sample.doit("logs", "tell")


def test_the_root_that_the_run_was_started_with_counts_more_than_the_setting(play):
    played = play(kfp="  pipeline_root: s3://results/team?region=x\n")
    run, task = find_task(played)

    assert str(find_pipeline_root(played.project.settings.kfp, run)) == "s3://results/team"
    with pytest.raises(ToolError, match="outside of the pipeline root") as caught:
        resolve_artifact_uri(played.project.settings.kfp, run, "s3://results/team2/x")
    assert "set when the run was started" in str(caught.value)
    assert (
        str(resolve_artifact_uri(played.project.settings.kfp, run, "s3://results/team/x?region=x"))
        == "s3://results/team/x"
    )


@pytest.mark.parametrize("root", ["/", "/home/me", "file:///", "minio://..", "s3://b/../c", "x"])
def test_a_pipeline_root_that_is_no_place_in_a_store_is_refused(good, root):
    run, task = find_task(good)
    answer = {**run.answer, "runtime_config": {"pipeline_root": root}}
    with pytest.raises(ToolError, match="invalid pipeline root"):
        download_unverified(good.project, ClusterRun(answer), task, "other", f"{root}/x")

    good.sample.edit("config/default.yaml", "kfp:", f"kfp:\n  pipeline_root: '{root}'")
    try:
        with pytest.raises(SettingsError, match=r"kfp\.pipeline_root"):
            download_unverified(good.project, run, task, "other", f"{root}/x")
    finally:
        good.sample.edit("config/default.yaml", f"kfp:\n  pipeline_root: '{root}'", "kfp:")


def import_from(played, uri):
    """Return the run with an importer in its document in place of its task."""
    run, task = find_task(played)
    document = json.loads(json.dumps(run.answer["pipeline_spec"]))
    inner = document.get("pipeline_spec") or document
    for executor in inner["deploymentSpec"]["executors"].values():
        executor.clear()
        executor["importer"] = {"artifactUri": {"constant": uri}}
    return ClusterRun({**run.answer, "pipeline_spec": document}), task


def test_what_an_importer_registers_is_read_from_the_store_on_request_only(played):
    (played.mount / "other").mkdir(exist_ok=True)
    (played.mount / "other/data").write_text("data")
    run, task = import_from(played, "minio://other/data")

    with pytest.raises(ToolError, match="outside of the pipeline root"):
        download_unverified(played.project, run, task, "artifact", "minio://other/data")
    assert (
        download_output(
            played.project, run, task, "artifact", Verifier(played.project, trust=True)
        ).read_text()
        == "data"
    )


@pytest.mark.parametrize(
    "name", ["a path", "a relative path", "a file", "upwards", "encoded", "a link"]
)
def test_an_importer_never_reads_a_file_of_this_machine(played, name):
    run, task = import_from(played, list_uris(played)[name])

    with pytest.raises(FFTasksError):
        download_output(
            played.project, run, task, f"out {name}", Verifier(played.project, trust=True)
        )


# names that become paths

HOSTILE = [
    "..",
    "../../..",
    "../../x",
    "/etc",
    "a/b",
    "",
    ".",
    "a\\..\\b",
    "a\0b",
    "%2e%2e",
    "x" * 300,
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_of_a_run_a_task_or_an_output_becomes_no_path(good, name):
    run, task = find_task(good)
    hostile_run = ClusterRun({**run.answer, "run_id": name})
    hostile_task = type(task)(name, ("tell",), "SUCCEEDED")
    for arguments in ((hostile_run, task, "o"), (run, hostile_task, "o"), (run, task, name)):
        with pytest.raises(ToolError, match="unsafe"):
            locate_download(good.project.folder, *arguments)
        with pytest.raises(ToolError):
            download_unverified(good.project, *arguments, "minio://mlpipeline/v2/artifacts/x")


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_replay_of_a_hostile_run_removes_and_writes_nothing(good, name):
    run, task = find_task(good)
    verifier = Verifier(good.project)
    before = sorted(map(str, good.folder.rglob("*")))

    with pytest.raises(ToolError, match="unsafe"):
        replay.prepare_replay(
            good.project, ClusterRun({**run.answer, "run_id": name}), task, verifier
        )
    with pytest.raises(ToolError, match="unsafe"):
        replay.prepare_replay(good.project, run, type(task)(name, ("tell",), "SUCCEEDED"), verifier)

    assert sorted(map(str, good.folder.rglob("*"))) == before


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_run_of_a_hostile_pipeline_name_is_not_noted(good, name):
    run, _ = find_task(good)
    document = json.loads(json.dumps(run.answer["pipeline_spec"]))
    (document.get("pipeline_spec") or document)["pipelineInfo"]["name"] = name
    before = {p: p.stat().st_mtime_ns for p in good.folder.rglob("*") if p.is_file()}

    memory.record_run(good.project, ClusterRun({**run.answer, "pipeline_spec": document}), {})

    assert {p: p.stat().st_mtime_ns for p in good.folder.rglob("*") if p.is_file()} == before


def with_arguments(run, change):
    """Return a run whose task has other arguments in the document."""
    document = json.loads(json.dumps(run.answer["pipeline_spec"]))
    inner = document.get("pipeline_spec") or document
    for executor in inner["deploymentSpec"]["executors"].values():
        executor["container"]["args"] = change(executor["container"]["args"])
    return ClusterRun({**run.answer, "pipeline_spec": document})


@pytest.mark.parametrize("file", ["/tmp/x/evil.py", "../evil.py", "a/../../evil.py", "a\\..\\b.py"])
def test_a_document_cannot_name_code_outside_of_the_project(good, file):
    run, task = find_task(good)
    hostile = with_arguments(run, lambda args: [file if word == "wf.py" else word for word in args])

    with pytest.raises(ToolError, match="unsafe --file"):
        hostile.find_file(task)
    with pytest.raises(ToolError, match="unsafe --file"):
        replay.replay_here(good.project, hostile, task, "tell", Verifier(good.project), pdb=False)


@pytest.mark.parametrize(
    "more",
    [
        ["--show", "/tmp/evil"],
        ["--root", "/tmp/evil"],
        ["--file=/tmp/evil.py"],
        ["--fil", "/tmp/evil.py"],
        ["--file", "/tmp/evil.py"],
        ["--pdb"],
        ["--job"],
    ],
    ids=" ".join,
)
def test_a_document_cannot_give_a_replay_other_options(good, more):
    run, task = find_task(good)
    hostile = with_arguments(run, lambda args: [*args, *more])

    with pytest.raises(ToolError, match="options that fftasks does not write"):
        replay.replay_here(good.project, hostile, task, "tell", Verifier(good.project), pdb=False)


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "LD_PRELOAD", "PYTHONBREAKPOINT", "BROWSER", "PATH"]
)
def test_a_document_cannot_set_variables_of_a_replay(good, name, monkeypatch):
    run, task = find_task(good)
    document = json.loads(json.dumps(run.answer["pipeline_spec"]))
    inner = document.get("pipeline_spec") or document
    for executor in inner["deploymentSpec"]["executors"].values():
        executor["container"]["env"].append({"name": name, "value": "/tmp/evil"})
    hostile = ClusterRun({**run.answer, "pipeline_spec": document})
    started = []
    monkeypatch.setattr(
        replay.subprocess,
        "run",
        lambda command, **options: (
            started.append(options["env"]) or subprocess.CompletedProcess(command, 0)
        ),
    )

    replay.replay_here(good.project, hostile, task, "tell", Verifier(good.project), pdb=False)

    [env] = started
    assert env.get(name) == os.environ.get(name)
    assert env["FFFUNCTION"] == "tell"


def test_a_name_of_a_pod_cannot_be_an_option_of_kubectl(tmp_path, monkeypatch):
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\necho "{{}}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    kubectl = Kubectl(KFPSettings())

    for name in (
        "--server=https://evil.example",
        "-f/etc/passwd",
        "a b",
        "pod/x",
        "A",
        "x" * 300,
        "",
    ):
        assert kubectl.read_log(name) is None
        assert kubectl.read_pod(name) is None
        assert kubectl.read_events(name) == []
    assert not (tmp_path / "called").exists()
    assert kubectl.read_pod("flow-1-system-container-impl-123") == {}


# the list of nodes in a document


def compress(content):
    return "zlib:" + base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "text",
    [
        compress(b" " * (1 << 28)),
        compress(b'{"nodes": ["a"], "gives": []}')[:-12],
        "zlib:no base64",
        "zlib:" + base64.b64encode(b"no zlib").decode(),
        "{}",
        "[]",
        "[" * 100_000,
        '{"nodes": 1, "gives": []}',
        '{"nodes": ["a"], "gives": [[7, "result"]]}',
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_list_of_nodes_is_refused_and_hides_no_run(good, text):
    with pytest.raises(WorkflowError, match="invalid list of nodes"):
        parse_members(text)

    run, task = find_task(good)
    hostile = with_arguments(run, lambda args: ["--nodes", text, *args])
    assert list_task_nodes(hostile.document, task.name) == ("tell",)
