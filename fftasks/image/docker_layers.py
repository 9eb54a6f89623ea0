"""The layers of an image in a container engine: requirements, runtime and code.

Runtime and code are loaded as an archive with only the new layers and the configuration: the engine asks only
for layers that it does not have. So the id of the image is the digest of the configuration. A Dockerfile
produced the same layers, but an id that depends on the time, and took twice as long. An engine that stores
images in containerd needs all layers; those of the base are read from the engine itself.

For the requirements, pip runs in a container of the base, and the files that it changed become a layer. Base
and layer are stored as an image whose name is a digest of its inputs, so that pip runs once for the same
inputs. The environment, certificates and files of pip belong to one process and one folder, which are not in
the layer, and neither are times: the same packages produce the same bytes.
"""

from __future__ import annotations

import codecs
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.image import changeset
from fftasks.image.build_log import BuildLog
from fftasks.image.engine import find_proxies, inspect_image, read_engine_error, read_stream_error
from fftasks.image.layers import (
    LAYER_TIME,
    Blob,
    LayerCache,
    LayerEntry,
    make_file_entry,
    write_layer,
)
from fftasks.image.recipe import (
    ImageRecipe,
    LayerContents,
    ParentImage,
    describe_build_env,
    make_image_configuration,
    make_install_error,
    make_top_layers,
)
from fftasks.image.requirements import make_pip_command, make_pip_environment
from fftasks.records import digest_bytes, digest_file, digest_json
from fftasks.state_folder import open_regular

if TYPE_CHECKING:
    from docker import APIClient

_LOADED = "Loaded image ID: "


@dataclass(frozen=True)
class LayerFile:
    """A layer for an archive.

    Attributes:
        diff_id: Digest of the uncompressed layer.
        path: File with the layer, compressed or not.
    """

    diff_id: str
    path: Path


def add_top_layers(
    client: APIClient,
    recipe: ImageRecipe,
    layers: LayerContents,
    below: Mapping[str, Any],
    log: BuildLog,
) -> str:
    """Add runtime and code to an image, and return the id of the result.

    Args:
        client: Connection with the engine.
        recipe: The inputs of the image.
        layers: Its files.
        below: The engine's description of the image to add to.
        log: Receives the output of the engine.
    """
    blobs = LayerCache(recipe.blobs)
    ours = make_top_layers(layers, blobs)
    configuration = make_image_configuration(recipe, read_parent_image(below), ours)
    parts = [LayerFile(blob.diff_id, blobs.path(blob.digest)) for _, blob in ours]
    image = load_image(client, configuration, parts, str(below["Id"]), log, known=recipe.name)
    if recipe.name:
        _tag_image(client, image, recipe.name)
    blobs.remove_others(blob.digest for _, blob in ours)
    return image


def read_parent_image(image: Mapping[str, Any]) -> ParentImage:
    """Return the parts of the engine's description of an image that determine the next one."""
    return ParentImage(
        settings=image["Config"] or {},
        os=image["Os"],
        architecture=image["Architecture"],
        variant=image.get("Variant") or "",
        layers=tuple(image["RootFS"].get("Layers") or ()),
    )


def load_image(  # noqa: PLR0913 - the parts of an image
    client: APIClient,
    configuration: bytes,
    parts: Sequence[LayerFile],
    below: str,
    log: BuildLog,
    *,
    known: str = "",
) -> str:
    """Load an image into the engine, and return its id.

    Args:
        client: Connection with the engine.
        configuration: The configuration of the image (JSON).
        parts: Its layers above those of the image `below`.
        below: Id of the image below.
        log: Receives the output of the engine.
        known: Name of an image; the layers that both have in common are not sent again.

    Raises:
        ToolError: The engine refused the image, also with all layers in the archive.
    """
    image = digest_bytes(configuration)
    if inspect_image(client, image) is not None:
        return image
    wanted = json.loads(configuration)["rootfs"]["diff_ids"]
    held = _count_common_layers(client, wanted, known)
    sent = [part for k, part in enumerate(parts, len(wanted) - len(parts)) if k >= held]
    loaded, message = _send(client, configuration, sent, "", log)
    if not loaded:
        log.write(f"{message}\nsending all layers to the engine\n")
        loaded, message = _send(client, configuration, parts, below, log)
    if not loaded:
        raise ToolError(
            "image: the engine did not load the image",
            found=[message],
            tip="see the message of the engine; `docker system df` shows whether its disk is full",
        )
    return loaded


