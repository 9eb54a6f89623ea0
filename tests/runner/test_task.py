"""Tasks of several nodes: the entry point with an ExecutorInput, as in a container, but on this machine."""

import json
import os
import subprocess
import sys
import time

import pytest

from fftasks.report.result_documents import (
    split_html_by_node,
    split_markdown_by_node,
    split_metrics_by_node,
)
from fftasks.runner.artifact import (
    digest_artifact,
    is_pack,
    read_artifact,
    read_pack,
    write_artifact,
)
from fftasks.runner.group import format_duration
from fftasks.runner.job import Report
from fftasks.runner.task import (
    TaskNodes,
    describe_nodes,
    format_durations,
    format_members,
    format_node_metadata,
    name_group_input,
    name_input,
    parse_members,
)

TEXT = """
import os, time, pathlib
from fftasks import ConfusionMatrix, HTML, Markdown, Metrics, Workflow, workflow

def note(name):
    with open("ran.txt", "a") as file:
        file.write(name + "\\n")

@workflow
def give(name, *needed):
    note(name)
    print("made", name)
    return [name, *needed]

@workflow
def fail(name, after):
    note(name)
    print("bad luck")
    if os.path.exists("fixed"):
        return name
    raise ValueError("no " + name)

@workflow
def sleep(name, seconds):
    note(f"{name} {time.time()}")
    time.sleep(seconds)
    note(f"{name} {time.time()}")

@workflow
def kill(name):
    os.kill(os.getpid(), 9)

@workflow
class Counter:
    def __init__(self):
        self.count = 0
    def add(self, n):
        self.count += n
        return self.count

@workflow
def score(x):
    note(f"score{x}")
    return Metrics(accuracy=x), Markdown(f"text {x}"), HTML(f"<b>{x}</b>")

@workflow
def confuse(x):
    return ConfusionMatrix("ab", [[x, 1], [2, 8]])

s1_ = score(1).set_name("score")
s2_ = score(2).set_name("score 2")
m1, m2 = confuse(3).set_name("m1"), confuse(4).set_name("m2")
a = give("a").set_name("a")
b = give("b", a).set_name("b")
c = give("c", a[0], b).set_name("c")
d = give("d", c, b).set_name("d")
bad = fail("bad", a).set_name("bad")
after = give("after", bad).set_name("after")
s1, s2 = sleep("s1", 0.5).set_name("s1"), sleep("s2", 0.5).set_name("s2")
killed = kill("killed").set_name("killed")
counter = Counter().set_name("counter")
one, two = counter.add(1).set_name("one"), counter.add(2).set_name("two")
Workflow(d, after, s1, s2, killed, two, s1_, s2_, m1, m2, name="w")
"""


class Pod:
    """A folder with the code, which runs tasks."""

    def __init__(self, root):
        self.root = root
        (root / "wf.py").write_text(TEXT)

    def run(
        self, group, members, inputs=(), outputs=("values", "inner"), code=0, means=None, **flags
    ):
        document = {
            "inputs": {
                "artifacts": {name: self.describe(path) for name, path in dict(inputs).items()}
            },
            "outputs": {
                "artifacts": {name: self.describe(self.root / group / name) for name in outputs},
                "outputFile": str(self.root / group / "answer.json"),
            },
        }
        (self.root / "ran.txt").write_text("")
        options = [f"--{name}={value}" for name, value in flags.items()]
        self.process = subprocess.run(
            [sys.executable, "-m", "fftasks.runner", "--file", "wf.py", "--workflow", "w",
             "--node", group, "--nodes", format_members(members), *options,
             "--executor-input", json.dumps(document)],
            cwd=self.root, capture_output=True, text=True, check=False,
            env={**os.environ, "FFFUNCTION": group, "FFMEANS": json.dumps(means or {"cpu": 2})},
        )  # fmt: skip
        assert self.process.returncode == code, self.process.stderr
        return self.process.stdout if code == 0 else self.process.stderr

    @property
    def ran(self):
        return (self.root / "ran.txt").read_text().split()

    def describe(self, path):
        return {"artifacts": [{"name": "x", "uri": str(path)}]}

    def read(self, group, name="values"):
        return {
            one: value.place.read()
            for one, value in read_pack(self.root / group / name).values.items()
        }


