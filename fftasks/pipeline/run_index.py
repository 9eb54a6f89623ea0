"""Store the states and durations of earlier runs of a workflow on the cluster, to predict the next run.

KFP is the source of truth, and its latest runs are read for each prediction. Results of earlier reads are in
the run index, `.fftasks/cluster/`, with one file for each workflow and cluster. Deleting a file makes
predictions less complete, not wrong.

A backend before 2.18 computes the cache key of a task from the image, the command, the parameters and the
*ids* of the inputs: an upstream task that is computed again gives its results new ids, even if they are
equal. A later backend uses `cacheKey` instead of all of these, if a task has one.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fftasks.errors import FFTasksError
from fftasks.kfp.client import fetch_runs, read_version
from fftasks.kfp.diagnostics import read_cluster_run
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import UNKNOWN_STATE, ClusterTask
from fftasks.path_validation import explain_unsafe_name, join_untrusted
from fftasks.project import Project
from fftasks.records import Record, digest_json, lock_record, read_record, write_record
from fftasks.state_folder import is_regular

Json = Mapping[str, Any]

VERSION = 1

_LATEST = 20  # runs that are read for a prediction
_TIMEOUT_S = 5.0
_MAX_KNOWN = 4000  # keys in the file
_KEYS_FROM = (2, 18)  # first release of KFP that uses cacheKey
_DONE = frozenset({"SUCCEEDED", "CACHED", "SKIPPED"})


@dataclass(frozen=True)
class CacheKey:
    """The key of a task's results in KFP's cache, as far as it is known before the run.

    Attributes:
        name: Digest of everything that is known about the key, including the names of upstream keys.
        uses_cache: Whether KFP reads and writes the cache for the task.
        has_own_key: Whether the task has a cacheKey, so that the ids of its inputs do not matter.
        image: Image of the task.
        upstream: Names of the tasks with a container that run before it.
    """

    name: str
    uses_cache: bool
    has_own_key: bool
    image: str
    upstream: tuple[str, ...]


def list_cache_keys(document: Json, values: Json, *, honors_cache_key: bool) -> dict[str, CacheKey]:
    """Return the cache key of each task with a container, upstream tasks first.

    Args:
        document: Pipeline document.
        values: Name of a run parameter -> its value; missing parameters have their defaults.
        honors_cache_key: Whether the backend uses the cacheKey of tasks.
    """
    root = document.get("root", {})
    defined = root.get("inputDefinitions", {}).get("parameters", {})
    known = {name: one.get("defaultValue") for name, one in defined.items()} | dict(values)
    tasks = root.get("dag", {}).get("tasks", {})
    needs = {  # The document of a prediction has no importers, and importers have no keys.
        name: sorted(tasks.keys() & task.get("dependentTasks", ()))
        for name, task in sorted(tasks.items())
    }
    found: dict[str, CacheKey] = {}
    for name in graphlib.TopologicalSorter(needs).static_order():
        container = _find_container(document, tasks[name])
        if container:
            # An artifact that an importer registers has the same id each time.
            upstream = {other: found[other].name for other in needs[name] if other in found}
            found[name] = _make_key(tasks[name], container, known, upstream, honors_cache_key)
    return found


def _find_container(document: Json, task: Json) -> Json:
    component = document["components"][task["componentRef"]["name"]]
    executors = document.get("deploymentSpec", {}).get("executors", {})
    container: Json = executors.get(component.get("executorLabel"), {}).get("container", {})
    return container


def _make_key(
    task: Json,
    container: Json,
    values: Json,
    upstream: Mapping[str, str],
    honors_cache_key: bool,  # noqa: FBT001 - handed down
) -> CacheKey:
    options = task.get("cachingOptions", {})
    has_own_key = options.get("cacheKey", "") if honors_cache_key else ""
    command = [*container.get("command", ()), *container.get("args", ())]
    parameters = task.get("inputs", {}).get("parameters", {})
    resolved = {name: _resolve(source, values) for name, source in parameters.items()}
    parts = [container["image"], command, resolved, upstream]
    return CacheKey(
        name=digest_json([task["componentRef"]["name"], has_own_key] if has_own_key else parts),
        uses_cache=bool(options.get("enableCache")),
        has_own_key=bool(has_own_key),
        image=container["image"],
        upstream=tuple(upstream),
    )


def _resolve(source: Json, values: Json) -> Any:
    """Return the value of a task's input parameter."""
    if "componentInputParameter" in source:
        return _convert_numbers(values.get(source["componentInputParameter"]))
    return _convert_numbers(source.get("runtimeValue", {}).get("constant"))


