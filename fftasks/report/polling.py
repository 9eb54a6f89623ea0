"""Watch the runs that `doit submit` has started until they end, and print how they ended.

A host that does not respond is asked again until a timeout. The run itself is never canceled.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from fftasks.errors import FFTasksError, ToolError
from fftasks.kfp.connection import UnavailableError
from fftasks.kfp.diagnostics import RunDiagnostics, read_cluster_run
from fftasks.kfp.node_status import collect_node_metrics, list_node_durations
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import ClusterTask
from fftasks.pipeline.run_index import record_run
from fftasks.project import Project
from fftasks.report.run_status import (
    LineDisplay,
    format_run_end,
    format_wait_reasons,
    make_run_display,
)

_FIRST_S, _GROWTH, _LONGEST_S = 0.3, 1.5, 5.0


@dataclass(frozen=True)
class PollTimeouts:
    """Timeouts of poll_run().

    Attributes:
        timeout_s: Maximum total time in seconds; 0 for no limit.
        reconnect_timeout_s: Maximum time in seconds without a response of the host.
    """

    timeout_s: float
    reconnect_timeout_s: float


class RunDisplay(Protocol):
    """Callbacks that display the progress of a run; run_status.py has two implementations."""

    def change(self, run: ClusterRun, task: ClusterTask) -> None:
        """Show a task whose state has changed.

        Args:
            run: The run.
            task: The task, with its new state.
        """

    def draw(self, run: ClusterRun) -> None:
        """Show the progress of the run after it was read."""

    def say(self, text: str) -> None:
        """Show a line of text."""


class StillRunningError(ToolError):
    """The run has not ended within kfp.watch_timeout_s."""

    exit_code = 4


def poll_run(
    read: Callable[[], ClusterRun],
    show: RunDisplay,
    timeouts: PollTimeouts,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> ClusterRun:
    """Wait until a run has ended, in any state.

    Args:
        read: Requests the run.
        show: Displays the progress.
        timeouts: Timeouts.
        pause: As time.sleep.
        clock: As time.monotonic.

    Returns:
        The run that has ended.

    Raises:
        StillRunningError: The run has not ended within timeout_s.
        UnavailableError: The host did not respond for reconnect_timeout_s.
        FFTasksError: Any other error of read.
    """
    begin = last_answer = clock()
    seen: dict[str, str] = {}
    wait_s, is_away = _FIRST_S, False
    while True:
        try:
            run = read()
        except UnavailableError as error:
            if clock() - last_answer > timeouts.reconnect_timeout_s:
                raise UnavailableError(
                    f"the host has not responded for {timeouts.reconnect_timeout_s:g} s; the run probably"
                    " continues",
                    found=error.found,
                    tip=f"increase kfp.reconnect_timeout_s to wait longer; {error.tip}",
                ) from error
            if not is_away:
                show.say(f"{error.found[0] if error.found else error.attempted}; trying again")
            is_away = True
        else:
            last_answer, is_away = clock(), False
            if _show_changes(run, seen, show):
                wait_s = _FIRST_S
            if run.is_over:
                return run
        if timeouts.timeout_s and clock() - begin + wait_s > timeouts.timeout_s:
            raise StillRunningError(
                f"the run has not ended within {timeouts.timeout_s:g} s; it continues",
                tip="increase kfp.watch_timeout_s to wait longer; `doit status` shows the run",
            )
        pause(wait_s)
        wait_s = min(wait_s * _GROWTH, _LONGEST_S)


def _show_changes(run: ClusterRun, seen: dict[str, str], show: RunDisplay) -> bool:
    """Show the tasks whose states have changed and store their states; return whether there are any."""
    changed = [task for task in run.tasks if task.state != seen.get(task.name, "")]
    for task in changed:
        seen[task.name] = task.state
        show.change(run, task)
    show.draw(run)
    return bool(changed)


_INTERRUPTED = 130


def watch_runs(project: Project, run_ids: list[str]) -> int:
    """Watch runs one after the other and print how they ended.

    Args:
        project: Project that has submitted the runs.
        run_ids: IDs of the runs.

    Returns:
        Exit code: 0 if all runs have succeeded, 1 if one has failed, 130 after Ctrl-C (the runs continue),
        or the exit code of an error that was printed.
    """
    codes = []
    for run_id in run_ids:
        codes.append(_watch_guarded(project, run_id, named=len(run_ids) > 1))
        if codes[-1] == _INTERRUPTED:
            return _INTERRUPTED
    return next((code for code in codes if code), 0)


def _watch_guarded(project: Project, run_id: str, *, named: bool) -> int:
    try:
        with _interruptible():
            return _watch(project, run_id, named=named)
    except KeyboardInterrupt:
        short = shlex.quote(run_id[:8])
        sys.stderr.write(
            f"\nstopped watching; the run continues\n  `doit status {short}` shows it,"
            f" `doit submit --watch` watches it again, `doit cancel {short}` cancels it\n"
        )
        return _INTERRUPTED
    except FFTasksError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


class _WaitReporter:
    """Shows once for each task why it does not start."""

    def __init__(self, project: Project, show: RunDisplay) -> None:
        self._project, self._show = project, show
        self._told: set[str] = set()
        self._evidence: RunDiagnostics | None = None

    def look(self, run: ClusterRun) -> None:
        """Show the reasons that were not shown before."""
        self._evidence = RunDiagnostics(
            self._project.settings, self._project.folder, run, self._evidence
        )
        for name, line in format_wait_reasons(run, self._evidence).items():
            # without a reason, the task probably waits for Argo or for a free machine
            if self._evidence.waits[name] and line not in self._told:
                self._told.add(line)
                self._show.say(line)


def _watch(project: Project, run_id: str, *, named: bool) -> int:
    """Watch one run and print how it ended; return the exit code.

    Args:
        project: Project that has submitted the run.
        run_id: ID of the run.
        named: Print the name of the run first.
    """
    settings = project.settings.kfp
    with _showing() as show:
        waits = _WaitReporter(project, show)
        untold = [run_id] if named else []

        def read() -> ClusterRun:
            run = read_cluster_run(settings, run_id)
            while untold:
                show.say(f"run {run.name!r} {untold.pop()}")
            waits.look(run)
            return run

        run = poll_run(
            read, show, PollTimeouts(settings.watch_timeout_s, settings.reconnect_timeout_s)
        )
    evidence = RunDiagnostics(project.settings, project.folder, run)
    run = evidence.complete()
    record_run(project, run, list_node_durations(run, collect_node_metrics(run, evidence)))
    print("\n".join(format_run_end(run, evidence)), flush=True)
    return 0 if run.state == "SUCCEEDED" else 1


@contextmanager
def _showing() -> Iterator[LineDisplay]:
    show = make_run_display(sys.stdout)
    try:
        yield show
    finally:
        show.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt. The reporter of the run has installed its own signal handlers."""
    old = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGCHLD, signal.SIG_DFL),
        )
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
