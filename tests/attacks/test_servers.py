"""Servers that are slow without an end, send too much, or answer with anything but what is expected."""

from __future__ import annotations

import copy
import gzip
import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fftasks.config.tree import KFPSettings, ObjectStoreSettings
from fftasks.errors import FFTasksError, ToolError
from fftasks.http import response as answers
from fftasks.kfp import client as kfp_runs
from fftasks.kfp.client import (
    fetch_events,
    fetch_log,
    fetch_pods,
    fetch_run,
    fetch_runs,
    read_run_state,
)
from fftasks.kfp.metadata import OutputArtifact, read_executions
from fftasks.kfp.node_status import get_task_state, list_spans, read_node_metrics
from fftasks.kfp.object_store import ArtifactURI, ObjectStore, TooLargeError
from fftasks.kfp.run import ClusterRun, list_artifact_names
from fftasks.registry.oci_registry import Registry
from fftasks.report.result_documents import render_markdown
from fftasks.report.settings_display import find_run_settings
from tests.services.kfp_server import Fault, KFPServer
from tests.services.serving import serve
from tests.submitted_project import make_project, submit_project

RECORDED = Path(__file__).parent.parent / "kfp/recorded"
DEEP = "[" * 90_000 + "]" * 90_000
JSON = "application/json"


@pytest.fixture
def start():
    """Give a function that starts a server whose answers a function writes, and returns its port."""
    opened = []

    def start(respond):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    respond(self)
                except OSError:  # the client has closed the connection
                    self.close_connection = True

            do_POST = do_HEAD = do_GET  # noqa: N815 - names of http.server

            def log_message(self, *_args):
                pass

        server = serve(Handler)
        opened.append(server)
        return server.__enter__()

    yield start
    for server in opened:
        server.__exit__(None, None, None)


