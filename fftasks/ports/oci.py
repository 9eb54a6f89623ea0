"""Images without an engine: layers and manifest are made here, and only what is missing is sent.

An image is known by the digest of its manifest, before it is in any registry. Of the base nothing is
fetched but its manifest and configuration; its layers go from registry to registry, if they have to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fftasks.errors import ToolError
from fftasks.ports.log import Log, blame_disk, blame_in, open_log
from fftasks.ports.registry import Manifest, Registry
from fftasks.ports.remote_base import Name, RemoteBase, find_python, parse_name, read_base
from fftasks.ports.wheels import FOLDER, Target, find_layer, install
from fftasks.record import format_json, read_record, read_state, write_record, write_state
from fftasks.stages.base import Base
from fftasks.stages.blob import Blob, Blobs
from fftasks.stages.configuration import make_configuration, make_layers
from fftasks.stages.image import Built, Layers, Recipe
from fftasks.stages.push import ImageGoneError

_PLATFORM = "linux/amd64"
_OCI = "application/vnd.oci.image.manifest.v1+json"
_TYPES = {  # manifest -> configuration, layer
    _OCI: (
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ),
    "application/vnd.docker.distribution.manifest.v2+json": (
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
}


class Builder:
    """Makes images by itself; `resolve`, `build` and `push` are what stages base, image and push ask for.

    open_registry: gives the registry of a host; blobs: the folder of layers
    python: the base's version of Python, as in "3.11"; "" finds it out when it must be known
    """

    def __init__(
        self, open_registry: Callable[[str], Registry], blobs: Path, *, python: str = ""
    ) -> None:
        self._open = open_registry
        self._blobs = Blobs(blobs)
        self._python = python
        self._registries: dict[str, Registry] = {}

    def resolve(
        self,
        name: str,
        platform: str,
        *,
        origin: str,
        log: Path,  # noqa: ARG002 - there is no tool that says anything
        update: bool,  # noqa: ARG002 - the registry is asked each time
    ) -> Base:
        """Return the image that a base's name stands for in its registry."""
        parsed = parse_name(name, origin)
        remote = read_base(self._connect(parsed.host), parsed, platform or _PLATFORM, origin)
        self._keep(remote)
        return remote.base

    def build(self, recipe: Recipe, layers: Layers, *, log: Path) -> Built:
        """Make an image; the digest of its manifest is its name. Nothing is sent.

        Raises ToolError for a base that is in no registry, and if a requirement has no wheel;
        StoreError if the disk does not take the layers.
        """
        with blame_disk(), open_log(log, recipe.build_env) as lines, blame_in(lines):
            return self._build(recipe, layers, lines)

    def push(self, image: str, repository: str, tags: Sequence[str]) -> str:
        """Send what the registry does not have of an image, and put its manifest under each tag."""
        host, _, path = repository.partition("/")
        try:
            content = self._blobs.read(image)
        except FileNotFoundError as exc:
            raise _miss(image) from exc
        whole = Manifest(json.loads(content)["mediaType"], content, image)
        registry, known = self._connect(host), self._read_pushed(repository)
        try:
            self._put(registry, path, whole, tags, known)
        except ToolError:
            if not known:
                raise
            # the registry may have lost what it had; now it is asked for each
            self._put(registry, path, whole, tags, frozenset())
        self._note_pushed(repository, whole)
        return image

    def _put(
        self,
        registry: Registry,
        repository: str,
        manifest: Manifest,
        tags: Sequence[str],
        known: frozenset[str],
    ) -> None:
        """Send what is missing, then the manifest; known: what need not be asked for."""
        content = json.loads(manifest.content)
        source, count = self._read_source(manifest.digest)
        digests = [layer["digest"] for layer in (*content["layers"], content["config"])]
        for k, digest in enumerate(digests):
            if digest in known:
                continue
            if k < count:
                self._give(registry, repository, digest, source)
            else:
                self._send(registry, repository, digest, manifest.digest)
        for tag in tags:
            registry.write_manifest(repository, tag, manifest)

    def _read_pushed(self, repository: str) -> frozenset[str]:
        """Return the blobs of the image that was pushed last, if it went to this repository."""
        record = read_record(self._blobs.pushed)
        if record is None or record.get("repository") != repository:
            return frozenset()
        return frozenset(record["blobs"])

    def _note_pushed(self, repository: str, manifest: Manifest) -> None:
        content = json.loads(manifest.content)
        digests = [layer["digest"] for layer in (*content["layers"], content["config"])]
        record = {"repository": repository, "blobs": digests, "output": manifest.digest}
        write_record(self._blobs.pushed, record)

    def _build(self, recipe: Recipe, layers: Layers, log: Log) -> Built:
        remote = self._find_base(recipe)
        ours = make_layers(layers, self._blobs)
        below = remote.below
        if layers.requirements:
            ours = [("requirements", self._install(recipe, layers, remote, log)), *ours]
            below = replace(below, paths=(f"/{FOLDER}",))
        configuration = make_configuration(recipe, below, ours)
        manifest = _make_manifest(remote, len(configuration), self._blobs.put(configuration), ours)
        image = self._blobs.put(format_json(manifest).encode())
        source = {"reference": remote.base.reference, "layers": len(remote.content["layers"])}
        write_state(self._blobs.path(f"{image}.base"), source)
        kept = (remote.manifest.digest, remote.base.image, manifest["config"]["digest"], image)
        self._blobs.keep([*kept, f"{image}.base", *(blob.digest for _, blob in ours)])
        return Built(image, remote.base.image, "oci")

    def _find_base(self, recipe: Recipe) -> RemoteBase:
        """Return the base; the registry is asked only if it is not known from the last time."""
        base = recipe.resolved
        if base is None:
            parsed = parse_name(recipe.base, recipe.base_origin)
            platform = recipe.platform or _PLATFORM
            return read_base(self._connect(parsed.host), parsed, platform, recipe.base_origin)
        if not base.reference:
            raise ToolError(
                f"image: the base {recipe.base!r} was found in an engine, and in no registry",
                tip="push it to a registry, name it there as image.base, and run `doit image --update-base`",
            )
        name = parse_name(base.reference)
        known = self._recall(name, base)
        if known is not None:
            return known
        platform = recipe.platform or _PLATFORM
        remote = read_base(self._connect(name.host), name, platform, recipe.base_origin)
        if remote.base.image != base.image:
            raise ToolError(
                f"image: the base {recipe.base!r} is not what it was",
                found=[f"{remote.base.image} instead of {base.image}"],
                tip="run `doit image --update-base` to build upon what it is now",
            )
        self._keep(remote)
        return remote

    def _recall(self, name: Name, base: Base) -> RemoteBase | None:
        try:
            content = self._blobs.read(name.reference)
            configuration = self._blobs.read(base.image)
        except FileNotFoundError:
            return None
        kind = json.loads(content).get("mediaType", _OCI)
        return RemoteBase(name, Manifest(kind, content, name.reference), configuration)

    def _keep(self, remote: RemoteBase) -> None:
        self._blobs.put(remote.manifest.content)
        self._blobs.put(remote.configuration)

    def _install(self, recipe: Recipe, layers: Layers, remote: RemoteBase, log: Log) -> Blob:
        image = remote.base.image
        found = find_layer(recipe, layers, image, self._blobs)
        if found is not None:
            log.write("requirements: unchanged\n")
            return found
        version, is_musl = self._python, False
        if not version:
            version, is_musl = find_python(self._connect(remote.name.host), remote)
        target = Target(image, recipe.platform or _PLATFORM, version, is_musl)
        return install(recipe, layers, target, self._blobs, log)

    def _give(self, registry: Registry, repository: str, digest: str, source: Name) -> None:
        """See that a repository has a layer of the base."""
        if registry.has_blob(repository, digest):
            return
        is_near = source.host == registry.host
        if not (is_near and registry.mount_blob(repository, digest, source.repository)):
            registry.copy_blob(repository, digest, self._connect(source.host), source.repository)

    def _send(self, registry: Registry, repository: str, digest: str, image: str) -> None:
        """See that a repository has what is our own."""
        if self._blobs.is_whole(digest):
            registry.send_blob(repository, digest, self._blobs.path(digest))
        elif not registry.has_blob(repository, digest):
            raise _miss(image)

    def _read_source(self, image: str) -> tuple[Name, int]:
        """Return where the base's layers are, and how many there are."""
        source = read_state(self._blobs.path(f"{image}.base"))
        if source is None:
            raise _miss(image)
        return parse_name(source["reference"]), int(source["layers"])

    def _connect(self, host: str) -> Registry:
        if host not in self._registries:
            self._registries[host] = self._open(host)
        return self._registries[host]


def _make_manifest(
    remote: RemoteBase, size: int, configuration: str, ours: Sequence[tuple[str, Blob]]
) -> dict[str, Any]:
    """Return the manifest, of the same kind as the base's, with the base's layers as they are there."""
    kind = remote.content.get("mediaType") or remote.manifest.media_type or _OCI
    config_type, layer_type = _TYPES.get(kind, _TYPES[_OCI])
    return {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": config_type, "size": size, "digest": configuration},
        "layers": [
            *remote.content["layers"],
            *(
                {"mediaType": layer_type, "size": blob.size, "digest": blob.digest}
                for _, blob in ours
            ),
        ],
    }


def _miss(image: str) -> ImageGoneError:
    return ImageGoneError(
        f"push: the image {image[:19]} is not in .fftasks any more",
        tip="`doit image` builds it again",
    )
