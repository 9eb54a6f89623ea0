"""The base of an image: resolve its name to one image, and check that it is for the right platform.

The name is resolved once and recorded, so that all builds use the same base until the user updates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fftasks.errors import SettingsError, ToolError
from fftasks.records import Record

BASE_VERSION = 1
DEFAULT_PLATFORM = "linux/amd64"
# The names that `uname -m` and engines use -> the names in images (GOARCH).
# Source: https://github.com/opencontainers/image-spec/blob/main/image-index.md
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class BaseImage:
    """An image that other images are built on.

    Attributes:
        image: Its id, which is the digest of its configuration. It determines all layers, and is the same in
            an engine and in a registry, however the layers are compressed.
        reference: "repository@sha256:…" if the image is in a registry; "" if only the engine has it.
    """

    image: str
    reference: str = ""


class ResolveBase(Protocol):
    """Function that resolves a name to the image for a platform; see `resolve_base` for the arguments."""

    def __call__(
        self, name: str, platform: str, *, origin: str, log: Path, update: bool
    ) -> BaseImage: ...


def resolve_base(  # noqa: PLR0913 - two settings, and how to look them up
    name: str, platform: str, *, resolve: ResolveBase, origin: str, log: Path, update: bool = False
) -> Record:
    """Resolve the name of the base, and return its record, whose output is the id of the image.

    Args:
        name: Setting image.base.
        platform: "os/architecture[/variant]".
        resolve: Asks the engine or the registry.
        origin: File and line of image.base, for errors.
        log: File for the output of the builder.
        update: Whether to ask the registry although the engine has an image with this name.

    Returns:
        The record; its "reference" is that of `BaseImage`.

    Raises:
        SettingsError: The name is empty or invalid.
        ToolError: The base was not found, or is not for this platform.
    """
    if not name.strip():
        raise SettingsError("image: image.base is empty", tip="name an image that has Python")
    found = resolve(name, platform, origin=origin, log=log, update=update)
    return {
        "stage": "base",
        "version": BASE_VERSION,
        "inputs": list_base_inputs(name, platform),
        "output": found.image,
        "reference": found.reference,
    }


def list_base_inputs(name: str, platform: str) -> dict[str, str]:
    """Return the inputs of the record of a base."""
    return {"base": name, "platform": platform}


def read_base_record(record: Record | None, name: str, platform: str) -> BaseImage | None:
    """Return the base from its record; None if the record is for another name or platform."""
    if record is None or record.get("version") != BASE_VERSION:
        return None
    if record.get("inputs") != list_base_inputs(name, platform):
        return None
    return BaseImage(record["output"], record.get("reference", ""))


def describe_origin(origin: str) -> str:
    """Return where image.base was set, for a message: " (set in config/prod.yaml:3)"."""
    if origin == "default":
        return " (the built-in default)"
    return f" (set in {origin})" if origin else ""


def matches_platform(
    platform: str, *, system: str | None, architecture: str | None, variant: str | None
) -> bool:
    """Return whether an image can be used for a platform.

    Args:
        platform: "os/architecture[/variant]"; "" for any. Both spellings of ARCHITECTURES are accepted.
        system: Operating system of the image.
        architecture: Architecture of the image.
        variant: Variant of the architecture; an image without one is used for all variants.
    """
    if not platform:
        return True
    wanted = [ARCHITECTURES.get(part, part) for part in platform.lower().split("/")]
    is_same = [system, architecture] == wanted[:2]
    return is_same and (len(wanted) < 3 or not variant or variant == wanted[2])  # noqa: PLR2004


def make_platform_error(
    name: str, platform: str, found: Sequence[str], *, origin: str, message: str = ""
) -> ToolError:
    """Return the error for a base that is not for image.platform.

    Args:
        name: The name of the base.
        platform: Setting image.platform.
        found: The platforms that the base is for.
        origin: File and line of image.base.
        message: Output of a tool that may be the cause; "" if there is none.
    """
    return ToolError(
        f"image: the base {name!r} is not made for image.platform {platform}",
        found=[f"it is for {', '.join(found)}", message],
        tip=f"set image.base{describe_origin(origin)} to an image for this platform, or image.platform",
    )
