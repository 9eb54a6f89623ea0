"""An image's own layers and its configuration: what its containers start with, and which layers it has.

They are made here, for every builder, so that the configuration's digest, the image's id, is a function
of the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.errors import SettingsError
from fftasks.record import format_json
from fftasks.stages.blob import Blob, Blobs
from fftasks.stages.image import (
    CODE_FOLDER,
    COMMAND,
    RUNTIME_FOLDER,
    Layers,
    Recipe,
    make_environment,
)
from fftasks.stages.split import split

_CREATED = "1980-01-01T00:00:00Z"
# the rest is about containers, not images, or about how Docker made it
_KEPT = ("User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck", "Shell")


@dataclass(frozen=True)
class Below:
    """An image that layers are put upon.

    settings: for its containers, "Env" and others, as Docker and OCI name them
    layers: diff ids, the lowest first
    paths: folders in which Python finds what is installed there, if it would not look there by itself
    """

    settings: Mapping[str, Any]
    os: str
    architecture: str
    layers: tuple[str, ...]
    variant: str = ""
    paths: tuple[str, ...] = ()


def make_layers(layers: Layers, blobs: Blobs) -> list[tuple[str, Blob]]:
    """Return the layers above the requirements, the lowest first, each with a word for it.

    The code's folder is there early: else each layer would make it.
    """
    runtime = blobs.make_layer(layers.runtime, root=RUNTIME_FOLDER, beside=(CODE_FOLDER,))
    parts = [blobs.make_layer(part, root=CODE_FOLDER) for part in split(layers.code)]
    return [("runtime", runtime), *(("code", part) for part in parts)]


def make_configuration(recipe: Recipe, below: Below, ours: Sequence[tuple[str, Blob]]) -> bytes:
    """Return the configuration of an image of ours; the same JSON for the same image.

    ours: what each of our layers is, in words, and the layer; the lowest first
    Raises SettingsError for a base whose instructions nobody would run.
    """
    if below.settings.get("OnBuild"):
        raise SettingsError(
            f"image: the base {recipe.base!r} leaves instructions (ONBUILD), which nobody would run",
            found=[str(line) for line in below.settings["OnBuild"]],
            tip="build an image from it with a Dockerfile, and name that one as image.base",
        )
    settings = {name: below.settings[name] for name in _KEPT if below.settings.get(name)}
    value: dict[str, Any] = {
        "created": _CREATED,
        "architecture": below.architecture,
        "os": below.os,
        "config": {
            **settings,
            "Env": _make_env(recipe, below),
            "Cmd": list(COMMAND),
            "WorkingDir": f"/{CODE_FOLDER}",
        },
        "rootfs": {"type": "layers", "diff_ids": [*below.layers, *(b.diff_id for _, b in ours)]},
        "history": [
            *({"created": _CREATED, "created_by": "base"} for _ in below.layers),
            *({"created": _CREATED, "created_by": f"fftasks: {what}"} for what, _ in ours),
        ],
    }
    if below.variant:
        value["variant"] = below.variant
    return format_json(value).encode()


def _make_env(recipe: Recipe, below: Below) -> list[str]:
    """Return the environment of containers: the base's, with our folders before its own."""
    pairs = (pair.partition("=") for pair in below.settings.get("Env") or ())
    env = {name: value for name, _, value in pairs}
    paths = [f"/{RUNTIME_FOLDER}", *below.paths, env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = ":".join(path for path in paths if path)
    if below.paths:
        scripts = [*(f"{path}/bin" for path in below.paths), env.get("PATH", "")]
        env["PATH"] = ":".join(path for path in scripts if path)
    return [f"{name}={value}" for name, value in {**env, **make_environment(recipe)}.items()]
