"""Workflows that run by the clock: one schedule each, which is changed, listed or removed."""

import json

import pytest

from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.kfp.connection import connect
from fftasks.pipeline.recurring_runs import (
    check_cron,
    list_recurring_runs,
    schedule_workflow,
    unschedule_workflows,
    upload_workflow,
)
from fftasks.project import open_project
from tests.sample import Sample
from tests.services.kfp_server import Fault
from tests.submitted_project import CHAIN, REFERENCE, make_project, submit_project

DAILY, HOURLY = "0 0 6 * * *", "0 0 * * * *"


def list_schedules(server):
    return list(server.api.schedules.rows.values())


def test_a_schedule_is_made_once_and_changed(server, project):
    version = upload_workflow(project, "chain")

    first = schedule_workflow(project, "chain", version, DAILY)
    same = schedule_workflow(project, "chain", version, DAILY)
    other = schedule_workflow(project, "chain", version, HOURLY)

    assert (first.is_new, same.is_new, other.is_new) == (True, False, True)
    assert first.identity == same.identity != other.identity
    [row] = list_schedules(server)
    assert row["recurring_run_id"] == other.identity
    assert row["trigger"]["cron_schedule"]["cron"] == HOURLY
    assert row["status"] == "ENABLED"
    assert row["pipeline_version_reference"]["pipeline_version_id"] == version.version_id


def test_other_values_of_run_parameters_are_another_schedule(tmp_path, server):
    text = CHAIN.replace("double(1)", 'double(Parameter("n", 1))')
    text = text.replace("import Workflow", "import Parameter, Workflow")
    project, _ = submit_project(make_project(tmp_path, server, text))
    version = upload_workflow(project, "chain")
    chosen = open_project(project.root, None, (("n", "3"),))

    made = [schedule_workflow(one, "chain", version, DAILY) for one in (project, chosen, chosen)]

    assert [schedule.is_new for schedule in made] == [True, True, False]
    [row] = list_schedules(server)
    assert row["runtime_config"]["parameters"] == {"n": 3}


def test_a_schedule_that_is_refused_leaves_the_old_one(server, project):
    version = upload_workflow(project, "chain")
    schedule_workflow(project, "chain", version, DAILY)
    server.faults.append(Fault(status=400, method="POST", path="/recurringruns"))

    with pytest.raises(ToolError, match="cannot create recurring run"):
        schedule_workflow(project, "chain", version, HOURLY)

    [row] = list_schedules(server)
    assert row["trigger"]["cron_schedule"]["cron"] == DAILY


def test_after_a_lost_answer_the_next_try_leaves_one_schedule(server, project):
    version = upload_workflow(project, "chain")
    changes = {"method": "POST", "path": "/recurringruns$", "performed": True, "status": 503}
    server.faults.append(Fault(**changes))
    with pytest.raises(FFTasksError):
        schedule_workflow(project, "chain", version, DAILY)

    schedule_workflow(project, "chain", version, DAILY)

    assert [row["status"] for row in list_schedules(server)] == ["ENABLED"]


def test_what_is_scheduled_is_listed_with_the_pipeline_that_it_runs(tmp_path, server, project):
    version = upload_workflow(project, "chain")
    made = schedule_workflow(project, "chain", version, DAILY)
    server.api.schedules.rows["theirs"] = {
        **list_schedules(server)[0],
        "recurring_run_id": "theirs",
        "display_name": "by hand",
    }

    [listed] = list_recurring_runs(project)
    other, _ = submit_project(make_project(tmp_path, server), REFERENCE.replace("00", "11"))
    [elsewhere] = list_recurring_runs(other)
    server.api.catalog.versions.clear()
    [removed] = list_recurring_runs(project)

    assert (listed.workflow, listed.cron, listed.identity) == ("chain", DAILY, made.identity)
    assert (listed.is_on, listed.is_current) == (True, True)
    assert not elsewhere.is_current
    assert (removed.version, removed.is_current) == ("", False)


