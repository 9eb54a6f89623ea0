"""Follow a run to its end: what changes is shown, and waiting has bounds.

A host that does not answer for a while is waited for; nothing is ever canceled from here.

Follow the runs that `doit submit` has submitted, and say how they ended.
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
    """How long to wait: timeout_s in all (0: for ever), away_s for a host that does not answer."""

    timeout_s: float
    reconnect_timeout_s: float


class RunDisplay(Protocol):
    """What becomes of a run, before somebody's eyes; show.py has two of it."""

    def change(self, run: ClusterRun, task: ClusterTask) -> None:
        """Show a task that has a new state."""

    def draw(self, run: ClusterRun) -> None:
        """Show a run that was looked at."""

    def say(self, text: str) -> None:
        """Show what else is worth a line."""


class StillRunningError(ToolError):
    """The time to follow a run is over, and the run is not."""

    exit_code = 4


def poll_run(
    read: Callable[[], ClusterRun],
    show: RunDisplay,
    patience: PollTimeouts,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> ClusterRun:
    """Return a run when it has ended, in whatever state.

    read: asks for the run; pause, clock: as in `time`
    Raises StillRunningError when the time is over, AwayError when the host was away for away_s, and what else
    read raises.
    """
    begin = last_answer = clock()
    seen: dict[str, str] = {}
    wait_s, is_away = _FIRST_S, False
    while True:
        try:
            run = read()
        except UnavailableError as error:
            if clock() - last_answer > patience.reconnect_timeout_s:
                raise _give_up(error, patience) from error
            if not is_away:
                show.say(f"{error.found[0] if error.found else error.attempted}; asking again")
            is_away = True
        else:
            last_answer, is_away = clock(), False
            if _show_changes(run, seen, show):
                wait_s = _FIRST_S
            if run.is_over:
                return run
        if patience.timeout_s and clock() - begin + wait_s > patience.timeout_s:
            raise StillRunningError(
                f"the run has not ended within {patience.timeout_s:g} s; it goes on",
                tip="kfp.watch_timeout_s is how long to follow; `doit status` looks again",
            )
        pause(wait_s)
        wait_s = min(wait_s * _GROWTH, _LONGEST_S)


def _give_up(error: UnavailableError, patience: PollTimeouts) -> UnavailableError:
    return UnavailableError(
        f"the host has been away for {patience.reconnect_timeout_s:g} s; the run goes on, as far as is known",
        found=error.found,
        tip=f"kfp.away_s is how long to wait for it; {error.tip}",
    )


def _show_changes(run: ClusterRun, seen: dict[str, str], show: RunDisplay) -> bool:
    """Show the tasks whose states are new, and note them; tell whether there is one."""
    changed = [task for task in run.tasks if task.state != seen.get(task.name, "")]
    for task in changed:
        seen[task.name] = task.state
        show.change(run, task)
    show.draw(run)
    return bool(changed)


_INTERRUPTED = 130


def watch_runs(project: Project, run_ids: list[str]) -> int:
    """Follow runs, one after the other, and print what becomes of them; return the exit code.

    0: all have succeeded. 1: one has not. 130: Ctrl-C; the runs go on. Else that of an error that is printed.
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
            f"\nno longer followed; the run goes on\n  `doit status {short}` shows it,"
            f" `doit submit --watch` follows it again, `doit cancel {short}` ends it\n"
        )
        return _INTERRUPTED
    except FFTasksError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


class _Waits:
    """Tells, once each, why tasks do not start while a run is followed."""

    def __init__(self, project: Project, show: RunDisplay) -> None:
        self._project, self._show = project, show
        self._told: set[str] = set()
        self._evidence: RunDiagnostics | None = None

    def look(self, run: ClusterRun) -> None:
        """Show what is new."""
        self._evidence = RunDiagnostics(
            self._project.settings, self._project.folder, run, self._evidence
        )
        for name, line in format_wait_reasons(run, self._evidence).items():
            # without a reason, the task probably waits for Argo or for a free machine
            if self._evidence.waits[name] and line not in self._told:
                self._told.add(line)
                self._show.say(line)


def _watch(project: Project, run_id: str, *, named: bool) -> int:
    """Follow one run and say how it ended; named: print first which run it is."""
    settings = project.settings.kfp
    with _showing() as show:
        waits = _Waits(project, show)
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
    """Let Ctrl-C raise KeyboardInterrupt: the reporter of doit's run has its own way."""
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
