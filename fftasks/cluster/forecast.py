"""What a cluster would do with each node of a workflow that is submitted now: compute it, or not, and why.

All of it is found out from what the folder holds now, also where the stages are not up to date. The answer
is as good as what is known of earlier runs; see memory.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fftasks.cluster.memory import Memory, note_submitted, recall
from fftasks.connect import find_gone, make_registry, name_repository
from fftasks.errors import FFTasksError
from fftasks.grouping import find_grouping
from fftasks.pinning import wish_for
from fftasks.project import Project
from fftasks.recipe import find_fingerprints, look_ahead, make_contents, read_recipe
from fftasks.record import Record, digest_json, read_record
from fftasks.settings.nodes import NodeSettings
from fftasks.stages import node as node_stage
from fftasks.stages import pins
from fftasks.stages.components import make_tasks
from fftasks.stages.fingerprint import Fingerprint
from fftasks.stages.image import Recipe, list_surroundings
from fftasks.stages.kept import Kept
from fftasks.stages.keys import Key, list_keys
from fftasks.stages.pipeline import sketch

_NEW = "sha256:new"  # of an image that is not there yet
_STATES = {
    "FAILED": "it failed in its last run",
    "CANCELED": "its last run was canceled",
    "OVER": "its last run ended before it",
}


@dataclass(frozen=True)
class Outlook:
    """What will become of a node.

    task: which runs it; computes: whether it will be run
    reasons: why, a sentence each; run_id: of the run that has its result, "" if it is computed
    """

    node: str
    task: str
    computes: bool
    reasons: tuple[str, ...] = ()
    run_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        state = {"computes": self.computes, "run_id": self.run_id}
        return {"node": self.node, "task": self.task, **state, "reasons": self.reasons}


@dataclass(frozen=True)
class Forecast:
    """What a run of a workflow would compute; silence: why the host was not asked, "" if it was."""

    workflow: str
    nodes: tuple[Outlook, ...]
    silence: str

    def describe(self) -> str:
        """Return it in a line."""
        if not self.nodes:
            return f"{self.workflow}: not known what it would compute: {self.silence}"
        count = sum(node.computes for node in self.nodes)
        cached = len(self.nodes) - count
        known = f", as far as known here: {self.silence}" if self.silence else ""
        return f"{self.workflow}: {count} to compute, {cached} from the cluster's cache{known}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        nodes = [node.to_json() for node in self.nodes]
        return {"workflow": self.workflow, "known_here_only": self.silence, "nodes": nodes}


def forecast(project: Project, workflow: str, up_to_date: Collection[str]) -> Forecast:
    """Return what a run would compute if the workflow was submitted now; writes nothing.

    up_to_date: the names of the stages that are, as doit has them
    Raises FFTasksError if the folder cannot become an image as it is.
    """
    memory = recall(project, workflow)
    if memory.finished and read_record(project.record_path("base")) is None:
        # what nodes stand on is a part of what they are
        return Forecast(workflow, (), "the base was not looked up here yet; `doit image` does it")
    now = _Now(project, workflow, up_to_date)
    keys = now.list_keys(memory)
    pinned = {key.image for key in keys.values() if key.name in memory.finished} - {now.newest}
    gone = find_gone(project, pinned, wait=False)  # the newest would be pushed again
    moved = {task for task, key in keys.items() if key.image in gone}
    if moved:
        keys = now.list_keys(memory, gone)
    judge = _Judge(now, memory, keys, moved)
    nodes = tuple(one for task in keys for one in judge.list_outlooks(task))
    return Forecast(workflow, nodes, memory.silence)


def remember(project: Project, workflow: str, last: Record | None) -> None:
    """Write down what a workflow that was submitted just now is made of.

    last: the record of the run before
    """
    with suppress(OSError):  # it only explains, and the run is under way
        recipe = read_recipe(project)
        made = _Ingredients(project, workflow, recipe)
        for identity in made.found:
            for kind, digest, pieces in made.list_pieces(identity):
                if kind in ("code", "data"):
                    project.store.write_code(digest, pieces)
        nodes = {made.graph["nodes"][i]["name"]: made.describe(i) for i in made.found}
        note_submitted(project, workflow, nodes, list_surroundings(recipe), last)


class _Ingredients:
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


class _Now(_Ingredients):
    """A workflow as it would be submitted."""

    def __init__(self, project: Project, workflow: str, up_to_date: Collection[str]) -> None:
        super().__init__(project, workflow, look_ahead(project))
        components = read_record(project.record_path("components", workflow))
        if components is not None and f"components:{workflow}" in up_to_date:
            self.tasks: Mapping[str, Record] = components["tasks"]
        else:
            grouping = find_grouping(project, workflow, components)
            self.tasks = make_tasks(self.graph, workflow, grouping.groups if grouping else None)
        pushed = read_record(project.record_path("push"))
        is_pushed = pushed is not None and "push" in up_to_date
        repository = name_repository(project)
        self.newest = pushed["reference"] if pushed and is_pushed else f"{repository}@{_NEW}"
        self.settings = project.list_settings(workflow)
        self.values = project.list_values(workflow)
        pipeline = read_record(project.record_path("pipeline", workflow)) or {}
        kept = pipeline.get("kept", {}).items() if project.settings.kfp.caching else ()
        self._kept = {fingerprint: Kept(**one) for fingerprint, one in kept if one}
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
        document = sketch(
            components, pinned, caching=caching, settings=self.settings, kept=self._kept
        )
        return list_keys(document, self.values, takes_given=memory.takes_given)

    def _find_tags(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        from fftasks.ports.registry_tags import Tags

        there = Tags(lambda host: make_registry(self.project, host, wait=False))
        try:
            return there.find(repository, tags)
        except FFTasksError:  # then what others have pushed is not known
            return {}


class _Judge:
    """Says of each task whether it is computed, upstream first."""

    def __init__(
        self, now: _Now, memory: Memory, keys: Mapping[str, Key], moved: Collection[str]
    ) -> None:
        self._now, self._memory, self._keys, self._moved = now, memory, keys, moved
        self._computed: set[str] = set()
        self._surroundings = list_surroundings(now.recipe)
        self._names = {i: now.graph["nodes"][i]["name"] for i in now.found}
        self._owners = {node: name for name, task in now.tasks.items() for node in task["nodes"]}

    def list_outlooks(self, task: str) -> list[Outlook]:
        """Return what will become of the nodes of a task."""
        key, nodes = self._keys[task], self._now.tasks[task]["nodes"]
        run_id = self._memory.finished.get(key.name, "") if key.asked else ""
        if not key.given and not self._computed.isdisjoint(key.upstream):
            run_id = ""
        if run_id:
            return [Outlook(self._names[node], task, False, (), run_id) for node in nodes]
        self._computed.add(task)
        reasons = {node: list(self._explain(node)) for node in nodes}
        shared = next((r for r in reasons.values() if r), []) or [self._explain_run(task, key)]
        first = f"shares a pod with {self._names[next((n for n in nodes if reasons[n]), nodes[0])]}"
        return [
            Outlook(
                self._names[node],
                task,
                True,
                tuple(reasons[node] or (shared if len(nodes) == 1 else [first])),
            )
            for node in nodes
        ]

    def _explain(self, node: str) -> Iterator[str]:
        """Yield why a node's task is computed, as far as it is the node's doing."""
        never = self._list_never(node)
        if never:
            yield from never
            return
        before = self._memory.nodes.get(self._names[node])
        if before is not None:
            yield from self._compare(node, before)
        elif self._owners[node] not in self._memory.tasks:
            yield "never ran there"
        elif not self._memory.nodes:
            yield "it ran there as something else, submitted from elsewhere"
        yield from self._list_upstream(node)

    def _list_never(self, node: str) -> list[str]:
        """Return why a node is never taken from the cache, [] if it may be."""
        if not self._now.project.settings.kfp.caching:
            return ["setting kfp.caching is false"]
        if not self._now.settings.get(node, NodeSettings()).cache:
            return ["its setting cache is false"]
        return node_stage.list_unstable(self._now.graph["nodes"][node])

    def _compare(self, node: str, before: Record) -> Iterator[str]:
        now = self._now.describe(node)
        content = {**self._now.graph["nodes"][node], "values": now["values"]}
        pieces = {
            piece: digest
            for _kind, _digest, found in self._now.list_pieces(node)
            for piece, digest in found.items()
        }

        own = {each["name"] for each in content["parameters"].values()}

        def read(kind: str) -> Mapping[str, str] | None:
            return self._now.project.store.read_code(before["inputs"].get(kind, ""))

        for name in node_stage.list_changed(before["inputs"], now["inputs"]):
            kind, _, rest = name.partition(" ")
            if name == "surroundings":
                yield from self._compare_surroundings()
            elif name == "place":
                yield "its name, file or workflow changed"
            elif kind in ("input", "after"):
                yield from self._compare_input(content, rest)
            elif kind == "parameter" and rest not in own and any(self._list_upstream(node)):
                continue  # it is a reason of theirs
            else:
                yield from node_stage.explain_input(
                    name, content, before, now["inputs"], pieces, read
                )

    def _compare_input(self, content: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield what became of an input, unless the node upstream is computed, which is said anyway."""
        sources = {needed["input"]: needed["node"] for needed in content["inputs"]}
        source = sources.get(name, name)
        if source not in self._names:
            yield f"input {name} is gone"
        elif self._owners[source] not in self._computed:
            yield f"upstream {self._names[source]} is not as it was in its last run"

    def _compare_surroundings(self) -> Iterator[str]:
        old = self._memory.surroundings
        names = node_stage.list_changed(old, self._surroundings)
        words = {"base": "the base image", "build_env": "image.build_env", "runtime": "fftasks"}
        yield from (f"{words.get(name, name)} changed" for name in names)

    def _list_upstream(self, node: str) -> Iterator[str]:
        for other in self._now.graph["nodes"][node]["upstream"]:
            if self._owners[other] in self._computed - {self._owners[node]}:
                yield f"upstream {self._names[other]} will be computed"

    def _explain_run(self, task: str, key: Key) -> str:
        """Return why a task is computed whose nodes have not changed."""
        if task in self._moved:
            return "its image was removed from the registry"
        if key.name in self._memory.unfinished:
            state = self._memory.unfinished[key.name]
            return _STATES.get(state, "it has not finished there yet")
        if self._now.project.settings.image.pin == "pipeline":
            return "image.pin is pipeline, and there is another image"
        return "no run is known in which it has finished like this"


def _find_nothing(repository: str, tags: Sequence[str]) -> dict[str, str]:  # noqa: ARG001
    return {}


def _add_nothing(repository: str, digest: str, tags: Sequence[str]) -> None:
    """Stand for the registry: looking ahead changes nothing there."""
