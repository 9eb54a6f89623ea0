"""`doit plan submit`: which nodes the cluster will compute, and why; and that it is what then happens."""

import json
import re
import shutil

import pytest

from tests.programs.test_caching import list_computed, put_result, read_references
from tests.programs.test_submit import connect, find_run_id
from tests.sample import Sample
from tests.services.cluster import Cluster
from tests.services.executor_input import DriverError
from tests.services.kfp_server import Fault, KFPServer
from tests.services.launcher import Ending
from tests.services.waiting import wait_until

FLOW = """
import os
from fftasks import Parameter, Workflow, workflow


def scale(x):
    return x * 2


@workflow(reads=["data.txt"])
def load(path):
    return len(open(path).read())


@workflow(reads=[])
def clean(data, alpha):
    return data + alpha


@workflow(reads=[])
def train(data):
    return scale(data)


@workflow(reads=[])
def tune(data, rate):
    return data * rate


@workflow(reads=[])
def report(model, tuned):
    return [model, tuned]


loaded = load("data.txt").set_name("load")
model = train(clean(loaded, 0.1).set_name("clean")).set_name("train")
tuned = tune(loaded, Parameter("rate", 1)).set_name("tune")
Workflow(report(model, tuned).set_name("report"), name="flow")
"""


class Pods:
    """Pods that fail, or go on until they are ended, where they are told to; and drivers that fail."""

    def __init__(self):
        self.failing, self.lasting, self.undriven = set(), set(), set()

    def __call__(self, pod):
        task = pod.folder.name.rsplit("-", 2)[0]
        if task in self.lasting:
            pod.is_terminated.wait(60)
        return Ending(exit_code=1) if task in self.failing | self.lasting else put_result(pod)


class Driving(Cluster):
    """A cluster whose drivers fail where its pods say so."""

    def _drive(self, run, task):
        if task.name in self.launch.undriven:
            raise DriverError("no execution found")
        return super()._drive(run, task)


@pytest.fixture
def pods():
    return Pods()


@pytest.fixture
def server(tmp_path, pods, request):
    version = getattr(request, "param", "2.17.0")
    cluster = Driving(pods, tmp_path / "cluster", honours_cache_key=version == "2.18.0")
    with KFPServer(cluster, version=version) as server:
        yield server


@pytest.fixture
def sample(tmp_path, registry, server, base_image, monkeypatch):
    project = Sample.make(tmp_path / tmp_path.name, FLOW)
    project.write("data.txt", "abc")
    connect(project, registry, server, base_image, monkeypatch)
    return project


def read_state(sample):
    """Return all that may not change while something is planned."""
    seen = {"graph", "closures", "logs"}  # graphs are made when they are looked at
    # runtime.json only saves parsing fftasks itself
    files = (p for p in (sample.root / ".fftasks").rglob("*.json") if p.name != "runtime.json")
    return {path: path.read_bytes() for path in files if not seen & set(path.parts)}


def plan(sample, *arguments, **environ):
    """Return what is said of the workflow's nodes."""
    before = read_state(sample)
    output = json.loads(sample.doit("plan", "submit", "--json", *arguments, **environ))
    assert read_state(sample) == before
    return output["cluster_nodes"]


def foretell(sample, *arguments, **environ):
    """Return the nodes that would be computed, and why."""
    [found] = plan(sample, *arguments, **environ)
    assert not found["known_here_only"]
    return {node["node"]: node["reasons"] for node in found["nodes"] if node["computes"]}


def submit(sample, server, *arguments):
    """Submit, wait, and return which tasks ran."""
    return list_computed(server.wait(find_run_id(sample.doit("submit", *arguments))))


def after(*nodes):
    return [f"{node} will run" for node in nodes]


NEVER = ["never ran on Kubeflow Pipelines"]
FIRST = {
    "load": NEVER,
    "clean": NEVER + after("load"),
    "train": NEVER + after("clean"),
    "tune": NEVER + after("load"),
    "report": NEVER + after("train", "tune"),
}
EDITS = (
    # file, what is replaced, by what, arguments, and why nodes are computed then
    (
        *("data.txt", "abc", "abcd", ()),
        {
            "load": ["data.txt changed"],
            "clean": after("load"),
            "train": after("clean"),
            "tune": after("load"),
            "report": after("train", "tune"),
        },
    ),
    (
        *("wf.py", "x * 2", "x * 3", ()),
        {"train": ["wf.py: function scale() changed"], "report": after("train")},
    ),
    ("wf.py", "x * 3", "x * 2", (), {}),  # it is known from an earlier run
    (
        *("wf.py", "0.1", "0.2", ("rate=2",)),
        {
            "clean": ["constant alpha: 0.1 -> 0.2"],
            "train": after("clean"),
            "tune": ["parameter rate: 1 -> 2"],
            "report": after("train", "tune"),
        },
    ),
    # "tune" gave something else, also long ago: that is another input
    ("wf.py", "return x * 2", "return x * 2  # twice", (), {"report": ["parameter rate: 2 -> 1"]}),
)


