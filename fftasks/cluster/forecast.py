"""What a cluster would do with each node of a workflow that is submitted now: compute it, or not, and why.

All of it is found out from what the folder holds now, also where the stages are not up to date. The answer
is as good as what is known of earlier runs; see memory.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fftasks.cluster.ingredients import Ingredients, Now
from fftasks.cluster.judge import Judge, Outlook, name_pod
from fftasks.cluster.memory import note_submitted, recall
from fftasks.cluster.show import format_seconds
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages.image import list_surroundings
from fftasks.steps.connect import find_gone
from fftasks.steps.prospect import expect_seconds
from fftasks.steps.recipe import read_recipe


@dataclass(frozen=True)
class Forecast:
    """What a run of a workflow would compute; silence: why the host was not asked, "" if it was.

    seconds: how long it is expected to take, None if it is not known what it would compute
    """

    workflow: str
    nodes: tuple[Outlook, ...]
    silence: str
    seconds: float | None = None

    def describe(self) -> str:
        """Return it in a line."""
        if not self.nodes:
            return f"{self.workflow}: not known what it would compute: {self.silence}"
        count = sum(node.computes for node in self.nodes)
        kept = sum(node.is_kept for node in self.nodes)
        parts = [
            f"{count} to compute",
            f"{len(self.nodes) - count - kept} from the cluster's cache",
            *([f"{kept} kept from the last run"] if kept else []),
            *([f"{format_seconds(self.seconds)} expected"] if self.seconds is not None else []),
            *([f"as far as known here: {self.silence}"] if self.silence else []),
        ]
        return f"{self.workflow}: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        nodes = [node.to_json() for node in self.nodes]
        known = {"known_here_only": self.silence, "expected_s": self.seconds}
        return {"workflow": self.workflow, **known, "nodes": nodes}


def forecast(project: Project, workflow: str, up_to_date: Collection[str]) -> Forecast:
    """Return what a run would compute if the workflow was submitted now; writes nothing.

    up_to_date: the names of the stages that are, as doit has them
    Raises FFTasksError if the folder cannot become an image as it is.
    """
    memory = recall(project, workflow)
    if memory.finished and read_record(project.record_path("base")) is None:
        # what nodes stand on is a part of what they are
        return Forecast(workflow, (), "the base was not looked up here yet; `doit image` does it")
    now = Now(project, workflow, up_to_date)
    keys = now.list_keys(memory)
    pinned = {key.image for key in keys.values() if key.name in memory.finished} - {now.newest}
    gone = find_gone(project, pinned, wait=False)  # the newest would be pushed again
    moved = {task for task, key in keys.items() if key.image in gone}
    if moved:
        keys = now.list_keys(memory, gone)
    judge = Judge(now, memory, keys, moved)
    outlooks = {task: judge.list_outlooks(task) for task in keys}
    nodes = tuple(one for each in outlooks.values() for one in each)
    return Forecast(workflow, nodes, memory.silence, _expect_seconds(now, outlooks))


def _expect_seconds(now: Now, outlooks: Mapping[str, Sequence[Outlook]]) -> float:
    computed = {
        identity: one.computes
        for task, each in outlooks.items()
        if any(one.computes for one in each)
        for identity, one in zip(now.tasks[task]["nodes"], each, strict=True)
    }
    return expect_seconds(now.project, now.workflow, now.tasks, now.grouping, computed)


def remember(project: Project, workflow: str, last: Record | None) -> None:
    """Write down what a workflow that was submitted just now is made of.

    last: the record of the run before
    """
    with suppress(OSError):  # it only explains, and the run is under way
        recipe = read_recipe(project)
        made = Ingredients(project, workflow, recipe)
        for identity in made.found:
            for kind, digest, pieces in made.list_pieces(identity):
                if kind in ("code", "data"):
                    project.store.write_code(digest, pieces)
        pods = _name_pods(project, workflow)
        nodes = {
            made.graph["nodes"][i]["name"]: {**made.describe(i), **pods.get(i, {})}
            for i in made.found
        }
        note_submitted(project, workflow, nodes, list_surroundings(recipe), last)


def _name_pods(project: Project, workflow: str) -> dict[str, Record]:
    """Return in which pod each node is that shares one, by the nodes' ids; see judge.py."""
    components = read_record(project.record_path("tasks", workflow)) or {"tasks": {}}
    shared = [task["nodes"] for task in components["tasks"].values() if len(task["nodes"]) > 1]
    return {node: {"pod": name_pod(nodes)} for nodes in shared for node in nodes}
