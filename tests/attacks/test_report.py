"""report.previews: false: no value of the user's is on a page, in whatever form and wherever it came from."""

from __future__ import annotations

import base64
import json
import re

import pytest

from fftasks.cli.board import _describe as describe_for_board
from fftasks.errors import FFTasksError
from fftasks.project import open_project
from fftasks.records import (
    STATE_FORMAT,
    read_record,
    read_state_file,
    write_record,
    write_state_file,
)
from fftasks.report.polling import watch_runs
from fftasks.report.run_report import describe_run
from fftasks.report.web_page import format_page_data
from tests.sample import Sample
from tests.services.kfp_script import Script, list_steps
from tests.services.kfp_server import KFPServer
from tests.submitted_project import make_project, submit_project

COUNT = 64
MARKS = [f"Zq{number:02d}wXv" for number in range(COUNT)]
NUMBERS = [710000123 + 1000 * number for number in range(8)]
CODE = '''
"""MARK00 is what this file is about."""
import base64, dataclasses, os, sys
from fftasks import HTML, ConfusionMatrix, Markdown, Metrics, Parameter, Workflow, workflow

@dataclasses.dataclass
class Config:
    name: str

class MARKError(Exception):
    pass

def make(name):
    def inner(value):
        raise type(name + "MARK61Error", (ValueError,), {})("MARK62")
    inner.__name__ = name
    inner.__qualname__ = name
    return workflow(inner)

@workflow
def take(value, other="MARK01", *rest, **more):
    """MARK02 is what this function is about."""
    print("printed", "MARK03")
    print("said", "MARK04", file=sys.stderr)
    return "MARK05 " + repr(value)

@workflow(version="MARK06")
def versioned(value):
    return {"MARK07": ["MARK08", value], "n": NUMBER0}

@workflow
def fail(value):
    raise MARKError("bad row MARK09 " + str(value))

@workflow
def leave(value):
    sys.exit("leaving MARK10")

@workflow
def read(value):
    return open("data/MARK12.csv").read()

@workflow
def measure(value):
    return Metrics({"MARK13": NUMBER1})

@workflow
def number(value):
    return NUMBER2

@workflow
def tell(value):
    return Markdown("# MARK14")

@workflow
def page(value):
    return HTML("<p>MARK15</p>")

@workflow
def classify(value):
    return ConfusionMatrix(["MARK16", "other"], [[NUMBER3, 1], [1, 1]])

@workflow
def draw(value):
    return base64.b64decode(PNG) + b"MARK17 in a picture"

@workflow
class Model:
    def __init__(self, value):
        self.value = value
    def fit(self, value):
        return "MARK18"

PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
nodes = [
    take("MARK19").set_name("a name of the author's"),
    take({"a": {"MARK20": ["MARK21"]}}, ("MARK22",), b"MARK23", NUMBER4, MARK24="MARK25"),
    take(Config("MARK26"), {"MARK27"}, 1.5 + NUMBER5),
    take(Parameter("rate", default="MARK28", help="MARK29")),
    take([Parameter("depth", default=NUMBER6, help="MARK30")]).set_name("deep"),
    versioned("MARK31"), fail("MARK32").set_name("fails"), leave(1), read(1), measure(1),
    number(1), tell(1), page(1), classify(1), draw(1),
    take(1).set_name("row " + "MARK33"), make("of_" + "MARK60")(1), make("MARK63" + "x")(2).set_name("made"),
    take(1).set_name(f"patient {'MARK34'}"),
]
model = Model("MARK35").set_name("model of " + "MARK36")
nodes.append(model.fit("MARK37").set_name("fitted to " + "MARK38"))
nodes.append(take(nodes[-2]).set_name("after " + "MARK39"))
workflow_ = Workflow(*nodes, name="all of " + "MARK40")
workflow_.query("deep").set(env={"CODED": "MARK41"})
'''
SETTINGS = """
nodes:
  deep:
    env: {MARK42: "MARK43"}
    annotations: {note: "MARK44"}
    labels: {team: "MARK45"}
    node_selector: {disk: "MARK46"}
    display_name: "MARK47"
    memory: 2Gi
    gpu_type: "MARK48"
"""
KFP = """  run_name: "run MARK49"
  labels: {who: "MARK50"}
  experiment: "MARK51"
"""


def fill(text):
    text = re.sub(r"MARK(\d\d)", lambda match: MARKS[int(match[1])], text)
    return re.sub(r"NUMBER(\d)", lambda match: str(NUMBERS[int(match[1])]), text)