def test_what_is_foretold_is_what_happens(sample, server, registry):
    assert foretell(sample) == FIRST
    assert submit(sample, server) == set(FIRST)
    assert plan(sample) == []  # there would be no run

    for path, old, new, arguments, reasons in EDITS:
        sample.edit(path, old, new)
        assert foretell(sample, *arguments) == reasons, new
        assert submit(sample, server, *arguments) == set(reasons), new

    check_settings(sample)
    check_others(sample)
    check_silence(sample, server)
    check_removed(sample, registry)


def check_settings(sample):
    """See what settings do, which need no run to be believed."""
    off = ["setting kfp.caching is false"]
    assert foretell(sample, FFTASKS_KFP__CACHING="false")["load"] == off
    sample.write("requirements.txt", "wheel\n")
    assert foretell(sample)["load"] == ["requirements changed"]
    (sample.root / "requirements.txt").unlink()
    sample.edit("wf.py", "0.2", "(i for i in ())")
    assert foretell(sample)["clean"] == ["constant alpha looks different each time"]
    sample.edit("wf.py", "(i for i in ())", "0.2")


def check_others(sample):
    """See what somebody else is told, who has the same files and none of our state."""
    others = Sample(sample.root.parent / "others")
    shutil.copytree(sample.root, others.root, ignore=shutil.ignore_patterns(".fftasks"))
    [found] = plan(others)
    assert (found["nodes"], found["known_here_only"][:20]) == ([], "the base image is no")

    (others.root / ".fftasks" / "base.json").write_bytes(
        (sample.root / ".fftasks" / "base.json").read_bytes()
    )
    others.edit("wf.py", "x * 2", "x * 4")
    assert foretell(others) == {
        "train": ["it ran on the cluster with other inputs, submitted from elsewhere"],
        "report": [
            "it ran on the cluster with other inputs, submitted from elsewhere",
            *after("train"),
        ],
    }


def check_silence(sample, server):
    """See what is said without the host: what was learned when a run was looked at."""
    sample.doit("status")
    sample.edit("wf.py", "x * 2", "x * 5")
    server.faults.append(Fault(status=503, path="/experiments", times=10))
    [found] = plan(sample)
    assert {node["node"] for node in found["nodes"] if node["computes"]} == {"train", "report"}
    said = r"as far as known here: cannot find .*: http:\S+ answered HTTP 503"
    assert re.search(said, sample.doit("plan", "submit"))
    server.faults.clear()


def check_removed(sample, registry):
    """See what is said when an image is gone that nodes would have run."""
    older = read_references(sample)["load"]
    registry.delete(older.partition("/")[2].partition("@")[0], older.partition("@")[2])
    assert foretell(sample)["load"] == ["its image was removed from the registry"]


@pytest.mark.parametrize("server", ["2.18.0"], indirect=True)
def test_a_later_backend_does_not_mind_how_the_inputs_were_made(sample, server, pods):
    pods.failing.add("train")
    server.wait(find_run_id(sample.doit("submit")))
    pods.failing.clear()

    failed = ["it failed in its last run"]
    assert foretell(sample) == {"train": failed, "report": after("train")}
    assert submit(sample, server) == {"train", "report"}

    with (sample.root / "config" / "default.yaml").open("a") as file:
        file.write("nodes: {clean: {cache: false}}\n")
    assert foretell(sample) == {"clean": ["its setting cache is false"]}
    output = sample.doit("plan", "submit", "-v")
    assert "flow: 1 to compute, 4 from the cluster's cache" in output
    assert submit(sample, server) == {"clean"}


def test_a_driver_that_failed_and_a_run_that_was_canceled_are_told_apart(sample, server, pods):
    pods.undriven.add("train")
    server.wait(find_run_id(sample.doit("submit")))
    pods.undriven.clear()

    undriven = foretell(sample)
    pods.lasting.add("train")
    run_id = find_run_id(sample.doit("submit"))
    tasks = server.api.runs[run_id].tasks
    wait_until(lambda: "train" in tasks and tasks["train"].state == "RUNNING", what="its pod")
    sample.doit("cancel", run_id)
    server.wait(run_id)

    assert undriven["train"] == ["its driver failed in its last run"]
    assert undriven["report"] == after("train")
    assert foretell(sample)["train"] == ["its last run was canceled"]


def test_nodes_that_share_a_pod_are_not_said_to_have_failed_each(sample, server, pods):
    fused = {"FFTASKS_KFP__FUSE": "chains"}
    [found] = plan(sample, **fused)
    task = next(node["task"] for node in found["nodes"] if node["node"] == "train")
    assert [node["node"] for node in found["nodes"] if node["task"] == task] == ["clean", "train"]
    pods.failing.add(task)

    server.wait(find_run_id(sample.doit("submit", **fused)))

    failed = ["its pod failed in its last run"]
    assert foretell(sample, **fused) == {
        "clean": failed,
        "train": failed,
        "report": after("train"),
    }
