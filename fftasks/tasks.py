"""Stages and nodes as doit tasks: `from fftasks.tasks import *` in a dodo.py is all that it takes.

A task's `uptodate` is one object that looks at records; its action looks once more, and makes what is
missing. What is true stands in the records: doit's database only saves looking.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from doit import task_params
from doit.exceptions import InvalidCommand, InvalidDodoFile, TaskFailed

from fftasks.attempt import Attempt
from fftasks.database import ONCE, RecordChecker
from fftasks.errors import FFTasksError, StoreError, suggest_name
from fftasks.project import FOLDER, Project, open_current
from fftasks.reporter import Reporter

__all__ = [
    "DOIT_CONFIG",
    "task_components",
    "task_context",
    "task_image",
    "task_nodes",
    "task_pins",
    "task_pipeline",
    "task_push",
    "task_submit",
]

if TYPE_CHECKING:
    from doit.task import Task

T = TypeVar("T")

_SPECIAL = re.compile("[%=*]")
_UPDATE_BASE = "look again which image the base's name stands for"
_SUBMIT: list[dict[str, Any]] = [
    {
        "name": "again", "long": "again", "type": bool, "default": False,
        "help": "start a new run, also if nothing has changed",
    },
    {
        "name": "watch", "long": "watch", "inverse": "no-watch", "type": bool, "default": None,
        "help": "follow the run to its end, or do not; kfp.watch says which if neither is given",
    },
]  # fmt: skip


class Checker(RecordChecker):
    """Knows what nodes gave by their records' signatures: each is asked for by all that need it."""

    def recall_outputs(self, path: str) -> Mapping[str, str] | None:
        """Return what the record at a path is known to give; None if it must be read."""
        if not path.startswith(f"{FOLDER}/nodes/"):
            return None
        project = open_current()
        return project.store.recall_last_outputs(f"{project.root}/{path}")


DOIT_CONFIG = {
    "default_tasks": ["run"],
    "backend": "fftasks",
    "dep_file": f"{FOLDER}/doit.sqlite3",
    "check_file_uptodate": Checker,
    "reporter": Reporter,
    "num_process": len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count(),
    "verbosity": 2,
}


def while_loading(create: Callable[..., T]) -> Callable[..., T]:
    """Let an error of ours, while tasks are made, be doit's for a wrong dodo.py: exit code 3."""

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> T:
        try:
            return create(*args, **kwargs)
        except FFTasksError as error:
            raise InvalidDodoFile(str(error)) from None

    return call


def while_running(act: Callable[..., Any]) -> Callable[..., Any]:
    """Let an error of ours, while a task runs, be doit's for a failed one: exit code 1."""

    @functools.wraps(act)
    def call(*args: Any, **kwargs: Any) -> Any:
        return call_running(act, *args, **kwargs)

    return call


