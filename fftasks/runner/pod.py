"""Run the task of a pod in a child process, and write the cause of a failure as the last line of the log.

The parent process imports no code of the user. So it can report how the child ended in every case: it
exited, was killed, hung in C code while the user's file was imported, or was terminated with its pod.

The commands that show a run on the cluster search the log for the last line, because Kubeflow Pipelines
passes on neither the exit code nor a message.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from dataclasses import dataclass, replace
from typing import Any

from fftasks.runner.child_process import ChildProcess, RunInChild
from fftasks.runner.group import DONE
from fftasks.runner.job import Report
from fftasks.runner.scheduler import PodResources, UnitFailedError, UnitScheduler

FAILURE_PREFIX = "-- failed: "
REPLAY_VARIABLE = (
    "FFREPLAY"  # environment variable; `doit replay` sets it to omit the line for commands
)
# messages from the child to the parent
IMPORTED = "imported"  # the user's file is imported
FAILED = "failed"  # the given node of a group has failed

_TERMINATED = (
    "was terminated with its pod (SIGTERM): the run was canceled, "
    "or the pod was evicted or its machine drained"
)
_TERMINATED_EXIT_CODE = 128 + signal.SIGTERM
# Kubernetes stores the content of this file as the container's termination message
_MESSAGE_FILE = "/dev/termination-log"


@dataclass(frozen=True)
class PodFailure:
    """The cause of a pod's failure.

    Attributes:
        node: The node that failed; the name of the group if the whole group was stopped from outside.
        reason: One line for the user, such as "ValueError: bad value".
        finished: In a group, the nodes that had finished before.
    """

    node: str
    reason: str
    finished: tuple[str, ...] = ()


def format_failure(failure: PodFailure) -> str:
    """Return the line for the log, without a line end.

    The line is ASCII: the log of a pod passes through programs that are strict about encodings.
    """
    content = {
        "node": failure.node,
        "reason": " ".join(failure.reason.split()),
        **({"finished": failure.finished} if failure.finished else {}),
    }
    return FAILURE_PREFIX + json.dumps(content, separators=(",", ":"))


def find_failure(log: str) -> PodFailure | None:
    """Return the failure that a log ends with, or None.

    Args:
        log: A log or the end of one. Other programs may have written lines before and after the line.

    Returns:
        The content of the last valid line with the prefix. So a node that prints a similar line does no harm.
    """
    for line in reversed(log.split("\n")):
        if line.startswith(FAILURE_PREFIX) and (
            failure := _parse(line.removeprefix(FAILURE_PREFIX))
        ):
            return failure
    return None


def _parse(text: str) -> PodFailure | None:
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
    return PodFailure(node, reason, tuple(names))


class PodUnit:
    """The task of a pod as the only unit of a schedule.

    Args:
        name: Name of the node or of the group.
        run: Function that the child process calls.
        file: The user's file, which the child imports first.
        is_group: Whether the task has several nodes. If so, time limit and retries apply to the import and
            then to each node. Otherwise they apply to import and function together.
    """

    def __init__(self, name: str, run: RunInChild, file: str, *, is_group: bool) -> None:
        self.name, self._run, self._is_group = name, run, is_group
        self.needs: set[str] = set()
        self.may_retry = True
        self.where = f"while {file or 'the workflow'} was imported"
        self.failed, self.done = name, list[str]()

    def prepare(self) -> RunInChild:
        """Return the function that the child process calls."""
        return self._run

    def handle_message(self, child: ChildProcess, message: tuple[Any, ...]) -> None:
        """Note that the file is imported, or that a node of the group is done or has failed."""
        kind, *names = message
        if kind == IMPORTED:
            child.where = ""
            if self._is_group:
                child.deadline, self.may_retry = float("inf"), False
        elif kind == DONE:
            self.done += names
        elif kind == FAILED:
            (self.failed,) = names

    def handle_report(self, child: ChildProcess, report: Report) -> None:
        """Do nothing: the child has written its outputs itself."""

    def make_failure(self, reason: str) -> PodFailure:
        """Return the failure of the pod, with the nodes that have finished."""
        return PodFailure(self.failed, reason, tuple(self.done))


def run_pod(unit: PodUnit, resources: PodResources) -> int:
    """Run the task of a pod, and print the failure if there is one.

    Args:
        unit: The task.
        resources: Its time limit and retries.

    Returns:
        The exit code of the container.
    """
    _handle_signals(unit)
    try:
        UnitScheduler([unit], replace(resources, cpu=1), inherits_streams=True).run()
    except UnitFailedError as failed:
        print_failure(unit.make_failure(failed.report.reason), failed.report.error)
        return failed.exit_code if failed.exit_code > 0 else 1
    except OSError as error:  # fork has failed, for example for lack of memory
        reason = f"could not be started: {error.strerror}"
        print_failure(unit.make_failure(reason), f"{unit.name} {reason}")
        return 1
    except _TerminatedError:
        return _TERMINATED_EXIT_CODE
    return 0


def print_failure(failure: PodFailure, text: str) -> None:
    """Print an error and the line for commands, and write the line to Kubernetes' termination message.

    Args:
        failure: The cause of the failure.
        text: The error for people, in several lines.
    """
    line = "" if os.environ.get(REPLAY_VARIABLE) else f"{format_failure(failure)}\n"
    lines = f"{text}\n{line}".encode("utf-8", "backslashreplace")
    try:
        sys.stdout.flush()
        os.set_blocking(2, True)  # a node may have changed it for all that share the descriptor
        while lines:  # not through sys.stderr, in which a signal may have interrupted this process
            lines = lines[os.write(2, lines) :]
    except OSError:  # the reader of stderr has ended
        pass
    finally:
        message = format_failure(replace(failure, finished=()))
        try:
            file = os.open(_MESSAGE_FILE, os.O_WRONLY | os.O_NONBLOCK)
            if stat.S_ISREG(os.fstat(file).st_mode):
                os.ftruncate(file, 0)
                os.write(file, message.encode())
            os.close(file)
        except OSError:  # not in a pod, or the file cannot be written
            pass


class _TerminatedError(BaseException):
    """The pod is being terminated. Not an Exception, because only run_pod may catch it."""


def _handle_signals(unit: PodUnit) -> None:
    """At SIGTERM, SIGINT and SIGHUP, print the failure at once and end the child.

    At once, because KFP's launcher, and the log with it, may end before the child.
    """
    own = os.getpid()

    def stop(number: int, _frame: object) -> None:
        if os.getpid() != own:  # a child that has just been forked
            return
        signal.signal(number, signal.SIG_IGN)
        name = signal.Signals(number).name
        reason = _TERMINATED if number == signal.SIGTERM else f"was stopped with its pod by {name}"
        print_failure(unit.make_failure(reason), f"{unit.name} {reason}")
        raise _TerminatedError

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
