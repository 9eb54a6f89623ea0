"""Pipelines stored on the cluster: same content, one version."""

import pytest

from fftasks.errors import ToolError
from fftasks.pipeline.recurring_runs import upload_workflow
from tests.services.kfp_server import Fault
from tests.submitted_project import REFERENCE, make_project, submit_project


def list_versions(server):
    return list(server.api.catalog.versions.values())


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

    with pytest.raises(ToolError, match="cannot upload version") as caught:
        upload_workflow(project, "chain")

    assert "fewer nodes" in caught.value.tip
