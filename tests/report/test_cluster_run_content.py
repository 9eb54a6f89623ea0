"""The page of a run on the cluster."""

import json
import shutil
import time
from contextlib import contextmanager

import pytest

from fftasks.cache.history import RunJournal
from fftasks.errors import FFTasksError
from fftasks.project import open_project
from fftasks.records import read_record
from fftasks.report import cluster_run_content as outputs
from fftasks.report.polling import watch_runs
from fftasks.report.run_report import describe_run, list_run_diagram_nodes
from tests.services.cluster import Cluster, Pace
from tests.services.kfp_script import Script, list_steps
from tests.services.kfp_server import KFPServer
from tests.services.launcher import Ending
from tests.services.local_pods import LocalPods
from tests.services.waiting import wait_until
from tests.submitted_project import make_project, submit_project


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    with KFPServer() as server:
        _, record = submit_project(make_project(tmp_path_factory.mktemp("tasks"), server))
        return server.api.runs[record["run_id"]].pipeline.order_tasks()


@pytest.fixture
def describe(tmp_path, tasks):
    """Give a function that lets a run fail at its last node, changes the project, and describes the run."""

    def run_and_describe(change=lambda _: None, name=None):
        steps = [
            (tasks[0], "CACHED"),
            *list_steps(tasks[1:2], "PENDING", "RUNNING", "SUCCEEDED"),
            *list_steps(tasks[2:], "RUNNING"),
            (tasks[2], "FAILED", "exit status 1"),
        ]
        script = Script(*steps, logs={tasks[2]: "<b>what it printed</b>\n"})
        with KFPServer(script) as server:
            sample = make_project(tmp_path, server)
            project, record = submit_project(sample)
            watch_runs(project, [record["run_id"]])
            change(sample)
            open_project.cache_clear()
            project = open_project(tmp_path)
            if name == "items":
                return list_run_diagram_nodes(project, "", cluster=True)
            return describe_run(
                project, record["run_id"] if name is None else name, cluster=not name
            )

    return run_and_describe


def test_nodes_have_their_states_errors_and_logs(describe):
    content = describe()

    tasks = {task["name"]: task for task in content["tasks"]}
    assert {name: task["state"] for name, task in tasks.items()} == {
        "first node": "cached",
        "second": "ran",
        "third": "failed",
    }
    assert tasks["third"]["error"].startswith("its command ended with exit status 1\n")
    assert tasks["third"]["error"].endswith("last lines of its log:\n<b>what it printed</b>")
    assert tasks["third"]["log"] == "<b>what it printed</b>\n"
    assert tasks["second"]["function"] == "double"
    assert tasks["second"]["begin"] <= tasks["second"]["end"]
    assert content["path"][-1] == "third"
    assert "◆ first node" in content["graph"]["svg"]


ONE_NODE = """
from fftasks import Workflow, workflow

@workflow
def one():
    return 1

Workflow(one(), name="alone")
"""


def test_it_shows_where_the_minutes_went(tmp_path):
    def run_for_a_second(_):
        time.sleep(1.1)  # Kubeflow Pipelines has times in whole seconds
        return Ending()

    pace = Pace(driver_s=1.1, queue_s=1.1, pull_s=1.1)
    with KFPServer(Cluster(run_for_a_second, tmp_path / "cluster", pace=pace)) as server:
        sample = make_project(tmp_path / "project", server, ONE_NODE)
        project, record = submit_project(sample)
        server.wait(record["run_id"])

        content = describe_run(project, record["run_id"])

    spent = content["path_seconds"]
    assert list(spent)[:4] == ["driver", "queue", "pull", "run"]
    for what in ("driver", "queue", "pull", "run"):
        assert 1 <= spent[what] <= 3
    took = content["tasks"][-1]["end"] - content["tasks"][0]["begin"]
    assert sum(spent.values()) == pytest.approx(took, abs=0.001)


def test_a_server_that_knows_no_pods_leaves_queue_and_pull_together(tmp_path, tasks):
    with KFPServer(
        Script(*list_steps(tasks[:1], "PENDING", "RUNNING")), log_servers=frozenset()
    ) as server:
        project, record = submit_project(make_project(tmp_path, server))
        wait_until(lambda: server.runs[0].tasks, what="the first task")
        wait_until(lambda: server.runs[0].tasks[tasks[0]].state == "RUNNING", what="its pod")

        tasks = describe_run(project, record["run_id"])["tasks"]

    assert [phase["name"] for phase in tasks[0]["phases"]] == ["driver", "queue, pull"]
    asked = [request.query["podname"] for request in server.list_requests("GET", "/k8s/pod")]
    assert len(asked) == 1


SETTINGS = """
nodes:
  second: {memory: 2Gi, gpu: 1, cache: false, retries: 1, env: {MODE: fast}, node_selector: {disk: ssd}}
"""


def test_it_shows_the_settings_of_nodes_and_where_they_were_made(describe_settings):
    second = describe_settings(lambda _: None)

    assert second["memory"] == "2Gi (config/default.yaml:6)"
    assert second["env.MODE"] == "fast (config/default.yaml:6)"
    assert second["image"].startswith("registry.test/image@sha256:")


