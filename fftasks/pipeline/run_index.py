"""The keys under which Kubeflow Pipelines keeps what tasks gave, as far as they are known before a run.

A backend before 2.18 makes its key of the image, the command, the parameters and the *ids* of the inputs:
results of an upstream task that is computed again have new ids, also if they are equal. A later one takes
`cacheKey` instead of all of these, where a task has one.

What the cache of a cluster is known to hold, and what nodes were made of when they were last submitted.

The truth is at the host: its latest runs are asked. What was learned of earlier ones is in
`.fftasks/cluster/`, one file for each workflow and cluster; without it, less can be said, no more.
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


@dataclass(frozen=True)
class CacheKey:
    """What a task's results are kept under.

    name: holds all that is known of the key beforehand, the names of the tasks upstream among it
    asked: whether the cache is to be asked, and told, at all
    given: whether it is the task's cacheKey, so that it does not matter how its inputs were made
    image: what the task runs; upstream: the tasks that it needs, and that have a container
    """

    name: str
    uses_cache: bool
    has_own_key: bool
    image: str
    upstream: tuple[str, ...]


def list_cache_keys(document: Json, values: Json, *, honors_cache_key: bool) -> dict[str, CacheKey]:
    """Return the key of each task of a pipeline document that has a container, upstream first.

    values: of run parameters, by name; one that is not there has its default
    takes_given: whether the backend heeds cacheKey
    """
    root = document.get("root", {})
    defined = root.get("inputDefinitions", {}).get("parameters", {})
    known = {name: one.get("defaultValue") for name, one in defined.items()} | dict(values)
    tasks = root.get("dag", {}).get("tasks", {})
    needs = {  # a sketch has no importers, and they have no keys
        name: sorted(tasks.keys() & task.get("dependentTasks", ()))
        for name, task in sorted(tasks.items())
    }
    found: dict[str, CacheKey] = {}
    for name in graphlib.TopologicalSorter(needs).static_order():
        container = _find_container(document, tasks[name])
        if container:
            # what an importer brings in has the same id each time
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
    if "componentInputParameter" in source:
        return _convert_numbers(values.get(source["componentInputParameter"]))
    return _convert_numbers(source.get("runtimeValue", {}).get("constant"))


def _convert_numbers(value: Any) -> Any:
    """Return a value as it comes back from the server, where all numbers are floats."""
    if isinstance(value, Mapping):
        return {name: _convert_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_convert_numbers(one) for one in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number else value


_LATEST = 20
_TIMEOUT_S = 5.0
_MAX_KNOWN = 4000
_KEYS_FROM = (2, 18)
_DONE = frozenset({"SUCCEEDED", "CACHED", "SKIPPED"})


@dataclass
class RunIndex:
    """What is known of the runs of one workflow.

    finished: name of a key -> the run that gave what is kept under it
    unfinished: name of a key -> the state of a task that has not finished in its latest run, OVER if that
        ended before it, DRIVER if its driver failed
    tasks: names of tasks that have finished in some run
    nodes: name of a node -> "inputs", "shown" and "values" of when it was last submitted from here
    seconds: name of a node -> how long it took when it ran last
    latest: when the last run began whose times these are
    surroundings: what these nodes stood on
    takes_given: whether the backend heeds cacheKey
    silence: why the host was not asked, "" if it was
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
        """Learn which tasks of a run have finished; of two runs, the later one is to be noted later."""
        config = run.answer.get("runtime_config") or {}
        values = config.get("parameters") or {}
        states = {task.name: _name_state(run, task) for task in run.tasks}
        self.tasks.update(name for name, state in states.items() if state in _DONE)
        for honors_cache_key in (False, True):  # the host may not have said which it is
            keys = list_cache_keys(run.document, values, honors_cache_key=honors_cache_key)
            for task, key in keys.items():
                if key.uses_cache and states[task] != UNKNOWN_STATE:
                    self._note(key.name, states[task], run.run_id)

    def note_seconds(self, run: ClusterRun, seconds: Mapping[str, float]) -> None:
        """Learn how long nodes took in a run; of what is known of a later one, nothing is replaced."""
        began = run.began.isoformat() if run.began else ""
        if began < self.latest:
            self.seconds = {**seconds, **self.seconds}
        else:
            self.seconds, self.latest = {**self.seconds, **seconds}, began

    def _note(self, name: str, state: str, run_id: str) -> None:
        if state not in _DONE:
            self.unfinished[name] = state
        elif state == "SUCCEEDED" or name not in self.finished:
            self.finished[name] = run_id


