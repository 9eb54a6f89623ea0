"""Say what the image of a project is made of, and have it built.

From the bottom: the base; what requirements.txt asks for; the runtime (this package's own modules
and cloudpickle, in /opt/fftasks); the project's code (the context, in /ffrun), in a few layers that
split.py divides it into. An edit changes the layer that it is in. Nothing is installed when a pod starts.
"""

from __future__ import annotations

import functools
import importlib.util
import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fftasks.errors import SettingsError
from fftasks.record import Record, digest_json
from fftasks.runtime.manifest import FILE, format_manifest
from fftasks.runtime.start import MODULE
from fftasks.stages.base import Base
from fftasks.stages.layer import Entry, make_entry
from fftasks.stages.requirements import collect

VERSION = 3
CODE_FOLDER = "ffrun"
RUNTIME_FOLDER = "opt/fftasks"
COMMAND = ("python3", f"/{RUNTIME_FOLDER}/fftasks/runtime/start.py", MODULE)

_DEFAULT_REQUIREMENTS = "requirements.txt"
_SURROUNDINGS = ("base", "platform", "requirements", "runtime", "build_env")
_NOT_THE_RUNTIME = frozenset({"template", "tests", "__pycache__"})


@dataclass(frozen=True)
class Recipe:
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
    requirements: str = _DEFAULT_REQUIREMENTS
    build_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_cert: Path | None = None
    base_origin: str = ""
    name: str = ""
    resolved: Base | None = None
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def blobs(self) -> Path:
        """The folder in which layers are kept from one image to the next."""
        return self.folder.with_name("layers")


@dataclass(frozen=True)
class Layers:
    """What goes into the image above its base.

    requirements: the files that pip reads; none if it has nothing to do
    runtime: what RUNTIME_FOLDER holds; code: what CODE_FOLDER holds
    """

    requirements: tuple[Entry, ...]
    runtime: tuple[Entry, ...]
    code: tuple[Entry, ...]


@dataclass(frozen=True)
class Built:
    """An image and the base that it was built on, both as "sha256:…".

    image: its id in an engine, or, made without one, the digest of its manifest; builder: says which
    """

    image: str
    base: str
    builder: str = "docker"


class Build(Protocol):
    """Makes an image; what the tool says on the way goes into the log, without secrets."""

    def __call__(self, recipe: Recipe, layers: Layers, *, log: Path) -> Built: ...


def make(recipe: Recipe, *, build: Build, log: Path) -> Record:
    """Build the image and return its record; output is the image's id, or its manifest's digest.

    "base": the id of the image that the base's name stood for; "builder": "docker" or "oci".
    Raises SettingsError for what cannot be built, ToolError if it failed.
    """
    layers = collect_layers(recipe)
    built = build(recipe, layers, log=log)
    return {
        "stage": "image",
        "version": VERSION,
        "inputs": _name_inputs(recipe, layers.requirements, layers.runtime),
        "output": built.image,
        "base": built.base,
        "builder": built.builder,
    }


def find_inputs(recipe: Recipe) -> dict[str, str]:
    """Return the inputs that a record of this recipe would have; touches no engine."""
    return _name_inputs(recipe, _collect_requirements(recipe), list_runtime())


def spell_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the same inputs by the settings that they come from."""
    settings = {"platform": "setting image.platform", "build_env": "setting image.build_env"}
    return {settings.get(name, name): value for name, value in inputs.items()}


def digest_surroundings(recipe: Recipe) -> str:
    """Return one digest for all that a node finds around it in the image but the project's own code.

    That is: the base as it was resolved, the platform, the requirements, what of pip's environment
    decides, and the runtime. Known before anything is built; touches no engine.
    Raises SettingsError as collect_layers() does.
    """
    return digest_json(list_surroundings(recipe))


def list_surroundings(recipe: Recipe) -> dict[str, str]:
    """Return what digest_surroundings() is made of, by name."""
    inputs = find_inputs(recipe)
    return {name: inputs[name] for name in _SURROUNDINGS}


def collect_layers(recipe: Recipe) -> Layers:
    """Return what goes into the image; file contents stay where they are."""
    return Layers(
        requirements=_collect_requirements(recipe),
        runtime=list_runtime(),
        code=(*_list_code(recipe), *_make_manifest(recipe)),
    )


def _collect_requirements(recipe: Recipe) -> tuple[Entry, ...]:
    files = {row[0]: row for row in recipe.context["files"]}
    _check_workflows(recipe, files)
    paths = collect(recipe.requirements, files, recipe.folder)
    if not paths and recipe.requirements not in (*files, "", _DEFAULT_REQUIREMENTS):
        raise SettingsError(
            f"image: there is no {recipe.requirements} in the context",
            tip="check image.requirements, and whether .dockerignore keeps it out",
        )
    return tuple(_make_file(recipe, files[path]) for path in paths)


@functools.cache
def list_runtime() -> tuple[Entry, ...]:
    """Return the modules that a container needs to run a node, in order; read once in a process."""
    files = {
        f"{package}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for package in ("fftasks", "cloudpickle")
        for folder in [_find_package(package)]
        for path in folder.rglob("*.py")
        if _NOT_THE_RUNTIME.isdisjoint(path.relative_to(folder).parts)
    }
    return tuple(make_entry(path, content) for path, content in sorted(files.items()))


def make_environment(recipe: Recipe) -> dict[str, str]:
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


def _name_inputs(
    recipe: Recipe, requirements: Iterable[Entry], runtime: Iterable[Entry]
) -> dict[str, str]:
    return {
        "context": recipe.context["output"],
        "base": recipe.resolved.image if recipe.resolved else recipe.base,
        "platform": recipe.platform,
        "requirements": _digest(requirements),
        "runtime": _digest(runtime),
        "workflows": ":".join(recipe.workflows),
        "build_env": digest_json(describe_build_env(recipe.build_env)),
        "fingerprints": digest_json(recipe.fingerprints),
    }


def _digest(entries: Iterable[Entry]) -> str:
    return digest_json([[entry.path, entry.digest] for entry in entries])


def _list_code(recipe: Recipe) -> list[Entry]:
    context = recipe.context
    return [
        *(_make_file(recipe, row) for row in context["files"]),
        *(Entry(path, to=to) for path, to in context["links"]),
        *(Entry(path) for path in context["folders"]),
    ]


def _make_file(recipe: Recipe, row: Sequence[Any]) -> Entry:
    path, size, digest, executable = row
    return Entry(path, recipe.folder / path, size, digest, executable)


def _make_manifest(recipe: Recipe) -> list[Entry]:
    if not recipe.fingerprints:
        return []
    return [make_entry(FILE, format_manifest(recipe.fingerprints))]


def _find_package(name: str) -> Path:
    # without importing it: looking at what would be built must stay fast
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(name)
    return Path(spec.submodule_search_locations[0])


def _check_workflows(recipe: Recipe, paths: Collection[str]) -> None:
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
