"""What a workflow is made of on the cluster, in the image that there is or would be.

Which tasks of a run will be computed, and why: what is made now, beside what is known of earlier runs.

What a cluster would do with each node of a workflow that is submitted now: compute it, or not, and why.

All of it is found out from what the folder holds now, also where the stages are not up to date. The answer
is as good as what is known of earlier runs; see memory.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fftasks.cache.cluster_fingerprint import ClusterFingerprint
from fftasks.cache.fingerprint import (
    explain_input,
    list_changed_inputs,
    list_constant_reprs,
    list_pieces,
    list_unstable,
)
from fftasks.config.node_settings import NodeSettings
from fftasks.errors import FFTasksError
from fftasks.image.builders import find_image_repository, find_missing_images, make_registry
from fftasks.image.project_recipe import (
    find_cluster_fingerprints,
    make_image_files,
    preview_project_recipe,
    read_project_recipe,
)
from fftasks.image.recipe import ImageRecipe, list_image_environment
from fftasks.pipeline import pins
from fftasks.pipeline.compiler import draft_document
from fftasks.pipeline.fuse import estimate_partial_run, find_current_tasks
from fftasks.pipeline.pins import make_task_pin_request
from fftasks.pipeline.reuse import ReusedPacks, find_reuse, list_member_fingerprints
from fftasks.pipeline.run_index import (
    CacheKey,
    RunIndex,
    list_cache_keys,
    look_up_runs,
    record_submission,
)
from fftasks.project import Project
from fftasks.records import Record, digest_json, read_record
from fftasks.terminal import format_elapsed_time

_NEW = "sha256:new"  # of an image that is not there yet


class SubmittedInputs:
    """What the nodes of a workflow are made of on the cluster, in an image of a recipe."""

    def __init__(self, project: Project, workflow: str, recipe: ImageRecipe) -> None:
        self.project, self.workflow, self.recipe = project, workflow, recipe
        self.graph = project.workflows[workflow]
        self.found: Mapping[str, ClusterFingerprint] = find_cluster_fingerprints(
            project, recipe, workflow
        )
        self._contents = make_image_files(project, recipe)
        self._values = project.list_values(workflow)

    def describe(self, identity: str) -> Record:
        """Return what is kept of a node, to explain a change."""
        values = self.list_values(identity)
        parameters = {f"parameter {name}": digest_json(value) for name, value in values.items()}
        return {
            "inputs": {**self.found[identity].pieces, **parameters},
            "shown": list_constant_reprs(self.graph["nodes"][identity]),
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
                yield kind, made_of[kind], list_pieces(content, pieces, files)


class _NoFiles:
    def list_all(self) -> dict[str, str]:
        return {}


_NO_FILES = _NoFiles()


class PlannedSubmission(SubmittedInputs):
    """A workflow as it would be submitted."""

    def __init__(self, project: Project, workflow: str, up_to_date: Collection[str]) -> None:
        super().__init__(project, workflow, preview_project_recipe(project))
        self.tasks, self.grouping = find_current_tasks(project, workflow, up_to_date)
        pushed = read_record(project.record_path("push"))
        is_pushed = pushed is not None and "push" in up_to_date
        repository = find_image_repository(project)
        self.newest = pushed["reference"] if pushed and is_pushed else f"{repository}@{_NEW}"
        self.settings = project.list_settings(workflow)
        self.values = project.list_values(workflow)
        pipeline = read_record(project.record_path("pipeline", workflow)) or {}
        self._known_kept = pipeline.get("kept", {})
        self.kept: dict[
            str, ReusedPacks
        ] = {}  # by task, of those that take something from their last run
        self.old_pins = read_record(project.record_path("pins", workflow))

    def list_keys(self, memory: RunIndex, gone: Collection[str] = ()) -> dict[str, CacheKey]:
        """Return the keys of all tasks."""
        asks = self._find_tags if memory.finished else _find_nothing
        wish = make_task_pin_request(self.project, self.tasks, self.found, self.newest)
        pinned = pins.make_pins_record(
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
        document = draft_document(
            components, pinned, caching=caching, settings=self.settings, kept=kept
        )
        return list_cache_keys(document, self.values, honors_cache_key=memory.honors_cache_key)

    def _find_kept(self, pinned: Record) -> dict[str, ReusedPacks]:
        """Return what groups take from their last run, by fingerprint, as the pipeline stage will find it."""
        components = {"tasks": self.tasks, "grouping": self.grouping}
        where = (self.project, self.workflow, components)
        members = list_member_fingerprints(*where, pinned, self.found)
        found = find_reuse(*where, members, self._known_kept)
        kept = {fingerprint: ReusedPacks(**one) for fingerprint, one in found.items() if one}
        self.kept = {task: kept[m["key"]] for task, m in members.items() if m["key"] in kept}
        return kept

    def _find_tags(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        from fftasks.registry.oci_registry import RepositoryTags

        there = RepositoryTags(lambda host: make_registry(self.project, host, wait=False))
        try:
            return there.find(repository, tags)
        except FFTasksError:  # then what others have pushed is not known
            return {}


def _find_nothing(repository: str, tags: Sequence[str]) -> dict[str, str]:  # noqa: ARG001
    return {}


def _add_nothing(repository: str, digest: str, tags: Sequence[str]) -> None:
    """Stand for the registry: looking ahead changes nothing there."""


_STATES = {
    "FAILED": "{it} failed in its last run",
    "CANCELED": "its last run was canceled",
    "DRIVER": "its driver failed in its last run",
    "OVER": "its last run ended before it",
}


@dataclass(frozen=True)
class NodePrediction:
    """What will become of a node.

    task: which runs it; computes: whether it will be run
    reasons: why, a sentence each; run_id: of the run that has its result, "" if it is computed
    is_kept: its group runs, and takes what it gave from the run before
    """

    node: str
    task: str
    computes: bool
    reasons: tuple[str, ...] = ()
    run_id: str = ""
    is_reused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        state = {"computes": self.computes, "run_id": self.run_id, "reused": self.is_reused}
        return {"node": self.node, "task": self.task, **state, "reasons": self.reasons}


class CachePredictor:
    """Says of each task whether it is computed, upstream first."""

    def __init__(
        self,
        now: PlannedSubmission,
        memory: RunIndex,
        keys: Mapping[str, CacheKey],
        moved: Collection[str],
    ) -> None:
        self._now, self._memory, self._keys, self._moved = now, memory, keys, moved
        self._computed: set[str] = set()
        self._surroundings = list_image_environment(now.recipe)
        self._names = {i: now.graph["nodes"][i]["name"] for i in now.found}
        self._owners = {node: name for name, task in now.tasks.items() for node in task["nodes"]}

    def predict_nodes(self, task: str) -> list[NodePrediction]:
        """Return what will become of the nodes of a task."""
        key, nodes = self._keys[task], self._now.tasks[task]["nodes"]
        run_id = self._memory.finished.get(key.name, "") if key.uses_cache else ""
        if not key.has_own_key and not self._computed.isdisjoint(key.upstream):
            run_id = ""
        if run_id:
            return [NodePrediction(self._names[node], task, False, (), run_id) for node in nodes]
        self._computed.add(task)
        reasons = {node: list(self._explain(node)) for node in nodes}
        kept = self._list_kept(task)
        blamed = next((n for n in nodes if reasons[n]), "")
        shared = f"shares a pod with {self._names[blamed]}" if blamed else ""
        shared = self._explain_pod(nodes) or shared or self._explain_run(task, key, len(nodes))
        return [
            NodePrediction(self._names[node], task, False, (shared,), is_reused=True)
            if self._names[node] in kept
            else NodePrediction(self._names[node], task, True, tuple(reasons[node] or [shared]))
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
            yield "never ran on Kubeflow Pipelines"
        elif not self._memory.nodes:
            yield "it ran there as something else, submitted from elsewhere"
        yield from self._list_upstream(node)

    def _list_kept(self, task: str) -> Collection[str]:
        return self._now.kept[task].nodes if task in self._now.kept else ()

    def _list_never(self, node: str) -> list[str]:
        """Return why a node is never taken from the cache, [] if it may be."""
        if not self._now.project.settings.kfp.caching:
            return ["setting kfp.caching is false"]
        if not self._now.settings.get(node, NodeSettings()).cache:
            return ["its setting cache is false"]
        return list_unstable(self._now.graph["nodes"][node])

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

        for name in list_changed_inputs(before["inputs"], now["inputs"]):
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
                yield from explain_input(name, content, before, now["inputs"], pieces, read)

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
        names = list_changed_inputs(old, self._surroundings)
        words = {"base": "the base image", "build_env": "image.build_env", "runtime": "fftasks"}
        yield from (f"{words.get(name, name)} changed" for name in names)

    def _list_upstream(self, node: str) -> Iterator[str]:
        for other in self._now.graph["nodes"][node]["upstream"]:
            owner, name = self._owners[other], self._names[other]
            if owner in self._computed - {self._owners[node]}:
                is_reused = name in self._list_kept(owner)
                yield f"the pod of {name} will run" if is_reused else f"{name} will run"

    def _explain_pod(self, nodes: Sequence[str]) -> str:
        """Return why the cache does not know nodes as they share a pod now; "" if they did before."""
        before = [self._memory.nodes.get(self._names[node]) for node in nodes]
        pods = {record.get("pod", "") for record in before if record is not None}
        if not pods or pods == {digest_pod_nodes(nodes)}:
            return ""
        if len(nodes) == 1:
            changed = "has a pod of its own now"
        else:
            changed = f"shares a pod{'' if pods == {''} else ' with other nodes'} now"
        return f"it {changed}, and the cluster's cache has whole pods"

    def _explain_run(self, task: str, key: CacheKey, count: int) -> str:
        """Return why a task of so many nodes is computed, none of which has changed."""
        if task in self._moved:
            return "its image was removed from the registry"
        if key.name in self._memory.unfinished:
            state = self._memory.unfinished[key.name]
            it = "it" if count == 1 else "its pod"  # in which most may have ended well
            return _STATES.get(state, "{it} has not finished there yet").format(it=it)
        if self._now.project.settings.image.pin == "pipeline":
            return "image.pin is pipeline, and there is another image"
        return "no run is known in which it has finished like this"


def digest_pod_nodes(nodes: Sequence[str]) -> str:
    """Return a name for the pod that nodes share; "" for that of a node alone. nodes: their ids"""
    return digest_json(sorted(nodes))[7:23] if len(nodes) > 1 else ""


@dataclass(frozen=True)
class CachePrediction:
    """What a run of a workflow would compute; silence: why the host was not asked, "" if it was.

    seconds: how long it is expected to take, None if it is not known what it would compute
    """

    workflow: str
    nodes: tuple[NodePrediction, ...]
    offline_reason: str
    seconds: float | None = None

    def describe(self) -> str:
        """Return it in a line."""
        if not self.nodes:
            return f"{self.workflow}: not known what it would compute: {self.offline_reason}"
        count = sum(node.computes for node in self.nodes)
        kept = sum(node.is_reused for node in self.nodes)
        parts = [
            f"{count} to compute",
            f"{len(self.nodes) - count - kept} from the cluster's cache",
            *([f"{kept} reused from the last run"] if kept else []),
            *(
                [f"{format_elapsed_time(self.seconds)} expected"]
                if self.seconds is not None
                else []
            ),
            *([f"as far as known here: {self.offline_reason}"] if self.offline_reason else []),
        ]
        return f"{self.workflow}: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        nodes = [node.to_json() for node in self.nodes]
        known = {"known_here_only": self.offline_reason, "expected_s": self.seconds}
        return {"workflow": self.workflow, **known, "nodes": nodes}


def predict_cache(project: Project, workflow: str, up_to_date: Collection[str]) -> CachePrediction:
    """Return what a run would compute if the workflow was submitted now; writes nothing.

    up_to_date: the names of the stages that are, as doit has them
    Raises FFTasksError if the folder cannot become an image as it is.
    """
    memory = look_up_runs(project, workflow)
    if memory.finished and read_record(project.record_path("base")) is None:
        # what nodes stand on is a part of what they are
        return CachePrediction(
            workflow, (), "the base was not looked up here yet; `doit image` does it"
        )
    now = PlannedSubmission(project, workflow, up_to_date)
    keys = now.list_keys(memory)
    pinned = {key.image for key in keys.values() if key.name in memory.finished} - {now.newest}
    gone = find_missing_images(project, pinned, wait=False)  # the newest would be pushed again
    moved = {task for task, key in keys.items() if key.image in gone}
    if moved:
        keys = now.list_keys(memory, gone)
    judge = CachePredictor(now, memory, keys, moved)
    outlooks = {task: judge.predict_nodes(task) for task in keys}
    nodes = tuple(one for each in outlooks.values() for one in each)
    return CachePrediction(workflow, nodes, memory.offline_reason, _expect_seconds(now, outlooks))


def _expect_seconds(
    now: PlannedSubmission, outlooks: Mapping[str, Sequence[NodePrediction]]
) -> float:
    computed = {
        identity: one.computes
        for task, each in outlooks.items()
        if any(one.computes for one in each)
        for identity, one in zip(now.tasks[task]["nodes"], each, strict=True)
    }
    return estimate_partial_run(now.project, now.workflow, now.tasks, now.grouping, computed)


def record_submitted_workflow(project: Project, workflow: str, last: Record | None) -> None:
    """Write down what a workflow that was submitted just now is made of.

    last: the record of the run before
    """
    with suppress(OSError):  # it only explains, and the run is under way
        recipe = read_project_recipe(project)
        made = SubmittedInputs(project, workflow, recipe)
        for identity in made.found:
            for kind, digest, pieces in made.list_pieces(identity):
                if kind in ("code", "data"):
                    project.store.write_code(digest, pieces)
        pods = _name_pods(project, workflow)
        nodes = {
            made.graph["nodes"][i]["name"]: {**made.describe(i), **pods.get(i, {})}
            for i in made.found
        }
        record_submission(project, workflow, nodes, list_image_environment(recipe), last)


def _name_pods(project: Project, workflow: str) -> dict[str, Record]:
    """Return in which pod each node is that shares one, by the nodes' ids; see judge.py."""
    components = read_record(project.record_path("tasks", workflow)) or {"tasks": {}}
    shared = [task["nodes"] for task in components["tasks"].values() if len(task["nodes"]) > 1]
    return {node: {"pod": digest_pod_nodes(nodes)} for nodes in shared for node in nodes}
