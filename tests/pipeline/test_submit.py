"""Stage submit: one call, one run, one record that says which."""

from types import SimpleNamespace

import pytest

from fftasks.errors import ParameterError, SettingsError, ToolError
from fftasks.kfp.client import SubmittedRun
from fftasks.pipeline import compiler, task_specs
from fftasks.pipeline.submit import (
    check_values,
    format_run_name,
    is_lost,
    list_submit_inputs,
    make_submit_record,
    name_submit_inputs,
)
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_components import SUMS, make_graph, make_pins

SETTINGS = SimpleNamespace(
    host="http://kfp.test/",
    namespace="team",
    experiment="Default",
    run_name="{workflow} {pipeline}",
    labels={},
    service_account="",
    pipeline_root="",
)
PARTS = task_specs.make_tasks_record(make_graph(SUMS), "sums")
MADE, TEXT = compiler.compile_pipeline(
    PARTS, make_pins(PARTS, "r@sha256:0"), compiler.CompileOptions(caching=True, version="0")
)


class Recorder:
    """Starts runs by noting what it was asked for."""

    def __init__(self):
        self.requests = []

    def __call__(self, settings, request):
        self.requests.append(request)
        return SubmittedRun(f"run-{len(self.requests)}", "http://kfp.test/#/runs/details/run-1")


def test_one_call_starts_one_run_of_the_document():
    start_run = Recorder()

    record = make_submit_record(MADE, TEXT, SETTINGS, start_run)

    [request] = start_run.requests
    assert request.document == parse_document(TEXT)
    assert request.name == f"sums {MADE['output'][7:19]}"
    assert MADE["output"] in request.description
    assert (record["run_id"], record["url"]) == ("run-1", "http://kfp.test/#/runs/details/run-1")


def test_record_names_all_that_decides():
    record = make_submit_record(MADE, TEXT, SETTINGS, Recorder())

    assert record["inputs"] == {
        "pipeline": MADE["output"],
        "host": "http://kfp.test",
        "namespace": "team",
        "experiment": "Default",
        "run_name": f"sums {MADE['output'][7:19]}",
    }
    assert record["inputs"] == list_submit_inputs(MADE, SETTINGS)
    assert record["output"].startswith("sha256:")


def test_runs_of_one_pipeline_have_different_outputs():
    start_run = Recorder()

    records = [make_submit_record(MADE, TEXT, SETTINGS, start_run) for _ in range(2)]

    assert records[0]["output"] != records[1]["output"]


def test_edited_pipeline_is_not_submitted():
    start_run = Recorder()

    with pytest.raises(ToolError, match="was changed after it was made"):
        make_submit_record(MADE, TEXT.replace("depth", "death"), SETTINGS, start_run)

    assert start_run.requests == []


def test_failed_start_leaves_no_record():
    def start_run(settings, request):
        raise ToolError("no")

    with pytest.raises(ToolError, match="no"):
        make_submit_record(MADE, TEXT, SETTINGS, start_run)


@pytest.mark.parametrize("template", ["{user}", "{", "{0}", "{workflow.x}", "{workflow[0}"])
def test_run_name_with_something_else_in_braces_is_refused(template):
    with pytest.raises(SettingsError, match=r"kfp\.run_name"):
        format_run_name(template, "sums", "sha256:0")


def test_empty_run_name_is_refused():
    with pytest.raises(SettingsError, match="empty"):
        format_run_name(" ", "sums", "sha256:0")


@pytest.mark.parametrize(
    ("state", "lost"),
    [
        (None, False),
        ("PENDING", False),
        ("RUNNING", False),
        ("PAUSED", False),
        ("SUCCEEDED", False),
        ("SKIPPED", False),
        ("FAILED", True),
        ("CANCELING", True),
        ("CANCELED", True),
        ("DELETED", True),
    ],
)
def test_states_that_ask_for_another_run(state, lost):
    assert is_lost(state) is lost


def test_a_value_that_would_not_arrive_is_refused():
    check_values({"greeting": "Dear {name}", "n": 1})

    with pytest.raises(ParameterError, match="parameter 'greeting' was given"):
        check_values({"greeting": "Dear {{name}}"})


def test_inputs_are_spelled_as_settings():
    spelled = name_submit_inputs(list_submit_inputs(MADE, SETTINGS, {"n": 1}))

    assert spelled["setting kfp.host"] == SETTINGS.host.rstrip("/")
    assert spelled["setting kfp.labels"] == ""
    assert spelled["parameter n"] == 1
    assert spelled["pipeline"] == MADE["output"]
