"""The last line of a failed pod's log: it names the node that failed and the reason.

The entry point prints the line, and the commands that show a run on the cluster look for it in the log,
because Kubeflow Pipelines hands over neither an exit code nor a text. Standard library only.

Run the task of a pod in a child process, and say at the end of the log why it failed.

This process imports nothing of the user's, so that it can tell how the child has ended whatever that did:
it exited, was killed, hangs in C code while the user's file is imported, or is terminated with its pod.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from dataclasses import dataclass, replace
from typing import Any

from fftasks.runner.child_process import Child, Run
from fftasks.runner.group import DONE
from fftasks.runner.job import Report
from fftasks.runner.scheduler import FailedError, PodResources, Schedule

PREFIX = "-- failed: "


@dataclass(frozen=True)
class Failure:
    """Why a pod failed.

    Attributes:
        node: The node that failed; for a group that was stopped from outside, the name of the group.
        reason: One line in the user's words, such as "ValueError: bad value".
        finished: In a group, the nodes that had finished before.
    """

    node: str
    reason: str
    finished: tuple[str, ...] = ()


def format_failure(failure: Failure) -> str:
    """Return the line for the log, without a line end.

    The line is ASCII: the log of a pod passes through programs that are strict about encodings.
    """
    content = {
        "node": failure.node,
        "reason": " ".join(failure.reason.split()),
        **({"finished": failure.finished} if failure.finished else {}),
    }
    return PREFIX + json.dumps(content, separators=(",", ":"))


def find_failure(log: str) -> Failure | None:
    """Return the failure that a log ends with, or None.

    Args:
        log: A log or the end of one. Other programs may have written lines before and behind the line.

    Returns:
        What the last line that begins with the prefix and can be parsed says, so that a node that prints
        something similar does no harm.
    """
    for line in reversed(log.split("\n")):
        if line.startswith(PREFIX) and (failure := _parse(line.removeprefix(PREFIX))):
            return failure
    return None


def _parse(text: str) -> Failure | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    node, reason, finished = (content.get(key) for key in ("node", "reason", "finished"))
    names = [] if finished is None else finished
    if not (isinstance(node, str) and isinstance(reason, str) and isinstance(names, list)):
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return Failure(node, reason, tuple(names))


REPLAY = "FFREPLAY"  # set by `doit replay`: leave out the line for commands
# what the child tells this process
IMPORTED = "imported"  # the user's file is imported
FAILED = "failed"  # this node of a group has failed

_TERMINATED = (
    "was terminated with its pod (SIGTERM): the run was canceled, "
    "or the pod was evicted or its machine drained"
)
_EXIT_CODE = 128 + signal.SIGTERM
# Kubernetes keeps what stands in this file as the container's termination message
_MESSAGE_FILE = "/dev/termination-log"


class PodUnit:
    """The task of a pod, as the schedule runs it.

    Args:
        name: The node, or the group.
        run: What the child process calls.
        file: The user's file, which it imports first.
        is_group: Whether there are several nodes. Time limit and retries hold for each of them then, and for
            the import; of a node alone they hold for import and function together.
    """

    def __init__(self, name: str, run: Run, file: str, *, is_group: bool) -> None:
        self.name, self._run, self._is_group = name, run, is_group
        self.needs: set[str] = set()
        self.may_retry = True
        self.where = f"while {file or 'the workflow'} was imported"
        self.failed, self.done = name, list[str]()

    def prepare(self) -> Run:
        """Return what the child process calls."""
        return self._run

    def note(self, child: Child, message: tuple[Any, ...]) -> None:
        """Take what the child tells."""
        kind, *names = message
        if kind == IMPORTED:
            child.where = ""
            if self._is_group:
                child.deadline, self.may_retry = float("inf"), False
        elif kind == DONE:
            self.done += names
        elif kind == FAILED:
            (self.failed,) = names

    def take(self, child: Child, report: Report) -> None:
        """Do nothing: the child has written its outputs itself."""

    def blame(self, reason: str) -> Failure:
        """Return why the pod has failed."""
        return Failure(self.failed, reason, tuple(self.done))


def run_pod(unit: PodUnit, means: PodResources) -> int:
    """Run the task of a pod; return the exit code."""
    _stop_at_signals(unit)
    try:
        Schedule([unit], replace(means, cpu=1), is_alone=True).run()
    except FailedError as failed:
        print_failure(unit.blame(failed.report.reason), failed.report.error)
        return failed.exit_code if failed.exit_code > 0 else 1
    except OSError as error:  # fork has failed, for example for lack of memory
        reason = f"could not be started: {error.strerror}"
        print_failure(unit.blame(reason), f"{unit.name} {reason}")
        return 1
    except _TerminatedError:
        return _EXIT_CODE
    return 0


def print_failure(failure: Failure, text: str) -> None:
    """Print an error, and the line that tools look for; leave the latter to Kubernetes as well.

    Args:
        failure: Why the pod fails.
        text: The error for people, in several lines.
    """
    line = "" if os.environ.get(REPLAY) else f"{format_failure(failure)}\n"
    lines = f"{text}\n{line}".encode("utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        os.set_blocking(2, True)  # a node may have changed it for all that share the descriptor
        while lines:  # not through sys.stderr, in which a signal may have interrupted this process
            lines = lines[os.write(2, lines) :]
    except OSError:  # the reader of stderr has ended
        pass
    finally:
        _leave_message(format_failure(replace(failure, finished=())))


def _leave_message(text: str) -> None:
    try:
        file = os.open(_MESSAGE_FILE, os.O_WRONLY | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.ftruncate(file, 0)
            os.write(file, text.encode())
        os.close(file)
    except OSError:  # not in a pod, or the file cannot be written
        pass


class _TerminatedError(BaseException):
    """The pod is being terminated; not an Exception, as nothing but run_pod may catch it."""


def _stop_at_signals(unit: PodUnit) -> None:
    """End the child at SIGTERM, SIGINT and SIGHUP, and say so at once.

    The launcher, and the log with it, may end first.
    """
    own = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != own:  # a child that has just been forked
            return
        signal.signal(number, signal.SIG_IGN)
        name = signal.Signals(number).name
        reason = _TERMINATED if number == signal.SIGTERM else f"was stopped with its pod by {name}"
        print_failure(unit.blame(reason), f"{unit.name} {reason}")
        raise _TerminatedError

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
