"""A child process for one try of a unit: fork, messages to the parent, output, time limit and end.

The child sends messages through a pipe; the last one is its report. A child that ends without a report has
failed, whatever its exit code is. A child that reports a result has failed too if its exit code is not 0.
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
from fftasks.runner.worker import reseed_random

REPORT = "report"
_READ_BYTES = 1 << 16
_MAX_READS = 32  # more than the data that fit into a pipe
_MAX_LINE_BYTES = 1 << 16  # a longer line is printed before its end has arrived
_GRACE_S = 5.0  # from SIGTERM to SIGKILL
# for a process that was killed: one that waits for a broken disk does not end
_KILL_WAIT_S = 10.0
_WAIT_STEP_S = 0.005
_MAX_INTERVAL_S = 0.2

SendMessage = Callable[..., None]  # sends a message to the parent: its kind, and further values
RunInChild = Callable[[SendMessage], Report]
# the pipes between this process and others: its own children must not inherit them
_pipes: set[int] = set()


class ChildProcess:
    """A running child process.

    Attributes:
        name: Name of the unit in the log and in its report.
        tries: Number of earlier tries of the unit.
        timeout_s: Time limit in seconds; 0 for no limit.
        deadline: When the time limit ends, as time.monotonic() counts.
        where: What the child is doing, for the message of a timeout: "while wf.py was imported".
        exit_code: Its exit code; -N if signal N ended it; None while it runs.
    """

    def __init__(
        self, name: str, run: RunInChild, *, timeout_s: int, tries: int, inherits_streams: bool
    ) -> None:
        """Fork a process that calls `run`.

        Args:
            name: Name of the unit.
            run: Returns the report. If it raises, the error is reported.
            timeout_s: Time limit in seconds; 0 for no limit.
            tries: Number of earlier tries of the unit.
            inherits_streams: Whether the child uses the standard streams of this process, and ends like any
                Python process. Otherwise this process prints the child's output line by line behind its name.
        """
        self.name, self.tries, self.timeout_s = name, tries, timeout_s
        self.where = ""
        self.exit_code: int | None = None
        self._prefix = "" if inherits_streams else f"{name} | "
        self._report: Report | None = None
        self._line = b""  # the last line of the output, without its end
        self._interval_s = _MAX_INTERVAL_S
        self._memory_before = read_memory_state()
        report, report_end = os.pipe()
        output, output_end = (-1, -1) if inherits_streams else os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in {report, output, *_pipes} - {-1}:
                os.close(descriptor)
            _pipes.clear()
            _pipes.add(report_end)
            channel = _Channel(name, report_end)
            if inherits_streams:
                _run_with_own_streams(name, run, channel)
            _run_with_piped_output(name, run, channel, output_end, leads_group=bool(timeout_s))
        os.close(report_end)
        os.set_blocking(report, False)
        _pipes.add(report)
        self._messages, self._report_pipe = Messages(report), report
        self._open: dict[int, Callable[[int], bool]]  # descriptor -> method that reads from it
        self._open = {report: self._read_report}
        if not inherits_streams:
            os.close(output_end)
            os.set_blocking(output, False)
            _pipes.add(output)
            self._open[output] = self._read_output
        self._received: list[tuple[Any, ...]] = []
        self.deadline = time.monotonic() + timeout_s if timeout_s else float("inf")

    @property
    def descriptors(self) -> list[int]:
        """The file descriptors of the open pipes from the child."""
        return list(self._open)

    def next_poll_interval(self) -> float:
        """Return the seconds after which the caller should call has_ended again.

        A child that has reported ends within about a millisecond, so the interval then starts small and
        doubles. Before the report, the end of the child closes its pipes, which wakes up the caller, unless
        the user's code has started a process that holds them open.
        """
        is_ending = self._report is not None or self._report_pipe not in self._open
        if not is_ending:
            self._interval_s = _MAX_INTERVAL_S / 2**8
            return _MAX_INTERVAL_S
        self._interval_s = min(self._interval_s * 2, _MAX_INTERVAL_S)
        return self._interval_s

    def read(self, descriptor: int) -> bool:
        """Read available data from a descriptor, and print output.

        Returns:
            Whether there were data.
        """
        try:
            is_more = self._open[descriptor](descriptor)
        except BlockingIOError:
            return False
        if not is_more:
            self._close(descriptor)
        return is_more

    def take_messages(self) -> list[tuple[Any, ...]]:
        """Return the messages that have arrived since the last call, without the report."""
        received, self._received = self._received, []
        return received

    def print_lines(self, text: str) -> None:
        """Print lines behind the name of the unit, like output of the child; kfp/pod_log.py reads them."""
        for line in text.splitlines():
            print(f"{self._prefix}{line}", flush=True)

    def has_ended(self) -> bool:
        """Return whether the process has ended, without waiting."""
        if self.exit_code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the user's code has reaped it: only the report counts
                pid, status = self.pid, 0
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is not None

    def end(self) -> Report:
        """Return the report of a process that has ended.

        If the kernel has killed a process for lack of memory, the reason says so.
        """
        self._finish_reading()
        report, code = self._report, self.exit_code or 0
        if report is not None and not report.error and code == 0:
            return report
        now = read_memory_state()
        memory = now.describe_kill(self._memory_before)
        if report is not None and report.error:
            if not now.has_killed_since(self._memory_before):
                return report
            # the killed process was started by the node, and may be the cause of the node's error
            return report._replace(reason=f"{report.reason} (a process was killed: {memory})")
        reason = describe_end(code, memory)
        if report is not None:
            reason += ", after its function had returned"
        elif self.where:
            reason += f", {self.where}"
        return Report({}, error=f"{self.name} {reason}", reason=reason)

    def kill(self) -> Report:
        """Kill the process and its descendants because of the time limit; return the report of that."""
        end_tree(self.pid)
        self._wait()
        return describe_timeout(self.name, self.timeout_s, self.where)

    def terminate(self) -> None:
        """Send SIGTERM to the process and its descendants, and SIGKILL after a grace period."""
        terminate_tree(self.pid, self.has_ended, _GRACE_S)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _KILL_WAIT_S
        while not self.has_ended() and time.monotonic() < end:
            time.sleep(_WAIT_STEP_S)
        self._finish_reading()

    def _finish_reading(self) -> None:
        """Read what the pipes hold now, without waiting for their ends.

        A process that the child has started may hold the pipes open.
        """
        for descriptor in self.descriptors:
            for _ in range(_MAX_READS):
                if descriptor not in self._open or not self.read(descriptor):
                    break
            if descriptor in self._open:
                self._close(descriptor)
        if self._line:
            self.print_lines(self._line.decode(errors="replace"))

    def _close(self, descriptor: int) -> None:
        os.close(descriptor)
        _pipes.discard(descriptor)
        del self._open[descriptor]

    def _read_report(self, _descriptor: int) -> bool:
        """Read messages and the report; return whether there may be more."""
        try:
            for message in self._messages.read():
                if message[0] == REPORT:
                    self._report = Report(*message[1])
                else:
                    self._received.append(message)
        except (ValueError, EOFError, TypeError):  # the node's code has written into the pipe
            return False
        return not self._messages.ended

    def _read_output(self, descriptor: int) -> bool:
        """Read output, and print its complete lines; return whether there may be more."""
        data = os.read(descriptor, _READ_BYTES)
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _MAX_LINE_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            print(f"{self._prefix}{line.decode(errors='replace')}")
        sys.stdout.flush()
        return bool(data)


class _Channel:
    """The write end of the pipe from the child to its parent."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name, self._descriptor = name, descriptor
        self._pipe = _identify_file(descriptor)

    def send(self, *message: Any) -> None:
        """Send a message.

        Raises:
            NodeError: The node's code has closed the pipe. Its descriptor may be a file of the user's now, so
                nothing is written to it.
        """
        data = format_message(message)
        try:
            while data and _identify_file(self._descriptor) == self._pipe:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass
        if data:
            raise NodeError(
                f"{self._name} cannot report: its code has closed a file descriptor that it did not open",
                tip="close single files, not ranges of descriptors",
            )

    def send_report(self, report: Report) -> None:
        """Send the report, the last message; exit if the pipe is closed."""
        try:
            self.send(REPORT, tuple(report))
        except NodeError as error:
            print(error, file=sys.stderr, flush=True)
            raise SystemExit(error.exit_code) from None


