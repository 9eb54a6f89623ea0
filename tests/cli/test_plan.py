"""`doit plan` and `doit accept`."""

import json
import re

import pytest

from tests.sample import Sample


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def read_states(chain):
    state = chain.root / ".fftasks"
    return {
        p: p.read_bytes() for p in state.rglob("*.json") if not {"graph", "closures"} & set(p.parts)
    }


def test_before_the_first_run_everything_is_to_run(chain):
    output = chain.doit("plan", "run")

    assert "run: 4 to run, 0 up to date" in output
    assert "values  never ran" in output


def test_after_a_run_nothing_is(chain):
    chain.doit()

    assert chain.doit("plan", "run") == "run: 0 to run, 4 up to date\n"


def test_a_plan_says_why_and_changes_nothing(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")
    before = read_states(chain)

    output = chain.doit("plan", "run")

    assert "total   constant factor: 2 -> 3" in output
    assert "report  total will run" in output
    assert read_states(chain) == before
    assert chain.ran() == ["report", "total"]


def test_a_change_that_is_taken_back_is_nothing_to_run(chain):
    chain.doit()
    chain.edit("wf.py", "factor=2", "factor=3")
    chain.doit()
    chain.edit("wf.py", "factor=3", "factor=2")

    assert "0 to run" in chain.doit("plan", "run")


def test_one_node_is_planned_with_what_it_needs(chain):
    assert "2 to run" in chain.doit("plan", "total")
    assert "2 to run" in chain.doit("plan", "run:total")


def test_verbose_shows_what_the_code_consists_of(chain):
    output = chain.doit("plan", "report", "-v")

    assert "code: wf.py: function scale()" in output


def test_verbose_shows_settings_and_their_places_also_of_a_run_on_the_cluster(chain):
    chain.write(
        "config/default.yaml", "workflows: [wf.py]\nnodes:\n  total: {cpu: 2, env: {A: x}}\n"
    )

    for stage in ("submit", "tasks"):
        output = chain.doit("plan", "-v", stage)
        assert re.search(
            r"settings of nodes:\n  total +cpu: 2 \(config/default.yaml:3\)"
            r"\n +env.A: x \(config/default.yaml:3\)\n",
            output,
        )
    assert json.loads(chain.doit("plan", "submit", "--json"))["settings"] == {
        "total": ["cpu: 2 (config/default.yaml:3)", "env.A: x (config/default.yaml:3)"]
    }


def test_a_pattern_for_no_node_is_warned_of_before_anything_runs(chain):
    chain.write("config/typo.yaml", "nodes:\n  tpyo.*:\n    cpu: 2\n")

    output = chain.doit("profile=typo", "plan", "run")

    assert "warning: config/typo.yaml:2: no node's name matches 'tpyo.*'" in output


def test_json_is_for_tools(chain):
    parts = json.loads(chain.doit("plan", "--json"))

    assert {forecast["task"] for forecast in parts["run"]} == {"values", "total", "ends", "report"}
    assert parts["submit"][0] == {
        "task": "context",
        "runs": True,
        "reasons": ["never ran"],
        "code": [],
        "settings": [],
    }


def test_stages_are_planned_up_to_the_one_that_is_named(chain):
    output = chain.doit("plan", "image")

    assert "image: 2 to run" in output
    assert "push" not in output


def test_an_unknown_name_is_an_error_that_lists_what_there_is(chain):
    assert "names: run, context" in chain.doit("plan", "nothing", code=3)


def test_an_accepted_change_runs_nothing(chain):
    chain.doit()
    chain.edit("wf.py", "return 10 * x", "return x * 10")

    assert "report: result accepted" in chain.doit("accept", "report")

    assert chain.ran() == []


def test_only_what_has_a_result_can_be_accepted(chain):
    assert "has no result that could be accepted" in chain.doit("accept", "values", code=1)
    assert "there is no node 'x'" in chain.doit("accept", "x", code=3)


@pytest.mark.parametrize("command", ["accept", "plan"])
def test_a_typo_gets_the_nearest_node(chain, command):
    assert "did you mean 'report'?" in chain.doit(command, "repor", code=3)


def test_verbose_says_what_could_not_be_resolved(chain):
    chain.edit("wf.py", "return 10 * x", "return eval('10 * x')")

    output = chain.doit("plan", "-v", "run")

    assert "cannot be resolved and therefore counts as a whole:" in output
    assert "wf.py" in output.partition("counts as a whole:")[2]


FAN = """
from fftasks import Workflow, workflow

@workflow
def train(i):
    return i

@workflow
def best(scores):
    return max(scores)

Workflow(best([train(i).set_name(f"train_{i}") for i in range(400)]).set_name("best"), name="w")
"""


def test_the_plan_of_a_submit_shows_groups_beside_what_they_save(tmp_path):
    sample = Sample.make(tmp_path, FAN)

    output = sample.doit("plan", "-v", "submit")

    assert "auto: 401 tasks take about" in output
    assert "in Argo's workflow object, which may have 1,048,576" in output
    assert re.search(
        r"w, if all is computed: \d\d pods, .* expected, longest path .* of pods\n", output
    )
    assert re.search(r"unfused: 401 pods, .*; the cluster would not take it\n", output)
    assert "durations: 401 assumed to be 1 s\n" in output
    assert re.search(r"w: 401 to compute, 0 from the cluster's cache, \d+ s expected", output)
    assert re.search(r"train_0\+ +train_0, train_1, train_2 and \d+ more", output)
    (found,) = json.loads(sample.doit("plan", "--json", "submit"))["cluster"]
    assert (found["mode"], found["nodes"]) == ("auto", 401)

    output = sample.doit("plan", "submit", FFTASKS_KFP__FUSE="none")
    assert re.search(
        r"w, if all is computed: 401 pods, .*; the cluster would not take it: 401 tasks take",
        output,
    )
    assert "unfused" not in output


def test_another_way_of_grouping_is_the_reason_that_is_shown(tmp_path):
    sample = Sample.make(tmp_path, FAN)
    sample.doit("tasks")

    output = sample.doit("plan", "tasks", FFTASKS_KFP__FUSE="none")

    assert re.search(r"tasks:w +groups of nodes: auto -> none \(and \d+ more\)", output)


def test_a_node_that_is_called_as_a_stage_is_not_taken_for_it(tmp_path):
    text = FAN.replace("range(400)", "range(3)").replace('"best")', '"tasks:w")')
    sample = Sample.make(tmp_path, text)
    sample.write("config/default.yaml", "workflows: [wf.py]\nkfp: {fuse: auto}\n")
    sample.doit("run", "run", "tasks")

    planned = json.loads(sample.doit("plan", "--json", FFTASKS_KFP__FUSE="none"))

    assert [one["runs"] for one in planned["run"] if one["task"] == "tasks:w"] == [False]
    assert [one["mode"] for one in planned["cluster"]] == ["none"]
