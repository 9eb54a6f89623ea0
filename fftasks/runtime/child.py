"""A node in a process of its own, beside others: what it prints comes out at once, behind its name."""

from __future__ import annotations

import functools
import marshal
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fftasks.runtime.call import number_inputs
from fftasks.runtime.end import describe_end, end_tree
from fftasks.runtime.job import Job, Report, run_job
from fftasks.runtime.worker import describe_timeout, redirect_output, reseed
from fftasks.workflow.node import Node

_MAX_LINE = 1 << 16  # what has no end is not kept back for ever


@dataclass
class Child:
    """A node that is running.

    report, printed: descriptors to read from; begun: by the monotonic clock
    tries: how often it was begun before
    """

    node: Node
    job: Job
    tries: int
    pid: int
    report: int
    printed: int
    begun: float
    _content: bytes = b""
    _line: bytes = b""

    @classmethod
    def start(cls, node: Node, job: Job, tries: int) -> Child:
        """Fork a process that runs a job."""
        inputs = number_inputs(
            node
        )  # here, as the child would have to copy the memory that it touches
        report, report_end = os.pipe()
        printed, printed_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(printed_end, 1)
            os.dup2(printed_end, 2)
            for descriptor in (report, printed, printed_end):
                os.close(descriptor)
            _run(functools.partial(run_job, node, job, None, inputs), job, report_end)
        os.close(report_end)
        os.close(printed_end)
        os.set_blocking(printed, False)
        return cls(node, job, tries, pid, report, printed, time.monotonic())

    @property
    def deadline(self) -> float:
        """When it has to have ended, by the monotonic clock."""
        return self.begun + self.job.timeout_s if self.job.timeout_s else float("inf")

    def read_report(self) -> bool:
        """Read some of the report; return whether there is more."""
        piece = os.read(self.report, 1 << 16)
        self._content += piece
        return bool(piece)

    def read_printed(self) -> bool:
        """Say some of what it printed; return whether there may be more."""
        try:
            piece = os.read(self.printed, 1 << 16)
        except BlockingIOError:
            return False
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > _MAX_LINE or not piece:
            lines, self._line = [*lines, *filter(None, [self._line])], b""
        for line in lines:
            say(self.node, line.decode(errors="replace"))
        return bool(piece)

    def end(self) -> Report:
        """Wait for the end of a process that has reported or crashed, and return its report."""
        _, status = os.waitpid(self.pid, 0)
        while self.read_printed():  # not to the end: something that it started may go on
            pass
        self._close()
        return _read_report(self.job, self._content, status)

    def kill(self) -> Report:
        """End the process, and all that it has started."""
        end_tree(self.pid)
        os.waitpid(self.pid, 0)
        while self.read_printed():
            pass
        self._close()
        return describe_timeout(self.job)

    def _close(self) -> None:
        os.close(self.report)
        os.close(self.printed)


def say(node: Node, text: str) -> None:
    """Print a line behind the name of a node; see cluster/outcome.py."""
    print(f"{node.name} | {text}", flush=True)


def _run(run: Callable[[], Report], job: Job, write_end: int) -> None:
    """Run a job in a process that was forked for it, write the report to a pipe, and end the process."""
    code = 1
    try:
        if job.timeout_s:
            os.setpgid(0, 0)  # so that what has lost its parent is found as well
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        reseed()
        if job.log:
            redirect_output(job.log, is_new=not job.is_retry)
        report: tuple[Any, ...] = run()
        # not JSON: its encoder is a lot to copy for a process that lives a millisecond
        with os.fdopen(write_end, "wb") as pipe:
            marshal.dump(report[:], pipe)
        sys.stdout.flush()
        code = 0
    finally:
        # never back into the loop that serves jobs, and no exit handlers of the parent's
        os._exit(code)


def _read_report(job: Job, content: bytes, status: int) -> Report:
    """Return the report of a process that has ended: content as it wrote it, status as waitpid gives it."""
    if status == 0 and content:
        return Report(*marshal.loads(content))
    return Report({}, error=f"{job.node} {describe_end(os.waitstatus_to_exitcode(status))}")
