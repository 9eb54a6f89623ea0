"""A file of the project that is called as a module of Python's own: json.py, types.py, http.py."""

import os
import subprocess
import sys

import pytest

from fftasks.runner.start import make_command
from tests.sample import Sample

WORKFLOW = """
from fftasks import Workflow, workflow

@workflow
def one():
    return 1

Workflow(one().set_name("one"), name="w")
"""
NAMES = ("json", "pickle", "copy", "types", "ast", "random", "queue", "http", "importlib")
MINE = "raise RuntimeError('not for you')\n"


@pytest.fixture
def sample(tmp_path):
    """Give a project in which nobody but its own workflow could want to import these."""
    sample = Sample.make(tmp_path, WORKFLOW)
    for name in NAMES:
        sample.write(f"{name}.py", MINE)
    return sample


def doit(sample, *arguments, code=0, **environ):
    """Run doit as its script does, which has not the current folder on its path."""
    done = subprocess.run(
        [*make_command("doit"), *arguments],
        cwd=sample.root,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.mark.parametrize("isolation", ["fork", "fresh"])
def test_it_is_taken_for_pythons_own_by_nobody(sample, isolation):
    output = doit(sample, "run", FFTASKS_LOCAL__ISOLATION=isolation)

    assert "one = 1" in output
    assert "warning: json.py: `import json` can give Python's own json instead: rename it" in output


def test_commands_and_what_they_import_later_do_not_find_it(sample):
    doit(sample, "run")
    away = {"FFTASKS_KFP__HOST": "http://localhost:1", "DOCKER_HOST": "unix:///nowhere"}

    assert doit(sample, "result", "one").splitlines()[-1] == "1"
    assert doit(sample, "graph").endswith("graph.svg\n")
    assert "no connection to http://localhost:1" in doit(sample, "runs", code=1, **away)
    assert "not for you" not in doit(sample, "doctor", code=1, **away)


@pytest.mark.parametrize(
    ("doit", "arguments"),
    [
        ([sys.executable, "-m", "doit"], []),
        (make_command("doit"), ["-f", "{link}/dodo.py"]),
        (make_command("doit"), ["--dir", "."]),
    ],
)
def test_it_is_not_found_however_doit_has_come_to_the_folder(tmp_path, doit, arguments):
    sample = Sample.make(tmp_path / "project", WORKFLOW)
    sample.write("http.py", MINE)
    (tmp_path / "link").symlink_to(sample.root)
    given = [argument.format(link=tmp_path / "link") for argument in arguments]

    command = [*doit, "plan", *given, "submit"]
    done = subprocess.run(command, cwd=sample.root, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_workflow_that_wants_it_is_told_to_rename_it(sample):
    sample.write("json.py", "def load_table():\n    return []\n")
    sample.edit("wf.py", "@workflow", "from json import load_table\n\n@workflow")

    output = doit(sample, "plan", code=3)

    assert "cannot import name 'load_table' from 'json'" in output
    assert "hint: " in output
    assert "json.py: `import json` can give Python's own json instead: rename it" in output


def test_one_that_nothing_else_has_imported_is_the_workflows_own(sample):
    sample.write("statistics.py", "def weigh():\n    return 7\n")
    sample.edit("wf.py", "@workflow", "import statistics\n\n@workflow")
    sample.edit("wf.py", "return 1", "return statistics.weigh()")

    output = doit(sample, "run")

    assert "one = 7" in output
    assert "statistics.py" not in output


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_folder_that_it_is_started_in_is_not_on_the_path(tmp_path, safe):
    (tmp_path / "show.py").write_text("import sys\nprint(sys.path, sys.argv, __name__)\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": safe}
    (tmp_path / "cwd").mkdir()

    printed = subprocess.run(
        [*make_command("show"), "a", "b"],
        cwd=tmp_path / "cwd",
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert f"'{tmp_path}/cwd'" not in printed
    assert "''" not in printed
    assert "fftasks/runtime'" not in printed
    assert f"['{tmp_path}/show.py', 'a', 'b'] __main__" in printed
