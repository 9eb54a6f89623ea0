"""Our own layers, put upon an image in the engine by loading an archive that holds nothing else.

Docker's loader asks for a layer only if it does not have it above the same ones: so the archive has
the new layers and the configuration, and the image's id is the digest of what we wrote. A Dockerfile
gave layers of the same bytes, but an id with the time of day in it, and took twice as long. An engine
that keeps images in containerd wants all layers; it gets those of the base from itself.

The requirements layer: pip runs in a container of the base, and what it changed becomes a layer.

Base and layer are kept as an image, under a name that is made from all that decides it, so that it is
made once. What pip is given (environment, certificates, files) belongs to one process and one folder,
which never get into the layer; nor do times of day: the same packages give the same bytes.
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
from fftasks.image.build_log import BuildLog
from fftasks.image.changeset import __file__
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
    make_top_layers,
)
from fftasks.image.requirements import explain_pip_failure, make_pip_command, make_pip_environment
from fftasks.records import digest_bytes, digest_file, digest_json
from fftasks.state_folder import open_regular

if TYPE_CHECKING:
    from docker import APIClient

_LOADED = "Loaded image ID: "


@dataclass(frozen=True)
class LayerFile:
    """A layer of an archive: its diff id, and the file that holds it, compressed or not."""

    diff_id: str
    path: Path


def add_top_layers(
    client: APIClient,
    recipe: ImageRecipe,
    layers: LayerContents,
    below: Mapping[str, Any],
    log: BuildLog,
) -> str:
    """Return the id of the image that has runtime and code above another.

    below: that image, as the engine describes it.
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
    """Return what the engine's description of an image says of it."""
    return ParentImage(
        settings=image["Config"] or {},
        os=image["Os"],
        architecture=image["Architecture"],
        variant=image.get("Variant") or "",
        layers=tuple(image["RootFS"].get("Layers") or ()),
    )


def load_image(  # noqa: PLR0913 - they are what an image is made of
    client: APIClient,
    configuration: bytes,
    parts: Sequence[LayerFile],
    below: str,
    log: BuildLog,
    *,
    known: str = "",
) -> str:
    """Give the engine an image, and return its id there.

    parts: its layers above those of the image `below`
    known: a name; what that image has of the same layers is not sent again

    Raises ToolError if the engine takes it neither so nor with all layers.
    """
    image = digest_bytes(configuration)
    if inspect_image(client, image) is not None:
        return image
    wanted = json.loads(configuration)["rootfs"]["diff_ids"]
    held = _count_common_layers(client, wanted, known)
    sent = [part for k, part in enumerate(parts, len(wanted) - len(parts)) if k >= held]
    loaded, message = _send(client, configuration, sent, "", log)
    if not loaded:
        log.write(f"{message}\nthe engine wants all layers\n")
        loaded, message = _send(client, configuration, parts, below, log)
    if not loaded:
        raise ToolError(
            "image: the engine did not take the image",
            found=[message],
            tip="look at what it says; `docker system df` if its disk is full",
        )
    return loaded


def _count_common_layers(client: APIClient, wanted: Sequence[str], known: str) -> int:
    """Return how many of the wanted layers, from the lowest, a known image has as well."""
    image = inspect_image(client, known) if known else None
    have = (image or {}).get("RootFS", {}).get("Layers") or []
    pairs = zip(wanted, have, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(have)))


def _send(
    client: APIClient, configuration: bytes, parts: Sequence[LayerFile], below: str, log: BuildLog
) -> tuple[str, str]:
    """Load an archive; return the image's id and "", or "" and what went wrong.

    below: an image in the engine whose layers go into the archive as well, or ""
    """
    with TemporaryFile(dir=log.path.parent) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            if below:
                _copy_layers(client, below, configuration, archive, log)
            _write_image_archive(archive, configuration, parts)
        file.seek(0)
        message = "the engine ended without an image"
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
        raise ToolError(f"image: the engine gave an archive in which {name} is no file")
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
# a day: a container that nobody took away, because we were killed, goes by itself
_WAIT_PROGRAM = "import time; time.sleep(86400)"
_OUTPUT = 1


@dataclass(frozen=True)
class _Container:
    """A container that waits for what it is to do."""

    client: APIClient
    id: str
    log: BuildLog

    def put(self, entries: Iterable[LayerEntry]) -> None:
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
    """Return an image that is the base and what the requirements ask for, described as by the engine.

    base: as the engine describes it. Raises ToolError if pip fails.
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
            raise _explain(recipe, layers, status, log)
        diff_id = _pack_changes(container, archive)
        image = _make_image(client, recipe, base, LayerFile(diff_id, Path(archive.name)), log)
    client.tag(image, REQUIREMENTS_REPOSITORY, tag, force=True)
    log.write(f"requirements: made, {REQUIREMENTS_REPOSITORY}:{tag}\n")
    return {**(inspect_image(client, image) or {}), "Config": base["Config"]}


def _pack_changes(container: _Container, archive: IO[bytes]) -> str:
    """Write the layer of what pip has changed, and return its digest."""
    changes = [[change["Path"], change["Kind"]] for change in container.list_changes()]
    program = Path(__file__).read_bytes()
    container.put(
        [
            make_file_entry("changes.json", json.dumps(changes).encode()),
            make_file_entry("harvest.py", program),
        ]
    )
    command = ["python3", f"/{_FOLDER}/harvest.py", f"/{_FOLDER}", str(LAYER_TIME)]
    if container.execute(command, {"PYTHONHASHSEED": "0"}, archive):
        found = container.log.tail(_SHOWN)
        raise ToolError("image: what pip installed cannot be packed", found=found)
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
    """Give a container that waits; it is removed in the end; title: what `docker ps` says of it."""
    from docker.errors import APIError

    container = client.create_container(
        base["Id"],
        entrypoint=["python3", "-c", _WAIT_PROGRAM],
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
                found=[read_engine_error(exc)],
                tip="set image.base to an image with Python, for a platform that this machine runs",
            ) from exc
        yield _Container(client, container, log)
    finally:
        with suppress(APIError):  # one that did not start is on its way out already
            client.remove_container(container, v=True, force=True)


@contextmanager
def _stream_output(client: APIClient, process: str) -> Iterator[Iterator[tuple[int, bytes]]]:
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


def _explain(recipe: ImageRecipe, layers: LayerContents, status: int, log: BuildLog) -> ToolError:
    files = {
        entry.path: entry.content.read_text("utf-8", "replace")
        for entry in layers.requirements
        if isinstance(entry.content, Path) and entry.path.endswith((".txt", ".in"))
    }
    guilty, tip = explain_pip_failure(list(log.lines), files)
    if status == _KILLED:
        tip = "it was killed, most likely for want of memory in the engine"
    return ToolError(
        f"image: pip could not install {recipe.requirements} on base {recipe.base!r} (exit {status})",
        found=[*guilty, "the last lines:", *(f"  {line}" for line in log.tail(_SHOWN))],
        tip=tip,
    )