def _count_common_layers(client: APIClient, wanted: Sequence[str], known: str) -> int:
    """Return the number of layers, from the lowest, that a known image has in common."""
    image = inspect_image(client, known) if known else None
    have = (image or {}).get("RootFS", {}).get("Layers") or []
    pairs = zip(wanted, have, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(have)))


def _send(
    client: APIClient, configuration: bytes, parts: Sequence[LayerFile], below: str, log: BuildLog
) -> tuple[str, str]:
    """Load an archive; return the id of the image and "", or "" and the error message.

    Args:
        client: Connection with the engine.
        configuration: The configuration of the image.
        parts: The layers that are sent.
        below: Id of an image whose layers are added to the archive; "" for none.
        log: The temporary file is created beside it.
    """
    with TemporaryFile(dir=log.path.parent) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            if below:
                _copy_layers(client, below, configuration, archive, log)
            _write_image_archive(archive, configuration, parts)
        file.seek(0)
        message = "the engine reported no image"
        for event in client.load_image(file):  # type: ignore[no-untyped-call]
            if "error" in event:
                return "", read_stream_error(event)
            text = str(event.get("stream", ""))
            if text.startswith(_LOADED):
                return text.removeprefix(_LOADED).strip(), ""
            message = text.strip() or message
    return "", message


def _write_image_archive(
    archive: tarfile.TarFile, configuration: bytes, parts: Sequence[LayerFile]
) -> None:
    name = f"{digest_bytes(configuration).removeprefix('sha256:')}.json"
    diff_ids = json.loads(configuration)["rootfs"]["diff_ids"]
    manifest = [{"Config": name, "Layers": [_name_layer(one) for one in diff_ids]}]
    for part in parts:
        with open(open_regular(part.path), "rb") as file:  # noqa: PTH123 - a descriptor
            _add(archive, _name_layer(part.diff_id), file)
    _add(archive, name, io.BytesIO(configuration))
    _add(archive, "manifest.json", io.BytesIO(json.dumps(manifest).encode()))


def _copy_layers(
    client: APIClient, image: str, configuration: bytes, archive: tarfile.TarFile, log: BuildLog
) -> None:
    """Copy the layers of an image out of the engine into an archive."""
    with TemporaryFile(dir=log.path.parent) as file:
        for piece in client.get_image(image):
            file.write(piece)
        file.seek(0)
        with tarfile.open(fileobj=file) as saved:
            (content,) = json.loads(_read(saved, "manifest.json").read())
            diff_ids = json.loads(configuration)["rootfs"]["diff_ids"]
            for diff_id, path in zip(diff_ids, content["Layers"], strict=False):
                _add(archive, _name_layer(diff_id), _read(saved, path))


