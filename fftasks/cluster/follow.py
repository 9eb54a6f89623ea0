"""Follow a run to its end: what changes is shown, and waiting has bounds.

A host that does not answer for a while is waited for; nothing is ever canceled from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fftasks.cluster.details import Task
from fftasks.cluster.run import ClusterRun
from fftasks.errors import ToolError
from fftasks.ports.kfp_errors import AwayError

_FIRST_S, _GROWTH, _LONGEST_S = 0.3, 1.5, 5.0


@dataclass(frozen=True)
class Patience:
    """How long to wait: timeout_s in all (0: for ever), away_s for a host that does not answer."""

    timeout_s: float
    away_s: float


class Show(Protocol):
    """What becomes of a run, before somebody's eyes; show.py has two of it."""

    def change(self, run: ClusterRun, task: Task) -> None:
        """Show a task that has a new state."""

    def draw(self, run: ClusterRun) -> None:
        """Show a run that was looked at."""

    def say(self, text: str) -> None:
        """Show what else is worth a line."""


class StillRunningError(ToolError):
    """The time to follow a run is over, and the run is not."""

    exit_code = 4


def follow(
    read: Callable[[], ClusterRun],
    show: Show,
    patience: Patience,
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
        except AwayError as error:
            if clock() - last_answer > patience.away_s:
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


def _give_up(error: AwayError, patience: Patience) -> AwayError:
    return AwayError(
        f"the host has been away for {patience.away_s:g} s; the run goes on, as far as is known",
        found=error.found,
        tip=f"kfp.away_s is how long to wait for it; {error.tip}",
    )


def _show_changes(run: ClusterRun, seen: dict[str, str], show: Show) -> bool:
    """Show the tasks whose states are new, and note them; tell whether there is one."""
    changed = [task for task in run.tasks if task.state != seen.get(task.name, "")]
    for task in changed:
        seen[task.name] = task.state
        show.change(run, task)
    show.draw(run)
    return bool(changed)
