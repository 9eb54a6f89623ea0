"""Say once which image the base's name stands for, so that every build is upon the same one.

Say what the image of a project is made of, and have it built.

From the bottom: the base; what requirements.txt asks for; the runtime (this package's own modules
and cloudpickle, in /opt/fftasks); the project's code (the context, in /ffrun), in a few layers that
split.py divides it into. An edit changes the layer that it is in. Nothing is installed when a pod starts.

An image's own layers and its configuration: what its containers start with, and which layers it has.

They are made here, for every builder, so that the configuration's digest, the image's id, is a function
of the recipe.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fftasks.errors import SettingsError, ToolError
from fftasks.image.base import BaseImage
from fftasks.image.layers import Blob, LayerCache, LayerEntry, make_file_entry, split_into_layers
from fftasks.image.requirements import collect_requirement_files
from fftasks.image.runtime import list_runtime
from fftasks.records import Record, digest_json, format_json
from fftasks.runner.image_check import FILE, format_manifest
from fftasks.runner.start import MODULE

IMAGE_VERSION = 3
CODE_FOLDER = "ffrun"
RUNTIME_FOLDER = "opt/fftasks"
CONTAINER_COMMAND = ("python3", f"/{RUNTIME_FOLDER}/fftasks/runner/start.py", MODULE)

_DEFAULT_REQUIREMENTS = "requirements.txt"
_IMAGE_ENVIRONMENT = ("base", "platform", "requirements", "runtime", "build_env")


@dataclass(frozen=True)
class ImageRecipe:
    """All that decides an image, and what its builder must know besides.

    context: the record of the context; folder: the copy that it describes
    base: as in setting image.base; base_origin: where that was set, for errors
    resolved: what the base's name stands for; None if the builder is to look it up
    requirements: path of the requirements file in the context; there may be none
    workflows: the files that build workflows, relative to the context
    build_env: environment of pip, may hold secrets; ca_cert: certificates for it, a file
    name: a local name for the image ("repo:tag"), or ""
    fingerprints: workflow -> node's name -> fingerprint; the image says which nodes it was made for
    """

    context: Record
    folder: Path
    base: str
    platform: str
    workflows: tuple[str, ...]
    runtime: str = field(kw_only=True)
    requirements: str = _DEFAULT_REQUIREMENTS
    build_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_cert: Path | None = None
    base_origin: str = ""
    name: str = ""
    resolved: BaseImage | None = None
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def blobs(self) -> Path:
        """The folder in which layers are kept from one image to the next."""
        return self.folder.with_name("layers")


@dataclass(frozen=True)
class LayerContents:
    """What goes into the image above its base.

    requirements: the files that pip reads; none if it has nothing to do
    runtime: what RUNTIME_FOLDER holds; code: what CODE_FOLDER holds
    """

    requirements: tuple[LayerEntry, ...]
    runtime: tuple[LayerEntry, ...]
    code: tuple[LayerEntry, ...]


@dataclass(frozen=True)
class BuiltImage:
    """An image and the base that it was built on, both as "sha256:…".

    image: its id in an engine, or, made without one, the digest of its manifest; builder: says which
    """

    image: str
    base: str
    builder: str = "docker"


class BuildImage(Protocol):
    """Makes an image; what the tool says on the way goes into the log, without secrets."""

    def __call__(self, recipe: ImageRecipe, layers: LayerContents, *, log: Path) -> BuiltImage: ...


def build_image(recipe: ImageRecipe, *, build: BuildImage, log: Path) -> Record:
    """Build the image and return its record; output is the image's id, or its manifest's digest.

    "base": the id of the image that the base's name stood for; "builder": "docker" or "oci".
    Raises SettingsError for what cannot be built, ToolError if it failed.
    """
    layers = collect_layer_contents(recipe)
    built = build(recipe, layers, log=log)
    return {
        "stage": "image",
        "version": IMAGE_VERSION,
        "inputs": _name_inputs(recipe, layers.requirements),
        "output": built.image,
        "base": built.base,
        "builder": built.builder,
    }


def list_image_inputs(recipe: ImageRecipe) -> dict[str, str]:
    """Return the inputs that a record of this recipe would have; touches no engine."""
    return _name_inputs(recipe, _collect_requirements(recipe))


def describe_image_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the same inputs by the settings that they come from."""
    settings = {"platform": "setting image.platform", "build_env": "setting image.build_env"}
    return {settings.get(name, name): value for name, value in inputs.items()}


def digest_image_environment(recipe: ImageRecipe) -> str:
    """Return one digest for all that a node finds around it in the image but the project's own code.

    That is: the base as it was resolved, the platform, the requirements, what of pip's environment
    decides, and the runtime. Known before anything is built; touches no engine.
    Raises SettingsError as collect_layer_contents() does.
    """
    return digest_json(list_image_environment(recipe))


