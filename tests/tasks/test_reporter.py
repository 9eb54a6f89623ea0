"""What a run of doit prints, where tasks run side by side."""

import io
from types import SimpleNamespace

import pytest

from fftasks.project import open_project
from fftasks.records import read_record, write_record
from fftasks.tasks.reporter import Reporter
from tests.submitted_project import make_project, submit_project

TWO = """
from fftasks import Workflow, workflow

@workflow
def double(x):
    return 2 * x

Workflow(double(1), name="one")
"""


@pytest.fixture
def reporter(tmp_path, kfp_server, monkeypatch):
    """Give a reporter in a project in which one workflow was submitted, and another one like it."""
    sample = make_project(tmp_path, kfp_server, TWO)
    project, record = submit_project(sample)
    sample.edit(
        "wf.py",
        'Workflow(double(1), name="one")',
        'Workflow(double(1), name="one")\nWorkflow(double(2), name="two")',
    )
    other = {
        **read_record(project.record_path("submit", "one")),
        "run_id": "0" * 36,
        "url": "http://two",
    }
    open_project.cache_clear()
    project = open_project(tmp_path)
    write_record(project.record_path("submit", "two"), other)
    monkeypatch.chdir(tmp_path)
    reporter = Reporter(io.StringIO(), {"failure_verbosity": 0})
    reporter.runs = {"one": record["run_id"], "two": "0" * 36}
    return reporter


def make_task(workflow, **values):
    meta = {"fftasks": {"stage": "submit", "workflow": workflow}}
    name = f"submit:{workflow}"
    task = SimpleNamespace(
        name=name, meta=meta, values={"ran": True, **values}, actions=[1], has_subtask=False
    )
    task.title = lambda: name
    return task


def find_headings(reporter):
    """Return under which heading each run was printed."""
    found, heading = {}, ""
    for line in reporter.outstream.getvalue().splitlines():
        if line.startswith("   "):
            found[heading] = line
        else:
            heading = line.split()[1]
    return found


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_run_stands_under_the_heading_of_its_workflow_whichever_ends_first(reporter, order):
    tasks = {name: make_task(name, reason="never ran") for name in ("one", "two")}
    for name in ("one", "two"):
        reporter.execute_task(tasks[name])
    for name in order:
        reporter.add_success(tasks[name])

    headings = find_headings(reporter)

    for name, run_id in reporter.runs.items():
        assert run_id in headings[f"submit:{name}"]


def test_a_stage_alone_has_one_heading(reporter):
    task = make_task("one", reason="never ran")
    reporter.execute_task(task)
    reporter.add_success(task)

    assert reporter.outstream.getvalue().count("submit:one") == 1