def find_marks(page: str) -> set[str]:
    """Return the planted values in a page, also as base64 has them, and in escapes of JSON and HTML."""
    texts = [page, page.replace("\\u005c", "\\"), re.sub(r"\\u([0-9a-f]{4})", _read_escape, page)]
    decoded = []
    for piece in re.findall(r"[A-Za-z0-9+/]{16,}", page):
        for begin in range(4):
            cut = piece[begin : begin + (len(piece) - begin) // 4 * 4]
            decoded.append(base64.b64decode(cut).decode("latin-1"))
    whole = "\n".join([*texts, *decoded])
    return {mark for mark in [*MARKS, *map(str, NUMBERS)] if mark in whole}


def _read_escape(match):
    return chr(int(match[1], 16))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Give a project that has run twice, with other values, another name and other data."""
    sample = Sample.make(tmp_path_factory.mktemp("values"), fill(CODE))
    sample.write("config/default.yaml", fill(f"workflows: [wf.py]\nkfp:\n{KFP}{SETTINGS}"))
    sample.write(f"data/{MARKS[12]}.csv", MARKS[53])
    sample.doit("run", "-c", f"rate={MARKS[54]}", code=1)
    sample.edit("wf.py", f'take("{MARKS[19]}")', f'take("{MARKS[55]}")')
    sample.edit("wf.py", f'version="{MARKS[6]}"', f'version="{MARKS[56]}"')
    sample.write(f"data/{MARKS[12]}.csv", MARKS[57])
    sample.doit("run", "-c", f"rate={MARKS[58]}", code=1)
    return sample


def read_report(sample, *arguments, previews):
    sample.doit("report", *arguments, FFTASKS_REPORT__PREVIEWS=previews)
    return (sample.root / ".fftasks" / "report.html").read_text()


def test_no_value_is_on_the_page_of_a_local_run(sample):
    assert find_marks(read_report(sample, previews="false")) == set()


def test_no_value_is_on_the_page_of_an_earlier_run(sample):
    first = min(path.stem for path in (sample.root / ".fftasks" / "runs").glob("*.jsonl"))

    assert find_marks(read_report(sample, first, previews="false")) == set()


def test_no_value_is_in_the_json_of_a_report(sample):
    shown = sample.doit("report", "--json", FFTASKS_REPORT__PREVIEWS="false")

    assert find_marks(shown) == set()
    assert len(json.loads(shown)["tasks"]) >= 20


def test_no_value_is_in_what_the_board_gives_to_browsers(sample, monkeypatch):
    monkeypatch.setenv("FFTASKS_REPORT__PREVIEWS", "false")
    monkeypatch.chdir(sample.root)
    open_project.cache_clear()

    assert find_marks(format_page_data(describe_run(open_project(sample.root)))) == set()


def test_an_error_of_the_board_has_no_value_in_it(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("FFTASKS_REPORT__PREVIEWS", "false")
    broken = Sample.make(tmp_path, fill("raise ValueError('MARK52')\n"))
    header = {"format": STATE_FORMAT, "run": "x", "begin": 1, "pid": 1}
    broken.write(".fftasks/runs/20260101-000000-1.jsonl", f"{json.dumps(header)}\n")
    open_project.cache_clear()

    with pytest.raises(FFTasksError) as caught:
        describe_for_board(open_project(broken.root), [], cluster=True)

    assert find_marks(str(caught.value)) == set()


def test_most_values_are_there_if_they_are_wanted(sample):
    page = read_report(sample, previews="true")

    assert len(find_marks(page)) >= 40


def test_what_the_author_has_written_and_what_came_of_it_stays(sample):
    shown = json.loads(sample.doit("report", "--json", FFTASKS_REPORT__PREVIEWS="false"))
    tasks = {task["name"]: task for task in shown["tasks"]}

    assert tasks["a name of the author's"]["reason"] == "constant value changed"
    assert tasks["a name of the author's"]["arguments"] == {"value": "not shown"}
    assert tasks["deep"]["settings"]["memory"].startswith("2Gi (config/default.yaml:")
    assert tasks["deep"]["settings"]["env"] == "not shown"
    assert tasks["take_0002"]["arguments"] == dict.fromkeys(
        ["value", "other", "rest_0"], "not shown"
    )
    assert tasks["versioned_0000"]["reason"] == "its version changed"
    assert tasks["fails"]["error"] == "raised MARKError"
    assert tasks["leave_0000"]["error"] == "failed"
    assert "a data file changed" in {task["reason"] for task in shown["tasks"]}
    assert {task["workflow"] for task in shown["tasks"]} == {"workflow #23"}
    renamed = [name for name in tasks if re.fullmatch(r"(take|Model(\.fit)?) #\d+", name)]
    assert len(renamed) == 5
    (after,) = (task for task in shown["tasks"] if task["upstream"] and task["function"] == "take")
    assert tasks[after["upstream"][0]]["function"] == "take"
    assert shown["run"]["command"] == "doit run"
    assert shown["run"]["parameters"] == shown["run"]["metrics"] == {}
    assert all(name in tasks for name in shown["path"])


CHAIN = """
from fftasks import Parameter, Workflow, workflow

@workflow
def double(x, y=None, **more):
    return 2 * x

first = double("MARK00", y={"MARK01": NUMBER0}).set_name("first node")
second = double(first, Parameter("rate", default="MARK02"), MARK03=1).set_name("of " + "MARK04")
Workflow(double(second).set_name("third"), name="chain of " + "MARK05")
"""
CLUSTER_SETTINGS = """  run_name: "run MARK06"
  labels: {who: "MARK07"}
  experiment: "MARK08"
nodes:
  third:
    env: {MODE: "MARK09"}
    annotations: {note: "MARK10"}
    node_selector: {disk: "MARK11"}
"""


@pytest.mark.parametrize("is_known", [True, False], ids=["own graph", "another graph"])
def test_no_value_is_on_the_page_of_a_run_on_the_cluster(tmp_path, monkeypatch, is_known):
    found = {}
    with KFPServer() as server:
        _, record = submit_project(make_project(tmp_path / "a", server, fill(CHAIN)))
        tasks = server.api.runs[record["run_id"]].pipeline.order_tasks()
    last = 'ValueError: bad row MARK12\n-- failed: {"node":"third","reason":"ValueError: row MARK13"}\n'
    script = Script(
        *list_steps(tasks[:2], "PENDING", "RUNNING", "SUCCEEDED"),
        *list_steps(tasks[2:], "RUNNING"),
        (tasks[2], "FAILED", fill("exit status 1 MARK14")),
        logs={tasks[2]: fill(f"printed MARK15\n{last}")},
    )
    with KFPServer(script) as server:
        settings = fill(CLUSTER_SETTINGS)
        sample = make_project(tmp_path / "b", server, fill(CHAIN), kfp=settings)
        project, record = submit_project(sample)
        watch_runs(project, [record["run_id"]])
        if not is_known:
            sample.edit(
                "wf.py", 'double(second).set_name("third")', 'double(second).set_name("4th")'
            )
        for previews in ("true", "false"):
            monkeypatch.setenv("FFTASKS_REPORT__PREVIEWS", previews)
            found[previews] = read_report(sample, "--cluster", previews=previews)

    assert find_marks(found["false"]) == set()
    assert len(find_marks(found["true"])) >= (10 if is_known else 6)
    assert ('"raised ValueError"' in found["false"]) == is_known or not is_known


def test_records_of_runs_of_older_versions_show_no_name_that_may_be_computed(sample):
    runs = sample.root / ".fftasks" / "runs" / "graphs"
    before = {path: path.read_text() for path in runs.glob("*.json")}
    for path in before:
        graph = read_state_file(path)
        for node in graph["nodes"].values():
            for key in ("is_written", "is_workflow_written", "is_function_written", "extra"):
                del node[key]
        path.unlink()
        write_state_file(path, graph)
    try:
        page = read_report(sample, previews="false")
    finally:
        for path, text in before.items():
            path.write_text(text)

    assert find_marks(page) == set()


def test_a_record_of_a_stage_from_elsewhere_is_only_shown_as_changed(sample, tmp_path):
    other = Sample.make(tmp_path, fill(CODE))
    other.write("config/default.yaml", "workflows: [wf.py]\n")
    other.doit("tasks")
    (path,) = (tmp_path / ".fftasks" / "tasks").glob("*.json")
    record = read_record(path)
    write_record(
        path, {**record, "inputs": {**record["inputs"], MARKS[59]: MARKS[59]}, "graph": ""}
    )
    other.doit("tasks")

    page = read_report(other, previews="false")

    assert find_marks(page) == set()
    assert "its inputs changed" in page
    assert find_marks(read_report(other, previews="true")) >= {MARKS[59]}
