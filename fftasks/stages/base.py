"""Say once which image the base's name stands for, so that every build is upon the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fftasks.errors import SettingsError
from fftasks.record import Record

VERSION = 1


@dataclass(frozen=True)
class Base:
    """An image to build upon.

    image: its id, the digest of its configuration: that names all of its layers, and is the same in
        an engine and in a registry, however they are compressed
    reference: "repository@sha256:…" where a registry has it; "" if only the engine has
    """

    image: str
    reference: str = ""


class Resolve(Protocol):
    """Looks up the image that a name stands for on a platform; see make()."""

    def __call__(
        self, name: str, platform: str, *, origin: str, log: Path, update: bool
    ) -> Base: ...


def make(  # noqa: PLR0913 - they are what it takes
    name: str, platform: str, *, resolve: Resolve, origin: str, log: Path, update: bool = False
) -> Record:
    """Look up the base and return its record; output is the image's id.

    name: as in setting image.base; platform: "os/architecture[/variant]"
    origin: where the name was set, for errors; log: takes what a tool says on the way
    update: ask where the name comes from, also if an image of that name is here already
    Raises SettingsError for what is no name, ToolError for a base that is nowhere, or that is made
    for another platform.
    """
    if not name.strip():
        raise SettingsError("image: image.base is empty", tip="name an image that has Python")
    found = resolve(name, platform, origin=origin, log=log, update=update)
    return {
        "stage": "base",
        "version": VERSION,
        "inputs": find_inputs(name, platform),
        "output": found.image,
        "reference": found.reference,
    }


def describe_origin(origin: str) -> str:
    """Return where image.base was set, for a message: " (set in config/prod.yaml:3)"."""
    if origin == "default":
        return " (the built-in default)"
    return f" (set in {origin})" if origin else ""


def find_inputs(name: str, platform: str) -> dict[str, str]:
    """Return the inputs that a record of this base would have."""
    return {"base": name, "platform": platform}


def read(record: Record | None, name: str, platform: str) -> Base | None:
    """Return the base that a record gives for a name and a platform; None if it is for others."""
    if record is None or record.get("version") != VERSION:
        return None
    if record.get("inputs") != find_inputs(name, platform):
        return None
    return Base(record["output"], record.get("reference", ""))