def test_settings_that_have_changed_since_are_shown_as_the_run_has_them(describe_settings):
    second = describe_settings(lambda sample: sample.edit("config/default.yaml", "2Gi", "4Gi"))

    assert second["memory"] == "2Gi"
    assert second["retries"] == "1"
    assert (second["gpu"], second["cache"]) == ("1 nvidia.com/gpu", "false")
    assert second["env.MODE"] == "fast"
    assert second["nodeSelector"] == '{"labels": {"disk": "ssd"}}'


@pytest.fixture
def describe_settings(tmp_path):
    """Give a function that submits a node with settings, changes the project, and shows the node."""

    def submit_and_describe(change):
        with KFPServer() as server:
            sample = make_project(tmp_path, server, kfp=SETTINGS)
            _, record = submit_project(sample)
            server.wait(record["run_id"])
            change(sample)
            open_project.cache_clear()
            tasks = describe_run(open_project(tmp_path), record["run_id"])["tasks"]
        return next(task["settings"] for task in tasks if task["name"] == "second")

    return submit_and_describe


def test_the_picture_of_a_run_shows_what_was_cached(describe):
    items = describe(name="items")

    assert [(item.name, item.state) for item in items] == [
        ("first node", "cached"),
        ("second", "ran"),
        ("third", "failed"),
    ]


def test_it_leads_to_the_page_of_kubeflow_pipelines(describe):
    run = describe()["run"]

    assert run["state"] == "failed"
    assert "/#/runs/details/" in run["link"]


def test_the_stages_that_led_to_it_come_before(describe):
    def submit_here(sample):
        journal = RunJournal(sample.root / ".fftasks", lambda: ({"begin": 1.0}, "g", dict))
        for stage in ("push", "pipeline:chain", "submit:chain"):
            journal.begin_task(stage)
            journal.end_task(stage, "ran")
        journal.end([])

    content = describe(submit_here)

    assert [task["name"] for task in content["tasks"]][:3] == [
        "push",
        "pipeline:chain",
        "submit:chain",
    ]
    first = next(task for task in content["tasks"] if task["name"] == "first node")
    assert first["upstream"] == ["submit:chain"]


def test_a_project_that_has_changed_since_shows_what_ran(describe):
    content = describe(lambda sample: sample.edit("wf.py", '"second"', '"another"'))

    assert [task["name"] for task in content["tasks"]] == ["first node", "second", "third"]
    assert content["tasks"][1]["upstream"] == ["first node"]


def test_a_workflow_that_cannot_be_imported_hides_no_run(describe):
    content = describe(lambda sample: sample.edit("wf.py", "first =", "first = = "))

    assert len(content["tasks"]) == 3


def test_a_name_that_is_neither_here_nor_there_is_an_error(describe):
    with pytest.raises(FFTasksError, match="run 'nothing' not found"):
        describe(name="nothing")


PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADU"
    "lEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHOWING = """
import base64

from fftasks import ConfusionMatrix, HTML, Markdown, Metrics, Workflow, workflow


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADU"
    "lEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@workflow
def load():
    return [1.5, 2.5]


@workflow
def score(values):
    return Metrics(accuracy=0.765625, count=len(values))


@workflow
def tell(values):
    return Markdown("# Title"), HTML("<p>page</p>"), ConfusionMatrix("ab", [[9, 1], [2, 8]])


@workflow(shows=["html"])
def draw(values):
    return PNG + bytes(values)[:0]


@workflow
def hide(values):
    return PNG + bytes(values)[:0]


values = load().set_name("load")
leaves = [score(values).set_name("score"), tell(values).set_name("tell"), draw([]).set_name("draw")]
leaves.append(hide([]).set_name("hide"))
Workflow(*leaves, name="show")
"""


UNDECLARED = (
    "Not shown: the pictures that hide returned, as the components do not declare a page for them;"
    ' write @workflow(shows=["html"]).'
)


@contextmanager
def run_showing(folder, kfp=""):
    """Give a project whose run has ended on a server that runs pods: to doit, opened, and the server."""
    root = folder / "project"
    with KFPServer(Cluster(LocalPods(root), folder / "cluster")) as server:
        mount = f"{kfp}object_store:\n  mount: {folder}/cluster/bucket/minio\n"
        sample = make_project(root, server, SHOWING, kfp=mount)
        project, record = submit_project(sample)
        run = server.wait(record["run_id"])
        assert run.state == "SUCCEEDED", run.error
        yield sample, project, server


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Give such a project, and its server."""
    with run_showing(tmp_path_factory.mktemp("shown")) as (sample, _, server):
        yield sample, server


def test_the_board_asks_for_what_does_not_change_once(shown):
    sample, server = shown
    describe_shown(sample)
    server.requests.clear()

    describe_run(open_project(sample.root), cluster=True)

    asked = [request.path for request in server.requests]
    assert [path for path in asked if "/k8s/" in path or "ml_metadata" in path] == []
    assert [path for path in asked if path.endswith("/runs")] == []