def _convert_numbers(value: Any) -> Any:
    """Return a value as KFP's server returns it, with floats instead of integers."""
    if isinstance(value, Mapping):
        return {name: _convert_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_convert_numbers(one) for one in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number else value


@dataclass
class RunIndex:
    """The states and durations of earlier runs of one workflow.

    Attributes:
        finished: Name of a cache key -> id of the run that computed the result.
        unfinished: Name of a cache key -> state of a task that did not finish in its latest run; OVER if the
            run ended before the task started, DRIVER if the driver of the task failed.
        tasks: Names of tasks that have finished in some run.
        nodes: Name of a node -> "inputs", "shown" and "values" of its last submission from this project.
        seconds: Name of a node -> its duration in seconds when it ran last.
        latest: Start of the latest run in `seconds`, in ISO format.
        surroundings: Inputs of the image of the last submission that all nodes share, such as its base.
        honors_cache_key: Whether the backend uses the cacheKey of tasks.
        offline_reason: Why KFP could not be asked; "" if it was asked.
    """

    finished: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    nodes: dict[str, Record] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    latest: str = ""
    surroundings: dict[str, str] = field(default_factory=dict)
    honors_cache_key: bool = False
    offline_reason: str = ""

    def note_run(self, run: ClusterRun) -> None:
        """Add the states of a run's tasks; runs have to be added in the order of their start."""
        config = run.answer.get("runtime_config") or {}
        values = config.get("parameters") or {}
        states = {task.name: _name_state(run, task) for task in run.tasks}
        self.tasks.update(name for name, state in states.items() if state in _DONE)
        for honors_cache_key in (False, True):  # The version of the backend may be unknown.
            keys = list_cache_keys(run.document, values, honors_cache_key=honors_cache_key)
            for task, key in keys.items():
                state = states[task]
                if not key.uses_cache or state == UNKNOWN_STATE:
                    continue
                if state not in _DONE:
                    self.unfinished[key.name] = state
                elif state == "SUCCEEDED" or key.name not in self.finished:
                    self.finished[key.name] = run.run_id

    def note_seconds(self, run: ClusterRun, seconds: Mapping[str, float]) -> None:
        """Add the durations of nodes in a run; durations of a later run are not replaced.

        Args:
            run: The run.
            seconds: Name of a node -> its duration in seconds.
        """
        began = run.began.isoformat() if run.began else ""
        if began < self.latest:
            self.seconds = {**seconds, **self.seconds}
        else:
            self.seconds, self.latest = {**self.seconds, **seconds}, began


def look_up_runs(project: Project, workflow: str) -> RunIndex:
    """Return the run index of a workflow, updated with KFP's latest runs; the file is not written.

    If KFP cannot be reached within 5 seconds, the index has an `offline_reason`.
    """
    index = _read_index(_locate_index(project, workflow))
    settings = project.settings.kfp
    settings = replace(settings, timeout_s=min(settings.timeout_s, _TIMEOUT_S))
    try:
        runs = [ClusterRun(answer) for answer in fetch_runs(settings, _LATEST)]
        version = re.match(r"v?(\d+)\.(\d+)", read_version(settings))
    except FFTasksError as error:
        index.offline_reason = ": ".join([error.attempted, *error.found[:1]])
        return index
    index.honors_cache_key = (
        version is not None and (int(version[1]), int(version[2])) >= _KEYS_FROM
    )
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    for run in reversed(runs):
        if run.pipeline_name == slug:
            index.note_run(run)
    return index


def record_submission(
    project: Project,
    workflow: str,
    nodes: Mapping[str, Record],
    surroundings: Mapping[str, str],
    last: Record | None,
) -> None:
    """Add the submitted nodes, and the states of the run before, to the run index of a workflow.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        nodes: Name of a node -> its "inputs", "shown" and "values"; durations of other nodes are deleted.
        surroundings: Inputs of the image that all nodes share.
        last: Record of stage submit of the run before; None if there is none.
    """
    run = None
    if last is not None:
        with suppress(FFTasksError):  # The next prediction asks again.
            run = read_cluster_run(project.settings.kfp, last["run_id"])
    path = _locate_index(project, workflow)
    with lock_record(path):  # The lock is not held during the request above.
        index = _read_index(path)
        if run is not None:
            index.note_run(run)
        index.nodes = {**index.nodes, **nodes}
        index.seconds = {node: s for node, s in index.seconds.items() if node in nodes}
        index.surroundings = dict(surroundings)
        write_record(path, _format_index(index))


def record_run(project: Project, run: ClusterRun, seconds: Mapping[str, float]) -> None:
    """Add a run to the run index, if it is a run of a workflow of this project.

    Args:
        project: The current project.
        run: The run.
        seconds: Name of a node -> its duration in seconds in this run, or in the run that its cached result
            comes from.
    """
    if explain_unsafe_name(run.pipeline_name):  # No workflow of this project has such a name.
        return
    path = _locate_index_of_slug(project, run.pipeline_name)
    if not is_regular(path):
        return
    with lock_record(path):
        index = _read_index(path)
        index.note_run(run)
        index.note_seconds(run, {node: round(s, 3) for node, s in seconds.items()})
        write_record(path, _format_index(index))


def read_node_durations(project: Project, workflow: str) -> dict[str, float]:
    """Return the durations in seconds of nodes in their last recorded run on the cluster, by name."""
    return _read_index(_locate_index(project, workflow)).seconds


def _name_state(run: ClusterRun, task: ClusterTask) -> str:
    """Return the state of a task, or DRIVER, OVER or "" if its container was never started."""
    if task.has_failed_driver:
        return "DRIVER"
    return task.state or ("OVER" if run.is_over else "")


def _read_index(path: Path) -> RunIndex:
    record = read_record(path)
    return _parse(record) if record is not None else RunIndex()


def _parse(record: Record) -> RunIndex:
    return RunIndex(
        finished=dict(record["finished"]),
        tasks=set(record["tasks"]),
        nodes=dict(record["nodes"]),
        seconds=dict(record.get("seconds", {})),
        latest=record.get("latest", ""),
        surroundings=dict(record["surroundings"]),
        honors_cache_key=record["takes_given"],
    )


def _format_index(index: RunIndex) -> Record:
    content: dict[str, Any] = {
        "finished": [list(pair) for pair in index.finished.items()][-_MAX_KNOWN:],
        "tasks": sorted(index.tasks),
        "nodes": index.nodes,
        "seconds": index.seconds,
        "latest": index.latest,
        "surroundings": index.surroundings,
        "takes_given": index.honors_cache_key,
    }
    return {"stage": "cluster", "output": digest_json(content), **content}


def _locate_index(project: Project, workflow: str) -> Path:
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    return _locate_index_of_slug(project, slug)


def _locate_index_of_slug(project: Project, slug: str) -> Path:
    kfp = project.settings.kfp
    cluster = digest_json([kfp.host.rstrip("/"), kfp.namespace]).removeprefix("sha256:")[:12]
    return join_untrusted(project.folder / "cluster", f"{slug}-{cluster}.json")
