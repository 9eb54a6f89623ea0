"""What the image of a project is made of, and the fingerprints of the nodes that run in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fftasks.connect import name_repository
from fftasks.errors import StoreError, WorkflowError
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages import base
from fftasks.stages.contents import Contents
from fftasks.stages.fingerprint import Fingerprint, list_fingerprints
from fftasks.stages.image import Recipe, digest_surroundings


def make_recipe(project: Project) -> Recipe:
    """Return what the image is to be made of; raises StoreError if there is no context yet.

    Its base is resolved if that was done for this name and platform; else see resolve_base().
    Raises WorkflowError if code was edited between the graph and the copy: the image would say that it
    was made for what it does not hold.
    """
    bare = _make_bare_recipe(project)
    _check_graphs(project, bare.context)
    fingerprints = {
        workflow: {
            graph["nodes"][identity]["name"]: found.digest
            for identity, found in _list(project, bare, workflow).items()
        }
        for workflow, graph in project.workflows.items()
    }
    return replace(bare, fingerprints=fingerprints)


def read_fingerprints(project: Project, workflow: str) -> Mapping[str, Fingerprint]:
    """Return the fingerprints of a workflow's nodes, by their ids in the graph record."""
    return _list(project, _make_bare_recipe(project), workflow)


def _list(project: Project, recipe: Recipe, workflow: str) -> Mapping[str, Fingerprint]:
    surroundings = digest_surroundings(recipe)
    key = (workflow, recipe.context["output"], surroundings)
    if key not in project.fingerprints:
        contents = Contents(recipe.context, project.data.counts, _Finder(recipe.folder))
        graph = project.workflows[workflow]
        settings = project.list_settings(workflow)
        project.fingerprints[key] = list_fingerprints(
            graph, workflow, contents, surroundings, settings
        )
    return project.fingerprints[key]


def _make_bare_recipe(project: Project) -> Recipe:
    settings = project.settings.image
    ca_cert = (project.root / settings.ca_cert).resolve() if settings.ca_cert else None
    return Recipe(
        context=_read_context(project),
        folder=project.folder / "context",
        base=settings.base,
        platform=settings.platform,
        workflows=project.settings.workflows,
        requirements=settings.requirements,
        build_env=settings.build_env,
        ca_cert=ca_cert,
        base_origin=project.settings.origin("image.base"),
        name=f"{name_repository(project)}:{settings.tag}",
        resolved=base.read(
            read_record(project.record_path("base")), settings.base, settings.platform
        ),
    )


def _read_context(project: Project) -> Record:
    path = project.record_path("context")
    record = read_record(path)
    if record is None:
        raise StoreError(f"{path} is gone or damaged", tip="it is made again: run once more")
    return record


def _check_graphs(project: Project, context: Record) -> None:
    copied = {f"file:{path}": digest for path, _size, digest, _executable in context["files"]}
    seen = ((name, digest) for graph in project.graphs for name, digest in graph["inputs"].items())
    for name, digest in seen:
        if digest != copied.get(name, digest):
            raise WorkflowError(
                f"image: {name.removeprefix('file:')} was edited while the stages were made",
                tip="run again",
            )


class _Finder:
    """Finds the files of a folder that a pattern names, by the names that they have behind links."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, pattern: str) -> Iterator[str]:
        folder = self._folder.resolve()
        for path in sorted(self._folder.glob(pattern)):
            there = path.resolve()
            if there.is_file() and there.is_relative_to(folder):
                yield there.relative_to(folder).as_posix()
