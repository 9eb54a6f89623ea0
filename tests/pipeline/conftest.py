"""A project with a pipeline, and a server without pipelines and schedules; see submitted.py."""

import pytest

from tests.services.kfp_server import KFPServer
from tests.submitted_project import make_project, submit_project


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
