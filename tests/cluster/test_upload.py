"""Pipelines stored on the cluster: same content, one version; one schedule, changed or removed."""

import pytest

from fftasks.cluster.cron import check_cron
from fftasks.cluster.upload import name_schedule, schedule_workflow, upload_workflow
from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.ports.kfp_catalog import remove_schedules
from fftasks.project import open_project
from tests.cluster.submitted import CHAIN, REFERENCE, make_project, submit_project
from tests.services.kfp_server import Fault, KFPServer

DAILY, HOURLY = "0 0 6 * * *", "0 0 * * * *"


@pytest.fixture(scope="module")
def _shared(tmp_path_factory):
    with KFPServer() as server:
        folder = tmp_path_factory.mktemp("project")
        sample = make_project(folder, server, kfp="  labels: {team: vision}")
        yield server, submit_project(sample)[0]


@pytest.fixture
def server(_shared):
    """Give a server without pipelines and schedules."""
    server, _ = _shared
    for rows in (server.api.catalog.pipelines, server.api.catalog.versions):
        rows.clear()
    server.api.schedules.rows.clear()
    server.faults.clear()
    return server


@pytest.fixture
def project(_shared, server):
    return _shared[1]


def list_versions(server):
    return list(server.api.catalog.versions.values())


def list_schedules(server):
    return list(server.api.schedules.rows.values())


def test_equal_pipelines_are_one_version(server, project):
    versions = [upload_workflow(project, "chain") for _ in range(2)]

    [version] = list_versions(server)
    assert [v.version_id for v in versions] == [version["pipeline_version_id"]] * 2
    assert [v.is_new for v in versions] == [True, False]
    assert "team=vision" in version["description"]
    assert versions[0].url.startswith(f"{server.url}/#/pipelines/details/")


def test_another_pipeline_is_another_version_of_the_same_name(tmp_path, server, project):
    upload_workflow(project, "chain")
    project, _ = submit_project(make_project(tmp_path, server), REFERENCE.replace("00", "11"))

    assert upload_workflow(project, "chain").is_new
    assert len(server.api.catalog.pipelines) == 1
    assert len(list_versions(server)) == 2


@pytest.mark.parametrize("path", ["/pipelines", "/pipelines/upload_version"])
@pytest.mark.parametrize("fault", [Fault(status=500), Fault(reset=True), Fault(body=b"{")])
def test_a_lost_answer_makes_nothing_twice(server, project, path, fault):
    changes = {"method": "POST", "path": f"{path}$", "performed": True}
    server.faults.append(Fault(**vars(fault) | changes))

    version = upload_workflow(project, "chain")

    assert [version.version_id] == [v["pipeline_version_id"] for v in list_versions(server)]
    assert len(server.api.catalog.pipelines) == 1


def test_a_refusal_of_the_pipeline_is_said(server, project):
    server.faults.append(Fault(status=413, method="POST", path="upload_version"))

    with pytest.raises(ToolError, match="cannot store version") as caught:
        upload_workflow(project, "chain")

    assert "fewer nodes" in caught.value.tip


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

    with pytest.raises(ToolError, match="cannot make recurring run"):
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


def test_a_schedule_is_removed(server, project):
    schedule_workflow(project, "chain", upload_workflow(project, "chain"), DAILY)
    settings = project.settings.kfp

    assert remove_schedules(settings, name_schedule("chain")) == 1
    assert remove_schedules(settings, name_schedule("chain")) == 0
    assert list_schedules(server) == []


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
        ("0 0 24 * * *", "'24' is no hour"),
        ("0 60 * * * *", "'60' is no minute"),
        ("0 0 6 * 13 *", "'13' is no month"),
        ("0 0 6 * * 7", "'7' is no day of the week"),
        ("0 0 6 5-2 * *", "'5-2' is no day of the month"),
        ("0 0 */0 * * *", "'*/0' is no hour"),
        ("x 0 * * * *", "'x' is no second"),
        ("@often", "it has 1 fields"),
        ("0 0 1-2-3 * * *", "'1-2-3' is no hour"),
    ],
)
def test_times_that_it_does_not(text, said):
    with pytest.raises(SettingsError) as caught:
        check_cron(text)

    assert said in str(caught.value)