def list_image_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return what digest_image_environment() is made of, by name."""
    inputs = list_image_inputs(recipe)
    return {name: inputs[name] for name in _IMAGE_ENVIRONMENT}


def collect_layer_contents(recipe: ImageRecipe) -> LayerContents:
    """Return what goes into the image; file contents stay where they are."""
    return LayerContents(
        requirements=_collect_requirements(recipe),
        runtime=list_runtime(),
        code=(*_list_code(recipe), *_make_manifest(recipe)),
    )


def _collect_requirements(recipe: ImageRecipe) -> tuple[LayerEntry, ...]:
    files = {row[0]: row for row in recipe.context["files"]}
    _check_workflows(recipe, files)
    paths = collect_requirement_files(recipe.requirements, files, recipe.folder)
    if not paths and recipe.requirements not in (*files, "", _DEFAULT_REQUIREMENTS):
        raise SettingsError(
            f"image: there is no {recipe.requirements} in the context",
            tip="check image.requirements, and whether .dockerignore keeps it out",
        )
    return tuple(_make_file(recipe, files[path]) for path in paths)


def make_container_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return the environment that every container of the image has, besides PYTHONPATH."""
    return {"FFWORKFLOWS": ":".join(recipe.workflows)}


def describe_build_env(build_env: Mapping[str, str]) -> dict[str, str]:
    """Return what of pip's environment decides what it installs, without the secrets in it.

    Of PIP_… the values count, less what stands before "@" in a URL; of others only that they are
    there: a token that is new every day must not make a new image every day.
    """
    return {
        name: re.sub(r"(?<=://)[^/@\s]*@", "", value) if name.startswith("PIP_") else ""
        for name, value in build_env.items()
    }


def _name_inputs(recipe: ImageRecipe, requirements: Iterable[LayerEntry]) -> dict[str, str]:
    return {
        "context": recipe.context["output"],
        "base": recipe.resolved.image if recipe.resolved else recipe.base,
        "platform": recipe.platform,
        "requirements": digest_json([[entry.path, entry.digest] for entry in requirements]),
        "runtime": recipe.runtime,
        "workflows": ":".join(recipe.workflows),
        "build_env": digest_json(describe_build_env(recipe.build_env)),
        "fingerprints": digest_json(recipe.fingerprints),
    }


def _list_code(recipe: ImageRecipe) -> list[LayerEntry]:
    context = recipe.context
    return [
        *(_make_file(recipe, row) for row in context["files"]),
        *(LayerEntry(path, to=to) for path, to in context["links"]),
        *(LayerEntry(path) for path in context["folders"]),
    ]


def _make_file(recipe: ImageRecipe, row: Sequence[Any]) -> LayerEntry:
    path, size, digest, executable = row
    return LayerEntry(path, recipe.folder / path, size, digest, executable)


def _make_manifest(recipe: ImageRecipe) -> list[LayerEntry]:
    if not recipe.fingerprints:
        return []
    return [make_file_entry(FILE, format_manifest(recipe.fingerprints))]


def _check_workflows(recipe: ImageRecipe, paths: Collection[str]) -> None:
    for file in recipe.workflows:
        if ":" in file or "\n" in file:
            raise SettingsError(
                f"image: a workflow's file cannot be named {file!r}",
                tip='rename it: ":" stands between files in FFWORKFLOWS',
            )
        if posixpath.normpath(file) not in paths:
            raise SettingsError(
                f"image: the workflow's file {file!r} is not in the context",
                tip="check `workflows` and context.folder, and whether .dockerignore keeps it out",
            )


_CREATED = "1980-01-01T00:00:00Z"
# the rest is about containers, not images, or about how Docker made it
_INHERITED = ("User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck", "Shell")


@dataclass(frozen=True)
class ParentImage:
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


def make_top_layers(layers: LayerContents, blobs: LayerCache) -> list[tuple[str, Blob]]:
    """Return the layers above the requirements, the lowest first, each with a word for it.

    The code's folder is there early: else each layer would make it.
    """
    runtime = blobs.make_layer(layers.runtime, root=RUNTIME_FOLDER, beside=(CODE_FOLDER,))
    parts = [blobs.make_layer(part, root=CODE_FOLDER) for part in split_into_layers(layers.code)]
    return [("runtime", runtime), *(("code", part) for part in parts)]


def make_image_configuration(
    recipe: ImageRecipe, below: ParentImage, ours: Sequence[tuple[str, Blob]]
) -> bytes:
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
    settings = {name: below.settings[name] for name in _INHERITED if below.settings.get(name)}
    value: dict[str, Any] = {
        "created": _CREATED,
        "architecture": below.architecture,
        "os": below.os,
        "config": {
            **settings,
            "Env": _make_env(recipe, below),
            "Cmd": list(CONTAINER_COMMAND),
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


def _make_env(recipe: ImageRecipe, below: ParentImage) -> list[str]:
    """Return the environment of containers: the base's, with our folders before its own."""
    pairs = (pair.partition("=") for pair in below.settings.get("Env") or ())
    env = {name: value for name, _, value in pairs}
    paths = [f"/{RUNTIME_FOLDER}", *below.paths, env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = ":".join(path for path in paths if path)
    if below.paths:
        scripts = [*(f"{path}/bin" for path in below.paths), env.get("PATH", "")]
        env["PATH"] = ":".join(path for path in scripts if path)
    return [
        f"{name}={value}" for name, value in {**env, **make_container_environment(recipe)}.items()
    ]


class ImageNotFoundError(ToolError):
    """Build the image again: it is not in the engine any more, whatever its record says."""


class PushImage(Protocol):
    """Sends an image to a repository under each tag; returns the digest of its manifest there.

    Raises ImageGoneError if there is no such image, ToolError if the registry does not have it.
    """

    def __call__(self, image: str, repository: str, tags: Sequence[str]) -> str: ...
