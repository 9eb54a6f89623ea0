"""Planted pickles: no command that shows something executes one, and no command that loads something does.

The planted file creates a marker when it is unpickled. It stands in the state folder, in the bucket, and
among the files that were downloaded from there.
"""

import http.server
import json
import os
import pickle
import shutil
import threading
import urllib.request
from contextlib import contextmanager

import pytest

import fftasks
from fftasks.config import KFPSettings
from fftasks.errors import StoreError
from fftasks.kfp.metadata import OutputArtifact, TaskExecution, read_executions
from fftasks.pipeline.download import Verifier
from fftasks.project import open_project
from fftasks.records import read_record
from fftasks.report import cluster_run_content as outputs
from fftasks.report.page_content import PageRun, PageTask, make_page_content
from fftasks.report.result_documents import ResultDocument
from fftasks.report.run_report import describe_run
from fftasks.report.web_page import format_page
from fftasks.runner.artifact import (
    ArtifactLocation,
    Pack,
    StoredValue,
    digest_artifact,
    is_pack,
    read_pack,
    write_artifact,
    write_pack,
    write_parts,
)
from tests.sample import Sample
from tests.services.cluster import Cluster
from tests.services.kfp_server import KFPServer
from tests.services.local_pods import LocalPods
from tests.submitted_project import make_project, submit_project

WORKFLOW = """
import base64

from fftasks import HTML, Workflow, workflow

PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


@workflow
def load(n):
    return list(range(n))


@workflow
def total(values):
    return sum(values)


@workflow(shows=["html"])
def plot(values):
    return base64.b64decode(PNG)


@workflow
def page(values):
    return HTML("<p>text</p>")


@workflow
class Bare:
    def __init__(self, values):
        self.values = values

    def count(self):
        return len(self.values)


values = load(3).set_name("values")
leaves = [total(values).set_name("total"), plot(values).set_name("plot"), page(values).set_name("page")]
Workflow(*leaves, Bare(values).count().set_name("count"), name="shown")
"""
NODES = ("values", "total", "plot", "page", "count")
ANSWER_TIMEOUT_S = 60