def look_up_runs(project: Project, workflow: str) -> RunIndex:
    """Return what is known here, and what the host says of its latest runs; writes nothing."""
    memory = _read(_locate(project, workflow))
    settings = project.settings.kfp
    hasty = replace(settings, timeout_s=min(settings.timeout_s, _TIMEOUT_S))
    try:
        runs = [ClusterRun(answer) for answer in fetch_runs(hasty, _LATEST)]
        memory.honors_cache_key = _is_later(read_version(hasty))
    except FFTasksError as error:
        memory.offline_reason = ": ".join([error.attempted, *error.found[:1]])
        return memory
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    for run in reversed(runs):
        if run.pipeline_name == slug:
            memory.note_run(run)
    return memory


def record_submission(
    project: Project,
    workflow: str,
    nodes: Mapping[str, Record],
    surroundings: Mapping[str, str],
    last: Record | None,
) -> None:
    """Write down of what nodes are made that were submitted, and how the run before, if any, has ended."""
    run = None
    if last is not None:
        with suppress(FFTasksError):  # the next plan asks again
            run = read_cluster_run(project.settings.kfp, last["run_id"])
    path = _locate(project, workflow)
    with lock_record(path):  # not while the host is asked
        memory = _read(path)
        if run is not None:
            memory.note_run(run)
        memory.nodes = {**memory.nodes, **nodes}
        memory.seconds = {node: one for node, one in memory.seconds.items() if node in nodes}
        memory.surroundings = dict(surroundings)
        write_record(path, _format(memory))


def record_run(project: Project, run: ClusterRun, seconds: Mapping[str, float]) -> None:
    """Write down which tasks of a run have finished, if it is one of this project's workflows.

    seconds: how long nodes took in it, or in the runs that its results are of
    """
    if explain_unsafe_name(
        run.pipeline_name
    ):  # the name is unsafe, so no workflow of this project has it
        return
    path = _find_path(project, run.pipeline_name)
    if not is_regular(path):
        return
    with lock_record(path):
        memory = _read(path)
        memory.note_run(run)
        memory.note_seconds(run, {node: round(one, 3) for node, one in seconds.items()})
        write_record(path, _format(memory))


def read_node_durations(project: Project, workflow: str) -> dict[str, float]:
    """Return how long nodes took when they ran on the cluster last, as far as it was seen from here."""
    return _read(_locate(project, workflow)).seconds


def _name_state(run: ClusterRun, task: ClusterTask) -> str:
    """Return the state of a task, with words for one that was never started."""
    if task.has_failed_driver:
        return "DRIVER"
    return task.state or ("OVER" if run.is_over else "")


def _read(path: Path) -> RunIndex:
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


def _format(memory: RunIndex) -> Record:
    content: dict[str, Any] = {
        "finished": [list(pair) for pair in memory.finished.items()][-_MAX_KNOWN:],
        "tasks": sorted(memory.tasks),
        "nodes": memory.nodes,
        "seconds": memory.seconds,
        "latest": memory.latest,
        "surroundings": memory.surroundings,
        "takes_given": memory.honors_cache_key,
    }
    return {"stage": "cluster", "output": digest_json(content), **content}


def _locate(project: Project, workflow: str) -> Path:
    return _find_path(project, project.workflows[workflow]["workflows"][workflow]["slug"])


def _find_path(project: Project, slug: str) -> Path:
    kfp = project.settings.kfp
    place = digest_json([kfp.host.rstrip("/"), kfp.namespace]).removeprefix("sha256:")[:12]
    return join_untrusted(project.folder / "cluster", f"{slug}-{place}.json")


def _is_later(version: str) -> bool:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _KEYS_FROM
