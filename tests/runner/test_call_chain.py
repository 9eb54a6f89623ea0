"""Few modules of fftasks stand between `doit run` and the user's function, and none in tracebacks of it."""

import subprocess
import sys
from pathlib import Path

import fftasks
from tests.sample import Sample

# prints the stack of doit's process when it starts a job
DRIVER = """
import pathlib, sys, traceback
from doit.__main__ import main
from fftasks.graph import interpreters

start = interpreters.Worker.start

def start_and_trace(worker, job):
    stack = traceback.extract_stack()
    pathlib.Path("parent.txt").write_text("\\n".join(frame.filename for frame in stack[:-1]))
    return start(worker, job)

interpreters.Worker.start = start_and_trace
sys.argv = ["doit", "run"]
sys.exit(main())
"""

WORKFLOW = """
import pathlib, traceback
from fftasks import Workflow, workflow

@workflow
def trace():
    stack = traceback.extract_stack()
    pathlib.Path("child.txt").write_text("\\n".join(frame.filename for frame in stack))

Workflow(trace(), name="w")
"""

FAILING = """
from fftasks import Workflow, workflow

@workflow
def fail(x):
    return helper(x)

@workflow
def helper(x):
    try:
        return {}[x]
    except KeyError as error:
        raise ValueError("bad value") from error

Workflow(fail(1), name="w")
"""


def list_modules(text):
    """Return the modules of fftasks among file names, each once, in the order of the calls."""
    package = f"{Path(fftasks.__file__).parent}/"
    names = [line.removeprefix(package) for line in text.splitlines() if line.startswith(package)]
    return list(dict.fromkeys(name.removesuffix(".py").replace("/", ".") for name in names))


def test_seven_modules_stand_between_the_command_and_the_users_function(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW)

    subprocess.run([sys.executable, "-c", DRIVER], cwd=sample.root, check=True, capture_output=True)

    parent = list_modules((sample.root / "parent.txt").read_text())
    child = list_modules((sample.root / "child.txt").read_text())
    assert child == ["runner.start", "runner.worker", "runner.job"]
    assert len({*parent, "graph.interpreters", *child}) <= 7, parent


def test_a_traceback_shows_only_the_users_frames(tmp_path):
    sample = Sample.make(tmp_path, FAILING)

    output = sample.doit("run", code=1)

    frames = [line for line in output.splitlines() if line.lstrip().startswith("File ")]
    assert "KeyError: 1" in output
    assert "ValueError: bad value" in output
    assert len(frames) == 3
    assert all("wf.py" in frame for frame in frames)
