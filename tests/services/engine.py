"""A container engine: the one that answers, or one that is started here."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.missing import ServiceMissingError, find_program
from tests.services.waiting import wait_until

if TYPE_CHECKING:
    import docker


def connect_engine() -> docker.DockerClient:
    """Return a client of an engine that answers; start one as root where none does.

    An engine that is started here is left running: the next session of tests finds it.
    Raises ServiceMissingError with the reason in words.
    """
    if not answers():
        start_engine()
    return _make_client()


def answers() -> bool:
    """Say whether an engine listens where the environment points to."""
    from docker.errors import DockerException

    if not _listens():
        return False
    client = None
    try:
        client = _make_client()
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        if client is not None:
            client.close()


def start_engine() -> None:
    """Start dockerd in the background and wait until it answers; its log is in the temporary folder."""
    if os.environ.get("DOCKER_HOST"):
        raise ServiceMissingError(f"no container engine answers at {os.environ['DOCKER_HOST']}")
    program = find_program("dockerd", package="docker.io")
    if os.geteuid() != 0:
        raise ServiceMissingError("no container engine runs, and only root can start dockerd")
    log = Path(tempfile.gettempdir()) / "fftasks-tests-dockerd.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(), what="dockerd", timeout_s=60)
    except TimeoutError as exc:
        raise ServiceMissingError(f"dockerd does not answer; its log: {log}") from exc
    if process.poll() is not None:
        raise ServiceMissingError(f"dockerd exited with {process.returncode}; its log: {log}")
    # the process is meant to outlive us; without this its destructor warns that it still runs
    process.returncode = 0


def remove_images(client: docker.DockerClient, prefix: str) -> None:
    """Remove the images whose names begin with prefix, so that sessions of tests do not fill the disk."""
    from docker.errors import APIError

    # not client.images.list(): it asks for each image once more, and fails where one has just gone
    for image in client.api.images():
        names = [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]
        for name in names:
            if name.startswith(prefix):
                try:
                    client.images.remove(name, force=True)
                except APIError:  # removed together with another name, or used by a container
                    continue


def _listens() -> bool:
    """Say whether the engine's socket takes connections; docker-py leaves sockets open that do not."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


def _make_client() -> docker.DockerClient:
    import docker

    return docker.from_env(timeout=120)
