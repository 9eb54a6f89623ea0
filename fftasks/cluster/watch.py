"""Follow the runs that `doit submit` has submitted, and say how they ended."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fftasks.cluster.account import ask_accounts, list_seconds
from fftasks.cluster.details import Task
from fftasks.cluster.follow import Patience, follow
from fftasks.cluster.memory import note_run
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import Lines, make_show, tell_end
from fftasks.errors import FFTasksError
from fftasks.ports.kfp_runs import read_log, read_run
from fftasks.project import Project

_INTERRUPTED = 130
_MOST_FAILURES = 2


def watch_runs(project: Project, run_ids: list[str]) -> int:
    """Follow runs, one after the other, and print what becomes of them; return the exit code.

    0: all have succeeded. 1: one has not. 130: Ctrl-C; the runs go on. Else that of an error that is printed.
    """
    codes = []
    for run_id in run_ids:
        codes.append(_watch_guarded(project, run_id))
        if codes[-1] == _INTERRUPTED:
            return _INTERRUPTED
    return next((code for code in codes if code), 0)


def _watch_guarded(project: Project, run_id: str) -> int:
    try:
        with _interruptible():
            return _watch(project, run_id)
    except KeyboardInterrupt:
        short = run_id[:8]
        sys.stderr.write(
            f"\nno longer followed; the run goes on\n  `doit status {short}` shows it,"
            f" `doit submit --watch` follows it again, `doit cancel {short}` ends it\n"
        )
        return _INTERRUPTED
    except FFTasksError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def find_log(project: Project, run: ClusterRun) -> Callable[[Task], str | None]:
    """Return a function that gives a task's log, None where it cannot be had.

    It asks once for each, and no more when the host has left it without an answer twice: a run has many pods.
    """
    failures: list[FFTasksError] = []

    @functools.cache
    def find(pod: str) -> str | None:
        if len(failures) == _MOST_FAILURES:
            return None
        try:
            return read_log(project.settings.kfp, dict(run.answer), pod)
        except FFTasksError as error:  # what is known without it is worth being said
            failures.append(error)
            return None

    return lambda task: find(task.pod) if task.pod else None


def _watch(project: Project, run_id: str) -> int:
    settings = project.settings.kfp
    with _showing() as show:
        run = follow(
            lambda: ClusterRun(read_run(settings, run_id)),
            show,
            Patience(settings.watch_timeout_s, settings.away_s),
        )
    find = find_log(project, run)
    note_run(project, run, list_seconds(run, ask_accounts(project, run, find)))
    print("\n".join(tell_end(run, find)), flush=True)
    return 0 if run.state == "SUCCEEDED" else 1


@contextmanager
def _showing() -> Iterator[Lines]:
    show = make_show(sys.stdout)
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
