"""Follow the runs that `doit submit` has submitted, and say how they ended."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fftasks.cluster.account import ask_accounts, list_seconds
from fftasks.cluster.evidence import Evidence, read_cluster_run
from fftasks.cluster.follow import Patience, Show, follow
from fftasks.cluster.memory import note_run
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import Lines, make_show, tell_end, tell_waits
from fftasks.errors import FFTasksError
from fftasks.project import Project

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

    def __init__(self, project: Project, show: Show) -> None:
        self._project, self._show = project, show
        self._told: set[str] = set()
        self._evidence: Evidence | None = None

    def look(self, run: ClusterRun) -> None:
        """Show what is new."""
        self._evidence = Evidence(self._project, run, self._evidence)
        for name, line in tell_waits(run, self._evidence).items():
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

        run = follow(read, show, Patience(settings.watch_timeout_s, settings.away_s))
    evidence = Evidence(project, run)
    run = evidence.complete()
    note_run(project, run, list_seconds(run, ask_accounts(run, evidence)))
    print("\n".join(tell_end(run, evidence)), flush=True)
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
