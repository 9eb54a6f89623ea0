"""What the image of a project is made of, and the fingerprints of the nodes that run in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fftasks.errors import StoreError, WorkflowError
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages import base, context
from fftasks.stages.contents import Contents
from fftasks.stages.fingerprint import Fingerprint, list_fingerprints
from fftasks.stages.image import Recipe, digest_surroundings
from fftasks.steps.connect import name_repository


def make_recipe(project: Project) -> Recipe:
    """Return what the image is to be made of; raises StoreError if there is no context yet.

    Its base is resolved if that was done for this name and platform; else see resolve_base().
    Raises WorkflowError if code was edited between the graph and the copy: the image would say that it
    was made for what it does not hold.
    """
    bare = read_recipe(project)
    _check_graphs(project, bare.context)
    fingerprints = {
        workflow: {
            graph["nodes"][identity]["name"]: found.digest
            for identity, found in find_fingerprints(project, bare, workflow).items()
        }
        for workflow, graph in project.workflows.items()
    }
    return replace(bare, fingerprints=fingerprints)


def look_ahead(project: Project) -> Recipe:
    """Return what the image would be made of now, from the folder instead of the copy; writes nothing."""
    settings = project.settings.context
    folder = (project.root / settings.folder).resolve()
    now = context.measure(folder, project.folder / "context", settings)
    return replace(_make_bare_recipe(project, now), folder=folder)


def make_contents(project: Project, recipe: Recipe) -> Contents:
    """Return what nodes may read in an image of a recipe, besides code."""
    return Contents(recipe.context, project.data.counts, _Finder(recipe.folder, recipe.context))


def read_recipe(project: Project) -> Recipe:
    """Return what the image of the context's record is made of, without fingerprints in it."""
    return _make_bare_recipe(project, _read_context(project))


def read_fingerprints(project: Project, workflow: str) -> Mapping[str, Fingerprint]:
    """Return the fingerprints of a workflow's nodes, by their ids in the graph record."""
    return find_fingerprints(project, read_recipe(project), workflow)


def find_fingerprints(project: Project, recipe: Recipe, workflow: str) -> Mapping[str, Fingerprint]:
    """Return the fingerprints of a workflow's nodes in an image of a recipe; see read_fingerprints()."""
    surroundings = digest_surroundings(recipe)
    key = (workflow, recipe.context["output"], surroundings)
    if key not in project.fingerprints:
        contents = make_contents(project, recipe)
        graph = project.workflows[workflow]
        settings = project.list_settings(workflow)
        project.fingerprints[key] = list_fingerprints(
            graph, workflow, contents, surroundings, settings
        )
    return project.fingerprints[key]


def _make_bare_recipe(project: Project, record: Record) -> Recipe:
    settings = project.settings.image
    ca_cert = (project.root / settings.ca_cert).resolve() if settings.ca_cert else None
    return Recipe(
        context=record,
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


def _check_graphs(project: Project, record: Record) -> None:
    copied = {path: digest for path, _size, digest, _executable in record["files"]}
    seen = ((name, digest) for graph in project.graphs for name, digest in graph["inputs"].items())
    for name, digest in seen:
        path = name.removeprefix("file:")
        if path != name and digest != copied.get(path, digest):
            raise WorkflowError(
                f"image: {path} was edited while the stages were made", tip="run again"
            )


class _Finder:
    """Finds the files of a context that a pattern names, by the names that they have behind links.

    folder: the copy, or what it is a copy of: there, what is not in the context is passed over
    """

    def __init__(self, folder: Path, record: Record) -> None:
        self._folder = folder
        self._links = {path for path, _to in record["links"]}
        self._there = self._links.union(path for path, *_ in record["files"])

    def __call__(self, pattern: str) -> Iterator[str]:
        folder = self._folder.resolve()
        for path in sorted(self._folder.glob(pattern)):
            there = path.resolve()
            if there.is_file() and there.is_relative_to(folder) and self._is_in(path):
                yield there.relative_to(folder).as_posix()

    def _is_in(self, path: Path) -> bool:
        name = path.relative_to(self._folder).as_posix()
        above = (parent.as_posix() for parent in Path(name).parents)
        return name in self._there or not self._links.isdisjoint(above)
