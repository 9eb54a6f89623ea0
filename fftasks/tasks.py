"""Stages and nodes as doit tasks: `from fftasks.tasks import *` in a dodo.py is all that it takes.

A task's `uptodate` is one object that looks at records; its action looks once more, and makes what is
missing. What is true stands in the records: doit's database only saves looking.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from doit.exceptions import InvalidDodoFile, TaskFailed

from fftasks.database import RecordChecker
from fftasks.errors import FFTasksError, StoreError
from fftasks.project import FOLDER, Project, open_current
from fftasks.reporter import Reporter
from fftasks.stages import node as node_stage

__all__ = ["DOIT_CONFIG", "task_nodes"]

T = TypeVar("T")

DOIT_CONFIG = {
    "default_tasks": ["run"],
    "backend": "fftasks",
    "dep_file": f"{FOLDER}/doit.sqlite3",
    "check_file_uptodate": RecordChecker,
    "reporter": Reporter,
    "num_process": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
        try:
            return act(*args, **kwargs)
        except FFTasksError as error:
            return TaskFailed(str(error))

    return call


@while_loading
def _load() -> Project:
    project = open_current()
    _ = project.nodes
    return project


def task_nodes() -> Iterator[dict[str, Any]]:
    """Run all nodes here, in parallel (the default)."""
    project = _load()
    yield {"basename": "run", "name": None, "doc": task_nodes.__doc__}
    for label, node in project.nodes.items():
        yield {
            "basename": "run",
            "name": label,
            "doc": f"{node.content['function']['qualname']}() in {node.graph['file']}",
            "actions": [(run_node, [label])],
            "file_dep": [_spell(project, other) for other in node.upstream],
            "targets": [_spell(project, label)],
            "uptodate": [NodeLook(label)],
            "meta": {"fftasks": {"node": label}},
            "title": lambda task: task.name,
        }


class NodeLook:
    """Tell whether a node's result is there for what its fingerprint is now; an `uptodate` of doit."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __repr__(self) -> str:
        return f"the result of {self.label} is there"

    def __call__(self) -> bool:
        project = open_current()
        try:
            inputs = project.list_inputs(self.label)
        except StoreError:  # an upstream record is gone; its own task has said so, or will
            return False
        return project.find_node(self.label, inputs) is not None


@while_running
def run_node(label: str) -> dict[str, Any]:
    """Run a node, unless its result turns out to be there; say whether it ran, why, and how long."""
    project = open_current()
    node = project.nodes[label].content
    with project.store.lock(node["slug"]):
        inputs = project.list_inputs(label)
        if project.find_node(label, inputs) is not None:
            return {"ran": False}
        reasons = node_stage.list_reasons(node, inputs, project.store)
        trace = project.make_node(label, inputs)
    return {"ran": True, "reason": reasons[0], "seconds": trace.seconds}


def _spell(project: Project, label: str) -> str:
    # doit knows a file by its spelling: a target is a dependency only where both are the same string
    return f"{FOLDER}/nodes/{project.nodes[label].content['slug']}.json"
