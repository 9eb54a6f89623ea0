"""What tasks do: run a node, or make a stage, unless it turns out to be there."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from fftasks.doit.attempt import Attempt
from fftasks.doit.database import ONCE
from fftasks.errors import FFTasksError, StoreError
from fftasks.project import FOLDER, open_current
from fftasks.record import lock_record

if TYPE_CHECKING:
    from doit.task import Task


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


@while_running
def run_stage(stage: str, workflow: str, again: bool, task: Task) -> dict[str, Any]:  # noqa: FBT001 - doit passes it
    """Make a stage and record it, unless it turns out to be up to date; say whether, why, and when.

    task: of doit; commands/run.py has noted in that of the image what it is made for, and in that of the push
    """
    from fftasks.steps.assembly import plan
    from fftasks.steps.preflight import check_goal, explained
    from fftasks.steps.step import list_reasons, run_step

    begin, project = time.time(), open_current()
    step = plan(project, stage, workflow, again=again)
    with lock_record(step.path):  # two submits at once shall start one run
        reasons = list_reasons(step)
        if not reasons:
            return {"ran": False}
        goal = task.meta["fftasks"].get("goal", "")
        if stage == "image":
            check_goal(project, goal)
        with explained(stage, goal):
            run_step(step)
    return {"ran": True, "reason": reasons[0], ONCE: {"begin": begin}}