def test_the_content_is_printed_as_data(shown):
    content = json.loads(shown[0].doit("report", "--cluster", "--json"))

    assert content.keys() == {"title", "run", "tasks", "path", "path_seconds", "history"}
    assert (
        next(t["metrics"] for t in content["tasks"] if t["name"] == "score")["accuracy"] == 0.765625
    )


def describe_shown(sample, **settings):
    for name, value in settings.items():
        sample.edit("config/default.yaml", name, value)
    open_project.cache_clear()
    outputs._unreachable_stores.clear()
    outputs._ended_outputs.clear()
    content = describe_run(open_project(sample.root), cluster=True)
    return content, {task["name"]: task for task in content["tasks"]}


def test_results_types_and_metrics_are_those_of_the_metadata_store(shown):
    content, tasks = describe_shown(shown[0])

    assert content["notice"].splitlines() == [UNDECLARED]
    assert tasks["load"]["preview"] == "[1.5, 2.5]"
    assert tasks["load"]["kind"] == "list 2 items"
    assert tasks["score"]["metrics"] == {"accuracy": 0.765625, "count": 2}
    assert content["history"][0]["metrics"] == {"score accuracy": 0.765625, "score count": 2}


def test_texts_pages_classifications_and_pictures_are_brought(shown):
    _, tasks = describe_shown(shown[0])

    assert tasks["tell"]["text"] == "# Title"
    documents = {one["title"]: one["html"] for one in tasks["tell"]["documents"]}
    assert "<h1>Title</h1>" in documents["Text"]
    assert "<p>page</p>" in documents["Page"]
    assert "<th>a</th><td" in documents["Classification"]
    assert tasks["draw"]["pictures"] == [PICTURE]


def test_a_picture_that_no_component_declares_is_not_shown_and_the_page_says_what_to_write(shown):
    content, tasks = describe_shown(shown[0])

    assert tasks["hide"]["pictures"] == []
    assert "write @workflow(shows=" in content["notice"]
    brought = {path.name for path in (shown[0].root / ".fftasks" / "cluster").glob("*/*/*")}
    assert brought == {"markdown", "html"}  # and no result


def test_results_are_not_even_asked_for_where_they_are_not_wanted(shown, monkeypatch):
    sample, server = shown
    server.requests.clear()
    monkeypatch.setenv("FFTASKS_REPORT__PREVIEWS", "false")

    content, tasks = describe_shown(sample)

    assert not any("ml_metadata" in request.path for request in server.requests)
    assert "0.765625" not in json.dumps(content)
    assert "[1.5" not in json.dumps(content)
    assert tasks["tell"]["documents"] == []


def test_a_store_that_cannot_be_reached_is_said_and_the_rest_is_shown(shown, tmp_path, monkeypatch):
    monkeypatch.setenv("FFTASKS_OBJECT_STORE__MOUNT", str(tmp_path / "nowhere"))
    sample, _ = shown
    shutil.rmtree(sample.root / ".fftasks" / "cluster", ignore_errors=True)

    content, tasks = describe_shown(sample)

    assert content["notice"].startswith(
        "Texts, pages and pictures are not shown: object_store.mount: "
    )
    assert "object_store" in content["notice"]
    assert tasks["load"]["preview"] == "[1.5, 2.5]"
    assert tasks["tell"]["documents"][0]["title"] == "Classification"


def test_a_host_without_a_metadata_store_is_said_and_the_rest_is_shown(shown, monkeypatch):
    sample, server = shown
    monkeypatch.setattr(server, "log_servers", frozenset({"api"}))

    content, tasks = describe_shown(sample)

    assert content["notice"].startswith("Results and metrics are not shown: the metadata store")
    assert tasks["load"]["state"] == "ran"


def test_nodes_that_share_a_task_show_what_each_of_them_has(tmp_path):
    with run_showing(tmp_path, kfp="  fuse: auto\n") as (sample, project, _):
        content, tasks = describe_shown(sample)

    made = read_record(project.record_path("tasks", "show"))["tasks"].values()
    assert max(len(task["nodes"]) for task in made) > 1
    assert tasks["score"]["metrics"] == {"accuracy": 0.765625, "count": 2}
    assert tasks["tell"]["text"] == "# Title"
    assert [one["title"] for one in tasks["tell"]["documents"]] == [
        "Text",
        "Page",
        "Classification",
    ]
    assert tasks["draw"]["pictures"] == [PICTURE]
    assert tasks["load"]["documents"] == []
    assert (tasks["load"]["preview"], tasks["load"]["kind"]) == ("[1.5, 2.5]", "list 2 items")
    whole = tasks["load"]["end"] - tasks["load"]["begin"]
    # its own function, not its task, whose times are whole seconds
    assert 0 <= tasks["load"]["seconds"] < max(whole, 0.5)
    assert content["history"][0]["metrics"] == {"score accuracy": 0.765625, "score count": 2}
