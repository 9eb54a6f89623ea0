"""Put the image into the registry, and say under which reference it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from fftasks.errors import SettingsError, ToolError
from fftasks.record import Record

VERSION = 1
HUB = "docker.io"

_HOST = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])(?::[0-9]+)?"
)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST = 255


class ImageGoneError(ToolError):
    """Build the image again: it is not in the engine any more, whatever its record says."""


class Push(Protocol):
    """Sends an image to a repository under each tag; returns the digest of its manifest there.

    Raises ImageGoneError if there is no such image, ToolError if the registry does not have it.
    """

    def __call__(self, image: str, repository: str, tags: Sequence[str]) -> str: ...


def make(image: Record, *, push: Push, repository: str, tag: str) -> Record:
    """Push the image that a record names; output is the digest of its manifest.

    repository: as name_repository() gives it. The image is pushed under the tag, and under one of
    its own, so that a registry which cleans up what has no tag keeps older ones.
    "reference": the image by digest, as pods are given it.
    Raises SettingsError for a tag that is none, and for a repository that cannot be pushed to.
    """
    if not _TAG.fullmatch(tag):
        raise SettingsError(
            f"push: {tag!r} is no tag",
            tip="set image.tag to letters, digits, and _ . - after the first, at most 128",
        )
    check_owner(repository)
    own_tag = f"image-{image['output'].removeprefix('sha256:')[:16]}"
    digest = push(image["output"], repository, (own_tag, tag))
    return {
        "stage": "push",
        "version": VERSION,
        "inputs": find_inputs(image, repository, tag),
        "output": digest,
        "reference": f"{repository}@{digest}",
    }


def find_inputs(image: Record, repository: str, tag: str) -> dict[str, str]:
    """Return the inputs that a record of this push would have."""
    return {"image": image["output"], "repository": repository, "tag": tag}


def spell_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the same inputs by the settings that they come from."""
    server, _, path = inputs["repository"].partition("/")
    return {
        "image": inputs["image"],
        "setting registry.server": server,
        "setting registry.repository": path,
        "setting image.tag": inputs["tag"],
    }


def name_repository(server: str, repository: str) -> str:
    """Return "host[:port]/path", the name of a repository, from the two settings.

    server: "" is Docker's own registry; "https://" before it and slashes around it do not matter,
    and it may have a path. Raises SettingsError for what no registry takes.
    """
    host, _, path = re.sub(r"^https?://", "", server.strip()).strip("/").partition("/")
    host = host or HUB
    path = "/".join(part.strip("/") for part in (path, repository.strip()) if part.strip("/"))
    _check_host(host, server)
    _check_path(path)
    return f"{host}/{path}"


def check_owner(repository: str) -> None:
    """Raise SettingsError for a repository of Docker's own registry that is nobody's; others have such."""
    host, _, path = repository.partition("/")
    if host in (HUB, f"index.{HUB}") and "/" not in path:
        raise SettingsError(
            f"push: {HUB}/{path} is not yours to push to",
            found=["registry.server is not set, so the image would go to Docker's own registry"],
            tip=f"set registry.server, or registry.repository to <your name there>/{path}",
        )


def _check_host(host: str, server: str) -> None:
    problem = ""
    if not _HOST.fullmatch(host):
        small = host.lower()
        problem = f"write {small}" if _HOST.fullmatch(small) else "write a host, and :port if any"
    elif not re.search(r"[.:]", host) and host != "localhost":
        # Docker takes a first part without a dot or a port for a folder of its own registry
        problem = f"add the domain or the port, as in {host}:5000"
    if problem:
        raise SettingsError(f"push: registry.server {server!r} is no server's name", tip=problem)


def _check_path(path: str) -> None:
    if path and all(_PART.fullmatch(part) for part in path.split("/")) and len(path) <= _LONGEST:
        return
    legal = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in path.split("/")]
    suggestion = "/".join(part for part in legal if part)[:_LONGEST] or "fftasks"
    raise SettingsError(
        f"push: registry.repository {path!r} is no repository's name",
        found=["lower-case letters and digits, joined by . _ - and /"],
        tip=f"write {suggestion}",
    )
