"""Nodes beside tasks of the user's own, and what goes wrong between doit and the warm worker."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.sample import Sample


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Nodes, a task beside them that is torn down, one that needs a node, and one that is made late."""
    root = tmp_path_factory.mktemp("mixed")
    sample = Sample.make(
        root,
        textwrap.dedent("""\
            import os, signal, time
            from pathlib import Path
            from fftasks import Workflow, workflow

            @workflow
            def number(i):
                return i

            @workflow
            def talk(length):
                raise ValueError("x" * length)

            @workflow
            def leave():
                os._exit(0)

            @workflow
            def kill():
                Path("pid.txt").write_text(str(os.getpid()))
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(30)

            Workflow(*[number(i).set_name(f"n{i}") for i in range(4)], name="w")
            Workflow(talk(100_000).set_name("talk"), leave().set_name("leave"), name="bad")
            Workflow(kill().set_name("kill"), name="killing")
        """),
    )
    sample.write(
        "dodo.py",
        textwrap.dedent("""\
            from fftasks.tasks import *
            from doit import create_after

            def say(text):
                with open("said.txt", "a") as file:
                    file.write(text + " ")

            def task_beside():
                return {"actions": [(say, ["beside"])], "teardown": [(say, ["torn"])]}

            def task_behind():
                return {"actions": [(say, ["behind"])], "file_dep": [".fftasks/nodes/n3.json"]}

            @create_after("run:n1")
            def task_late():
                return {"actions": [(say, ["late"])], "task_dep": ["beside"]}

            def task_wrong():
                return {"actions": [lambda: 1 / 0]}
        """),
    )
    return sample


def test_the_users_tasks_run_beside_nodes_and_behind_them(mixed):
    mixed.doit("run", "-n", "2", "run:n0", "run:n1", "beside", "behind", "late")

    said = (mixed.root / "said.txt").read_text().split()
    assert sorted(said[:-1]) == ["behind", "beside", "late"]
    assert said[-1] == "torn"


def test_a_task_of_the_users_fails_as_in_doit(mixed):
    assert "ZeroDivisionError" in mixed.doit("run", "-n", "2", "run:n0", "wrong", code=2)


def test_a_long_report_comes_whole(mixed):
    assert "x" * 100_000 in mixed.doit("run", "run:talk", code=1)
    assert not list((mixed.root / ".fftasks" / "artifacts").glob(".*"))


def test_a_node_that_leaves_without_a_word_has_failed(mixed):
    assert "leave ended its process with exit code 0" in mixed.doit("run", "run:leave", code=1)


def test_a_worker_that_is_killed_is_a_failure_and_no_endless_wait(mixed):
    assert "the worker ended with exit code -9" in mixed.doit("run", "run:kill", code=1)
    assert not _runs(int((mixed.root / "pid.txt").read_text()))  # the node that was running in it


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_was_written_is_put_on_the_disk_behind_the_run(mixed, tmp_path):
    mark, program = tmp_path / "mark", tmp_path / "bin" / "sync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {mark}\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"

    mixed.doit("run", "run:n0", "run:n2", PATH=path)
    mixed.doit("run", "run:n0", "run:n2", PATH=path)  # nothing was written

    assert mark.read_text() == f"-f {mixed.root / '.fftasks'}\n"


def test_a_project_without_fftasks_keeps_doits_own_runner(tmp_path):
    (tmp_path / "dodo.py").write_text(
        textwrap.dedent("""\
            import sys

            HEAVY = ("fftasks.tasks.dispatcher", "fftasks.tasks.doit_tasks", "fftasks.project", "yaml")

            def look():
                print([name for name in HEAVY if name in sys.modules])

            def task_look():
                return {"actions": [look], "verbosity": 2}
        """)
    )

    said = subprocess.run(
        [sys.executable, "-m", "doit"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert "[]" in said.stdout


def test_without_a_dodo_file_nodes_are_run_by_the_same_runner(mixed):
    (mixed.root / "dodo.py").rename(mixed.root / "dodo.away")
    command = [sys.executable, "-m", "fftasks.tasks", "run", "-n", "2"]
    try:
        # doit's own runner knows neither names of nodes nor warm workers
        one, two = [
            subprocess.run(
                [*command, name], cwd=mixed.root, capture_output=True, text=True, check=False
            )
            for name in ("n3", "kill")
        ]
    finally:
        (mixed.root / "dodo.away").rename(mixed.root / "dodo.py")

    assert (one.returncode, two.returncode) == (0, 1)
    assert "n3" in one.stdout
    assert "the worker ended with exit code -9" in two.stdout


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.1, ["n0 begins", "n0 ran", "n1 begins", "n1 ran"]),
        (0, ["n0 begins", "n1 begins", "n0 ran", "n1 ran"]),
    ],
)
def test_what_took_long_is_recorded_before_anything_else_begins(tmp_path, seconds, expected):
    sample = Sample.make(
        tmp_path,
        textwrap.dedent(f"""\
            import time
            from fftasks import Workflow, workflow

            @workflow
            def wait(i):
                time.sleep({seconds})

            Workflow(*[wait(i).set_name(f"n{{i}}") for i in range(2)], name="w")
        """),
    )

    sample.doit("run", "-n", "1")

    (run,) = (tmp_path / ".fftasks" / "runs").glob("*.jsonl")
    lines = [json.loads(line) for line in run.read_text().splitlines()]
    said = [(line["task"][4:], line.get("state", "begins")) for line in lines if "task" in line]
    assert [" ".join(one) for one in said] == expected
