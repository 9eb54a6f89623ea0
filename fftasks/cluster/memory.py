"""What the cache of a cluster is known to hold, and what nodes were made of when they were last submitted.

The truth is at the host: its latest runs are asked. What was learned of earlier ones is in
`.fftasks/cluster/`, one file for each workflow and cluster; without it, less can be said, no more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fftasks.cluster.details import UNKNOWN, Task
from fftasks.cluster.evidence import read_cluster_run
from fftasks.cluster.run import ClusterRun
from fftasks.errors import FFTasksError
from fftasks.paths import explain_name, locate
from fftasks.ports.kfp_runs import list_runs, read_version
from fftasks.project import Project
from fftasks.record import Record, digest_json, lock_record, read_record, write_record
from fftasks.runtime.regular import is_regular
from fftasks.stages.keys import list_keys

VERSION = 1

_LATEST = 20
_TIMEOUT_S = 5.0
_MAX_KNOWN = 4000
_KEYS_FROM = (2, 18)
_DONE = frozenset({"SUCCEEDED", "CACHED", "SKIPPED"})


@dataclass
class Memory:
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
    takes_given: bool = False
    silence: str = ""

    def note_run(self, run: ClusterRun) -> None:
        """Learn which tasks of a run have finished; of two runs, the later one is to be noted later."""
        config = run.answer.get("runtime_config") or {}
        values = config.get("parameters") or {}
        states = {task.name: _name_state(run, task) for task in run.tasks}
        self.tasks.update(name for name, state in states.items() if state in _DONE)
        for takes_given in (False, True):  # the host may not have said which it is
            keys = list_keys(run.document, values, takes_given=takes_given)
            for task, key in keys.items():
                if key.asked and states[task] != UNKNOWN:
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


def recall(project: Project, workflow: str) -> Memory:
    """Return what is known here, and what the host says of its latest runs; writes nothing."""
    memory = _read(_locate(project, workflow))
    settings = project.settings.kfp
    hasty = replace(settings, timeout_s=min(settings.timeout_s, _TIMEOUT_S))
    try:
        runs = [ClusterRun(answer) for answer in list_runs(hasty, _LATEST)]
        memory.takes_given = _is_later(read_version(hasty))
    except FFTasksError as error:
        memory.silence = ": ".join([error.attempted, *error.found[:1]])
        return memory
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    for run in reversed(runs):
        if run.pipeline_name == slug:
            memory.note_run(run)
    return memory


def note_submitted(
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


def note_run(project: Project, run: ClusterRun, seconds: Mapping[str, float]) -> None:
    """Write down which tasks of a run have finished, if it is one of this project's workflows.

    seconds: how long nodes took in it, or in the runs that its results are of
    """
    if explain_name(run.pipeline_name):  # the name is unsafe, so no workflow of this project has it
        return
    path = _find_path(project, run.pipeline_name)
    if not is_regular(path):
        return
    with lock_record(path):
        memory = _read(path)
        memory.note_run(run)
        memory.note_seconds(run, {node: round(one, 3) for node, one in seconds.items()})
        write_record(path, _format(memory))


def read_seconds(project: Project, workflow: str) -> dict[str, float]:
    """Return how long nodes took when they ran on the cluster last, as far as it was seen from here."""
    return _read(_locate(project, workflow)).seconds


def _name_state(run: ClusterRun, task: Task) -> str:
    """Return the state of a task, with words for one that was never started."""
    if task.has_failed_driver:
        return "DRIVER"
    return task.state or ("OVER" if run.is_over else "")


def _read(path: Path) -> Memory:
    record = read_record(path)
    return _parse(record) if record is not None and record.get("version") == VERSION else Memory()


def _parse(record: Record) -> Memory:
    return Memory(
        finished=dict(record["finished"]),
        tasks=set(record["tasks"]),
        nodes=dict(record["nodes"]),
        seconds=dict(record.get("seconds", {})),
        latest=record.get("latest", ""),
        surroundings=dict(record["surroundings"]),
        takes_given=record["takes_given"],
    )


def _format(memory: Memory) -> Record:
    content: dict[str, Any] = {
        "finished": [list(pair) for pair in memory.finished.items()][-_MAX_KNOWN:],
        "tasks": sorted(memory.tasks),
        "nodes": memory.nodes,
        "seconds": memory.seconds,
        "latest": memory.latest,
        "surroundings": memory.surroundings,
        "takes_given": memory.takes_given,
    }
    return {"stage": "cluster", "version": VERSION, "output": digest_json(content), **content}


def _locate(project: Project, workflow: str) -> Path:
    return _find_path(project, project.workflows[workflow]["workflows"][workflow]["slug"])


def _find_path(project: Project, slug: str) -> Path:
    kfp = project.settings.kfp
    place = digest_json([kfp.host.rstrip("/"), kfp.namespace]).removeprefix("sha256:")[:12]
    return locate(project.folder / "cluster", f"{slug}-{place}.json")


def _is_later(version: str) -> bool:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _KEYS_FROM
