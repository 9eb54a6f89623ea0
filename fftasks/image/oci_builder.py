"""The builder "oci": builds and pushes images without an engine.

An image is identified by the digest of its manifest. Only the manifest and the configuration of the base are
downloaded; its layers are copied from registry to registry if necessary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fftasks.errors import ToolError
from fftasks.image.archive import list_members
from fftasks.image.base import DEFAULT_PLATFORM, BaseImage, make_platform_error, matches_platform
from fftasks.image.build_log import BuildLog, add_log_to_errors, open_build_log, wrap_disk_errors
from fftasks.image.layers import Blob, LayerCache
from fftasks.image.recipe import (
    BuiltImage,
    ImageNotFoundError,
    ImageRecipe,
    LayerContents,
    ParentImage,
    make_image_configuration,
    make_top_layers,
)
from fftasks.image.wheels import REQUIREMENTS_FOLDER, WheelTarget, find_wheel_layer, install_wheels
from fftasks.records import (
    format_json,
    read_record,
    read_state_file,
    write_record,
    write_state_file,
)
from fftasks.registry.oci_registry import ImageManifest, Registry
from fftasks.registry.reference import ImageReference, parse_reference

_PYTHON = re.compile(r"(?:\./)?(?:usr/|usr/local/|opt/[^/]+/)?bin/python(3\.[0-9]+)")
_MUSL = re.compile(r"(?:\./)?lib/ld-musl-")


@dataclass(frozen=True)
class RemoteBase:
    """A base in a registry.

    Attributes:
        name: Its reference.
        manifest: Its manifest for the platform.
        configuration: Its configuration (JSON).
    """

    name: ImageReference
    manifest: ImageManifest
    configuration: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The manifest, parsed."""
        return dict(json.loads(self.manifest.content))

    @property
    def base(self) -> BaseImage:
        """The id and the reference of the base."""
        image = str(self.content["config"]["digest"])
        return BaseImage(image, f"{self.name.host}/{self.name.repository}@{self.manifest.digest}")

    @property
    def below(self) -> ParentImage:
        """The settings and layers that an image on this base inherits."""
        value = json.loads(self.configuration)
        return ParentImage(
            settings=value.get("config") or {},
            os=str(value["os"]),
            architecture=str(value["architecture"]),
            variant=str(value.get("variant") or ""),
            layers=tuple(value["rootfs"]["diff_ids"]),
        )


def read_remote_base(
    registry: Registry, name: ImageReference, platform: str, origin: str
) -> RemoteBase:
    """Download the manifest and the configuration of a base.

    Args:
        registry: The registry of the base.
        name: Its reference. In an index, the image for the platform is used.
        platform: "os/architecture[/variant]".
        origin: File and line of image.base, for errors.

    Raises:
        ToolError: The base was not found, or is for other platforms.
    """
    shown = f"{name.host}/{name.repository}"
    manifest = registry.read_manifest(name.repository, name.reference)
    content = json.loads(manifest.content)
    if "manifests" in content:
        chosen = _choose(content["manifests"], platform)
        if chosen is None:
            found = sorted(
                {_format_platform(one.get("platform") or {}) for one in content["manifests"]}
            )
            raise make_platform_error(shown, platform, found, origin=origin)
        manifest = registry.read_manifest(name.repository, chosen)
        content = json.loads(manifest.content)
    configuration = registry.read_blob(name.repository, content["config"]["digest"])
    value = json.loads(configuration)
    if not _is_for(value, platform):
        raise make_platform_error(shown, platform, [_format_platform(value)], origin=origin)
    return RemoteBase(name, manifest, configuration)


def find_python(registry: Registry, remote: RemoteBase) -> tuple[str, bool]:
    """Return the version of Python in the base, such as "3.11", and whether its C library is musl.

    The official images of Python have the version in their environment. The layers of other images are
    downloaded, from the highest, until a program python3.x is found.

    Raises:
        ToolError: There is no Python.
    """
    value = json.loads(remote.configuration)
    history = " ".join(str(row.get("created_by", "")) for row in value.get("history") or ())
    is_musl = re.search(r"\bapk |alpine", history) is not None
    for pair in remote.below.settings.get("Env") or ():
        if match := re.fullmatch(r"PYTHON_VERSION=(3\.[0-9]+)\b.*", pair):
            return match[1], is_musl
    for layer in reversed(remote.content["layers"]):
        for path in _list_paths(registry, remote.name.repository, layer["digest"]):
            is_musl = is_musl or _MUSL.match(path) is not None
            if match := _PYTHON.fullmatch(path):
                return match[1], is_musl
    raise ToolError(
        f"image: Python was not found in the base {remote.name.repository!r}",
        tip="set image.base to an image with Python, or image.python to its version",
    )