def test_a_schedule_is_removed(server, project):
    schedule_workflow(project, "chain", upload_workflow(project, "chain"), DAILY)

    assert list(unschedule_workflows(project, [])) == [("chain", True)]
    assert list(unschedule_workflows(project, ["chain"])) == [("chain", False)]
    assert list_schedules(server) == []


def test_a_schedule_of_a_workflow_that_is_gone_is_removed_by_its_name(server, project):
    schedule_workflow(project, "chain", upload_workflow(project, "chain"), DAILY)
    [row] = list_schedules(server)
    row["display_name"] = "fftasks: old one"

    with pytest.raises(ToolError, match="unknown workflow 'old on'") as caught:
        list(unschedule_workflows(project, ["old on"]))
    assert "did you mean 'old one'?" in caught.value.tip
    assert list(unschedule_workflows(project, ["old one"])) == [("old one", True)]


def test_the_command_lists_and_ends_and_builds_nothing(server, project):
    sample = Sample(project.root)
    assert "no recurring runs in experiment 'Default'" in sample.doit("schedule")
    schedule_workflow(project, "chain", upload_workflow(project, "chain"), DAILY)

    shown = sample.doit("schedule").splitlines()
    [row] = json.loads(sample.doit("schedule", "--json"))
    ended = sample.doit("schedule", "chain", "--off")
    [once_more] = json.loads(sample.doit("schedule", "chain", "--off", "--json"))

    assert shown[0].split()[:4] == ["workflow", "time", "(UTC)", "state"]
    assert shown[1].startswith(f'chain     "{DAILY}"  on ')
    assert (row["workflow"], row["cron"], row["is_on"]) == ("chain", DAILY, True)
    assert ended == "chain: recurring run removed\n"
    assert list_schedules(server) == []
    assert once_more == {"workflow": "chain", "was_scheduled": False}


def test_a_run_by_the_clock_is_shown_like_one_that_was_submitted(server, project):
    version = upload_workflow(project, "chain")
    schedule_workflow(project, "chain", version, DAILY)
    [row] = list_schedules(server)
    given = ("experiment_id", "pipeline_version_reference", "runtime_config")
    body = {"display_name": "by the clock", **{key: row[key] for key in given}}
    with connect(project.settings.kfp) as kfp:
        run_id = kfp.post("start a run", "/runs", body, "run_id")["run_id"]
    server.wait(run_id)
    sample = Sample(project.root)

    status = sample.doit("status", run_id)
    runs = sample.doit("runs")
    server.api.catalog.versions.clear()
    without = sample.doit("status", run_id)

    assert [line.split("  ")[2].strip() for line in status.splitlines()[2:]] == [
        "first node", "second", "third"
    ]  # fmt: skip
    assert "by the clock  chain" in runs
    assert "first node" not in without


@pytest.mark.parametrize(
    "text",
    [
        DAILY, "0  30 */2 1,15 * MON-FRI", "*/10 * * * * ?", "0 0 6 1-7/2 jan,DEC 0",
        "@daily", "@every 1h30m",
    ],
)  # fmt: skip
def test_times_that_kfp_reads_as_meant(text):
    assert check_cron(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 6 * * *", 'write "0 0 6 * * *"'),
        ("* * * *", "it has 4 fields, not 6"),
        ("", "it has 0 fields"),
        ("0 0 24 * * *", "invalid hour: '24'"),
        ("0 60 * * * *", "invalid minute: '60'"),
        ("0 0 6 * 13 *", "invalid month: '13'"),
        ("0 0 6 * * 7", "invalid day of the week: '7'"),
        ("0 0 6 5-2 * *", "invalid day of the month: '5-2'"),
        ("0 0 */0 * * *", "invalid hour: '*/0'"),
        ("x 0 * * * *", "invalid second: 'x'"),
        ("@often", "it has 1 fields"),
        ("0 0 1-2-3 * * *", "invalid hour: '1-2-3'"),
    ],
)
def test_times_that_it_does_not(text, said):
    with pytest.raises(SettingsError) as caught:
        check_cron(text)

    assert said in str(caught.value)
