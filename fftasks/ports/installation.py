"""The requirements layer: pip runs in a container of the base, which then becomes an image.

The image is kept under a name that is made from all that decides it, so that it is made once. What
pip is given (environment, certificates, files) belongs to one process and one folder, which are gone
before the container becomes an image.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.ports import pip
from fftasks.ports.engine import find_proxies, inspect_image, read_message
from fftasks.ports.log import Log
from fftasks.record import digest_json
from fftasks.stages.image import COMMAND, Layers, Recipe, describe_build_env
from fftasks.stages.layer import make_entry, write_layer

if TYPE_CHECKING:
    from docker import APIClient

VERSION = 2
REPOSITORY = "fftasks/requirements"

_FOLDER = "fftasks-build"
_CERTIFICATES = "certificates.pem"
_CONTEXT = "context"
_SHOWN = 12
_KILLED = 137
# a day: a container that nobody took away, because we were killed, goes by itself
_IDLE = "import time; time.sleep(86400)"
_CLEAN = f"import shutil; shutil.rmtree('/{_FOLDER}')"


def install(
    client: APIClient, recipe: Recipe, layers: Layers, base: Mapping[str, Any], log: Log
) -> Mapping[str, Any]:
    """Return an image that is the base and what the requirements ask for: its "Id" and "Config".

    base: as the engine describes it. Raises ToolError if pip fails.
    """
    if not layers.requirements:
        return base
    tag = _make_tag(recipe, layers, str(base["Id"]))
    if made := inspect_image(client, f"{REPOSITORY}:{tag}"):
        log.write(f"requirements: unchanged, {REPOSITORY}:{tag}\n")
        return made
    command = pip.make_command(recipe.requirements)
    with _run_container(client, base, " ".join(command)) as container:
        client.put_archive(container, "/", _pack(recipe, layers))
        env = pip.make_environment(
            {**find_proxies(client), **recipe.build_env},
            f"/{_FOLDER}/{_CERTIFICATES}" if recipe.ca_cert else "",
        )
        log.write(f"{' '.join(command)}\n")
        status = _execute(client, container, command, env, log)
        if status:
            raise _explain(recipe, layers, status, log)
        if _execute(client, container, ["python3", "-c", _CLEAN], {}, log):
            # no secret gets into a layer, whatever keeps it there
            raise ToolError("image: pip's files cannot be removed", found=log.tail(_SHOWN))
        # the base's settings, not those of a container that waits; what is not said comes from there
        settings = {**base["Config"], "Entrypoint": [], "Cmd": list(COMMAND)}
        made = client.commit(container, REPOSITORY, tag, conf=settings)
    return {"Id": made["Id"], "Config": settings}


def _make_tag(recipe: Recipe, layers: Layers, base: str) -> str:
    decides = {
        "version": VERSION,
        "base": base,
        "files": [[entry.path, entry.digest] for entry in layers.requirements],
        "build_env": describe_build_env(recipe.build_env),
    }
    return digest_json(decides).removeprefix("sha256:")[:32]


def _pack(recipe: Recipe, layers: Layers) -> bytes:
    entries = [replace(e, path=f"{_CONTEXT}/{e.path}") for e in layers.requirements]
    if recipe.ca_cert is not None:
        try:
            entries.append(make_entry(_CERTIFICATES, recipe.ca_cert.read_bytes()))
        except OSError as exc:
            raise SettingsError(
                f"image: image.ca_cert {str(recipe.ca_cert)!r} cannot be read",
                found=[exc.strerror or str(exc)],
                tip="set it to a file with certificates (PEM)",
            ) from exc
    archive = io.BytesIO()
    write_layer(entries, archive, root=_FOLDER)
    return archive.getvalue()


@contextmanager
def _run_container(client: APIClient, base: Mapping[str, Any], title: str) -> Iterator[str]:
    """Give the id of a container that waits; it is removed in the end.

    title: what `docker history` will say of the layer.
    """
    from docker.errors import APIError

    container = client.create_container(
        base["Id"],
        entrypoint=["python3", "-c", _IDLE],
        command=[title],
        host_config=client.create_host_config(auto_remove=True),
        use_config_proxy=False,  # a proxy may have a password, and this environment stays
    )["Id"]
    try:
        try:
            client.start(container)
        except APIError as exc:
            raise ToolError(
                "image: python3 does not start in the base",
                found=[read_message(exc)],
                tip="set image.base to an image with Python, for a platform that this machine runs",
            ) from exc
        yield container
    finally:
        with suppress(APIError):  # one that did not start is on its way out already
            client.remove_container(container, v=True, force=True)


def _execute(
    client: APIClient,
    container: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Log,
) -> int:
    """Run a command as root in a container and return its exit status."""
    process = client.exec_create(
        container,
        list(command),
        environment=dict(environment),
        workdir=f"/{_FOLDER}/{_CONTEXT}",
        user="0",
    )["Id"]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with _listen(client, process) as pieces:
        for _, piece in pieces:
            log.write(decoder.decode(piece))
    log.finish()
    return int(client.exec_inspect(process)["ExitCode"])


@contextmanager
def _listen(client: APIClient, process: str) -> Iterator[Iterator[tuple[int, bytes]]]:
    """Give what a process says, in pieces, with the number of the stream."""
    from docker.utils import socket

    frames: Any = socket  # the type stubs leave it untyped
    connection: Any = client.exec_start(process, socket=True)
    try:
        yield frames.frames_iter(connection, tty=False)
    finally:
        # docker-py gives a reader of a socket that nobody else closes
        inner = getattr(connection, "_sock", None)
        if inner is not None:
            inner.close()
        connection.close()


def _explain(recipe: Recipe, layers: Layers, status: int, log: Log) -> ToolError:
    files = {
        entry.path: entry.content.read_text("utf-8", "replace")
        for entry in layers.requirements
        if isinstance(entry.content, Path) and entry.path.endswith((".txt", ".in"))
    }
    guilty, tip = pip.explain(list(log.lines), files)
    if status == _KILLED:
        tip = "it was killed, most likely for want of memory in the engine"
    return ToolError(
        f"image: pip could not install {recipe.requirements} on base {recipe.base!r} (exit {status})",
        found=[*guilty, "the last lines:", *(f"  {line}" for line in log.tail(_SHOWN))],
        tip=tip,
    )