def _list_paths(registry: Registry, repository: str, digest: str) -> Iterator[str]:
    with registry.open_blob(repository, digest) as blob:
        try:
            yield from list_members(blob)
        except ValueError as exc:
            raise ToolError(
                f"image: the layer {digest[:19]} of the base cannot be read",
                found=[str(exc)],
                tip="set image.python to the base's version of Python, such as 3.11",
            ) from exc


def _choose(manifests: list[dict[str, Any]], platform: str) -> str | None:
    """Return the digest of the first image in an index that is for a platform."""
    fitting = (one for one in manifests if _is_for(one.get("platform") or {}, platform))
    return next((str(one["digest"]) for one in fitting), None)


def _is_for(found: Mapping[str, Any], platform: str) -> bool:
    return matches_platform(
        platform,
        system=found.get("os"),
        architecture=found.get("architecture"),
        variant=found.get("variant"),
    )


def _format_platform(found: Mapping[str, Any]) -> str:
    parts = (found.get("os"), found.get("architecture"), found.get("variant"))
    return "/".join(str(part) for part in parts if part)


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


class OciBuilder:
    """Builds images as layers in a folder, and sends the missing ones to a registry."""

    def __init__(
        self, open_registry: Callable[[str], Registry], blobs: Path, *, python: str = ""
    ) -> None:
        """Create a builder.

        Args:
            open_registry: Returns the client of the registry at a host.
            blobs: Folder of the layer cache.
            python: Version of Python in the base, such as "3.11"; "" to detect it when it is needed.
        """
        self._open = open_registry
        self._blobs = LayerCache(blobs)
        self._python = python
        self._registries: dict[str, Registry] = {}

    def resolve(
        self,
        name: str,
        platform: str,
        *,
        origin: str,
        log: Path,  # noqa: ARG002 - no tool is involved
        update: bool,  # noqa: ARG002 - the registry is always asked
    ) -> BaseImage:
        """Resolve the name of a base; see `fftasks.image.base.resolve_base`."""
        parsed = parse_reference(name, origin)
        remote = read_remote_base(
            self._connect(parsed.host), parsed, platform or DEFAULT_PLATFORM, origin
        )
        self._save_base(remote)
        return remote.base

    def build(self, recipe: ImageRecipe, layers: LayerContents, *, log: Path) -> BuiltImage:
        """Build an image into the layer cache; nothing is sent.

        Args:
            recipe: The inputs.
            layers: The files.
            log: File for the output of uv.

        Raises:
            ToolError: The base was not found, or a package has no wheel.
            StoreError: The disk is full.
        """
        with (
            wrap_disk_errors(),
            open_build_log(log, recipe.build_env) as lines,
            add_log_to_errors(lines),
        ):
            return self._build(recipe, layers, lines)

    def push(self, image: str, repository: str, tags: Sequence[str]) -> str:
        """Send the missing blobs of an image, and push its manifest under each tag.

        Args:
            image: The digest of its manifest.
            repository: "host[:port]/path".
            tags: The tags.

        Raises:
            ImageNotFoundError: A blob is missing in the layer cache.
            ToolError: A request failed.
        """
        host, _, path = repository.partition("/")
        try:
            content = self._blobs.read(image)
        except FileNotFoundError as exc:
            raise _make_missing_error(image) from exc
        whole = ImageManifest(json.loads(content)["mediaType"], content, image)
        registry, known = self._connect(host), self._read_pushed(repository)
        try:
            self._send_image(registry, path, whole, tags, known)
        except ToolError:
            if not known:
                raise
            # the registry may have removed blobs, so it is asked for each of them now
            self._send_image(registry, path, whole, tags, frozenset())
        self._note_pushed(repository, whole)
        return image

    def _send_image(
        self,
        registry: Registry,
        repository: str,
        manifest: ImageManifest,
        tags: Sequence[str],
        known: frozenset[str],
    ) -> None:
        """Send missing blobs, then the manifest; `known` blobs are in the registry."""
        content = json.loads(manifest.content)
        source, count = self._read_source(manifest.digest)
        digests = [layer["digest"] for layer in (*content["layers"], content["config"])]
        for k, digest in enumerate(digests):
            if digest in known:
                continue
            if k < count:
                self._ensure_base_layer(registry, repository, digest, source)
            else:
                self._send(registry, repository, digest, manifest.digest)
        for tag in tags:
            registry.write_manifest(repository, tag, manifest)

    def _read_pushed(self, repository: str) -> frozenset[str]:
        """Return the blobs of the last push, if it was to this repository."""
        record = read_record(self._blobs.pushed)
        if record is None or record.get("repository") != repository:
            return frozenset()
        return frozenset(record["blobs"])

    def _note_pushed(self, repository: str, manifest: ImageManifest) -> None:
        content = json.loads(manifest.content)
        digests = [layer["digest"] for layer in (*content["layers"], content["config"])]
        record = {"repository": repository, "blobs": digests, "output": manifest.digest}
        write_record(self._blobs.pushed, record)

    def _build(self, recipe: ImageRecipe, layers: LayerContents, log: BuildLog) -> BuiltImage:
        remote = self._find_base(recipe)
        ours = make_top_layers(layers, self._blobs)
        below = remote.below
        if layers.requirements:
            ours = [("requirements", self._install(recipe, layers, remote, log)), *ours]
            below = replace(below, paths=(f"/{REQUIREMENTS_FOLDER}",))
        configuration = make_image_configuration(recipe, below, ours)
        manifest = _make_manifest(remote, len(configuration), self._blobs.put(configuration), ours)
        image = self._blobs.put(format_json(manifest).encode())
        source = {"reference": remote.base.reference, "layers": len(remote.content["layers"])}
        write_state_file(self._blobs.path(f"{image}.base"), source)
        kept = (remote.manifest.digest, remote.base.image, manifest["config"]["digest"], image)
        self._blobs.remove_others([*kept, f"{image}.base", *(blob.digest for _, blob in ours)])
        return BuiltImage(image, remote.base.image, "oci")

    def _find_base(self, recipe: ImageRecipe) -> RemoteBase:
        """Return the base, from the cache if it was used before."""
        base = recipe.resolved
        if base is None:
            parsed = parse_reference(recipe.base, recipe.base_origin)
            platform = recipe.platform or DEFAULT_PLATFORM
            return read_remote_base(
                self._connect(parsed.host), parsed, platform, recipe.base_origin
            )
        if not base.reference:
            raise ToolError(
                f"image: the base {recipe.base!r} is in the engine, but in no registry",
                tip="push it to a registry, set image.base to it, and run `doit image --update-base`",
            )
        name = parse_reference(base.reference)
        known = self._lookup_base(name, base)
        if known is not None:
            return known
        platform = recipe.platform or DEFAULT_PLATFORM
        remote = read_remote_base(self._connect(name.host), name, platform, recipe.base_origin)
        if remote.base.image != base.image:
            raise ToolError(
                f"image: the base {recipe.base!r} has changed",
                found=[f"{remote.base.image} instead of {base.image}"],
                tip="run `doit image --update-base` to build on the current image of this name",
            )
        self._save_base(remote)
        return remote

    def _lookup_base(self, name: ImageReference, base: BaseImage) -> RemoteBase | None:
        try:
            content = self._blobs.read(name.reference)
            configuration = self._blobs.read(base.image)
        except FileNotFoundError:
            return None
        kind = json.loads(content).get("mediaType", _OCI)
        return RemoteBase(name, ImageManifest(kind, content, name.reference), configuration)

    def _save_base(self, remote: RemoteBase) -> None:
        self._blobs.put(remote.manifest.content)
        self._blobs.put(remote.configuration)

    def _install(
        self, recipe: ImageRecipe, layers: LayerContents, remote: RemoteBase, log: BuildLog
    ) -> Blob:
        image = remote.base.image
        found = find_wheel_layer(recipe, layers, image, self._blobs)
        if found is not None:
            log.write("requirements: unchanged\n")
            return found
        version, is_musl = self._python, False
        if not version:
            version, is_musl = find_python(self._connect(remote.name.host), remote)
        target = WheelTarget(image, recipe.platform or DEFAULT_PLATFORM, version, is_musl)
        return install_wheels(recipe, layers, target, self._blobs, log)

    def _ensure_base_layer(
        self, registry: Registry, repository: str, digest: str, source: ImageReference
    ) -> None:
        """Link or copy a layer of the base, unless the repository has it."""
        if registry.has_blob(repository, digest):
            return
        is_same_host = source.host == registry.host
        if not (is_same_host and registry.mount_blob(repository, digest, source.repository)):
            registry.copy_blob(repository, digest, self._connect(source.host), source.repository)

    def _send(self, registry: Registry, repository: str, digest: str, image: str) -> None:
        """Send a blob of ours, unless the repository has it."""
        if self._blobs.is_whole(digest):
            registry.send_blob(repository, digest, self._blobs.path(digest))
        elif not registry.has_blob(repository, digest):
            raise _make_missing_error(image)

    def _read_source(self, image: str) -> tuple[ImageReference, int]:
        """Return the reference of the base of an image, and the number of its layers."""
        source = read_state_file(self._blobs.path(f"{image}.base"))
        if source is None:
            raise _make_missing_error(image)
        return parse_reference(source["reference"]), int(source["layers"])

    def _connect(self, host: str) -> Registry:
        if host not in self._registries:
            self._registries[host] = self._open(host)
        return self._registries[host]


def _make_manifest(
    remote: RemoteBase, size: int, configuration: str, ours: Sequence[tuple[str, Blob]]
) -> dict[str, Any]:
    """Return the manifest, which has the media type and the layers of the base's manifest."""
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


def _make_missing_error(image: str) -> ImageNotFoundError:
    return ImageNotFoundError(
        f"push: the image {image[:19]} was not found in .fftasks",
        tip="`doit image` builds it again",
    )
