"""Our own layers, put upon an image in the engine by loading an archive that holds nothing else.

Docker's loader asks for a layer only if it does not have it above the same ones: so the archive has
the new layers and the configuration, and the image's id is the digest of what we wrote. A Dockerfile
gave layers of the same bytes, but an id with the time of day in it, and took twice as long. An engine
that keeps images in containerd wants all layers; it gets those of the base from itself.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.ports.engine import inspect_image, read_error, read_message
from fftasks.ports.log import Log
from fftasks.record import digest_bytes
from fftasks.runtime.regular import open_regular
from fftasks.stages.blob import Blobs
from fftasks.stages.configuration import Below, make_configuration, make_layers
from fftasks.stages.image import Layers, Recipe
from fftasks.stages.layer import TIME

if TYPE_CHECKING:
    from docker import APIClient

_LOADED = "Loaded image ID: "


@dataclass(frozen=True)
class Part:
    """A layer of an archive: its diff id, and the file that holds it, compressed or not."""

    diff_id: str
    path: Path


def assemble(
    client: APIClient, recipe: Recipe, layers: Layers, below: Mapping[str, Any], log: Log
) -> str:
    """Return the id of the image that has runtime and code above another.

    below: that image, as the engine describes it.
    """
    blobs = Blobs(recipe.blobs)
    ours = make_layers(layers, blobs)
    configuration = make_configuration(recipe, describe_below(below), ours)
    parts = [Part(blob.diff_id, blobs.path(blob.digest)) for _, blob in ours]
    image = load(client, configuration, parts, str(below["Id"]), log, known=recipe.name)
    if recipe.name:
        _name(client, image, recipe.name)
    blobs.keep(blob.digest for _, blob in ours)
    return image


def describe_below(image: Mapping[str, Any]) -> Below:
    """Return what the engine's description of an image says of it."""
    return Below(
        settings=image["Config"] or {},
        os=image["Os"],
        architecture=image["Architecture"],
        variant=image.get("Variant") or "",
        layers=tuple(image["RootFS"].get("Layers") or ()),
    )


def load(  # noqa: PLR0913 - they are what an image is made of
    client: APIClient,
    configuration: bytes,
    parts: Sequence[Part],
    below: str,
    log: Log,
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
    held = _count_held(client, wanted, known)
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


def _count_held(client: APIClient, wanted: Sequence[str], known: str) -> int:
    """Return how many of the wanted layers, from the lowest, a known image has as well."""
    image = inspect_image(client, known) if known else None
    have = (image or {}).get("RootFS", {}).get("Layers") or []
    pairs = zip(wanted, have, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(have)))


def _send(
    client: APIClient, configuration: bytes, parts: Sequence[Part], below: str, log: Log
) -> tuple[str, str]:
    """Load an archive; return the image's id and "", or "" and what went wrong.

    below: an image in the engine whose layers go into the archive as well, or ""
    """
    with TemporaryFile(dir=log.path.parent) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            if below:
                _copy_layers(client, below, configuration, archive, log)
            _fill(archive, configuration, parts)
        file.seek(0)
        message = "the engine ended without an image"
        for event in client.load_image(file):  # type: ignore[no-untyped-call]
            if "error" in event:
                return "", read_error(event)
            text = str(event.get("stream", ""))
            if text.startswith(_LOADED):
                return text.removeprefix(_LOADED).strip(), ""
            message = text.strip() or message
    return "", message


def _fill(archive: tarfile.TarFile, configuration: bytes, parts: Sequence[Part]) -> None:
    name = f"{digest_bytes(configuration).removeprefix('sha256:')}.json"
    diff_ids = json.loads(configuration)["rootfs"]["diff_ids"]
    manifest = [{"Config": name, "Layers": [_name_layer(one) for one in diff_ids]}]
    for part in parts:
        with open(open_regular(part.path), "rb") as file:  # noqa: PTH123 - a descriptor
            _add(archive, _name_layer(part.diff_id), file)
    _add(archive, name, io.BytesIO(configuration))
    _add(archive, "manifest.json", io.BytesIO(json.dumps(manifest).encode()))


def _copy_layers(
    client: APIClient, image: str, configuration: bytes, archive: tarfile.TarFile, log: Log
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
    info.mtime = TIME
    file.seek(0)
    archive.addfile(info, file)


def _name(client: APIClient, image: str, name: str) -> None:
    from docker.errors import APIError
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    try:
        client.tag(image, repository, tag, force=True)
    except APIError as exc:
        raise ToolError(
            f"image: the image cannot be named {name!r}",
            found=[read_message(exc)],
            tip="check registry.repository and image.tag",
        ) from exc
