"""Removal of results that nobody needs."""

import os
import subprocess
import sys

import pytest

import fftasks
from fftasks.cli.main import main
from tests.sample import Sample

TEXT = """
from fftasks import Workflow, workflow

@workflow
def make(x):
    return bytes(10_000) + bytes([x])

Workflow(make(0).set_name("a"), name="w")
"""


@pytest.fixture
def sample(tmp_path):
    """A project with results of three versions; the node's own is the last, make(2)."""
    project = Sample.make(tmp_path, TEXT)
    project.doit()
    for old, new in ((0, 1), (1, 2)):
        project.edit("wf.py", f"make({old})", f"make({new})")
        project.doit()
    return project


def test_what_the_record_needs_stays(sample, capsys):
    assert main(["gc", str(sample.root)]) == 0

    assert "removed 2 results" in capsys.readouterr().out
    assert fftasks.load("a", sample.root)[-1] == 2
    assert sample.ran() == []


def test_what_is_gone_is_made_again(sample):
    main(["gc", str(sample.root)])
    sample.edit("wf.py", "make(2)", "make(1)")

    assert sample.ran() == ["a"]


def test_the_least_recently_used_go_first(sample):
    sample.edit("wf.py", "make(2)", "make(0)")
    sample.doit()
    sample.edit("wf.py", "make(0)", "make(2)")
    sample.doit()

    main(["gc", str(sample.root), "--keep", "25kB"])

    sample.edit("wf.py", "make(2)", "make(0)")
    assert sample.ran() == []
    sample.edit("wf.py", "make(0)", "make(1)")
    assert sample.ran() == ["a"]


def test_a_trace_that_is_damaged_keeps_nothing(sample, capsys):
    for path in (sample.root / ".fftasks" / "traces").glob("*.json"):
        path.write_text("{")
    for path in (sample.root / ".fftasks" / "nodes").glob("*.json"):
        path.unlink()

    main(["gc", str(sample.root), "--keep", "0"])

    assert "; 0 bytes are left" in capsys.readouterr().out


def test_nothing_goes_while_there_is_room(sample, capsys):
    main(["gc", str(sample.root), "--keep", "5GB"])

    assert "removed 0 results" in capsys.readouterr().out


def test_a_folder_without_results_is_an_error(tmp_path, capsys):
    assert main(["gc", str(tmp_path)]) == 1
    assert "there is no" in capsys.readouterr().err


def test_what_killed_processes_have_left_goes(sample):
    pid = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    folder = sample.root / ".fftasks"
    (analyses,) = (folder / "closures").iterdir()
    left = [part / f".file.json.{int(pid.stdout)}" for part in (folder / "nodes", analyses)]
    mine = folder / "nodes" / f".file.json.{os.getpid()}"
    for path in (*left, mine):
        path.touch()

    main(["gc", str(sample.root)])

    assert [path.exists() for path in (*left, mine)] == [False, False, True]
