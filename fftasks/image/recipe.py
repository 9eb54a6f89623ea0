"""The image of a project: its inputs, its layers and its configuration, the same for all builders.

From the bottom, an image has the base; the packages of requirements.txt; the runtime (see runtime.py, in
/opt/fftasks); and the context (in /ffrun) in a few layers, so that an edit changes only the layer that it is
in. Nothing is installed when a pod starts. The configuration is created here, and not by the builder, so that
its digest, the id of the image, is a function of the recipe.
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
from fftasks.image.build_log import BuildLog
from fftasks.image.layers import Blob, LayerCache, LayerEntry, make_file_entry, split_into_layers
from fftasks.image.requirements import collect_requirement_files, explain_pip_failure
from fftasks.image.runtime import list_runtime
from fftasks.records import Record, digest_json, format_json
from fftasks.runner.image_check import FINGERPRINTS_FILE, format_manifest
from fftasks.runner.start import RUNNER_MODULE

IMAGE_VERSION = 3
CODE_FOLDER = "ffrun"
RUNTIME_FOLDER = "opt/fftasks"
CONTAINER_COMMAND = ("python3", f"/{RUNTIME_FOLDER}/fftasks/runner/start.py", RUNNER_MODULE)

_DEFAULT_REQUIREMENTS = "requirements.txt"
_LOG_LINES_SHOWN = 12
_IMAGE_ENVIRONMENT = ("base", "platform", "requirements", "runtime", "build_env")


@dataclass(frozen=True)
class ImageRecipe:
    """The inputs of an image, and what its builder needs besides.

    Attributes:
        context: The record of the context.
        folder: The copy of the project that the record describes.
        base: Setting image.base.
        platform: Setting image.platform, "os/architecture[/variant]".
        workflows: The files that build workflows, relative to the context.
        runtime: Digest of the runtime, see `fftasks.image.runtime.digest_runtime`.
        requirements: Path of the requirements file in the context. The default file need not exist.
        build_env: Environment of pip; it may contain secrets.
        ca_cert: File with certificates for pip.
        base_origin: File and line of image.base, for errors.
        name: A local name for the image ("repo:tag"), or "".
        resolved: The resolved base; None if the builder is to resolve it.
        fingerprints: Workflow -> name of a node -> fingerprint. They are stored in the image, so that a pod
            can check that its image was built for its nodes.
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
        """The folder of the layer cache."""
        return self.folder.with_name("layers")


@dataclass(frozen=True)
class LayerContents:
    """The files in the image above its base.

    Attributes:
        requirements: The files that pip reads; () if there is nothing to install.
        runtime: The content of RUNTIME_FOLDER.
        code: The content of CODE_FOLDER.
    """

    requirements: tuple[LayerEntry, ...]
    runtime: tuple[LayerEntry, ...]
    code: tuple[LayerEntry, ...]


@dataclass(frozen=True)
class BuiltImage:
    """A finished image.

    Attributes:
        image: Its id in the engine ("docker"), or the digest of its manifest ("oci").
        base: The id of the base.
        builder: "docker" or "oci".
    """

    image: str
    base: str
    builder: str = "docker"


class BuildImage(Protocol):
    """Function that builds an image, and writes the output of tools to the log without secrets."""

    def __call__(self, recipe: ImageRecipe, layers: LayerContents, *, log: Path) -> BuiltImage: ...


def build_image(recipe: ImageRecipe, *, build: BuildImage, log: Path) -> Record:
    """Build the image and return its record.

    Args:
        recipe: The inputs.
        build: The builder.
        log: File for the output of tools.

    Returns:
        The record. Its output is `BuiltImage.image`; "base" and "builder" are those of BuiltImage.

    Raises:
        SettingsError: A setting is invalid.
        ToolError: The build failed.
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
    """Return the inputs of the record of an image; no engine is needed."""
    return _name_inputs(recipe, _collect_requirements(recipe))


def describe_image_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs by the names of the settings that determine them."""
    settings = {"platform": "setting image.platform", "build_env": "setting image.build_env"}
    return {settings.get(name, name): value for name, value in inputs.items()}


def digest_image_environment(recipe: ImageRecipe) -> str:
    """Return the digest of all parts of an image except for the project's own files.

    It covers the resolved base, the platform, the requirements, pip's environment and the runtime. It is
    known before the image is built, and no engine is needed.

    Raises:
        SettingsError: See collect_layer_contents().
    """
    return digest_json(list_image_environment(recipe))


