"""What is set for nodes holds in the run here: environment, retries, timeout, plugins."""

from pathlib import Path

import pytest

import fftasks
from tests.sample import Sample

WORKFLOW = """
import os, random, subprocess, time
from pathlib import Path
from fftasks import RandomStatePlugin, Workflow, workflow

LIMIT = os.environ.get("LIMIT")

@workflow(reads=[])
def show(x):
    return [os.environ.get("LIMIT"), LIMIT]

@workflow(reads=[])
def stumble(x):
    tries = Path("tries")
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    print("try", len(tries.read_text()))
    if len(tries.read_text()) < 3:
        raise ValueError("not yet")
    return x

@workflow(reads=[])
def hang(x):
    children = [subprocess.Popen(["sleep", "1000"]).pid]
    children.append(int(subprocess.check_output("sleep 1000 >&- 2>&- & echo $!", shell=True)))
    Path("children").write_text(" ".join(map(str, children)))
    time.sleep(1000)

@workflow(reads=[])
def draw(x):
    return random.random()

shown = show(1).set_name("show")
wf = Workflow(shown, stumble(1).set_name("stumble"), hang(1).set_name("hang"),
              draw(1).set_name("draw_1"), draw(1).set_name("draw_2"), name="all")
wf.query("draw.*").set(cpu=2).set_plugin(RandomStatePlugin(0, 10**6, 1, random.seed))
wf.query("show").set(env={"OTHER": "x"})
"""
CONFIG = """
workflows: [wf.py]
nodes:
  show: {env: {LIMIT: 3}}
  stumble: {retries: 2, retry_wait_s: 0.01}
  hang: {timeout_s: 1}
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    project = Sample(tmp_path_factory.mktemp("settings"))
    project.write("config/default.yaml", CONFIG)
    Sample.make(project.root, WORKFLOW)
    project.output = project.doit("run", "--continue", code=1, LIMIT="host")
    return project


def test_the_environment_is_there_when_the_file_is_imported_as_in_a_container(sample):
    assert fftasks.load("show", sample.root) == ["3", "3"]


def test_a_node_that_fails_is_tried_again(sample):
    log = (sample.root / ".fftasks" / "logs" / "stumble.txt").read_text()

    assert "run:stumble" in sample.output
    assert "(never ran; try 3)" in sample.output
    assert log == "try 1\ntry 2\ntry 3\n"


def test_a_node_that_takes_too_long_is_killed_with_all_that_it_started(sample):
    children = (sample.root / "children").read_text().split()

    assert "hang was killed after 1 s, with all that it had started" in sample.output
    assert not [pid for pid in children if is_running(pid)]


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_plan_shows_settings_with_their_places(sample):
    output = sample.doit("plan", "-v", "run")

    assert "env.LIMIT: 3 (config/default.yaml:4)" in output
    assert "retries: 2 (config/default.yaml:5)" in output
    assert "cpu: 2 (wf.py:" in output
    assert "env.OTHER: x (wf.py:" in output


def test_a_seed_is_the_nodes_own_and_stays(sample):
    first = [fftasks.load(f"draw_{i}", sample.root) for i in (1, 2)]
    sample.doit("run:draw_1", "run:draw_2")

    assert len(set(first)) == 2
    assert [fftasks.load(f"draw_{i}", sample.root) for i in (1, 2)] == first


def test_settings_are_no_code_and_a_plugin_and_the_environment_are(tmp_path):
    project = Sample.make(
        tmp_path,
        "import random\nfrom fftasks import *\n@workflow(reads=[])\ndef f(x):\n    return x\n"
        'w = Workflow(f(1).set_name("f"), f(2).set_name("g"), name="w")\n',
    )
    project.doit("run")
    project.write("config/default.yaml", "workflows: [wf.py]\nnodes: {f: {cpu: 2, retries: 1}}\n")
    project.edit("wf.py", 'name="w")\n', 'name="w")\nw.query("g").set(memory="1Gi", gpu=1)\n')

    assert project.ran("run") == []
    project.write("config/default.yaml", "workflows: [wf.py]\nnodes: {f: {env: {A: 1}}}\n")
    assert project.ran("run") == ["f"]
    project.edit("wf.py", "gpu=1)", "gpu=1).set_plugin(InitializerPlugin(random.random))")
    assert project.ran("run") == ["g"]
    project.edit("wf.py", "from fftasks", "# a comment\nfrom fftasks")
    assert project.ran("run") == []


def test_a_fresh_interpreter_is_killed_as_well_and_a_wrong_setting_is_told(tmp_path):
    project = Sample.make(
        tmp_path,
        "import time\nfrom fftasks import *\n@workflow\ndef f():\n    time.sleep(1000)\n"
        'w = Workflow(f().set_name("f"), name="w")\nw.query("f").set(timeout_s=1, retries=1)\n',
    )
    project.write("config/default.yaml", "workflows: [wf.py]\nlocal: {isolation: fresh}\n")

    output = project.doit("run", code=1)

    assert "f was killed after 1 s, with all that it had started, at the last of 2 tries" in output
    project.edit("wf.py", "timeout_s", "time_out_s")
    assert "there is no setting time_out_s for nodes" in project.doit("list", code=3)
