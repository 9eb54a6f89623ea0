"""A process that was forked for one try of something: its messages, its output, its end.

The process sends messages through a pipe, the last of which is its report. A process that ends without one
has failed, whatever its exit code is; one that reports a result has failed too if its exit code is not 0.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from fftasks.errors import NodeError
from fftasks.runner.job import Report, describe_error, describe_timeout
from fftasks.runner.process import (
    Messages,
    describe_end,
    end_tree,
    format_message,
    read_memory_state,
    terminate_tree,
)
from fftasks.runner.worker import reseed

REPORT = "report"
_PIECE = 1 << 16
_MAX_PIECES = 32  # more than a pipe holds
_MAX_LINE = 1 << 16  # bytes of a line that is kept back until its end comes
_GRACE_S = 5.0  # from SIGTERM to SIGKILL
_PATIENCE_S = (
    10.0  # for a process that was killed, as one that waits for a broken disk does not end
)
_LOOK_S = 0.005
_IDLE_S = 0.2

SendMessage = Callable[..., None]  # sends a message to the parent: a word, and what belongs to it
Run = Callable[[SendMessage], Report]
_pipes: set[int] = (
    set()
)  # the pipes of this process to others, which its own children shall not have


class Child:
    """A running process.

    Attributes:
        name: What it runs, as its log and its report call it.
        tries: How often the same was tried before.
        timeout_s: Seconds that it may take; 0 for no limit.
        deadline: When it has to have ended, by the monotonic clock.
        where: What it is doing, for a timeout: "while wf.py was imported".
        exit_code: Its exit code, or a signal as -code; None while it runs.
    """

    def __init__(self, name: str, run: Run, *, timeout_s: int, tries: int, is_alone: bool) -> None:
        """Fork a process that calls `run`.

        Args:
            name: What it runs.
            run: Gives the report; what it raises is reported as well.
            timeout_s: Seconds that it may take; 0 for no limit.
            tries: How often the same was tried before.
            is_alone: Whether it has the standard streams of this process, and ends as any process of Python
                does. Otherwise its output is printed here line by line, behind its name.
        """
        self.name, self.tries, self.timeout_s = name, tries, timeout_s
        self.where = ""
        self.exit_code: int | None = None
        self._prefix = "" if is_alone else f"{name} | "
        self._report: Report | None = None
        self._line = b""
        self._look_s = _IDLE_S
        self._memory = read_memory_state()
        report, report_end = os.pipe()
        printed, printed_end = (-1, -1) if is_alone else os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in {report, printed, *_pipes} - {-1}:
                os.close(descriptor)
            _pipes.clear()
            _pipes.add(report_end)
            channel = _Channel(name, report_end)
            if is_alone:
                _live_alone(name, run, channel)
            _live(name, run, channel, printed_end, leads=bool(timeout_s))
        os.close(report_end)
        os.set_blocking(report, False)
        _pipes.add(report)
        self._messages, self._report_end = Messages(report), report
        self._open: dict[int, Callable[[int], bool]]
        self._open = {report: self._read_report}  # descriptor -> what reads some of it
        if not is_alone:
            os.close(printed_end)
            os.set_blocking(printed, False)
            _pipes.add(printed)
            self._open[printed] = self._read_printed
        self._told: list[tuple[Any, ...]] = []
        self.deadline = time.monotonic() + timeout_s if timeout_s else float("inf")

    @property
    def descriptors(self) -> list[int]:
        """From which descriptors something may come."""
        return list(self._open)

    @property
    def _is_ending(self) -> bool:
        return self._report is not None or self._report_end not in self._open

    def plan_look(self) -> float:
        """Return the seconds until has_ended should be called again.

        Once it has reported, it ends within a millisecond or so. Before, its pipes tell, unless its code
        has started something that holds them.
        """
        self._look_s = min(self._look_s * 2, _IDLE_S) if self._is_ending else _IDLE_S / 2**8
        return self._look_s if self._is_ending else _IDLE_S

    def read(self, descriptor: int) -> bool:
        """Read a piece from a descriptor; return whether there was one. Output is printed."""
        try:
            is_more = self._open[descriptor](descriptor)
        except BlockingIOError:
            return False
        if not is_more:
            self._close(descriptor)
        return is_more

    def take_messages(self) -> list[tuple[Any, ...]]:
        """Return the messages that have come since the last call, without the report."""
        told, self._told = self._told, []
        return told

    def say(self, text: str) -> None:
        """Print lines as if the process had printed them; see cluster/outcome.py."""
        for line in text.splitlines():
            print(f"{self._prefix}{line}", flush=True)

    def has_ended(self) -> bool:
        """Tell whether the process has ended; does not wait."""
        if self.exit_code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the user's code has waited for it: the report alone tells
                pid, status = self.pid, 0
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None

    def end(self) -> Report:
        """Return the report of a process that has ended."""
        self._finish_reading()
        report, code = self._report, self.exit_code or 0
        if report is not None and not report.error and code == 0:
            return report
        now = read_memory_state()
        memory = now.describe_kill(self._memory)
        if report is not None and report.error:
            if not now.has_killed_since(self._memory):
                return report
            # one that the node has started, which may be why it has failed
            return report._replace(reason=f"{report.reason} (a process was killed: {memory})")
        reason = describe_end(code, memory)
        if report is not None:
            reason += ", after its function had returned"
        elif self.where:
            reason += f", {self.where}"
        return Report({}, error=f"{self.name} {reason}", reason=reason)

    def kill(self) -> Report:
        """End the process and all that it has started because it took too long; return its report."""
        end_tree(self.pid)
        self._wait()
        return describe_timeout(self.name, self.timeout_s, self.where)

    def terminate(self) -> None:
        """Let the process and all that it has started end; kill what does not."""
        terminate_tree(self.pid, self.has_ended, _GRACE_S)
        self._wait()

    def _wait(self) -> None:
        late = time.monotonic() + _PATIENCE_S
        while not self.has_ended() and time.monotonic() < late:
            time.sleep(_LOOK_S)
        self._finish_reading()

    def _finish_reading(self) -> None:
        """Read what is in the pipes, and not to their ends: something that it has started may hold them."""
        for descriptor in self.descriptors:
            for _ in range(_MAX_PIECES):
                if descriptor not in self._open or not self.read(descriptor):
                    break
            if descriptor in self._open:
                self._close(descriptor)
        if self._line:
            self.say(self._line.decode(errors="replace"))

    def _close(self, descriptor: int) -> None:
        os.close(descriptor)
        _pipes.discard(descriptor)
        del self._open[descriptor]

    def _read_report(self, _descriptor: int) -> bool:
        try:
            for message in self._messages.read():
                if message[0] == REPORT:
                    self._report = Report(*message[1])
                else:
                    self._told.append(message)
        except (ValueError, EOFError, TypeError):  # the node's code has written into the pipe
            return False
        return not self._messages.ended

    def _read_printed(self, descriptor: int) -> bool:
        piece = os.read(descriptor, _PIECE)
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > _MAX_LINE:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            print(f"{self._prefix}{line.decode(errors='replace')}")
        sys.stdout.flush()
        return bool(piece)


class _Channel:
    """The end of the pipe at which the child sends its messages."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name, self._descriptor = name, descriptor
        self._pipe = _identify(descriptor)

    def tell(self, *message: Any) -> None:
        """Send a message.

        Raises:
            NodeError: The node's code has closed the pipe, whose number may be a file of the user's by now.
        """
        data = format_message(message)
        try:
            while data and _identify(self._descriptor) == self._pipe:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass
        if data:
            raise NodeError(
                f"{self._name} cannot report: its code has closed a file descriptor that it did not open",
                tip="close single files, not ranges of descriptors",
            )


