"""Runs on the KFP test server that go as a test says: states in any order, at the test's pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from tests.services.kfp_run import Run


class Script:
    """Executes a run step by step; a callable (see kfp_run.Execute).

    steps: (task, state) or (task, state, error); (None, None) waits until `go_on` is called, or the run is
    terminated. A task that goes to "CACHED" has its results from elsewhere.
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
            time.sleep(0.002)  # the interface's times have milliseconds
            task = run.get_task(name)
            task.log = self.logs.get(name, "")
            if state == "CACHED":
                task.is_cached = True
            task.move("SKIPPED" if state == "CACHED" else str(state), *map(str, error))

    def _wait(self, run: Run) -> bool:
        while not self._gates.acquire(timeout=0.02):
            if run.is_terminated.is_set():
                return False
        return True


def list_steps(tasks: Iterable[str], *states: str) -> list[tuple[str, str]]:
    """Return the steps that take tasks, one after the other, through states."""
    return [(task, state) for task in tasks for state in states]
