"""Ports of the trial of an image: a container without a network, or a look into its layers."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fftasks.errors import ToolError
from fftasks.ports.engine import blame_engine, open_engine
from fftasks.ports.wheels import FOLDER
from fftasks.runtime.regular import open_in_place
from fftasks.stages.blob import Blobs
from fftasks.stages.image import COMMAND

_SHOWN = 12


def try_image(image: str, *, log: Path) -> Sequence[Mapping[str, Any]]:
    """Run the entry point's check in a container of the image, and return what it found.

    What the user's modules print goes into the log. Raises ToolError if there is no answer.
    """
    with open_engine() as client, blame_engine("image: it cannot be tried"):
        made = client.create_container(
            image,
            [*COMMAND[1:], "--try"],
            entrypoint=[COMMAND[0]],
            network_disabled=True,
            labels={"fftasks": "check"},
        )
        try:
            client.start(made["Id"])
            code = client.wait(made["Id"])["StatusCode"]
            said = client.logs(made["Id"], stdout=False, stderr=True).decode(errors="replace")
            answer = client.logs(made["Id"], stdout=True, stderr=False)
        finally:
            client.remove_container(made["Id"], force=True, v=True)
    descriptor = open_in_place(log, os.O_WRONLY | os.O_APPEND)
    with open(descriptor, "a", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(f"\nimporting all workflows in {image}\n{said}")
    try:
        problems: list[dict[str, Any]] = json.loads(answer)
    except ValueError:
        raise ToolError(
            f"image: the process that imports its workflows ended with {code}",
            found=said.splitlines()[-_SHOWN:],
            tip=f"does the base have Python 3.10 or newer, as python3? full log: {log}",
        ) from None
    return problems


def list_modules(layers: Path, image: str) -> set[str]:
    """Return the top-level modules that the requirements of an image gave it, made without an engine.

    layers: the folder in which its layers are kept; image: the digest of its manifest
    """
    blobs = Blobs(layers)
    manifest = json.loads(blobs.read(image))
    found: set[str] = set()
    for layer in manifest["layers"]:
        if blobs.has(layer["digest"]):  # those of the base stay in their registry
            with tarfile.open(blobs.path(layer["digest"]), "r:gz") as archive:
                found |= {_name_top(member.name) for member in archive}
    return found - {""}


def _name_top(path: str) -> str:
    folder, _, rest = path.partition(f"{FOLDER}/")
    top = rest.partition("/")[0] if not folder else ""
    return "" if top.endswith((".dist-info", ".data")) else top.partition(".")[0]
