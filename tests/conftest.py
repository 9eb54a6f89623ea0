"""Fixtures for all tests: isolation (always on) and services (started when a test asks for one).

engine      a docker client                                       tests/services/engine.py
registry    a registry that wants a password                      tests/services/registry.py
base_image  the name of an image with Python and pip              tests/services/base_image.py
cluster     executes runs in containers of that engine            tests/services/cluster.py
kfp_server  a KFP server whose tasks all succeed, no containers   tests/services/kfp_server.py
kfp_cluster a KFP server that executes on `cluster`
browser     a real browser without a window                       tests/services/browser.py

A test that cannot have a service is skipped with the reason, or fails where
FFTASKS_REQUIRE_SERVICES=1. Tests that use one carry the mark "services" and run last.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.services import isolation
from tests.services.base_image import ensure_base_image
from tests.services.browser import Browser, start_browser
from tests.services.cluster import Cluster
from tests.services.engine import connect_engine, remove_images
from tests.services.kfp_server import KFPServer
from tests.services.missing import ServiceMissingError, find_program
from tests.services.pods import DockerPods
from tests.services.registry import Registry, make_registry

if TYPE_CHECKING:
    import docker

# read before any test runs, because the isolation takes them away
_ARE_REQUIRED = os.environ.get("FFTASKS_REQUIRE_SERVICES") == "1"
_CACHE = Path(os.environ.get("FFTASKS_TEST_CACHE") or Path.home() / ".cache" / "fftasks-tests")
# a shell lets what it starts in the background ignore Ctrl-C, and so all that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_SERVICES = frozenset({"engine", "registry", "base_image", "cluster", "kfp_cluster"})


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups in a hook of its own
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that use a service, and put them behind the fast ones.

    Where several processes share the tests, one of them has all of these, from the start: they wait for
    containers most of their time, and an engine's images are there for everybody.
    """
    for item in items:
        if _SERVICES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("services")
            item.add_marker(pytest.mark.xdist_group("services"))
        elif "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("services")
            item.add_marker(pytest.mark.xdist_group("browser"))
    is_shared = hasattr(config, "workerinput")
    items.sort(key=lambda item: (item.get_closest_marker("services") is None) is is_shared)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for what is slow to make and the same in every test."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory, shared_folder: Path) -> None:
    """Close the user's home, settings from outside and the network."""
    # not tmp_path: a test may look at what lies in there
    isolation.close_home(monkeypatch, tmp_path_factory.mktemp("user"))
    isolation.close_environment(monkeypatch)
    isolation.close_network(monkeypatch)
    # else every test's new home would make matplotlib look through the machine's fonts again
    monkeypatch.setenv("MPLCONFIGDIR", str(shared_folder / "matplotlib"))


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Give a client of a container engine; start one where none answers."""
    try:
        client = connect_engine()
    except ServiceMissingError as missing:
        _do_without(missing)
    yield client
    client.close()


@pytest.fixture(scope="session")
def kubectl() -> str:
    """Give the path of kubectl."""
    try:
        return find_program("kubectl", package="kubernetes-client")
    except ServiceMissingError as missing:
        _do_without(missing)


@pytest.fixture(scope="session")
def base_image(engine: docker.DockerClient) -> str:
    """Give the name of an image with Python, pip and the machine's certificates."""
    try:
        return ensure_base_image(engine, _CACHE)
    except ServiceMissingError as missing:
        _do_without(missing)


@pytest.fixture(scope="session")
def _session_registry(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    try:
        registry = make_registry(folder)
        registry.start()
    except ServiceMissingError as missing:
        _do_without(missing)
    yield registry
    registry.stop()
    # and port 1, where no registry ever is: tests name it where they want none
    for server in (registry.server, "localhost:1"):
        remove_images(engine, f"{server}/")
    # pytest keeps the folders of three sessions, and here lie images
    shutil.rmtree(folder)


@pytest.fixture
def registry(_session_registry: Registry) -> Iterator[Registry]:
    """Give the session's registry, running; a test may stop it."""
    yield _session_registry
    if not _session_registry.answers():
        _session_registry.start()


@pytest.fixture
def cluster(engine: docker.DockerClient, registry: Registry, tmp_path_factory) -> Cluster:
    """Give a cluster that runs pods in containers and has the registry's password."""
    pods = DockerPods(engine, registry.credentials)
    return Cluster(pods, tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def kfp_server() -> Iterator[KFPServer]:
    """Give a KFP server on which every task succeeds at once."""
    with KFPServer() as server:
        yield server


@pytest.fixture
def kfp_cluster(cluster: Cluster) -> Iterator[KFPServer]:
    """Give a KFP server that executes runs on `cluster`."""
    with KFPServer(cluster) as server:
        yield server
        for run in server.runs:  # its pods must not outlive the services that they use
            if run.is_waiting:  # for something that will never be there
                run.terminate()
            server.wait(run.run_id)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Give a browser; the tests of one process share it."""
    try:
        window = start_browser(tmp_path_factory.mktemp("browser"))
    except ServiceMissingError as missing:
        _do_without(missing)
    yield window
    window.driver.quit()


def _do_without(missing: ServiceMissingError) -> NoReturn:
    if _ARE_REQUIRED:
        pytest.fail(f"a service is required and missing: {missing}", pytrace=False)
    pytest.skip(f"needs a service: {missing}")