@pytest.fixture
def pod(tmp_path):
    return Pod(tmp_path)


def test_a_group_gives_what_is_needed_elsewhere_and_keeps_the_rest_aside(pod):
    members = TaskNodes(("a", "b", "c", "d"), (("b", "result"), ("d", "result")))

    printed = pod.run("a+", members)

    b = ["b", ["a"]]
    c = ["c", "a", b]
    assert pod.read("a+") == {("b", "result"): b, ("d", "result"): ["d", c, b]}
    assert pod.read("a+", "inner") == {("a", "result"): ["a"], ("c", "result"): c}
    assert pod.ran == ["a", "b", "c", "d"]
    assert "a | made a\n" in printed
    assert "d | -- done in" in printed
    assert set(read_pack(pod.root / "a+" / "inner").told) == set("abcd")
    answer = json.loads((pod.root / "a+" / "answer.json").read_text())
    assert (
        answer["artifacts"]["values"]["artifacts"][0]["metadata"]["display_name"] == "a+ (values)"
    )


SHOWING = TaskNodes(
    ("score", "score 2", "m1", "m2"), tuple((n, "result") for n in ("score", "score 2", "m1", "m2"))
)
KINDS = ("metrics", "classification", "markdown", "html")


def read_shown(pod, group):
    answer = json.loads((pod.root / group / "answer.json").read_text())["artifacts"]
    metadata = {kind: answer[kind]["artifacts"][0]["metadata"] for kind in KINDS}
    return metadata, {kind: (pod.root / group / kind).read_text() for kind in KINDS}


def test_what_the_nodes_of_a_group_show_is_joined_and_can_be_told_apart(pod):
    pod.run("g", SHOWING, outputs=("values", "inner", *KINDS))

    metadata, texts = read_shown(pod, "g")
    nodes = SHOWING.nodes
    assert metadata["metrics"] == {
        "display_name": "g (metrics)", "score accuracy": 1, "score 2 accuracy": 2
    }  # fmt: skip
    assert split_metrics_by_node(nodes, metadata["metrics"]) == {
        "score": {"accuracy": 1}, "score 2": {"accuracy": 2}
    }  # fmt: skip
    assert metadata["classification"]["display_name"] == "m1 (classification)"
    assert metadata["classification"]["confusionMatrix"]["rows"][0] == {"row": [3, 1]}
    assert split_markdown_by_node(nodes, texts["markdown"]) == {
        "score": "text 1",
        "score 2": "text 2",
    }
    pages = split_html_by_node(nodes, texts["html"])
    assert {node: len(found) for node, found in pages.items()} == dict.fromkeys(nodes, 1)
    assert "<b>2</b>" in pages["score 2"][0]
    assert ">4</td>" in pages["m2"][0]


def read_told(pod, group):
    answer = json.loads((pod.root / group / "answer.json").read_text())["artifacts"]["inner"]
    metadata = answer["artifacts"][0]["metadata"]
    return json.loads(metadata["nodes"]), metadata["seconds"].split()


def test_a_group_tells_type_and_beginning_of_each_result(pod):
    pod.run("a+", TaskNodes(("a", "b"), (("b", "result"),)))

    nodes, seconds = read_told(pod, "a+")
    assert nodes["b"].items() >= {"python_type": "list", "preview": "['b', ['a']]"}.items()
    assert nodes["a"]["seconds"] >= 0
    assert [float(word) for word in seconds] == pytest.approx([nodes[n]["seconds"] for n in "ab"])


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0.01234, "0.0123"), (9.996, "10"), (99.96, "100"), (999.6, "1000"), (86_400.4, "86400")],
)
def test_seconds_are_spelled_in_three_digits_and_never_with_an_exponent(seconds, spelled):
    assert float(format_duration(seconds)) == float(spelled)
    assert "e" not in format_duration(seconds)


def test_of_many_nodes_those_are_told_that_find_room_and_the_seconds_of_more():
    told = describe_nodes({f"node {i}": Report({}, {"": "x" * 90}, 0.5) for i in range(3000)})

    text, seconds = format_node_metadata(told), format_durations(["other", *told], told)

    assert 50 < len(json.loads(text)) < 100
    assert len(text) < 9000
    assert len(seconds) < 9000
    assert len(seconds.split()) > 1500
    assert set(seconds.split()) == {"-", "0.5"}