class Planted:
    """A value whose pickle creates a file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


def plant(path, marker):
    """Put an artifact, or a pack of such, that executes code instead of the one at a path."""
    if is_pack(path):
        pack, planted = read_pack(path), path.with_name("planted")
        write_artifact(planted, Planted(marker))
        values = {
            key: StoredValue(ArtifactLocation(str(planted)), value.digest)
            for key, value in pack.values.items()
        }
        new = path.with_name("new")
        write_pack(new, Pack(pack.group, pack.key, values, pack.told))
        planted.unlink()
    else:
        new = path.with_name("new")
        write_parts(new, [pickle.dumps(Planted(marker))])
    path.unlink()
    new.rename(path)


def test_a_planted_file_does_execute_code_when_it_is_loaded(tmp_path):
    from fftasks.runner.artifact import read_artifact

    write_artifact(tmp_path / "file", 1)
    plant(tmp_path / "file", tmp_path / "marker")

    read_artifact(tmp_path / "file")

    assert (tmp_path / "marker").exists()


def ask_board(sample, *arguments):
    """Start the board, ask for all that it has, and end it; return the content of its page."""
    process = sample.start("board", "--port", "0", *arguments)
    try:
        address = process.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=ANSWER_TIMEOUT_S) as answer:
            answer.read()
        # what is behind the address, such as a token, belongs to each request
        head, mark, query = address.partition("?")
        with urllib.request.urlopen(
            f"{head}data.json{mark}{query}", timeout=ANSWER_TIMEOUT_S
        ) as answer:
            return json.loads(answer.read())
    finally:
        process.terminate()
        process.communicate()


SHOWING = (
    ("report",), ("report", "--json"), ("graph",), ("graph", "--json"), ("list",), ("list", "--all"),
    ("plan",), ("plan", "--json"),
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    sample = Sample.make(tmp_path_factory.mktemp("local") / "project", WORKFLOW)
    sample.doit("run")
    return sample


@pytest.fixture
def local(ran, tmp_path):
    """Give a project that has run, and a marker; its state folder is a copy, whose signatures do not fit."""
    root = tmp_path / "project"
    shutil.copytree(ran.root, root)
    return Sample(root), tmp_path / "marker"


def exchange_all(sample, marker, how):
    for path in (sample.root / ".fftasks" / "artifacts").iterdir():
        if how == "replaced":
            plant(path, marker)
        elif how == "edited":  # in place, with the size and the time of the old file where possible
            stat, new = path.stat(), path.with_name("planted")
            write_parts(new, [pickle.dumps(Planted(marker))])
            path.chmod(0o644)
            path.write_bytes(new.read_bytes())
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            new.unlink()
        else:
            target = sample.root.parent / f"planted {path.name}"
            write_parts(target, [pickle.dumps(Planted(marker))])
            path.unlink()
            path.symlink_to(target)


@pytest.mark.parametrize("how", ["replaced", "edited", "linked"])
def test_commands_that_show_a_project_load_no_artifact(local, how):
    sample, marker = local
    exchange_all(sample, marker, how)

    for words in SHOWING:
        sample.doit(*words)
    content = ask_board(sample)

    assert not marker.exists()
    tasks = {task["name"]: task for task in content["tasks"]}
    assert tasks["plot"]["pictures"][0].startswith("data:image/png;base64,iVBOR")
    assert "<p>text</p>" in tasks["page"]["documents"][0]["html"]


@pytest.mark.parametrize("how", ["replaced", "edited", "linked"])
def test_a_changed_artifact_is_not_loaded_but_computed_again(local, how):
    sample, marker = local
    exchange_all(sample, marker, how)

    for node in NODES:
        assert "is gone or damaged" in sample.doit("result", node, code=1)
        with pytest.raises(StoreError, match="is gone or damaged"):
            fftasks.load(node, sample.root)
    assert not marker.exists()

    exchange_all(sample, marker, how)
    sample.doit("run")

    assert sample.doit("result", "total") == "3\n"
    assert not marker.exists()


def test_two_artifacts_that_are_exchanged_are_noticed(local):
    sample, _ = local
    folder = sample.root / ".fftasks" / "artifacts"
    names = {
        node: read_record(sample.root / ".fftasks" / "nodes" / f"{node}.json")["output"]
        for node in ("values", "total")
    }
    one, other = (folder / digest.removeprefix("sha256:") for digest in names.values())
    one.rename(folder / "third")
    other.rename(one)
    (folder / "third").rename(other)

    assert "is gone or damaged" in sample.doit("result", "total", code=1)
    sample.doit("run")
    assert sample.doit("result", "total") == "3\n"


def test_planted_files_of_pages_are_shown_as_data_or_not_at_all(local):
    sample, _ = local
    secret = sample.root.parent / "secret"
    secret.write_text("s3cret-of-mine")
    folders = {
        path.parent.parent.name: path.parent for path in sample.root.glob(".fftasks/shown/*/*/*")
    }
    (folders["page"] / "page.html").unlink()
    (folders["page"] / "page.html").symlink_to(secret)
    os.mkfifo(folders["page"] / "page.md")
    (folders["page"] / "metrics.json").write_text('{"a": NaN, "b": 1}')
    (folders["plot"] / "page.html").write_text(
        '<!doctype html><img alt="picture" src="data:image/svg+xml;base64,PHN2Zz4=">'
    )
    (folders["plot"] / "other.html").symlink_to(secret)

    sample.doit("report")
    tasks = {task["name"]: task for task in ask_board(sample)["tasks"]}

    assert "s3cret-of-mine" not in (sample.root / ".fftasks" / "report.html").read_text()
    assert (tasks["page"]["documents"], tasks["page"]["metrics"]) == ([], {})
    assert tasks["plot"]["pictures"] == []


HOSTILE = """<!doctype html>
<base href="THERE/base/"><meta http-equiv=refresh content="0;url=THERE/refresh">
<link rel=stylesheet href="THERE/css">
<style>@import "THERE/import"; p {background: url(THERE/url)}</style>
<p>seen</p>
<script>top.document.title = "owned"; fetch("THERE/fetch")</script>
<img src="THERE/img" onerror="top.document.title = 'owned'">
<img src=x onerror="top.document.title = 'owned'">
<svg onload="top.document.title = 'owned'"></svg>
<iframe src="THERE/frame"></iframe>
<iframe srcdoc="<script>top.document.title = 'owned'</script>"></iframe>
<object data="THERE/object"></object><embed src="THERE/embed"><video src="THERE/video" autoplay></video>
<form action="THERE/form"><button autofocus>go</button></form>
<a href="THERE/link" target=_top>click</a>
"""


def test_a_hostile_document_runs_nothing_and_asks_nobody(browser, tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{server.server_port}"
    hostile = HOSTILE.replace("THERE", there)
    task = PageTask("page", "ran", documents=(ResultDocument("Page", hostile),))
    run = PageRun("r", "ran", 0.0, 1.0)
    path = tmp_path / "page.html"
    path.write_text(format_page(make_page_content("t", run, [task], items=(), render=lambda _: "")))
    browser.use_media()
    browser.open(path.as_uri() + "#page")

    browser.driver.switch_to.frame(browser.find("#details iframe"))
    assert browser.find("p").text == "seen"
    browser.find("button").click()
    browser.find("a").click()
    browser.driver.switch_to.default_content()
    server.shutdown()
    server.server_close()
    browser.read_console()  # it says what was blocked

    assert browser.driver.title == "t"
    assert browser.driver.current_url.startswith("file:")
    assert asked == []


# on the cluster


@contextmanager
def run_there(folder, kfp=""):
    """Give a project with a run that has succeeded on the cluster, and the folder of the bucket."""
    root = folder / "project"
    with KFPServer(Cluster(LocalPods(root), folder / "cluster")) as server:
        mount = f"{kfp}object_store:\n  mount: {folder}/cluster/bucket/minio\n"
        sample = make_project(root, server, WORKFLOW, kfp=mount)
        _, record = submit_project(sample)
        run = server.wait(record["run_id"])
        assert run.state == "SUCCEEDED", run.error
        yield sample, server, folder / "cluster" / "bucket"


@pytest.fixture(scope="module", params=["alone", "grouped"])
def there(request, tmp_path_factory):
    kfp = "  fuse: auto\n" if request.param == "grouped" else ""
    with run_there(tmp_path_factory.mktemp("there"), kfp) as found:
        yield found


@pytest.fixture
def submitted(there, tmp_path):
    """Give a project with a run on the cluster, the server, the bucket and a marker; all is put back."""
    sample, server, bucket = there
    shutil.copytree(bucket, tmp_path / "bucket")
    yield sample, server, bucket, tmp_path / "marker"
    shutil.rmtree(bucket)
    shutil.copytree(tmp_path / "bucket", bucket)
    shutil.rmtree(sample.root / ".fftasks" / "cluster", ignore_errors=True)


def list_pickles(folder):
    names = ("result", "state", "values", "inner")
    return [path for path in folder.rglob("*") if path.is_file() and path.name.startswith(names)]


def plant_all(folder, marker):
    found = list_pickles(folder)
    assert found
    for path in found:
        plant(path, marker)


def describe_there(sample):
    for known in (outputs._unreachable_stores, outputs._ended_outputs, open_project):
        (known.cache_clear if known is open_project else known.clear)()
    content = describe_run(open_project(sample.root), cluster=True)
    return {task["name"]: task for task in content["tasks"]}


SHOWING_THERE = (
    ("report", "--cluster"), ("report", "--cluster", "--json"), ("status",), ("status", "--json"), ("runs",),
    ("logs", "plot"), ("graph", "--json"), ("list",), ("plan",), ("plan", "--json"),
)  # fmt: skip


@pytest.mark.parametrize("where", ["bucket", "downloads"])
def test_commands_that_show_a_run_load_no_artifact(submitted, where):
    sample, _, bucket, marker = submitted
    if where == "downloads":
        for node in NODES:
            sample.doit("result", node, "--cluster")
    plant_all(bucket if where == "bucket" else sample.root / ".fftasks" / "cluster", marker)

    for words in SHOWING_THERE:
        sample.doit(*words)
    content = ask_board(sample, "--cluster")

    assert not marker.exists()
    tasks = {task["name"]: task for task in content["tasks"]}
    assert tasks["plot"]["pictures"][0].startswith("data:image/png;base64,iVBOR")
    assert "<p>text</p>" in tasks["page"]["documents"][0]["html"]


def test_a_file_of_the_bucket_that_has_changed_is_loaded_with_trust_only(submitted):
    sample, _, bucket, marker = submitted
    plant_all(bucket, marker)

    for node in NODES:
        refused = sample.doit("result", node, "--cluster", code=1)
        assert "was changed after the run: it is not loaded" in refused
        assert "the run recorded sha256:" in refused
    assert not marker.exists()
    assert list_pickles(sample.root / ".fftasks" / "cluster") == []

    output = sample.doit("result", "total", "--cluster", "--trust")
    assert "was changed after the run" in output
    assert marker.exists()
    marker.unlink()

    assert "was changed after" in sample.doit("result", "total", "--cluster", code=1)
    assert not marker.exists()


def test_inputs_of_a_replay_are_verified_before_its_code_has_them(tmp_path):
    marker = tmp_path / "marker"
    with run_there(tmp_path / "there") as (sample, _, bucket):
        plant_all(bucket, marker)

        output = sample.doit("replay", "total", code=1)

        assert "total cannot be run here: an input is missing or not verified" in output
        assert "the result of values in run" in output
        assert "was changed after the run" in output
        assert not marker.exists()
        assert list_pickles(sample.root / ".fftasks" / "replay") == []
        sample.doit("replay", "total", "--trust", code=1)  # its sum fails with what was planted
        assert marker.exists()


@pytest.mark.parametrize("how", ["planted", "linked", "pipe", "folder"])
def test_a_download_that_has_changed_is_downloaded_again(submitted, how):
    sample, _, _, marker = submitted
    sample.doit("result", "total", "--cluster")
    for path in list_pickles(sample.root / ".fftasks" / "cluster"):
        if how == "planted":
            plant(path, marker)
            continue
        path.unlink()
        if how == "linked":
            write_parts(path.with_name("target"), [pickle.dumps(Planted(marker))])
            path.symlink_to(path.with_name("target"))
        elif how == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()

    assert sample.doit("result", "total", "--cluster") == "3\n"
    assert not marker.exists()


def test_a_file_that_cannot_be_verified_is_loaded_with_trust_only(submitted, monkeypatch):
    sample, server, _, _ = submitted
    monkeypatch.setattr(server, "log_servers", frozenset({"api"}))  # no way to the metadata store

    refused = sample.doit("result", "total", "--cluster", code=1)

    assert "cannot verify the " in refused
    assert "the metadata store cannot be reached" in refused
    assert "`--trust` loads it unverified" in refused
    assert sample.doit("result", "total", "--cluster", "--trust") == "3\n"
    assert "cannot verify the " in sample.doit("result", "total", "--cluster", code=1)


def test_a_run_that_has_recorded_no_digest_is_loaded_with_trust_only(tmp_path, monkeypatch):
    monkeypatch.setenv("FFPREVIEW", "bare")  # as an older version, which knew no digests
    with run_there(tmp_path) as (sample, _, _):
        for words in (("result", "total", "--cluster"), ("replay", "total")):
            refused = sample.doit(*words, code=1)
            assert "the run recorded no digest of it" in refused
            assert "`--trust` loads it unverified" in refused
            assert sample.doit(*words, "--trust") == "3\n"


def test_results_have_digests_where_no_value_may_be_shown(tmp_path):
    with run_there(tmp_path, kfp="  preview: false\n") as (sample, _, _):
        assert sample.doit("result", "total", "--cluster") == "3\n"
        assert sample.doit("replay", "total") == "3\n"


class _Known(Verifier):
    """A verifier that has asked already."""

    def __init__(self, executions):
        super().__init__(None)
        self._executions = executions


RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"
URI = f"minio://bucket/root/pipeline/{RUN}/task/word/values"


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:0", "md5:" + "0" * 32, "sha256:" + "g" * 32, 5]
)
def test_what_is_no_digest_verifies_nothing(digest):
    found = {
        RUN: {"task": TaskExecution(outputs={"values": OutputArtifact(URI, {"digest": digest})})}
    }

    assert _Known(found)._find_digest(None, None, "artifact", URI) == ""


def test_what_is_kept_is_verified_by_the_run_that_has_written_it(tmp_path):
    path = tmp_path / "file"
    digest = write_artifact(path, 1)[:39]
    outputs = {
        "inner": OutputArtifact(URI.replace("values", "inner"), {"digest": "sha256:" + "1" * 32}),
        "values": OutputArtifact(URI + "?region=x", {"digest": digest}),
    }
    verifier = _Known({RUN: {"task": TaskExecution(outputs=outputs)}})

    assert verifier._find_digest(None, None, "artifact", URI) == digest
    assert digest_artifact(path).startswith(digest)
    assert verifier._find_digest(None, None, "artifact", URI.replace("values", "other")) == ""


def test_with_kubeconfig_the_metadata_store_is_found_behind_the_web_ui(monkeypatch):
    prefix = "/api/v1/namespaces/kubeflow/services/ml-pipeline-ui:http/proxy"
    with KFPServer(prefix=prefix) as server:
        host = server.url + prefix.replace("ml-pipeline-ui", "ml-pipeline")

        assert read_executions(KFPSettings(host=host), RUN) == {}


def test_a_file_of_the_drop_in_storage_that_has_changed_is_not_loaded(tmp_path):
    storage = fftasks.storage_factory({"kind": "file", "options": {"path": str(tmp_path / "s")}})
    storage.save("w", "node", 5)
    assert storage.read_task("w", "node") == 5
    (path,) = (tmp_path / "s").glob("*/*.artifact")
    plant(path, tmp_path / "marker")

    with pytest.raises(StoreError, match="has changed since it was saved"):
        storage.read_task("w", "node")
    assert not (tmp_path / "marker").exists()
