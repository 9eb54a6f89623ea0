"""Definitions of the doit tasks: one group of tasks for the nodes, and one for each stage.

The `uptodate` of a task is an object that compares a record with the current inputs. The action of the task
compares again, because another run may have finished the same work in between. Records decide what is up
to date; doit's database only saves work.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from doit import task_params
from doit.exceptions import InvalidDodoFile

from fftasks.errors import FFTasksError, escape_controls
from fftasks.project import BUILT_TOGETHER, Project, format_task_name, open_current
from fftasks.state_folder import STATE_FOLDER
from fftasks.tasks.dispatcher import run_node, run_stage
from fftasks.tasks.doit_database import NodeUpToDateCheck, RecordChecker, StageUpToDateCheck
from fftasks.tasks.reporter import Reporter

T = TypeVar("T")

_UPDATE_BASE_HELP = "resolve the tag of image.base to a digest again"
_SUBMIT_OPTIONS: list[dict[str, Any]] = [
    {
        "name": "again", "long": "again", "type": bool, "default": False,
        "help": "start a new run even if nothing has changed",
    },
    {
        "name": "watch", "long": "watch", "inverse": "no-watch", "type": bool, "default": None,
        "help": "wait for the end of the run and show its progress (default: setting kfp.watch)",
    },
]  # fmt: skip


DOIT_CONFIG = {
    "default_tasks": ["run"],
    "backend": "fftasks",
    "dep_file": f"{STATE_FOLDER}/doit.sqlite3",
    "check_file_uptodate": RecordChecker,
    "reporter": Reporter,
    "num_process": len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count(),
    "verbosity": 2,
}


def report_load_errors(create: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function that creates tasks to raise InvalidDodoFile instead of FFTasksError.

    doit reports InvalidDodoFile without a traceback, with exit code 3.
    """

    @functools.wraps(create)
    def call(*args: Any, **kwargs: Any) -> T:
        try:
            return create(*args, **kwargs)
        except FFTasksError as error:
            raise InvalidDodoFile(str(error)) from None

    return call


@report_load_errors
def _open_project() -> Project:
    # doit keeps each task until it ends. Garbage collection among them takes a quarter of a run with nothing
    # to do; the reporter enables it again when all tasks have been created.
    gc.disable()
    project = open_current()
    # The graphs are created here, so that an error in a workflow file is reported before anything runs.
    for warning in project.take_warnings(_list_secret_warnings):
        sys.stderr.write(escape_controls(f"warning: {warning}\n"))
    return project


def _list_secret_warnings(project: Project) -> list[str]:
    if not project.may_hold_secrets:
        return []
    from fftasks.pipeline.secret_check import list_secret_warnings  # most projects do not need it

    return list_secret_warnings(project)


def task_nodes() -> Iterator[dict[str, Any]]:
    """Run all nodes on this machine in parallel (default task)."""
    project = _open_project()
    yield {"basename": "run", "name": None, "doc": task_nodes.__doc__}
    for label, node in project.nodes.items():
        yield {
            "basename": "run",
            "name": format_task_name(label),
            "doc": f"{node.content['function']['qualname']}() in {node.graph['file']}",
            "actions": [(run_node, [label])],
            "file_dep": [_format_record_path(project, other) for other in node.upstream],
            "targets": [_format_record_path(project, label)],
            "uptodate": [NodeUpToDateCheck(project, label)],
            "meta": {"fftasks": {"node": label}},
            "title": lambda task: task.name,
        }


def task_context() -> dict[str, Any]:
    """Copy the files for the image, without those excluded by .dockerignore."""
    return _make_task(_open_project(), "context")


@task_params(
    [
        {
            "name": "update_base",
            "long": "update-base",
            "type": bool,
            "default": False,
            "help": _UPDATE_BASE_HELP,
        }
    ]
)  # type: ignore[untyped-decorator]
def task_image(update_base: bool) -> dict[str, Any]:  # noqa: FBT001 - doit passes it
    """Build the image in which the nodes run."""
    return _make_task(_open_project(), "image", again=update_base)


def task_push() -> dict[str, Any]:
    """Push the image to the registry."""
    return _make_task(_open_project(), "push")


def task_tasks() -> Iterator[dict[str, Any]]:
    """Group nodes into pods, and define the command and the inputs of each pod."""
    yield from _make_tasks("tasks", task_tasks.__doc__)


def task_components() -> Iterator[dict[str, Any]]:
    """Write a KFP component file for each node, for use in other pipelines."""
    yield from _make_tasks("components", task_components.__doc__)


def task_pins() -> Iterator[dict[str, Any]]:
    """Choose the image of each node: the one in which it last changed."""
    yield from _make_tasks("pins", task_pins.__doc__)


def task_pipeline() -> Iterator[dict[str, Any]]:
    """Compile the pipeline to YAML."""
    yield from _make_tasks("pipeline", task_pipeline.__doc__)


@task_params(_SUBMIT_OPTIONS)  # type: ignore[untyped-decorator]
def task_submit(again: bool, watch: bool | None) -> Iterator[dict[str, Any]]:  # noqa: FBT001 - doit passes them
    """Submit the workflows to Kubeflow Pipelines: run all earlier stages and start a run."""
    for task in _make_tasks("submit", task_submit.__doc__, again=again):
        if task["name"]:  # cli/run.py watches the runs when all tasks have ended
            task["meta"]["fftasks"]["watch"] = (
                _open_project().settings.kfp.watch if watch is None else watch
            )
        yield task


def _make_tasks(stage: str, doc: str | None, *, again: bool = False) -> Iterator[dict[str, Any]]:
    project = _open_project()
    yield {"basename": stage, "name": None, "doc": doc}
    for name in project.workflows:
        yield {
            "basename": stage,
            "name": format_task_name(name),
            "doc": f"Run this stage for workflow {name}.",
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
        "task_dep": [
            f"{other}:{format_task_name(workflow)}" for other in BUILT_TOGETHER.get(stage, ())
        ],
        "targets": [project.record_path(stage, workflow).relative_to(project.root).as_posix()],
        "uptodate": [StageUpToDateCheck(stage, workflow, again=again)],
        "meta": {"fftasks": {"stage": stage, "workflow": workflow}},
        "title": lambda task: task.name,
    }


def _format_record_path(project: Project, label: str) -> str:
    # doit compares paths as strings: a target and a file dependency must be spelled in the same way.
    return f"{STATE_FOLDER}/nodes/{project.nodes[label].content['slug']}.json"