def test_a_node_that_is_kept_shows_what_it_did(pod):
    pod.run("g", SHOWING, outputs=("values", "inner", *KINDS), fingerprint="")
    before = read_shown(pod, "g")
    inputs = {"kept": pod.root / "g" / "values", "kept_inner": pod.root / "g" / "inner"}

    again = TaskNodes(SHOWING.nodes, SHOWING.gives, keeps=("score", "m1", "m2"))
    pod.run("h", again, inputs, outputs=("values", "inner", *KINDS))

    assert pod.ran == ["score2"]
    metadata, texts = read_shown(pod, "h")
    assert texts == before[1]
    assert metadata["metrics"]["score accuracy"] == 1


def test_a_node_alone_behind_a_group_shows_its_own(pod):
    pod.run("score", TaskNodes(("score",), (("score", "result"),)), outputs=("result", "metrics"))

    assert json.loads((pod.root / "score" / "metrics").read_text()) == {"accuracy": 1}


def test_of_a_node_alone_behind_a_group_is_told_what_is_told_of_any(pod):
    pod.run("a", TaskNodes(("a",), ()), outputs=("result",))

    answer = json.loads((pod.root / "a" / "answer.json").read_text())["artifacts"]
    told = answer["result"]["artifacts"][0]["metadata"]
    assert told.pop("seconds") >= 0
    assert digest_artifact(pod.root / "a" / "result").startswith(told.pop("digest"))
    assert told == {
        "display_name": "a (result)",
        "python_type": "list",
        "shape": "1 items",
        "preview": "['a']",
    }


def test_a_group_that_had_nothing_to_show_says_so(pod):
    pod.run("a", TaskNodes(("a", "b"), (("b", "result"),)), outputs=("values", "inner", "html"))

    assert "nothing to be shown" in (pod.root / "a" / "html").read_text()


def test_a_group_takes_from_packs_and_from_nodes_with_a_task_of_their_own(pod):
    pod.run("a+", TaskNodes(("a", "b"), (("a", "result"), ("b", "result"))))
    write_artifact(pod.root / "c", "from c")

    inputs = {
        name_group_input("a+"): pod.root / "a+" / "values",
        name_input("c", "result"): pod.root / "c",
    }
    pod.run("d", TaskNodes(("d",), ()), inputs, outputs=("result",))

    assert not is_pack(pod.root / "d" / "result")
    assert read_artifact(pod.root / "d" / "result") == ["d", "from c", ["b", ["a"]]]


def test_what_is_missing_is_said(pod):
    assert "the result of c is missing" in pod.run(
        "d", TaskNodes(("d",), ()), outputs=("result",), code=3
    )
    assert "there is no node 'x'" in pod.run("x+", TaskNodes(("x", "d"), ()), code=3)


def test_an_object_travels_between_the_calls_in_a_group(pod):
    pod.run("counter+", TaskNodes(("counter", "one", "two"), (("two", "result"),)))

    assert pod.read("counter+") == {("two", "result"): 3}
    inner = read_pack(pod.root / "counter+" / "inner").values
    assert {("counter", "result"), ("one", "state"), ("two", "state")} < inner.keys()


def test_nodes_that_do_not_need_each_other_run_at_the_same_time(pod):
    pod.run("s1+", TaskNodes(("s1", "s2"), ()))

    times = {}
    for name, moment in zip(pod.ran[::2], map(float, pod.ran[1::2]), strict=True):
        times.setdefault(name, []).append(moment)
    assert times["s1"][0] < times["s2"][1]
    assert times["s2"][0] < times["s1"][1]


def test_the_first_node_that_fails_is_named_with_those_that_finished(pod):
    errors = pod.run("a+", TaskNodes(("a", "b", "bad", "after"), ()), code=1, means={"cpu": 1})

    assert "bad raised ValueError" in errors
    assert "ValueError: no bad" in errors
    assert "2 of 4 nodes have finished: a, b" in errors
    assert "bad | bad luck" in pod.process.stdout
    assert not (pod.root / "a+" / "values").exists()


def test_a_node_that_is_killed_is_named(pod):
    assert "killed was killed by SIGKILL" in pod.run(
        "killed", TaskNodes(("killed", "a"), ()), code=1
    )


