"""Run one container of an image from a registry, for `doit replay --docker`.

Files are copied into and out of the container as archives. Mounts would need the engine on this machine, and
would create files of another owner.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fftasks.errors import ToolError
from fftasks.image.archive import extract_archive
from fftasks.image.engine import inspect_image, open_engine, wrap_engine_errors
from fftasks.registry.registry_auth import RegistryLogin, find_engine_auth

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True)
class ContainerRun:
    """A command to run in a container.

    Attributes:
        image: Reference of the image.
        command: Command and arguments.
        env: Environment variables.
        folder: Folder on this machine that is copied to `place`. Files in place/outputs are copied back.
        place: Absolute path in the container.
        interactive: Whether the container is connected to this terminal.
    """

    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    place: str
    interactive: bool = False


def run_container(container: ContainerRun, login: RegistryLogin | None) -> int:
    """Run a container to its end, and return its exit code.

    Args:
        container: What to run.
        login: Login for the registry; None to use Docker's own.

    Raises:
        ToolError: The container could not be started, or its files could not be copied.
    """
    attempted = f"replay: cannot run a container of {container.image}"
    with open_engine() as client, wrap_engine_errors(attempted):
        _pull(client, container.image, login)
        made = client.create_container(
            container.image,
            list(container.command[1:]),
            entrypoint=list(container.command[:1]),
            environment=dict(container.env),
            stdin_open=container.interactive,
            tty=container.interactive and sys.stdin.isatty(),
            labels={"fftasks": "replay"},
        )
        try:
            client.put_archive(made["Id"], "/", _pack_folder(container))
            code = (
                _attach_terminal(made["Id"]) if container.interactive else _run(client, made["Id"])
            )
            _copy_outputs(client, made["Id"], container)
        finally:
            client.remove_container(made["Id"], force=True, v=True)
    return code


def _pull(client: APIClient, image: str, login: RegistryLogin | None) -> None:
    if inspect_image(client, image) is None:
        name, _, digest = image.partition("@")
        auth = find_engine_auth(name.partition("/")[0], login)
        client.pull(name, tag=digest or None, auth_config=auth)


def _run(client: APIClient, identity: str) -> int:
    client.start(identity)
    for piece in client.logs(identity, stream=True, follow=True):
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
    return int(client.wait(identity)["StatusCode"])


def _attach_terminal(identity: str) -> int:
    """Connect the terminal with the docker program; the docker package does not support terminals."""
    program = shutil.which("docker")
    if program is None:
        raise ToolError(
            "replay: --pdb with --docker needs the program docker",
            tip="omit one of the options, or install Docker's command line",
        )
    command = [program, "start", "--attach", "--interactive", identity]
    return subprocess.run(command, check=False).returncode


def _pack_folder(container: ContainerRun) -> bytes:
    """Return the folder as an archive that all users in the container may read and write."""
    stream = io.BytesIO()
    root = container.place.strip("/")
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(container.folder, root, filter=_open_to_all)
    return stream.getvalue()


def _open_to_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o777 if entry.isdir() else 0o666
    return entry


def _copy_outputs(client: APIClient, identity: str, container: ContainerRun) -> None:
    pieces, _ = client.get_archive(identity, f"{container.place}/outputs")
    extract_archive(pieces, container.folder, "outputs")