def _identify(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _live(name: str, run: Run, channel: _Channel, printed: int, *, leads: bool) -> NoReturn:
    """Run beside others: never go back into the loop that started this process, nor to its exit handlers."""
    code = 1
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        os.close(printed)
        if leads:
            os.setpgid(0, 0)  # so that what has lost its parent is found as well
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        reseed()
        report, _ = _report(name, run, channel)
        _send(channel, report)
        with contextlib.suppress(AttributeError, ValueError):  # the user's code has closed it
            sys.stdout.flush()
        code = 0
    finally:
        os._exit(code)


def _live_alone(name: str, run: Run, channel: _Channel) -> NoReturn:
    """Run as the one process that there is: exit handlers and threads of the user's are waited for."""
    # as Python starts; the parent's handlers would do nothing here
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.isatty(0):  # a process in a group of its own could not read from a terminal
        os.setpgid(0, 0)
    report, code = _report(name, run, channel)
    _send(channel, report)
    raise SystemExit(code)


def _report(name: str, run: Run, channel: _Channel) -> tuple[Report, int]:
    """Return the report of what is run, and the exit code that belongs to it."""
    try:
        report = run(channel.tell)
    except BaseException as error:  # noqa: BLE001 - the border to the user's code
        return describe_error(name, error), getattr(error, "exit_code", 1)
    return report, 1 if report.error else 0


def _send(channel: _Channel, report: Report) -> None:
    try:
        channel.tell(REPORT, tuple(report))
    except NodeError as error:
        print(error, file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