def _identify_file(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _run_with_piped_output(
    name: str, run: RunInChild, channel: _Channel, output: int, *, leads_group: bool
) -> NoReturn:
    """Run in a child beside others, then exit at once.

    The child must not return into the parent's scheduler loop, nor run the parent's exit handlers.
    """
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        if leads_group:
            os.setpgid(0, 0)  # so that descendants without a parent can be killed as well
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        reseed_random()
        report, _ = _call(name, run, channel)
        channel.send_report(report)
        with contextlib.suppress(AttributeError, ValueError):  # the user's code has closed it
            sys.stdout.flush()
        code = 0
    finally:
        os._exit(code)


def _run_with_own_streams(name: str, run: RunInChild, channel: _Channel) -> NoReturn:
    """Run in the only child, and exit like any Python process: with the user's exit handlers and threads."""
    # the handlers with which Python starts; the parent's handlers would do nothing here
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.isatty(0):  # a process in a group of its own could not read from a terminal
        os.setpgid(0, 0)
    report, code = _call(name, run, channel)
    channel.send_report(report)
    raise SystemExit(code)


def _call(name: str, run: RunInChild, channel: _Channel) -> tuple[Report, int]:
    """Call the unit's function; return its report and the exit code of this process."""
    try:
        report = run(channel.send)
    except BaseException as error:  # noqa: BLE001 - any error of the user's code is reported
        return describe_error(name, error), getattr(error, "exit_code", 1)
    return report, 1 if report.error else 0