def _read(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise ToolError(f"image: {name} is not a file in the archive from the engine")
    return file


def _name_layer(diff_id: str) -> str:
    return f"{diff_id.removeprefix('sha256:')}.tar"


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size = file.seek(0, io.SEEK_END)
    info.mtime = LAYER_TIME
    file.seek(0)
    archive.addfile(info, file)


def _tag_image(client: APIClient, image: str, name: str) -> None:
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    try:
        client.tag(image, repository, tag, force=True)
    except APIError as exc:
        raise ToolError(
            f"image: the image cannot be named {name!r}",
            found=[read_engine_error(exc)],
            tip="check registry.repository and image.tag",
        ) from exc


PIP_LAYER_VERSION = 3
REQUIREMENTS_REPOSITORY = "fftasks/requirements"

_FOLDER = "fftasks-build"
_CERTIFICATES = "certificates.pem"
_CONTEXT = "context"
_SHOWN = 12
_KILLED = 137
# one day: the container ends by itself if this process is killed before it removes it
_WAIT_PROGRAM = "import time; time.sleep(86400)"
_OUTPUT = 1


@dataclass(frozen=True)
class _Container:
    """A running container in which commands are executed."""

    client: APIClient
    id: str
    log: BuildLog

    def put(self, entries: Iterable[LayerEntry]) -> None:
        """Copy files into pip's folder."""
        archive = io.BytesIO()
        write_layer(entries, archive, root=_FOLDER)
        self.client.put_archive(self.id, "/", archive.getvalue())

    def list_changes(self) -> list[dict[str, Any]]:
        """Return "Path" and "Kind" of the files that differ from the image."""
        changes: list[dict[str, Any]] | None = self.client.diff(self.id)
        return changes or []

    def execute(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        out: IO[bytes] | None = None,
    ) -> int:
        """Run a command as root, and return its exit status.

        Args:
            command: The command.
            environment: Its environment variables.
            out: Receives its standard output; the log if it is None.
        """
        process = self.client.exec_create(
            self.id,
            list(command),
            environment=dict(environment),
            workdir=f"/{_FOLDER}/{_CONTEXT}",
            user="0",
        )["Id"]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with _stream_output(self.client, process) as pieces:
            for stream, piece in pieces:
                if out is not None and stream == _OUTPUT:
                    out.write(piece)
                else:
                    self.log.write(decoder.decode(piece))
        self.log.finish()
        return int(self.client.exec_inspect(process)["ExitCode"])


def install_requirements(
    client: APIClient,
    recipe: ImageRecipe,
    layers: LayerContents,
    base: Mapping[str, Any],
    log: BuildLog,
) -> Mapping[str, Any]:
    """Return the engine's description of an image with the base and the requirements.

    Args:
        client: Connection with the engine.
        recipe: The inputs of the image.
        layers: Its files. Without requirements, the base is returned.
        base: The engine's description of the base.
        log: Receives the output of pip.

    Raises:
        ToolError: pip failed.
    """
    if not layers.requirements:
        return base
    tag = _make_tag(recipe, layers, str(base["Id"]))
    if made := inspect_image(client, f"{REQUIREMENTS_REPOSITORY}:{tag}"):
        log.write(f"requirements: unchanged, {REQUIREMENTS_REPOSITORY}:{tag}\n")
        return {**made, "Config": base["Config"]}
    command = make_pip_command(recipe.requirements)
    with (
        _run_container(client, base, " ".join(command), log) as container,
        _open_new(log) as archive,
    ):
        container.put(_list_files(recipe, layers))
        env = make_pip_environment(
            {**find_proxies(client), **recipe.build_env},
            f"/{_FOLDER}/{_CERTIFICATES}" if recipe.ca_cert else "",
        )
        log.write(f"{' '.join(command)}\n")
        status = container.execute(command, env)
        if status:
            raise _make_pip_error(recipe, layers, status, log)
        diff_id = _pack_changes(container, archive)
        image = _make_image(client, recipe, base, LayerFile(diff_id, Path(archive.name)), log)
    client.tag(image, REQUIREMENTS_REPOSITORY, tag, force=True)
    log.write(f"requirements: made, {REQUIREMENTS_REPOSITORY}:{tag}\n")
    return {**(inspect_image(client, image) or {}), "Config": base["Config"]}


def _pack_changes(container: _Container, archive: IO[bytes]) -> str:
    """Write the layer with the files that pip changed, and return its digest."""
    changes = [[change["Path"], change["Kind"]] for change in container.list_changes()]
    program = Path(changeset.__file__).read_bytes()
    container.put(
        [
            make_file_entry("changes.json", json.dumps(changes).encode()),
            make_file_entry("changeset.py", program),
        ]
    )
    command = ["python3", f"/{_FOLDER}/changeset.py", f"/{_FOLDER}", str(LAYER_TIME)]
    if container.execute(command, {"PYTHONHASHSEED": "0"}, archive):
        found = container.log.tail(_SHOWN)
        raise ToolError("image: cannot pack the installed packages", found=found)
    archive.flush()
    return digest_file(Path(archive.name))


def _make_image(
    client: APIClient, recipe: ImageRecipe, base: Mapping[str, Any], part: LayerFile, log: BuildLog
) -> str:
    below, ours = read_parent_image(base), [("requirements", Blob(part.diff_id, "", 0))]
    configuration = make_image_configuration(replace(recipe, workflows=()), below, ours)
    return load_image(client, configuration, [part], str(base["Id"]), log)


@contextmanager
def _open_new(log: BuildLog) -> Iterator[IO[bytes]]:
    with NamedTemporaryFile(dir=log.path.parent, prefix=".requirements.") as file:
        yield file


def _make_tag(recipe: ImageRecipe, layers: LayerContents, base: str) -> str:
    decides = {
        "version": PIP_LAYER_VERSION,
        "base": base,
        "files": [[entry.path, entry.digest] for entry in layers.requirements],
        "build_env": describe_build_env(recipe.build_env),
    }
    return digest_json(decides).removeprefix("sha256:")[:32]


def _list_files(recipe: ImageRecipe, layers: LayerContents) -> list[LayerEntry]:
    entries = [replace(e, path=f"{_CONTEXT}/{e.path}") for e in layers.requirements]
    if recipe.ca_cert is not None:
        try:
            entries.append(make_file_entry(_CERTIFICATES, recipe.ca_cert.read_bytes()))
        except OSError as exc:
            raise SettingsError(
                f"image: image.ca_cert {str(recipe.ca_cert)!r} cannot be read",
                found=[exc.strerror or str(exc)],
                tip="set it to a file with certificates (PEM)",
            ) from exc
    return entries


@contextmanager
def _run_container(
    client: APIClient, base: Mapping[str, Any], title: str, log: BuildLog
) -> Iterator[_Container]:
    """Start a container that waits, and remove it at the end; `docker ps` shows the title."""
    from docker.errors import APIError

    container = client.create_container(
        base["Id"],
        entrypoint=["python3", "-c", _WAIT_PROGRAM],
        command=[title],
        host_config=client.create_host_config(auto_remove=True),
        use_config_proxy=False,  # a proxy may have a password, and this environment is stored
    )["Id"]
    try:
        try:
            client.start(container)
        except APIError as exc:
            raise ToolError(
                "image: cannot start python3 in the base",
                found=[read_engine_error(exc)],
                tip="set image.base to an image with Python for a platform that this machine can run",
            ) from exc
        yield _Container(client, container, log)
    finally:
        with suppress(APIError):  # the engine is already removing one that did not start
            client.remove_container(container, v=True, force=True)


@contextmanager
def _stream_output(client: APIClient, process: str) -> Iterator[Iterator[tuple[int, bytes]]]:
    """Iterate over the output of a process: the number of the stream, and a piece of it."""
    from docker.utils import socket

    frames: Any = socket  # the type stubs do not cover it
    connection: Any = client.exec_start(process, socket=True)
    try:
        yield frames.frames_iter(connection, tty=False)
    finally:
        # docker-py returns a reader, and does not close its socket
        inner = getattr(connection, "_sock", None)
        if inner is not None:
            inner.close()
        connection.close()


def _make_pip_error(
    recipe: ImageRecipe, layers: LayerContents, status: int, log: BuildLog
) -> ToolError:
    attempted = f"image: pip could not install {recipe.requirements} on base {recipe.base!r} (exit {status})"
    tip = (
        "it was killed, probably because the engine ran out of memory" if status == _KILLED else ""
    )
    return make_install_error(attempted, layers, log, tip=tip)
