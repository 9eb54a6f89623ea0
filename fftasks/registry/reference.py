"""Names of images and repositories: parse, validate and format them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fftasks.errors import SettingsError
from fftasks.records import Record

PUSH_VERSION = 1
DOCKER_HUB = "docker.io"

_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])(?::[0-9]+)?"
)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST = 255


def list_push_inputs(image: Record, repository: str, tag: str) -> dict[str, str]:
    """Return the inputs of the record of a push."""
    return {"image": image["output"], "repository": repository, "tag": tag}


def describe_push_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs by the names of the settings that determine them."""
    server, _, path = inputs["repository"].partition("/")
    return {
        "image": inputs["image"],
        "setting registry.server": server,
        "setting registry.repository": path,
        "setting image.tag": inputs["tag"],
    }


def format_repository(server: str, repository: str) -> str:
    """Return the name of a repository, "host[:port]/path".

    Args:
        server: Setting registry.server; "" for Docker Hub. A scheme and surrounding slashes are removed, and
            it may contain a path.
        repository: Setting registry.repository.

    Raises:
        SettingsError: The result is not a valid name.
    """
    host, _, path = re.sub(r"^https?://", "", server.strip()).strip("/").partition("/")
    host = host or DOCKER_HUB
    path = "/".join(part.strip("/") for part in (path, repository.strip()) if part.strip("/"))
    _check_host(host, server)
    _check_path(path)
    return f"{host}/{path}"


def check_docker_hub_owner(repository: str) -> None:
    """Raise SettingsError for a repository of Docker Hub without an owner; other registries allow it."""
    host, _, path = repository.partition("/")
    if host in (DOCKER_HUB, f"index.{DOCKER_HUB}") and "/" not in path:
        raise SettingsError(
            f"push: invalid value of registry.repository: {DOCKER_HUB}/{path} has no owner",
            found=["registry.server is not set, so the image would be pushed to Docker Hub"],
            tip=f"set registry.server, or registry.repository to <your name there>/{path}",
        )


def _check_host(host: str, server: str) -> None:
    problem = ""
    if not _HOST.fullmatch(host):
        small = host.lower()
        problem = f"write {small}" if _HOST.fullmatch(small) else "write a host, and :port if any"
    elif not re.search(r"[.:]", host) and host != "localhost":
        # Docker regards a first part without a dot or a port as a path on Docker Hub
        problem = f"add the domain or the port, as in {host}:5000"
    if problem:
        raise SettingsError(f"push: invalid value of registry.server: {server!r}", tip=problem)


def _check_path(path: str) -> None:
    if path and all(_PART.fullmatch(part) for part in path.split("/")) and len(path) <= _LONGEST:
        return
    legal = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in path.split("/")]
    suggestion = "/".join(part for part in legal if part)[:_LONGEST] or "fftasks"
    raise SettingsError(
        f"push: invalid value of registry.repository: {path!r}",
        found=["allowed are lower-case letters and digits, joined by . _ - and /"],
        tip=f"write {suggestion}",
    )


@dataclass(frozen=True)
class ImageReference:
    """The parsed name of an image.

    Attributes:
        host: Host and port of the registry; "docker.io" is Docker Hub.
        repository: Path of the repository.
        reference: A tag or a digest.
    """

    host: str
    repository: str
    reference: str


def parse_reference(name: str, origin: str = "") -> ImageReference:
    """Parse the name of an image as Docker does.

    Args:
        name: Such as "python:3.11-slim" or "registry.example.com/team/base@sha256:…".
        origin: File and line where the name was set.

    Raises:
        SettingsError: The name is invalid.
    """
    whole, _, digest = name.strip().partition("@")
    path, colon, tag = whole.rpartition(":")
    if not colon or "/" in tag:
        path, tag = whole, "latest"
    host, slash, rest = path.partition("/")
    if not slash or not (re.search(r"[.:]", host) or host == "localhost"):
        host, rest = DOCKER_HUB, path if slash else f"library/{path}"
    if not re.fullmatch(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", rest):
        raise SettingsError(
            f"image: invalid value of image.base: {name!r}",
            tip=f"correct it in {origin or 'config/'}",
        )
    return ImageReference(host, rest, digest or tag)