def list_image_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return the inputs of digest_image_environment() by name."""
    inputs = list_image_inputs(recipe)
    return {name: inputs[name] for name in _IMAGE_ENVIRONMENT}


def collect_layer_contents(recipe: ImageRecipe) -> LayerContents:
    """Return the files of an image; the contents of the project's files are not read.

    Raises:
        SettingsError: The requirements file or a workflow file is not in the context, or a workflow file
            has an invalid name.
    """
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
            f"image: {recipe.requirements} was not found in the context",
            tip="check image.requirements, and whether .dockerignore excludes it",
        )
    return tuple(_make_file(recipe, files[path]) for path in paths)


def make_container_environment(recipe: ImageRecipe) -> dict[str, str]:
    """Return the environment of all containers of the image, without PYTHONPATH."""
    return {"FFWORKFLOWS": ":".join(recipe.workflows)}


def describe_build_env(build_env: Mapping[str, str]) -> dict[str, str]:
    """Return the part of pip's environment that determines what is installed, without secrets.

    For variables PIP_… it contains the values without the user information in URLs; for others only the
    names, because a token that changes every day must not cause a new image every day.
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
    return [make_file_entry(FINGERPRINTS_FILE, format_manifest(recipe.fingerprints))]


def _check_workflows(recipe: ImageRecipe, paths: Collection[str]) -> None:
    for file in recipe.workflows:
        if ":" in file or "\n" in file:
            raise SettingsError(
                f"image: invalid name of a workflow file: {file!r}",
                tip='rename it: FFWORKFLOWS separates files by ":"',
            )
        if posixpath.normpath(file) not in paths:
            raise SettingsError(
                f"image: the workflow file {file!r} is not in the context",
                tip="check `workflows` and context.folder, and whether .dockerignore excludes it",
            )


_CREATED = "1980-01-01T00:00:00Z"
# the other settings concern a container, or how Docker built the image
_INHERITED = ("User", "ExposedPorts", "Volumes", "Labels", "StopSignal", "Healthcheck", "Shell")


@dataclass(frozen=True)
class ParentImage:
    """An image that layers are added to.

    Attributes:
        settings: Settings of its containers, such as "Env", in the names of Docker and OCI.
        os: Operating system.
        architecture: Architecture, such as "amd64".
        layers: Diff ids, the lowest first.
        variant: Variant of the architecture, or "".
        paths: Folders with packages that must be added to PYTHONPATH.
    """

    settings: Mapping[str, Any]
    os: str
    architecture: str
    layers: tuple[str, ...]
    variant: str = ""
    paths: tuple[str, ...] = ()


def make_top_layers(layers: LayerContents, blobs: LayerCache) -> list[tuple[str, Blob]]:
    """Return the layers above the requirements, the lowest first, each with its description.

    The lowest layer creates the folder of the code too; otherwise each layer of code would.
    """
    runtime = blobs.make_layer(layers.runtime, root=RUNTIME_FOLDER, beside=(CODE_FOLDER,))
    parts = [blobs.make_layer(part, root=CODE_FOLDER) for part in split_into_layers(layers.code)]
    return [("runtime", runtime), *(("code", part) for part in parts)]


def make_image_configuration(
    recipe: ImageRecipe, below: ParentImage, ours: Sequence[tuple[str, Blob]]
) -> bytes:
    """Return the configuration of an image as canonical JSON.

    Args:
        recipe: The inputs of the image.
        below: The image that our layers are added to.
        ours: Description and layer of each of our layers, the lowest first.

    Raises:
        SettingsError: The base has ONBUILD instructions, which only a Dockerfile would run.
    """
    if below.settings.get("OnBuild"):
        raise SettingsError(
            f"image: the base {recipe.base!r} has ONBUILD instructions, which would not be run",
            found=[str(line) for line in below.settings["OnBuild"]],
            tip="build an image from it with a Dockerfile, and set image.base to that image",
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
    """Return the environment of containers: the base's, with our folders first in its paths."""
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


def make_install_error(
    attempted: str, layers: LayerContents, log: BuildLog, *, tip: str = ""
) -> ToolError:
    """Return the error for requirements that pip or uv could not install.

    Args:
        attempted: What failed.
        layers: The files of the image, with the requirements.
        log: The output of pip or uv.
        tip: The suggested fix; "" to derive it from the output.
    """
    files = {
        entry.path: entry.content.read_text("utf-8", "replace")
        for entry in layers.requirements
        if isinstance(entry.content, Path) and entry.path.endswith((".txt", ".in"))
    }
    lines, suggestion = explain_pip_failure(list(log.lines), files)
    found = [*lines, "the last lines:", *(f"  {line}" for line in log.tail(_LOG_LINES_SHOWN))]
    return ToolError(attempted, found=found, tip=tip or suggestion)


class ImageNotFoundError(ToolError):
    """The image of the record was removed from the engine; build it again."""


class PushImage(Protocol):
    """Function that pushes an image to a repository under each tag, and returns the manifest's digest.

    It raises ImageNotFoundError if the image does not exist, and ToolError if the push fails.
    """

    def __call__(self, image: str, repository: str, tags: Sequence[str]) -> str: ...
