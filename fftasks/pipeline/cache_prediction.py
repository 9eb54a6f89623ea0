"""Predict which nodes a run on the cluster would compute, and why, without submitting it.

The prediction compares the current project, also where stages are out of date, with the run index. It is as
complete as the run index; see run_index.py.
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

_NEW = "sha256:new"  # digest of an image that is not built yet
_STATES = {
    "FAILED": "{it} failed in its last run",
    "CANCELED": "its last run was canceled",
    "DRIVER": "its driver failed in its last run",
    "OVER": "its last run ended before it",
}


class SubmittedInputs:
    """The inputs of a workflow's nodes on the cluster, in the image of a recipe.

    Attributes:
        project: The current project.
        workflow: Name of the workflow.
        recipe: Recipe of the image.
        graph: Graph record of the file that builds the workflow.
        found: Id of a node -> its fingerprint in the image.
    """

    def __init__(self, project: Project, workflow: str, recipe: ImageRecipe) -> None:
        self.project, self.workflow, self.recipe = project, workflow, recipe
        self.graph = project.workflows[workflow]
        self.found: Mapping[str, ClusterFingerprint] = find_cluster_fingerprints(
            project, recipe, workflow
        )
        self._contents = make_image_files(project, recipe)
        self._values = project.list_values(workflow)

    def describe(self, identity: str) -> Record:
        """Return the inputs of a node, as the run index stores them to explain a later change."""
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
        """Yield "code" and "data" of a node, each with its digest and the digests of its pieces."""
        content, made_of = self.graph["nodes"][identity], self.found[identity].pieces
        code = dict(self.graph["codes"][content["code"]])
        for kind, pieces in (("code", code), ("data", {})):
            if kind in made_of:
                files = self._contents if kind == "data" else _NO_FILES
                yield kind, made_of[kind], list_pieces(content, pieces, files)


class _NoFiles:
    """The files of an image for inputs that depend on none."""

    def list_all(self) -> dict[str, str]:
        return {}


_NO_FILES = _NoFiles()


class PlannedSubmission(SubmittedInputs):
    """A workflow as it would be submitted now.

    Attributes:
        tasks: Tasks by name.
        grouping: Entry `grouping` in the record of stage tasks.
        newest: Reference of the newest image, with a placeholder if it is not pushed yet.
        settings: Id of a node -> its settings.
        values: Name of a run parameter -> its value.
        kept: Name of a task -> packs that it would reuse; set by list_keys.
        old_pins: Last record of stage pins.
    """

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
        self.kept: dict[str, ReusedPacks] = {}
        self.old_pins = read_record(project.record_path("pins", workflow))

    def list_keys(self, index: RunIndex, gone: Collection[str] = ()) -> dict[str, CacheKey]:
        """Return the cache key of each task, and set `kept`.

        Args:
            index: Run index of the workflow.
            gone: References of images that the registry does not have any more.
        """
        # Without a finished run, nothing can be cached, and the registry need not be asked.
        find_tags = self._find_tags if index.finished else _find_no_tags
        request = make_task_pin_request(self.project, self.tasks, self.found, self.newest)
        pinned = pins.make_pins_record(
            request, find_tags=find_tags, add_tags=_add_no_tags, old=self.old_pins, gone=gone
        )
        details = self.graph["workflows"][self.workflow]
        components = {"slug": details["slug"], "tasks": self.tasks, "parameters": {}}
        caching = self.project.settings.kfp.caching
        kept = self._find_kept(pinned) if caching else {}
        document = draft_document(
            components, pinned, caching=caching, settings=self.settings, kept=kept
        )
        return list_cache_keys(document, self.values, honors_cache_key=index.honors_cache_key)

    def _find_kept(self, pinned: Record) -> dict[str, ReusedPacks]:
        """Return the packs that groups reuse, by fingerprint, as stage pipeline will find them."""
        components = {"tasks": self.tasks, "grouping": self.grouping}
        where = (self.project, self.workflow, components)
        members = list_member_fingerprints(*where, pinned, self.found)
        found = find_reuse(*where, members, self._known_kept)
        kept = {fingerprint: ReusedPacks(**packs) for fingerprint, packs in found.items() if packs}
        self.kept = {task: kept[m["key"]] for task, m in members.items() if m["key"] in kept}
        return kept

    def _find_tags(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        from fftasks.registry.oci_registry import RepositoryTags

        there = RepositoryTags(lambda host: make_registry(self.project, host, wait=False))
        try:
            return there.find(repository, tags)
        except FFTasksError:  # Images that other people have pushed remain unknown.
            return {}


def _find_no_tags(repository: str, tags: Sequence[str]) -> dict[str, str]:  # noqa: ARG001
    return {}


def _add_no_tags(repository: str, digest: str, tags: Sequence[str]) -> None:
    """Do nothing: a prediction does not change the registry."""


@dataclass(frozen=True)
class NodePrediction:
    """The prediction for one node.

    Attributes:
        node: Name of the node.
        task: Name of the task that runs it.
        computes: Whether the node will be computed.
        reasons: Why it will be computed, one sentence each.
        run_id: Id of the run that has its result; "" if it will be computed.
        is_reused: Whether its group runs, but reuses the node's result of the last run.
    """

    node: str
    task: str
    computes: bool
    reasons: tuple[str, ...] = ()
    run_id: str = ""
    is_reused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with the prediction."""
        state = {"computes": self.computes, "run_id": self.run_id, "reused": self.is_reused}
        return {"node": self.node, "task": self.task, **state, "reasons": self.reasons}


