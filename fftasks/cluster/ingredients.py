"""What a workflow is made of on the cluster, in the image that there is or would be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from fftasks.cluster.memory import Memory
from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.record import Record, digest_json, read_record
from fftasks.stages import node as node_stage
from fftasks.stages import pins
from fftasks.stages.fingerprint import Fingerprint
from fftasks.stages.image import Recipe
from fftasks.stages.kept import Kept
from fftasks.stages.keys import Key, list_keys
from fftasks.stages.pipeline import sketch
from fftasks.steps.connect import make_registry, name_repository
from fftasks.steps.grouping import find_tasks
from fftasks.steps.keeping import find_kept, name_members
from fftasks.steps.pinning import wish_for
from fftasks.steps.recipe import find_fingerprints, look_ahead, make_contents

_NEW = "sha256:new"  # of an image that is not there yet


class Ingredients:
    """What the nodes of a workflow are made of on the cluster, in an image of a recipe."""

    def __init__(self, project: Project, workflow: str, recipe: Recipe) -> None:
        self.project, self.workflow, self.recipe = project, workflow, recipe
        self.graph = project.workflows[workflow]
        self.found: Mapping[str, Fingerprint] = find_fingerprints(project, recipe, workflow)
        self._contents = make_contents(project, recipe)
        self._values = project.list_values(workflow)

    def describe(self, identity: str) -> Record:
        """Return what is kept of a node, to explain a change."""
        values = self.list_values(identity)
        parameters = {f"parameter {name}": digest_json(value) for name, value in values.items()}
        return {
            "inputs": {**self.found[identity].pieces, **parameters},
            "shown": node_stage.show_constants(self.graph["nodes"][identity]),
            "values": values,
        }

    def list_values(self, identity: str) -> dict[str, Any]:
        """Return the values of the run parameters that reach a node."""
        return {name: self._values[name] for name in sorted(self.found[identity].parameters)}

    def list_pieces(self, identity: str) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield "code" and "data" of a node: which, its digest, and its pieces."""
        content, made_of = self.graph["nodes"][identity], self.found[identity].pieces
        code = dict(self.graph["codes"][content["code"]])
        for kind, pieces in (("code", code), ("data", {})):
            if kind in made_of:
                files = self._contents if kind == "data" else _NO_FILES
                yield kind, made_of[kind], node_stage.list_pieces(content, pieces, files)


class _NoFiles:
    def list_all(self) -> dict[str, str]:
        return {}


_NO_FILES = _NoFiles()


class Now(Ingredients):
    """A workflow as it would be submitted."""

    def __init__(self, project: Project, workflow: str, up_to_date: Collection[str]) -> None:
        super().__init__(project, workflow, look_ahead(project))
        self.tasks, self.grouping = find_tasks(project, workflow, up_to_date)
        pushed = read_record(project.record_path("push"))
        is_pushed = pushed is not None and "push" in up_to_date
        repository = name_repository(project)
        self.newest = pushed["reference"] if pushed and is_pushed else f"{repository}@{_NEW}"
        self.settings = project.list_settings(workflow)
        self.values = project.list_values(workflow)
        pipeline = read_record(project.record_path("pipeline", workflow)) or {}
        self._known_kept = pipeline.get("kept", {})
        self.kept: dict[str, Kept] = {}  # by task, of those that take something from their last run
        self.old_pins = read_record(project.record_path("pins", workflow))

    def list_keys(self, memory: Memory, gone: Collection[str] = ()) -> dict[str, Key]:
        """Return the keys of all tasks."""
        asks = self._find_tags if memory.finished else _find_nothing
        wish = wish_for(self.project, self.tasks, self.found, self.newest)
        pinned = pins.make(
            wish,
            find_tags=asks,
            add_tags=_add_nothing,
            old=self.old_pins,
            gone=gone,
        )
        details = self.graph["workflows"][self.workflow]
        components = {"slug": details["slug"], "tasks": self.tasks, "parameters": {}}
        caching = self.project.settings.kfp.caching
        kept = self._find_kept(pinned) if caching else {}
        document = sketch(components, pinned, caching=caching, settings=self.settings, kept=kept)
        return list_keys(document, self.values, takes_given=memory.takes_given)

    def _find_kept(self, pinned: Record) -> dict[str, Kept]:
        """Return what groups take from their last run, by fingerprint, as the pipeline stage will find it."""
        components = {"tasks": self.tasks, "grouping": self.grouping}
        where = (self.project, self.workflow, components)
        members = name_members(*where, pinned, self.found)
        found = find_kept(*where, members, self._known_kept)
        kept = {fingerprint: Kept(**one) for fingerprint, one in found.items() if one}
        self.kept = {task: kept[m["key"]] for task, m in members.items() if m["key"] in kept}
        return kept

    def _find_tags(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        from fftasks.ports.registry_tags import Tags

        there = Tags(lambda host: make_registry(self.project, host, wait=False))
        try:
            return there.find(repository, tags)
        except FFTasksError:  # then what others have pushed is not known
            return {}


def _find_nothing(repository: str, tags: Sequence[str]) -> dict[str, str]:  # noqa: ARG001
    return {}


def _add_nothing(repository: str, digest: str, tags: Sequence[str]) -> None:
    """Stand for the registry: looking ahead changes nothing there."""
