"""The requirements layer: pip runs in a container of the base, and what it changed becomes a layer.

Base and layer are kept as an image, under a name that is made from all that decides it, so that it is
made once. What pip is given (environment, certificates, files) belongs to one process and one folder,
which never get into the layer; nor do times of day: the same packages give the same bytes.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.ports import harvest, pip
from fftasks.ports.assembly import Part, describe_below, load
from fftasks.ports.engine import find_proxies, inspect_image, read_message
from fftasks.ports.log import Log
from fftasks.record import digest_file, digest_json
from fftasks.stages.blob import Blob
from fftasks.stages.configuration import make_configuration
from fftasks.stages.image import Layers, Recipe, describe_build_env
from fftasks.stages.layer import TIME, Entry, make_entry, write_layer

if TYPE_CHECKING:
    from docker import APIClient

VERSION = 3
REPOSITORY = "fftasks/requirements"

_FOLDER = "fftasks-build"
_CERTIFICATES = "certificates.pem"
_CONTEXT = "context"
_SHOWN = 12
_KILLED = 137
# a day: a container that nobody took away, because we were killed, goes by itself
_IDLE = "import time; time.sleep(86400)"
_OUTPUT = 1


@dataclass(frozen=True)
class _Container:
    """A container that waits for what it is to do."""

    client: APIClient
    id: str
    log: Log

    def put(self, entries: Iterable[Entry]) -> None:
        """Put files into pip's folder."""
        archive = io.BytesIO()
        write_layer(entries, archive, root=_FOLDER)
        self.client.put_archive(self.id, "/", archive.getvalue())

    def list_changes(self) -> list[dict[str, Any]]:
        """Return the "Path" and "Kind" of all that is not as in the image."""
        changes: list[dict[str, Any]] | None = self.client.diff(self.id)
        return changes or []

    def execute(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        out: IO[bytes] | None = None,
    ) -> int:
        """Run a command as root and return its exit status; out: takes its output, else the log."""
        process = self.client.exec_create(
            self.id,
            list(command),
            environment=dict(environment),
            workdir=f"/{_FOLDER}/{_CONTEXT}",
            user="0",
        )["Id"]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with _listen(self.client, process) as pieces:
            for stream, piece in pieces:
                if out is not None and stream == _OUTPUT:
                    out.write(piece)
                else:
                    self.log.write(decoder.decode(piece))
        self.log.finish()
        return int(self.client.exec_inspect(process)["ExitCode"])


def install(
    client: APIClient, recipe: Recipe, layers: Layers, base: Mapping[str, Any], log: Log
) -> Mapping[str, Any]:
    """Return an image that is the base and what the requirements ask for, described as by the engine.

    base: as the engine describes it. Raises ToolError if pip fails.
    """
    if not layers.requirements:
        return base
    tag = _make_tag(recipe, layers, str(base["Id"]))
    if made := inspect_image(client, f"{REPOSITORY}:{tag}"):
        log.write(f"requirements: unchanged, {REPOSITORY}:{tag}\n")
        return {**made, "Config": base["Config"]}
    command = pip.make_command(recipe.requirements)
    with (
        _run_container(client, base, " ".join(command), log) as container,
        _open_new(log) as archive,
    ):
        container.put(_list_files(recipe, layers))
        env = pip.make_environment(
            {**find_proxies(client), **recipe.build_env},
            f"/{_FOLDER}/{_CERTIFICATES}" if recipe.ca_cert else "",
        )
        log.write(f"{' '.join(command)}\n")
        status = container.execute(command, env)
        if status:
            raise _explain(recipe, layers, status, log)
        diff_id = _harvest(container, archive)
        image = _make_image(client, recipe, base, Part(diff_id, Path(archive.name)), log)
    client.tag(image, REPOSITORY, tag, force=True)
    log.write(f"requirements: made, {REPOSITORY}:{tag}\n")
    return {**(inspect_image(client, image) or {}), "Config": base["Config"]}


def _harvest(container: _Container, archive: IO[bytes]) -> str:
    """Write the layer of what pip has changed, and return its digest."""
    changes = [[change["Path"], change["Kind"]] for change in container.list_changes()]
    program = Path(harvest.__file__).read_bytes()
    container.put(
        [
            make_entry("changes.json", json.dumps(changes).encode()),
            make_entry("harvest.py", program),
        ]
    )
    command = ["python3", f"/{_FOLDER}/harvest.py", f"/{_FOLDER}", str(TIME)]
    if container.execute(command, {"PYTHONHASHSEED": "0"}, archive):
        found = container.log.tail(_SHOWN)
        raise ToolError("image: what pip installed cannot be packed", found=found)
    archive.flush()
    return digest_file(Path(archive.name))


def _make_image(
    client: APIClient, recipe: Recipe, base: Mapping[str, Any], part: Part, log: Log
) -> str:
    below, ours = describe_below(base), [("requirements", Blob(part.diff_id, "", 0))]
    configuration = make_configuration(replace(recipe, workflows=()), below, ours)
    return load(client, configuration, [part], str(base["Id"]), log)


@contextmanager
def _open_new(log: Log) -> Iterator[IO[bytes]]:
    with NamedTemporaryFile(dir=log.path.parent, prefix=".requirements.") as file:
        yield file


def _make_tag(recipe: Recipe, layers: Layers, base: str) -> str:
    decides = {
        "version": VERSION,
        "base": base,
        "files": [[entry.path, entry.digest] for entry in layers.requirements],
        "build_env": describe_build_env(recipe.build_env),
    }
    return digest_json(decides).removeprefix("sha256:")[:32]


def _list_files(recipe: Recipe, layers: Layers) -> list[Entry]:
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
    return entries


@contextmanager
def _run_container(
    client: APIClient, base: Mapping[str, Any], title: str, log: Log
) -> Iterator[_Container]:
    """Give a container that waits; it is removed in the end; title: what `docker ps` says of it."""
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
        yield _Container(client, container, log)
    finally:
        with suppress(APIError):  # one that did not start is on its way out already
            client.remove_container(container, v=True, force=True)


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
