"""One explanation of why: a plan, a run, the history and the page of a run use the same sentences."""

import json
import re

import pytest

from tests.sample import Sample


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """Give a project whose function `total` has changed since the last run."""
    sample = Sample.copy("chain", tmp_path_factory.mktemp("edited"))
    sample.doit()
    sample.edit("wf.py", "factor=2", "factor=3")
    return sample


def test_plan_run_and_report_give_the_same_reasons(edited):
    plan = json.loads(edited.doit("plan", "run", "--json"))["run"]
    planned = {task["task"]: task["reasons"][0] for task in plan if task["runs"]}

    run = edited.doit()
    printed = dict(re.findall(r"(?m)^\.  run:(\S+)  .* s  \((.*)\)$", run))
    report = json.loads(edited.doit("report", "--json"))
    shown = {task["name"]: task["reason"] for task in report["tasks"] if task["state"] == "ran"}

    first = next(iter(printed))
    assert planned[first] == printed[first] == shown[first]
    assert printed == shown
    assert planned.keys() >= printed.keys()
