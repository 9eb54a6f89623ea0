"""Objects and run parameters: the same here, on the cluster, and in kfp's own local runner."""

import os
import subprocess
import sys

import pytest

import fftasks
from fftasks.runner.artifact import read_artifact
from tests.programs.test_submit import connect, find_result, find_run_id
from tests.sample import Sample

WORKFLOW = """
from fftasks import Markdown, Metrics, Parameter, Workflow, workflow


class Base:
    def total(self, *, scale=1):
        return sum(self.items) * scale


@workflow
class Box(Base):
    def __init__(self, items, factor=1.5):
        self.items, self.factor = list(items), factor
        self.twin = self

    def put(self, item, self_=None):
        self.items.append(item * self.factor)
        return {"count": len(self.items), "same": self.twin is self, "self_": self_}

    def copy(self):
        return self


@workflow
def make(count):
    return list(range(count))


@workflow
def compare(box, other):
    return [box.items, other.items, box.factor, type(box).__name__]


@workflow
def tune(rate, *, options, ALPHA=1):
    shown = [Metrics(rate=rate), Markdown("# rate")]
    return {"rate": rate, "options": options, "ALPHA": ALPHA, "shown": shown}


alpha = Parameter("alpha", default=0.5, help="learning rate")
count = Parameter("count", default=3)
box = Box(make(count)).set_name("box")
other = Box([], factor=2.0).set_name("other")
first = box.put(10).set_name("first")
tuned = tune(
    alpha,
    options=({"rates": [alpha, 2], "flag": Parameter("flag", default=True)}, make(Parameter("k", 1))),
    ALPHA=Parameter("words", default={"a": [1.0]}),
).set_name("tuned")
second = box.put(first["count"], self_=other.put(7)).set_name("second")
seen = compare(box.copy(), other.copy()).set_name("seen")
Workflow(second, box.total(scale=3).set_name("total"), seen, tuned, name="boxes")
"""
NAMES = ("first", "second", "total", "seen", "tuned")


def run_with_kfp(sample, pipeline, **arguments):
    """Run a pipeline in kfp's own local runner; its results are in "out"."""
    script = f"""
import warnings
warnings.simplefilter("ignore")
from kfp import components, local
runner = local.DockerRunner(network_mode="none")
local.init(runner, pipeline_root={str(sample.root / "out")!r}, raise_on_error=True)
task = components.load_component_from_file({str(pipeline)!r})(**{arguments!r})
"""
    completed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=sample.root,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr


GIVEN = ("alpha=0.25", "flag=no", "count=2", 'words={"a": [2], "b": "{x}"}')


def test_values_are_the_same_here_on_the_cluster_and_in_kfps_local_runner(
    tmp_path, registry, kfp_cluster, cluster, base_image, monkeypatch
):
    sample = Sample.make(tmp_path, WORKFLOW)
    connect(sample, registry, kfp_cluster, base_image, monkeypatch)
    sample.doit("run", *GIVEN)
    chosen = {name: fftasks.load(name, sample.root) for name in NAMES}
    sample.doit("run")
    here = {name: fftasks.load(name, sample.root) for name in NAMES}

    run = kfp_cluster.wait(find_run_id(sample.doit("submit")))
    other = find_run_id(sample.doit("submit", *GIVEN))
    again = sample.doit("submit", *GIVEN)
    run_with_kfp(
        sample,
        sample.root / ".fftasks" / "pipeline" / "boxes.yaml",
        alpha=0.25,
        flag=False,
        count=2,
        words={"a": [2], "b": "{x}"},
    )

    assert find_run_id(again) == other
    assert other != run.run_id
    other_run = kfp_cluster.wait(other)
    assert other_run.state == "SUCCEEDED", other_run.error
    assert {name: find_result(cluster, other_run, name) for name in NAMES} == chosen
    assert chosen["tuned"] == {
        "rate": 0.25,
        "options": ({"rates": [0.25, 2], "flag": False}, [0]),
        "ALPHA": {"a": [2.0], "b": "{x}"},
        "shown": [{"rate": 0.25}, "# rate"],
    }
    shown = other_run.tasks["tuned"].outputs["artifacts"]
    assert shown["metrics"].metadata["rate"] == 0.25
    assert cluster.store.get_path(shown["markdown"].uri).read_text() == "# rate"
    assert shown["result"].metadata["python_type"] == "dict"
    assert here["seen"] == [[0, 1, 2, 15.0, 6.0], [14.0], 1.5, "Box"]
    assert here["second"]["self_"] == {"count": 1, "same": True, "self_": None}
    assert run.state == "SUCCEEDED", run.error
    assert {name: find_result(cluster, run, name) for name in NAMES} == here
    results = {name: next((sample.root / "out").rglob(f"{name}/result")) for name in NAMES}
    assert {name: read_artifact(path) for name, path in results.items()} == chosen


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("break_it", "broken: Box.break_it() left a Box that cannot be stored for the next call"),
        ("__init__", "box: Box() left a Box that cannot be stored for the next call"),
    ],
)
def test_state_that_cannot_be_stored_is_said_with_method_and_attribute(tmp_path, method, said):
    text = """
from fftasks import Workflow, workflow

@workflow
class Box:
    def __init__(self):
        self.count = 1
    def break_it(self):
        self.count = 1

Workflow(Box().set_name("box").break_it().set_name("broken"), name="w")
"""
    head, _, tail = text.partition(f"def {method}(self):\n")
    line = "        self.lines = (line for line in [])\n"
    sample = Sample.make(tmp_path, f"{head}def {method}(self):\n{line}{tail}")

    output = sample.doit("run", code=1)

    assert said in output
    assert "attribute 'lines': TypeError: cannot pickle 'generator' object" in output
    assert "Traceback" not in output
