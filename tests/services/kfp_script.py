"""Runs on the KFP test server that go as a test says: states in any order, at the test's pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tests.services.argo import FINAL
from tests.services.kfp_run import Run
from tests.services.pod_log import LauncherLog, format_driver_log


class Script:
    """Executes a run step by step; a callable (see kfp_run.Execute).

    The rows are those that KFP would have: of the task, its driver, its pods, and what is omitted.

    Args:
        steps: (task, state) or (task, state, error). The error is known to the test server only. States:
            PENDING, RUNNING, SUCCEEDED, FAILED; CACHED for a task whose results are of an earlier run;
            DRIVING and DRIVER FAILED for its driver. A task that goes on after FAILED is tried again.
            (None, None) waits until `go_on` is called, or the run is terminated.
        logs: What the programs print, by task. The launcher's lines are put around it.

    A run does not end while one of its tasks has begun and not ended, unless it is terminated.
    """

    def __init__(self, *steps: tuple[str | None, ...], logs: dict[str, str] | None = None) -> None:
        self.steps = steps
        self.logs = logs or {}
        self._gates = threading.Semaphore(0)

    def go_on(self) -> None:
        """Let the run go on behind the next place where it waits."""
        self._gates.release()

    def __call__(self, run: Run) -> None:
        """Take the run through the steps."""
        for name, state, *error in self.steps:
            if name is None:
                if not self._wait(run):
                    return
                continue
            time.sleep(0.002)
            self._move(run, name, str(state), *map(str, error))
        while any(task.state and task.state not in FINAL for task in run.tasks.values()):
            if run.is_terminated.wait(0.02):
                return

    def _move(self, run: Run, name: str, state: str, error: str = "") -> None:
        task = run.get_task(name)
        if state == "DRIVING":
            task.drive()
        elif state == "DRIVER FAILED":
            task.fail_driver(error, format_driver_log({}, {}, {}, error))
        else:
            task.move("SKIPPED" if state == "CACHED" else state, error)
            if task.pods and state != "PENDING":
                task.log = self._write_log(run, name, state)

    def _write_log(self, run: Run, name: str, state: str) -> str:
        log = LauncherLog(run.argo)
        log.start()
        log.add(self.logs.get(name, ""))
        if state == "SUCCEEDED":
            log.succeed("/tmp/kfp_outputs/output_metadata.json", None, [])
        elif state == "FAILED":
            log.fail("exit status 1", [])
        return log.text

    def _wait(self, run: Run) -> bool:
        while not self._gates.acquire(timeout=0.02):
            if run.is_terminated.is_set():
                return False
        return True


def list_steps(tasks: Iterable[str], *states: str) -> list[tuple[str, str]]:
    """Return the steps that take tasks, one after the other, through states."""
    return [(task, state) for task in tasks for state in states]