class CachePredictor:
    """Predicts for each task whether it is computed; has to be called for upstream tasks first.

    Args:
        now: The workflow as it would be submitted now.
        index: Run index of the workflow.
        keys: Name of a task -> its cache key.
        moved: Names of tasks whose last image is not in the registry any more.
    """

    def __init__(
        self,
        now: PlannedSubmission,
        index: RunIndex,
        keys: Mapping[str, CacheKey],
        moved: Collection[str],
    ) -> None:
        self._now, self._index, self._keys, self._moved = now, index, keys, moved
        self._computed: set[str] = set()
        self._surroundings = list_image_environment(now.recipe)
        self._names = {i: now.graph["nodes"][i]["name"] for i in now.found}
        self._owners = {node: name for name, task in now.tasks.items() for node in task["nodes"]}

    def predict_nodes(self, task: str) -> list[NodePrediction]:
        """Return the predictions for the nodes of a task."""
        key, nodes = self._keys[task], self._now.tasks[task]["nodes"]
        run_id = self._index.finished.get(key.name, "") if key.uses_cache else ""
        if not key.has_own_key and not self._computed.isdisjoint(key.upstream):
            run_id = ""  # Inputs that are computed again have new ids, so the key changes.
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
        """Yield why a task is computed, as far as the reason is this node."""
        never = self._list_never(node)
        if never:
            yield from never
            return
        before = self._index.nodes.get(self._names[node])
        if before is not None:
            yield from self._compare(node, before)
        elif self._owners[node] not in self._index.tasks:
            yield "never ran on Kubeflow Pipelines"
        elif not self._index.nodes:
            yield "it ran on the cluster with other inputs, submitted from elsewhere"
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
        """Yield how the inputs of a node differ from those of its last submission."""
        now = self._now.describe(node)
        content = {**self._now.graph["nodes"][node], "values": now["values"]}
        pieces = {
            piece: digest
            for _kind, _digest, found in self._now.list_pieces(node)
            for piece, digest in found.items()
        }

        own = {each["name"] for each in content["parameters"].values()}

        def read_old_pieces(kind: str) -> Mapping[str, str] | None:
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
                continue  # The parameter reaches the node only through others, which are the reason.
            else:
                changed = now["inputs"]
                yield from explain_input(name, content, before, changed, pieces, read_old_pieces)

    def _compare_input(self, content: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield how an input changed, unless its upstream node is computed, which is a reason of its own."""
        sources = {needed["input"]: needed["node"] for needed in content["inputs"]}
        source = sources.get(name, name)
        if source not in self._names:
            yield f"input {name} is gone"
        elif self._owners[source] not in self._computed:
            yield f"upstream {self._names[source]} changed since its last run"

    def _compare_surroundings(self) -> Iterator[str]:
        """Yield the inputs of the image that all nodes share and that changed."""
        old = self._index.surroundings
        names = list_changed_inputs(old, self._surroundings)
        words = {"base": "the base image", "build_env": "image.build_env", "runtime": "fftasks"}
        yield from (f"{words.get(name, name)} changed" for name in names)

    def _list_upstream(self, node: str) -> Iterator[str]:
        """Yield the upstream nodes in other tasks that will run."""
        for other in self._now.graph["nodes"][node]["upstream"]:
            owner, name = self._owners[other], self._names[other]
            if owner in self._computed - {self._owners[node]}:
                is_reused = name in self._list_kept(owner)
                yield f"the pod of {name} will run" if is_reused else f"{name} will run"

    def _explain_pod(self, nodes: Sequence[str]) -> str:
        """Return how nodes share a pod differently than in their last submission; "" if they do not."""
        before = [self._index.nodes.get(self._names[node]) for node in nodes]
        pods = {record.get("pod", "") for record in before if record is not None}
        if not pods or pods == {digest_pod_nodes(nodes)}:
            return ""
        if len(nodes) == 1:
            changed = "has a pod of its own now"
        else:
            changed = f"shares a pod{'' if pods == {''} else ' with other nodes'} now"
        return f"it {changed}, and KFP caches the results of whole pods"

    def _explain_run(self, task: str, key: CacheKey, count: int) -> str:
        """Return why a task is computed although none of its nodes changed; count: number of its nodes."""
        if task in self._moved:
            return "its image was removed from the registry"
        if key.name in self._index.unfinished:
            state = self._index.unfinished[key.name]
            it = "it" if count == 1 else "its pod"  # Most nodes in it may have succeeded.
            return _STATES.get(state, "{it} has not finished there yet").format(it=it)
        if self._now.project.settings.image.pin == "pipeline":
            return "image.pin is pipeline, and there is another image"
        return "no finished run with the same cache key is known"


def digest_pod_nodes(nodes: Sequence[str]) -> str:
    """Return a digest of the ids of the nodes that share a pod; "" for a single node."""
    return digest_json(sorted(nodes))[7:23] if len(nodes) > 1 else ""


@dataclass(frozen=True)
class CachePrediction:
    """The prediction for a run of a workflow.

    Attributes:
        workflow: Name of the workflow.
        nodes: Predictions for its nodes; empty if they are unknown.
        offline_reason: Why KFP could not be asked, or why the predictions are unknown; "" otherwise.
        seconds: Expected duration of the run in seconds; None if the predictions are unknown.
    """

    workflow: str
    nodes: tuple[NodePrediction, ...]
    offline_reason: str
    seconds: float | None = None

    def describe(self) -> str:
        """Return a line for the terminal."""
        if not self.nodes:
            return f"{self.workflow}: the prediction failed: {self.offline_reason}"
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
        """Return a JSON object with the prediction."""
        nodes = [node.to_json() for node in self.nodes]
        known = {"known_here_only": self.offline_reason, "expected_s": self.seconds}
        return {"workflow": self.workflow, **known, "nodes": nodes}


def predict_cache(project: Project, workflow: str, up_to_date: Collection[str]) -> CachePrediction:
    """Return the prediction for a run of a workflow that is submitted now; nothing is written.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        up_to_date: Names of the doit tasks that are up to date, such as "push" or "tasks:WORKFLOW".

    Raises:
        FFTasksError: No image can be built from the project's folder.
    """
    index = look_up_runs(project, workflow)
    if index.finished and read_record(project.record_path("base")) is None:
        # The digest of the base image is an input of all nodes.
        return CachePrediction(workflow, (), "the base image is not resolved yet; run `doit image`")
    now = PlannedSubmission(project, workflow, up_to_date)
    keys = now.list_keys(index)
    # The newest image would be pushed again, so it is never missing.
    pinned = {key.image for key in keys.values() if key.name in index.finished} - {now.newest}
    gone = find_missing_images(project, pinned, wait=False)
    moved = {task for task, key in keys.items() if key.image in gone}
    if moved:
        keys = now.list_keys(index, gone)
    predictor = CachePredictor(now, index, keys, moved)
    predictions = {task: predictor.predict_nodes(task) for task in keys}
    computed = {
        identity: node.computes
        for task, nodes in predictions.items()
        if any(node.computes for node in nodes)
        for identity, node in zip(now.tasks[task]["nodes"], nodes, strict=True)
    }
    seconds = estimate_partial_run(project, workflow, now.tasks, now.grouping, computed)
    every = tuple(node for nodes in predictions.values() for node in nodes)
    return CachePrediction(workflow, every, index.offline_reason, seconds)


def record_submitted_workflow(project: Project, workflow: str, last: Record | None) -> None:
    """Add the inputs of a workflow that was just submitted to the run index.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        last: Record of stage submit of the run before; None if there is none.
    """
    with suppress(OSError):  # The index only serves predictions, and the run has started already.
        recipe = read_project_recipe(project)
        submitted = SubmittedInputs(project, workflow, recipe)
        for identity in submitted.found:
            for _kind, digest, pieces in submitted.list_pieces(identity):
                project.store.write_code(digest, pieces)
        components = read_record(project.record_path("tasks", workflow)) or {"tasks": {}}
        shared = [task["nodes"] for task in components["tasks"].values() if len(task["nodes"]) > 1]
        pods = {i: {"pod": digest_pod_nodes(nodes)} for nodes in shared for i in nodes}
        nodes = {
            submitted.graph["nodes"][i]["name"]: {**submitted.describe(i), **pods.get(i, {})}
            for i in submitted.found
        }
        record_submission(project, workflow, nodes, list_image_environment(recipe), last)
