"""The end of a run by a signal, or of one of its workers: in a line, with what has finished recorded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType


def end_quietly_on_signals(clear: Callable[[], None]) -> None:
    """Let a signal, and the end of a worker, end the run in a line; what has finished is recorded already.

    clear: takes the progress bar off the screen
    Without Python's own way out: an exception can come between any two steps of the queues that doit
    has with its workers, and then both sides wait for each other.
    """
    main = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == main:
            _end(128 + number, "interrupted: what has finished is kept", clear)
        if number == signal.SIGTERM:  # a forked worker of doit, which ends it so
            os._exit(128 + number)

    def look(_number: int, _frame: FrameType | None) -> None:
        # doit would wait for a worker that was killed; whoever calls active_children() forgets them
        workers = tuple(multiprocessing.process._children)  # type: ignore[attr-defined]
        code = next((worker.exitcode for worker in workers if worker.exitcode), 0)
        if code and os.getpid() == main:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tip = "is there enough memory? What has finished is kept: run again"
            _end(1, f"a worker of doit ended with {name}\n  tip: {tip}", clear)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCHLD, look)
    doit = [main]

    def follow() -> None:
        if doit:  # else it is a child of a child
            _end_with_parent(doit.pop())

    os.register_at_fork(after_in_child=follow)


def _end(code: int, message: str, clear: Callable[[], None]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.terminate()
    clear()
    with suppress(OSError, ValueError):  # nobody may be there to read it
        sys.stdout.flush()
        sys.stderr.write(f"\n{message}\n")
        sys.stderr.flush()
    os._exit(code)


def _end_with_parent(parent: int) -> None:
    from fftasks.ports.interpreter import end_with_parent

    end_with_parent(parent)