def send(handler, content, **headers):
    data = content.encode() if isinstance(content, str) else content
    handler.send_response(200)
    for name, value in {"Content-Type": JSON, "Content-Length": len(data), **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(data)


def make_settings(port, timeout_s=0.3):
    return KFPSettings(host=f"http://127.0.0.1:{port}", timeout_s=timeout_s)


def drip_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    drip(handler, b" ")


def drip_body_without_length(handler):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
    drip(handler, b" ")


def drip_chunks(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    drip(handler, b"1\r\n \r\n")


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    drip(handler, b"y")


def drip_continue(handler):
    drip(handler, b"HTTP/1.1 100 Continue\r\n\r\n")


def drip(handler, piece):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        handler.wfile.write(piece)
        handler.wfile.flush()
        time.sleep(0.05)


DRIPS = [drip_body, drip_body_without_length, drip_chunks, drip_headers, drip_continue]


@pytest.mark.parametrize("respond", DRIPS, ids=lambda one: one.__name__)
def test_an_answer_that_never_ends_is_given_up(start, respond):
    settings = make_settings(start(respond))
    begin = time.monotonic()

    for ask in (fetch_run, read_executions):
        with pytest.raises(ToolError, match=r"did not complete its answer within 1\.2 s"):
            ask(settings, "x")
    assert read_run_state(settings, "x") is None

    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("respond", DRIPS, ids=lambda one: one.__name__)
def test_an_answer_of_a_registry_that_never_ends_is_given_up(start, respond, monkeypatch):
    monkeypatch.setattr("fftasks.registry.registry_connection._READ_S", 0.3)
    registry = Registry(f"127.0.0.1:{start(respond)}", say=lambda _: None, pause=lambda _: None)
    begin = time.monotonic()

    with pytest.raises(ToolError, match=r"not complete after 1\.2 s"):
        registry.list_tags("a")

    assert time.monotonic() - begin < 15


def test_a_slow_answer_that_ends_in_time_is_read(start):
    def respond(handler):
        data = json.dumps({"run_id": "x"}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for number in data:
            handler.wfile.write(bytes([number]))
            handler.wfile.flush()
            time.sleep(0.03)

    assert fetch_run(make_settings(start(respond)), "x") == {"run_id": "x"}


@pytest.mark.parametrize("is_zipped", [False, True])
def test_an_answer_that_is_too_large_is_refused_and_a_log_is_cut(start, monkeypatch, is_zipped):
    monkeypatch.setattr("fftasks.kfp.connection.MAX_RESPONSE_BYTES", 1_000_000)
    monkeypatch.setattr(kfp_runs, "_MAX_LOG_BYTES", 1_000_000)
    content = b"begin " + b" " * 40_000_000
    packed = gzip.compress(content) if is_zipped else content
    headers = {"Content_Encoding": "gzip"} if is_zipped else {}
    settings = make_settings(start(lambda handler: send(handler, packed, **headers)), 5)

    with pytest.raises(ToolError, match="more than 1 MB"):
        fetch_run(settings, "x")
    log, _ = fetch_log(settings, {"run_id": "x"}, "pod-1")

    assert log.startswith("begin ")
    assert len(log) < 1_001_000
    assert "kubectl logs pod-1" in log[-200:]


def test_a_zipped_answer_is_read(start):
    packed = gzip.compress(b'{"run_id": "x"}')
    port = start(lambda handler: send(handler, packed, Content_Encoding="gzip"))

    assert fetch_run(make_settings(port), "x") == {"run_id": "x"}


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip", "deflate"])
def test_an_answer_that_cannot_be_unpacked_is_an_error(start, encoding):
    port = start(lambda handler: send(handler, b"not packed", Content_Encoding=encoding))

    with pytest.raises(ToolError, match=r"encoding|decompressed"):
        fetch_run(make_settings(port), "x")


def test_an_answer_of_a_registry_that_is_too_large_is_refused(start, monkeypatch):
    monkeypatch.setattr("fftasks.registry.registry_connection.MAX_RESPONSE_BYTES", 1_000_000)
    monkeypatch.setattr(answers.read_body, "__defaults__", (1_000_000,))
    packed = gzip.compress(b" " * 20_000_000)
    port = start(lambda handler: send(handler, packed, Content_Encoding="gzip"))

    with pytest.raises(ToolError, match="larger than 1 MB"):
        Registry(f"127.0.0.1:{port}", pause=lambda _: None).read_manifest("a", "b")


@pytest.mark.parametrize("is_new", [False, True])
def test_a_list_whose_pages_never_end_is_given_up(start, monkeypatch, is_new):
    monkeypatch.setattr("fftasks.kfp.connection.MAX_PAGES", 20)
    asked = []

    def respond(handler):
        asked.append(handler.path)
        token = str(len(asked)) if is_new else "t"
        send(handler, json.dumps({"next_page_token": token}))

    with pytest.raises(ToolError, match=r"endless|pages"):
        fetch_runs(make_settings(start(respond)), 10)
    assert len(asked) < 30


@pytest.mark.parametrize("is_new", [False, True])
def test_a_list_of_tags_whose_pages_never_end_is_given_up(start, monkeypatch, is_new):
    monkeypatch.setattr("fftasks.registry.oci_registry.MAX_PAGES", 20)
    asked = []

    def respond(handler):
        asked.append(handler.path)
        last = len(asked) if is_new else "t"
        link = f'</v2/a/tags/list?last={last}>; rel="next"'
        send(handler, '{"tags": null}', Link=link)

    with pytest.raises(ToolError, match="no end"):
        Registry(f"127.0.0.1:{start(respond)}").list_tags("a")
    assert len(asked) < 30


@pytest.mark.parametrize(
    "content",
    [
        *(DEEP, '{"a":' * 90_000 + "1" + "}" * 90_000, '{"run_id":' + "[" * 400 + "]" * 400 + "}"),
        *("null", "7", '"x"', "[]", "", b"\xed\xa0\x80", '{"run_id": 1e999}'),
    ],
    ids=range(10),
)
def test_any_json_is_an_error_or_unknown(start, content):
    def respond(handler):
        kind = "application/grpc-web+proto" if "ml_metadata" in handler.path else JSON
        send(handler, content, Content_Type=kind)

    settings = make_settings(start(respond), 5)
    asks = [
        lambda: ClusterRun(fetch_run(settings, "x")).tasks,
        lambda: fetch_runs(settings, 10),
        lambda: fetch_log(settings, {}, "p"),
        lambda: fetch_pods(settings, ["p"]),
        lambda: fetch_events(settings, "p"),
        lambda: read_run_state(settings, "x"),
        lambda: read_executions(settings, "x"),
    ]
    for ask in asks:
        with suppress(FFTasksError):
            ask()


@pytest.mark.parametrize("head", [b"\0\0\0\0\3", b"\0\xff\xff\xff\xff", b"\0\0\0\0\0" * 200_000])
def test_what_is_no_protobuf_is_an_error(start, head):
    kind = "application/grpc-web+proto"
    settings = make_settings(
        start(lambda one: send(one, head + b"\xff\xff\xff", Content_Type=kind)), 5
    )

    try:
        found = read_executions(settings, "x")
    except ToolError:
        found = None
    assert not found


def test_half_of_a_surrogate_pair_in_json_can_be_printed():
    assert answers.parse_json(b'{"a": "x\\ud800y \\ud83d\\ude00"}') == {"a": "x?y \U0001f600"}


WRONG = [None, 7, -1e300, True, "text", [], [None, 7, [[]]], {}, {"a": None}, {"name": {"name": 7}}]


def list_places(value, path=()):
    """Yield one path for each kind of value: the first item of lists, and a few keys of mappings."""
    yield path
    if isinstance(value, list):
        for number in sorted({0, len(value) // 2, len(value) - 1} if value else ()):
            yield from list_places(value[number], (*path, number))
    elif isinstance(value, dict):
        for key in list(value)[:12]:
            yield from list_places(value[key], (*path, key))


def replace(answer, path, wrong):
    if not path:
        return wrong
    changed = copy.deepcopy(answer)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = wrong
    return changed


def read_all(answer):
    """Read a run as status, runs, result and the pages do."""
    run = ClusterRun(answer)
    properties = {"nodes": json.dumps(answer), "seconds": "x"}
    json.dumps([run.run_id, run.name, run.state, run.error, run.workflow, run.pipeline_name])
    for task in (*run.tasks, run.details.read_root_driver()):
        get_task_state(run, task)
        list(list_spans(task.driver, task.step))
    for task in run.tasks:
        find_run_settings(run, task, None)
        list_artifact_names(run.document, task.name)
        run.never_started(task)
    read_node_metrics(
        run, {task.name: {"inner": OutputArtifact("", properties)} for task in run.tasks}
    )


@pytest.mark.parametrize(
    "name", ["chain-1", "retry-1", "theirs-1", "settings-1", "weats-1", "params-1"]
)
def test_a_run_with_any_value_in_any_place_is_read(name):
    answer = json.loads((RECORDED / f"{name}.json").read_bytes())
    places = list(dict.fromkeys(list_places(answer)))
    step = max(1, len(places) // 150)
    tried = 0
    for number, path in enumerate(places[::step]):
        for wrong in (WRONG[number % len(WRONG)], WRONG[(number * 7 + 3) % len(WRONG)]):
            tried += 1
            try:
                read_all(replace(answer, path, wrong))
            except FFTasksError:
                continue
            except Exception as error:
                raise AssertionError(f"{path} = {wrong!r}") from error
    assert tried > 100


@pytest.mark.parametrize("upstream", [["a"], ["b"], ["zz"], [7], "b", None])
def test_a_document_whose_tasks_need_themselves_or_others_is_read(upstream):
    tasks = {
        "a": {"componentRef": {"name": "c"}, "dependentTasks": upstream},
        "b": {"componentRef": {"name": "c"}, "dependentTasks": ["a"]},
    }
    read_all({"run_id": "x", "pipeline_spec": {"root": {"dag": {"tasks": tasks}}}})


@pytest.mark.parametrize("size", [999, 1001])
def test_an_artifact_is_downloaded_to_be_shown_only_up_to_a_size(tmp_path, size):
    (tmp_path / "bucket/b").mkdir(parents=True)
    (tmp_path / "bucket/b/page").write_bytes(b"x" * size)
    store = ObjectStore(ObjectStoreSettings(mount=str(tmp_path / "bucket")))
    uri, target = ArtifactURI.parse("minio://b/page"), tmp_path / "target"

    if size < 1000:
        store.fetch(uri, target, 1000)
        assert target.stat().st_size == size
    else:
        with pytest.raises(TooLargeError):
            store.fetch(uri, target, 1000)
        assert not target.exists()
    store.fetch(uri, target)
    assert target.stat().st_size == size


def test_a_folder_is_not_downloaded_to_be_shown(tmp_path):
    (tmp_path / "bucket/b/page").mkdir(parents=True)
    (tmp_path / "bucket/b/page/x").write_text("x")
    store = ObjectStore(ObjectStoreSettings(mount=str(tmp_path / "bucket")))

    with pytest.raises(TooLargeError):
        store.fetch(ArtifactURI.parse("minio://b/page"), tmp_path / "target", 1000)


@pytest.mark.parametrize("piece", ["![", "[", "*_", "- a\n", "[a][", "![[]()", "> "])
def test_hostile_markdown_takes_no_long_time(piece):
    for length in (30_000, 1_400_000):
        begin = time.process_time()
        for _ in range(3):
            render_markdown((piece * length)[:length])
        assert time.process_time() - begin < 5


def test_markdown_that_is_too_long_to_be_rendered_is_shown_as_text():
    page = render_markdown("# <b>\n" * 10_000)

    assert page.startswith("<pre># &lt;b&gt;\n")
    assert page.count("# ") == 10_000


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """Give a project with a run that has ended, its server, and the answer about the run."""
    with KFPServer() as server:
        sample = make_project(tmp_path_factory.mktemp("project"), server)
        _, record = submit_project(sample)
        server.wait(record["run_id"])
        yield sample, server, fetch_run(KFPSettings(host=server.url), record["run_id"])


@pytest.mark.parametrize(
    "path",
    [
        ("pipeline_spec",),
        ("run_details", "task_details", 0),
        ("state_history",),
        ("runtime_config",),
    ],
    ids=str,
)
def test_commands_bear_a_run_with_a_value_of_another_type(submitted, path):
    sample, server, answer = submitted
    broken = replace(answer, path, [7, "x", None])
    identity = answer["run_id"]
    server.faults[:] = [
        Fault(body=json.dumps(broken).encode(), path=f"/runs/{identity}$", times=99),
        Fault(body=json.dumps({"runs": [broken, 7, None]}).encode(), path="/runs$", times=99),
    ]
    commands = (
        ("status",),
        ("runs",),
        ("logs", "second"),
        ("result", "second", "--cluster"),
        ("report", "--cluster"),
    )
    for command in commands:
        process = sample.start(*command)
        printed = process.communicate()[0]

        assert "Traceback" not in printed, printed
        assert process.returncode in (0, 1, 2, 3), printed
