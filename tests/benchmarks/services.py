"""The parts outside that an image needs: an engine, a registry with a password, a base in both."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measure import Cost, run
from tests.benchmarks.table import Row
from tests.services.base_image import ensure_base_image
from tests.services.engine import connect_engine, remove_images
from tests.services.registry import Registry, make_registry

if TYPE_CHECKING:
    import docker

_CACHE = Path.home() / ".cache" / "fftasks-tests"


@dataclass(frozen=True)
class Services:
    """What is running, and the name of the base: in the engine as well as in the registry."""

    engine: docker.DockerClient
    registry: Registry
    base: str
    environment: dict[str, str]

    def docker(self, folder: Path, *arguments: str) -> Cost:
        """Run docker on the command line, logged in to the registry."""
        settings = [f"{name}={self.environment[name]}" for name in ("DOCKER_CONFIG",)]
        return run(["env", *settings, "docker", *arguments], folder)


@contextmanager
def start_services(folder: Path) -> Iterator[Services]:
    """Start them, and stop them in the end; images of this registry are removed from the engine."""
    (folder / "registry").mkdir(parents=True)
    engine = connect_engine()
    registry = make_registry(folder / "registry")
    registry.start()
    environment = {"DOCKER_CONFIG": str(folder / "docker")}
    try:
        _log_in(registry, environment)
        base = f"{registry.server}/bases/python:1"
        engine.images.get(ensure_base_image(engine, _CACHE)).tag(base)
        engine.images.push(base, auth_config=registry.credentials)
        yield Services(engine, registry, base, environment)
    finally:
        registry.stop()
        remove_images(engine, f"{registry.server}/")
        engine.close()


def apart(rows: Callable[[], Iterable[Row]]) -> list[Row]:
    """Return rows that are measured in a child process.

    Who measures waits for all of its children in the end, and the registry must not be one of them.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            with os.fdopen(writer, "wb") as file:
                pickle.dump(list(rows()), file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    if os.waitpid(child, 0)[1]:
        sys.exit("the measurement failed")
    measured: list[Row] = pickle.loads(content)
    return measured


def _log_in(registry: Registry, environment: dict[str, str]) -> None:
    command = ["docker", "login", registry.server, "-u", registry.username, "--password-stdin"]
    subprocess.run(
        command,
        input=registry.password.encode(),
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
