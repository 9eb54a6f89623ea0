"""The base of an image in its registry: its manifest, and what of it must be known without running it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.errors import SettingsError, ToolError
from fftasks.ports.archive import list_members
from fftasks.ports.registry import Manifest, Registry
from fftasks.stages.base import Base, describe_origin
from fftasks.stages.configuration import Below
from fftasks.stages.push import HUB

_SPELLINGS = {"x86_64": "amd64", "aarch64": "arm64"}
_PYTHON = re.compile(r"(?:\./)?(?:usr/|usr/local/|opt/[^/]+/)?bin/python(3\.[0-9]+)")
_MUSL = re.compile(r"(?:\./)?lib/ld-musl-")


@dataclass(frozen=True)
class Name:
    """An image's name, taken apart as Docker does; reference: a tag or a digest."""

    host: str
    repository: str
    reference: str


@dataclass(frozen=True)
class RemoteBase:
    """A base in a registry: where it is, its manifest, and its configuration."""

    name: Name
    manifest: Manifest
    configuration: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The manifest, parsed."""
        return dict(json.loads(self.manifest.content))

    @property
    def base(self) -> Base:
        """What the base's record says of it."""
        image = str(self.content["config"]["digest"])
        return Base(image, f"{self.name.host}/{self.name.repository}@{self.manifest.digest}")

    @property
    def below(self) -> Below:
        """What an image upon it has from it."""
        value = json.loads(self.configuration)
        return Below(
            settings=value.get("config") or {},
            os=str(value["os"]),
            architecture=str(value["architecture"]),
            variant=str(value.get("variant") or ""),
            layers=tuple(value["rootfs"]["diff_ids"]),
        )


def parse_name(name: str, origin: str = "") -> Name:
    """Take an image's name apart; raise SettingsError for what is none."""
    whole, _, digest = name.strip().partition("@")
    path, colon, tag = whole.rpartition(":")
    if not colon or "/" in tag:
        path, tag = whole, "latest"
    host, slash, rest = path.partition("/")
    if not slash or not (re.search(r"[.:]", host) or host == "localhost"):
        host, rest = HUB, path if slash else f"library/{path}"
    if not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", rest):
        raise SettingsError(
            f"image: image.base {name!r} is no image's name",
            tip=f"correct it in {origin or 'config/'}",
        )
    return Name(host, rest, digest or tag)


def read_base(registry: Registry, name: Name, platform: str, origin: str) -> RemoteBase:
    """Return the base for a platform; of an index, the image in it that is for that platform.

    Raises ToolError if it is not there, or only for other platforms.
    """
    manifest = registry.read_manifest(name.repository, name.reference)
    content = json.loads(manifest.content)
    if "manifests" in content:
        chosen = _choose(content["manifests"], platform)
        if chosen is None:
            found = sorted({_spell(one.get("platform") or {}) for one in content["manifests"]})
            raise _refuse(name, platform, found, origin)
        manifest = registry.read_manifest(name.repository, chosen)
        content = json.loads(manifest.content)
    configuration = registry.read_blob(name.repository, content["config"]["digest"])
    value = json.loads(configuration)
    if not _fits(value, platform):
        raise _refuse(name, platform, [_spell(value)], origin)
    return RemoteBase(name, manifest, configuration)


def find_python(registry: Registry, remote: RemoteBase) -> tuple[str, bool]:
    """Return the base's version of Python, as "3.11", and whether its C library is musl.

    Images made for Python say it in their environment; others are read, layer by layer, until it is
    found. Raises ToolError if it is not.
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
        f"image: there is no Python in the base {remote.name.repository!r}",
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
    fitting = (one for one in manifests if _fits(one.get("platform") or {}, platform))
    return next((str(one["digest"]) for one in fitting), None)


def _fits(found: Mapping[str, Any], platform: str) -> bool:
    wanted = [_SPELLINGS.get(part, part) for part in platform.lower().split("/")]
    is_same = [found.get("os"), found.get("architecture")] == wanted[:2]
    variant = found.get("variant") or ""
    return is_same and (len(wanted) < 3 or not variant or variant == wanted[2])  # noqa: PLR2004


def _spell(found: Mapping[str, Any]) -> str:
    parts = (found.get("os"), found.get("architecture"), found.get("variant"))
    return "/".join(str(part) for part in parts if part)


def _refuse(name: Name, platform: str, found: list[str], origin: str) -> ToolError:
    where = describe_origin(origin)
    shown = f"{name.host}/{name.repository}"
    return ToolError(
        f"image: the base {shown!r} is not made for image.platform {platform}",
        found=[f"it is for {', '.join(found)}"],
        tip=f"set image.base{where} to an image that has this platform, or image.platform",
    )