def test_a_node_is_tried_again(pod):
    errors = pod.run(
        "a+", TaskNodes(("a", "bad"), ()), code=1, means={"cpu": 1, "retries": 2, "wait_s": 0.01}
    )

    assert pod.ran == ["a", "bad", "bad", "bad"]
    assert "again in 0.01 s" in pod.process.stdout
    assert "bad raised ValueError" in errors


def test_a_node_that_takes_too_long_is_killed(pod):
    begin = time.monotonic()
    text = TEXT.replace('sleep("s1", 0.5)', 'sleep("s1", 60)')
    (pod.root / "wf.py").write_text(text)

    assert "s1 was killed after 1 s" in pod.run(
        "s1+", TaskNodes(("s1",), ()), code=1, means={"cpu": 1, "timeout_s": 1}
    )
    assert time.monotonic() - begin < 30


def test_what_is_unchanged_is_kept_from_the_last_time(pod):
    nodes, gives = ("a", "b", "c", "d"), (("d", "result"),)
    pod.run("a+", TaskNodes(nodes, gives))
    (pod.root / "a+").rename(pod.root / "old")
    inputs = {"kept": pod.root / "old" / "values", "kept_inner": pod.root / "old" / "inner"}
    (pod.root / "wf.py").write_text(TEXT.replace('give("c", a[0], b)', 'give("C", a[0], b)'))

    printed = pod.run("a+", TaskNodes(nodes, gives, ("a", "b")), inputs)

    assert pod.ran == ["C", "d"]
    assert "a | -- up to date" in printed
    assert pod.read("a+")["d", "result"] == ["d", ["C", "a", ["b", ["a"]]], ["b", ["a"]]]
    assert pod.read("a+", "inner").keys() == {("a", "result"), ("b", "result"), ("c", "result")}
    told, _ = read_told(pod, "a+")
    assert told["b"]["preview"] == "['b', ['a']]"
    assert {node for node, one in told.items() if one.get("kept")} == {"a", "b"}


def test_what_a_kept_node_showed_is_hidden_where_nothing_may_be_shown(pod, monkeypatch):
    nodes, gives = ("a", "b"), (("b", "result"),)
    pod.run("a+", TaskNodes(nodes, gives))
    (pod.root / "a+").rename(pod.root / "old")
    inputs = {"kept": pod.root / "old" / "values", "kept_inner": pod.root / "old" / "inner"}
    monkeypatch.setenv("FFPREVIEW", "type")

    pod.run("a+", TaskNodes(nodes, gives, ("a",)), inputs)

    told, _ = read_told(pod, "a+")
    assert told["a"].keys() == {"python_type", "shape", "seconds", "kept"}


def test_what_was_made_for_something_else_is_not_kept(pod):
    nodes, gives = ("a", "b"), (("b", "result"),)
    pod.run("a+", TaskNodes(nodes, gives))
    (pod.root / "a+").rename(pod.root / "old")
    inputs = {"kept": pod.root / "old" / "values", "kept_inner": pod.root / "old" / "inner"}

    printed = pod.run("a+", TaskNodes(nodes, gives, ("a",)), inputs, kept="sha256:other")

    assert "no values are reused" in printed
    assert pod.ran == ["a", "b"]


def test_members_are_short_in_an_argument():
    few = TaskNodes(("a", 'b "c"'), (("a", "result"),), ("a",))
    assert parse_members(format_members(few)) == few
    assert format_members(few).startswith("{")

    many = TaskNodes(tuple(f"train model {i:05}" for i in range(10_000)), ())
    assert parse_members(format_members(many)) == many
    assert len(format_members(many)) < 60_000


def test_the_digests_of_packs_are_told_whatever_else_is_hidden(pod, monkeypatch):
    monkeypatch.setenv("FFPREVIEW", "name")

    pod.run("a", TaskNodes(("a", "b"), (("b", "result"),)), outputs=("values", "inner"))

    answer = json.loads((pod.root / "a" / "answer.json").read_text())["artifacts"]
    for name in ("values", "inner"):
        told = answer[name]["artifacts"][0]["metadata"]["digest"]
        assert len(told) == len("sha256:") + 32
        assert digest_artifact(pod.root / "a" / name).startswith(told)
