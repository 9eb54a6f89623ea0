"""The recipe of a project's image, and the cluster fingerprints of the nodes that run in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from fftasks.cache.cluster_fingerprint import ClusterFingerprint, compute_cluster_fingerprints
from fftasks.errors import StoreError, WorkflowError
from fftasks.image import context
from fftasks.image.base import read_base_record
from fftasks.image.builders import find_image_repository
from fftasks.image.recipe import ImageRecipe, digest_image_environment
from fftasks.image.runtime import digest_runtime
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record


class ImageFiles:
    """The data in an image that nodes may read: files, links and empty folders of the context."""

    def __init__(
        self, context: Record, counts: Callable[[str], bool], find: Callable[[str], Iterable[str]]
    ) -> None:
        """Create it from a record of the context.

        Args:
            context: The record.
            counts: Returns whether a path is data. Code, settings and outputs of nodes are not.
            find: Returns the paths of the files that match a pattern; links are followed.
        """
        self._context = context
        self._counts = counts
        self._find = find

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """The digests of all data files by path; " executable" follows the digest of programs."""
        return {path: digest for path, digest in self._digests.items() if self._counts(path)}

    def list_all(self) -> dict[str, str]:
        """Return the digests of all data files by path."""
        return self.files

    def digest_all(self) -> str:
        """Return one digest of all data, "" if there is none."""
        return self._all

    def digest_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of the files that match patterns, by path.

        A pattern without a match is a key whose value is None; so is a file that .dockerignore excludes.
        """
        found: dict[str, str | None] = {}
        for pattern in reads:
            paths = list(self._find(pattern))
            found |= {path: self._digests.get(path) for path in paths} or {pattern: None}
        return found

    @functools.cached_property
    def _all(self) -> str:
        links = [[path, to] for path, to in self._context["links"]]
        everything = [self.files, links, self._context["folders"]]
        return digest_json(everything) if any(everything) else ""

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        return {
            path: f"{digest} executable" if executable else digest
            for path, _size, digest, executable in self._context["files"]
        }


def make_project_recipe(project: Project) -> ImageRecipe:
    """Return the recipe of the image, with the fingerprints of all nodes.

    Raises:
        StoreError: The record of the context is missing or damaged.
        WorkflowError: Code was edited after the graph was created and before it was copied, so the
            fingerprints would not be those of the code in the image.
    """
    bare = read_project_recipe(project)
    _check_graphs(project, bare.context)
    fingerprints = {
        workflow: {
            graph["nodes"][identity]["name"]: found.digest
            for identity, found in find_cluster_fingerprints(project, bare, workflow).items()
        }
        for workflow, graph in project.workflows.items()
    }
    return replace(bare, fingerprints=fingerprints)


def preview_project_recipe(project: Project) -> ImageRecipe:
    """Return the recipe that the project's folder would give now; the copy is not changed."""
    settings = project.settings.context
    folder = (project.root / settings.folder).resolve()
    now = context.measure_context(folder, project.folder / "context", settings)
    return replace(_make_bare_recipe(project, now), folder=folder)


def make_image_files(project: Project, recipe: ImageRecipe) -> ImageFiles:
    """Return the data that nodes may read in an image of a recipe."""
    return ImageFiles(
        recipe.context, project.data.counts, _PatternFinder(recipe.folder, recipe.context)
    )


def read_project_recipe(project: Project) -> ImageRecipe:
    """Return the recipe for the record of the context, without fingerprints."""
    return _make_bare_recipe(project, _read_context(project))


def read_cluster_fingerprints(project: Project, workflow: str) -> Mapping[str, ClusterFingerprint]:
    """Return the fingerprints of a workflow's nodes, by their ids in the graph record."""
    return find_cluster_fingerprints(project, read_project_recipe(project), workflow)


def find_cluster_fingerprints(
    project: Project, recipe: ImageRecipe, workflow: str
) -> Mapping[str, ClusterFingerprint]:
    """Return the fingerprints of a workflow's nodes in an image of a recipe, by their ids."""
    surroundings = digest_image_environment(recipe)
    key = (workflow, recipe.context["output"], surroundings)
    if key not in project.fingerprints:
        contents = make_image_files(project, recipe)
        graph = project.workflows[workflow]
        settings = project.list_settings(workflow)
        project.fingerprints[key] = compute_cluster_fingerprints(
            graph, workflow, contents, surroundings, settings
        )
    return project.fingerprints[key]


def _make_bare_recipe(project: Project, record: Record) -> ImageRecipe:
    settings = project.settings.image
    ca_cert = (project.root / settings.ca_cert).resolve() if settings.ca_cert else None
    return ImageRecipe(
        context=record,
        folder=project.folder / "context",
        base=settings.base,
        platform=settings.platform,
        workflows=project.settings.workflows,
        runtime=digest_runtime(project.folder),
        requirements=settings.requirements,
        build_env=settings.build_env,
        ca_cert=ca_cert,
        base_origin=project.settings.origin("image.base"),
        name=f"{find_image_repository(project)}:{settings.tag}",
        resolved=read_base_record(
            read_record(project.record_path("base")), settings.base, settings.platform
        ),
    )


def _read_context(project: Project) -> Record:
    path = project.record_path("context")
    record = read_record(path)
    if record is None:
        raise StoreError(f"{path} is missing or damaged", tip="run again: it is created again")
    return record


def _check_graphs(project: Project, record: Record) -> None:
    copied = {path: digest for path, _size, digest, _executable in record["files"]}
    seen = ((name, digest) for graph in project.graphs for name, digest in graph["inputs"].items())
    for name, digest in seen:
        path = name.removeprefix("file:")
        if path != name and digest != copied.get(path, digest):
            raise WorkflowError(f"image: {path} was edited while the stages ran", tip="run again")


class _PatternFinder:
    """Finds the files of a context that match a pattern, and returns their paths behind links."""

    def __init__(self, folder: Path, record: Record) -> None:
        # the copy, or the project's folder, in which files outside of the context are ignored
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