def call_running(act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a call returns; an error of ours is returned as doit's for a failed task."""
    try:
        return act(*args, **kwargs)
    except FFTasksError as error:
        return TaskFailed(str(error))
    except OSError as error:  # the state folder's disk is full, or something in it is not ours
        attempted = f"{FOLDER} cannot be read or written"
        tip = f"make room on the disk, or remove {error.filename or FOLDER}: it is made again"
        return TaskFailed(str(StoreError(attempted, found=[str(error)], tip=tip)))


@while_loading
def _load() -> Project:
    # doit keeps each task to the end: to search for garbage among them takes a quarter of a no-op;
    # the reporter begins to search, when they are all there
    gc.disable()
    project = open_current()
    # the graphs are made here, so that what is wrong with a file is said before anything runs
    for warning in project.take_warnings():
        sys.stderr.write(f"warning: {warning}\n")
    return project


def task_nodes() -> Iterator[dict[str, Any]]:
    """Run all nodes here, in parallel (the default)."""
    project = _load()
    yield {"basename": "run", "name": None, "doc": task_nodes.__doc__}
    for label, node in project.nodes.items():
        yield {
            "basename": "run",
            "name": name_task(label),
            "doc": f"{node.content['function']['qualname']}() in {node.graph['file']}",
            "actions": [(run_node, [label])],
            "file_dep": [_spell(project, other) for other in node.upstream],
            "targets": [_spell(project, label)],
            "uptodate": [NodeLook(project, label)],
            "meta": {"fftasks": {"node": label}},
            "title": lambda task: task.name,
        }


def task_context() -> dict[str, Any]:
    """Copy the project's folder, as .dockerignore says."""
    return _make_task(_load(), "context")


@task_params(
    [
        {
            "name": "update_base",
            "long": "update-base",
            "type": bool,
            "default": False,
            "help": _UPDATE_BASE,
        }
    ]
)  # type: ignore[untyped-decorator]
def task_image(update_base: bool) -> dict[str, Any]:  # noqa: FBT001 - doit passes it
    """Build the image that all nodes run in."""
    return _make_task(_load(), "image", again=update_base)


def task_push() -> dict[str, Any]:
    """Push the image to the registry."""
    return _make_task(_load(), "push")


def task_components() -> Iterator[dict[str, Any]]:
    """Write a component for each node, as YAML."""
    yield from _make_tasks("components", task_components.__doc__)


def task_pins() -> Iterator[dict[str, Any]]:
    """Choose the image of each node: the one in which it last changed."""
    yield from _make_tasks("pins", task_pins.__doc__)


def task_pipeline() -> Iterator[dict[str, Any]]:
    """Compile the pipeline, as YAML."""
    yield from _make_tasks("pipeline", task_pipeline.__doc__)


@task_params(_SUBMIT)  # type: ignore[untyped-decorator]
def task_submit(again: bool, watch: bool | None) -> Iterator[dict[str, Any]]:  # noqa: FBT001 - doit passes them
    """Submit the workflows to Kubeflow Pipelines: all stages before it, and a run."""
    for task in _make_tasks("submit", task_submit.__doc__, again=again):
        if task["name"]:  # commands/run.py follows the run when all tasks have ended
            task["meta"]["fftasks"]["watch"] = (
                _load().settings.kfp.watch if watch is None else watch
            )
        yield task


def _make_tasks(stage: str, doc: str | None, *, again: bool = False) -> Iterator[dict[str, Any]]:
    project = _load()
    yield {"basename": stage, "name": None, "doc": doc}
    for name in project.workflows:
        yield {
            "basename": stage,
            "name": name_task(name),
            "doc": f"The same for workflow {name} alone.",
            **_make_task(project, stage, name, again=again),
        }


def _make_task(
    project: Project, stage: str, workflow: str = "", *, again: bool = False
) -> dict[str, Any]:
    return {
        "actions": [(run_stage, [stage, workflow, again])],
        "file_dep": [
            path.relative_to(project.root).as_posix()
            for path in project.list_needs(stage, workflow)
        ],
        "targets": [project.record_path(stage, workflow).relative_to(project.root).as_posix()],
        "uptodate": [StageLook(stage, workflow, again=again)],
        "meta": {"fftasks": {"stage": stage, "workflow": workflow}},
        "title": lambda task: task.name,
    }


class StageLook:
    """Tell whether a stage's record is what making it now would give; an `uptodate` of doit."""

    def __init__(self, stage: str, workflow: str, *, again: bool) -> None:
        self.stage, self.workflow, self.again = stage, workflow, again

    def __repr__(self) -> str:
        return f"the record of {self.stage} {self.workflow}".strip()

    def __call__(self) -> bool:
        from fftasks.assembly import plan
        from fftasks.step import is_current

        try:
            return is_current(plan(open_current(), self.stage, self.workflow, again=self.again))
        except Exception:  # noqa: BLE001 - see NodeLook
            return False


@while_running
def run_stage(stage: str, workflow: str, again: bool, task: Task) -> dict[str, Any]:  # noqa: FBT001 - doit passes it
    """Make a stage and record it, unless it turns out to be up to date; say whether, why, and when.

    task: of doit; commands/run.py has noted in that of the image what it is made for
    """
    from fftasks.assembly import plan
    from fftasks.step import list_reasons, run_step

    begin, project = time.time(), open_current()
    step = plan(project, stage, workflow, again=again)
    reasons = list_reasons(step)
    if not reasons:
        return {"ran": False}
    goal = task.meta["fftasks"].get("goal")
    if goal:
        from fftasks.preflight import check_goal

        check_goal(project, goal)
    run_step(step)
    return {"ran": True, "reason": reasons[0], ONCE: {"begin": begin}}


def name_task(label: str) -> str:
    """Return a node's name as doit takes it.

    Without "=", which makes a variable on its command line, and "*", which makes a pattern.
    """
    if not _SPECIAL.search(label):
        return label
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", label)


def find_label(project: Project, name: str) -> str | None:
    """Return the label of the node that is meant by a name on doit's command line."""
    if name in project.nodes:
        return name
    return next((label for label in project.nodes if name == name_task(label)), None)


def read_label(project: Project, name: str) -> str:
    """Return the label of the node that is meant; raise InvalidCommand with the nearest name if none is."""
    label = find_label(project, name)
    if label is None:
        hint = suggest_name(name, project.nodes) or f"nodes: {', '.join(project.nodes)}"
        raise InvalidCommand(f"there is no node {name!r}; {hint}")
    return label


class NodeLook:
    """Tell whether a node's result is there for what its fingerprint is now; an `uptodate` of doit."""

    # doit asks each for its parameters, and finding them out takes longer than looking
    __signature__ = inspect.Signature()

    def __init__(self, project: Project, label: str) -> None:
        self.project, self.label = project, label

    def __repr__(self) -> str:
        return f"the result of {self.label} is there"

    def __call__(self) -> bool:
        try:
            inputs = self.project.list_inputs(self.label)
            return self.project.find_node(self.label, inputs) is not None
        except Exception:  # noqa: BLE001 - the action meets it again, and says it as a failure; with an
            return False  # exception here doit would end, and wait for its workers for ever


@while_running
def run_node(label: str) -> dict[str, Any]:
    """Run a node, unless its result turns out to be there; say whether it ran, why, and how long."""
    project = open_current()
    with Attempt(project, label) as attempt:
        job = attempt.prepare()
        if job is None:
            return attempt.found
        run = project.find_interpreter(label)
        report = run(job)
        while (wait_s := attempt.plan_retry(report)) is not None:
            time.sleep(wait_s)
            report = run(attempt.job)
        return attempt.finish(report)


def _spell(project: Project, label: str) -> str:
    # doit knows a file by its spelling: a target is a dependency only where both are the same string
    return f"{FOLDER}/nodes/{project.nodes[label].content['slug']}.json"


def main(arguments: list[str]) -> int:
    """Run doit in the current folder, with or without a dodo.py; return its exit code."""
    from doit.cmd_base import ModuleTaskLoader
    from doit.doit_cmd import DoitMain

    return int(DoitMain(ModuleTaskLoader(globals())).run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
