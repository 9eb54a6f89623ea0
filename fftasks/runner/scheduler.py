"""Run units of work in child processes, in the order of their dependencies, with time limits and retries.

The entry point of a pod and the process that runs the nodes of a group both use this scheduler.

The settings for it (number of parallel nodes, time limit, retries) travel in an environment variable. The
environment is not part of the cache key of Kubeflow Pipelines, so a change of them invalidates no result.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fftasks.errors import WorkflowError
from fftasks.runner.child_process import ChildProcess, RunInChild
from fftasks.runner.job import Report

RESOURCES_VARIABLE = "FFMEANS"
# how often Kubernetes has already restarted the pod; KFP sets it from 2.16.1 on
_RETRY_INDEX = "KFP_RETRY_INDEX"
_MAX_EXPONENT = 64  # beyond it, every wait is the longest one, and floats overflow


@dataclass(frozen=True)
class PodResources:
    """Parallelism, time limit and retries for the nodes of a pod.

    Attributes:
        cpu: Number of nodes of a group that run at the same time.
        timeout_s: Time limit of one try in seconds; 0 for no limit.
        retries: Number of further tries of a node that failed.
        wait_s: Wait before the first retry in seconds.
        factor: Factor by which each further wait is longer than the one before.
        max_wait_s: Longest wait in seconds.
    """

    cpu: int = 1
    timeout_s: int = 0
    retries: int = 0
    wait_s: float = 0.0
    factor: float = 2.0
    max_wait_s: float = 3600.0

    def plan_wait(self, failures: int) -> float | None:
        """Return the seconds before the next try, or None if there is no further try.

        Args:
            failures: How often the node has failed, at least 1.
        """
        if failures > self.retries:
            return None
        wait_s = self.wait_s * self.factor ** min(failures - 1, _MAX_EXPONENT)
        return float(min(wait_s, self.max_wait_s))


def format_pod_resources(resources: PodResources) -> str:
    """Return the value of the environment variable; "" if all fields have their defaults."""
    given = {
        field.name: getattr(resources, field.name)
        for field in dataclasses.fields(PodResources)
        if getattr(resources, field.name) != field.default
    }
    return json.dumps(given, separators=(",", ":")) if given else ""


def read_pod_resources() -> PodResources:
    """Read the settings from the environment of this pod.

    If Kubernetes has restarted the pod, retries are 0: Otherwise the retries inside the pod and those of the
    pod would multiply.

    Raises:
        WorkflowError: The variable is not a JSON object, or has an unknown name or an invalid value.
    """
    text = os.environ.get(RESOURCES_VARIABLE) or "{}"
    defaults = {field.name: field.default for field in dataclasses.fields(PodResources)}
    try:
        given = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise WorkflowError(
            f"{RESOURCES_VARIABLE} is not a JSON object", found=[str(error), text]
        ) from error
    for name, value in given.items():
        kinds = (int, float) if isinstance(defaults.get(name), float) else (int,)
        if name not in defaults or type(value) not in kinds:  # not isinstance: a bool is an int
            raise WorkflowError(
                f"{RESOURCES_VARIABLE} has an invalid value: {name}: {value!r}",
                found=[f"known names, with their defaults: {json.dumps(defaults)}"],
                tip="run `doit submit` again, so that image and pipeline are of the same version",
            )
    resources = PodResources(**given)
    restarts = os.environ.get(_RETRY_INDEX, "")
    if restarts.isdecimal() and int(restarts) > 0:
        return dataclasses.replace(resources, retries=0)
    return resources


_MAX_POLL_S = 3600.0  # poll accepts a timeout of some weeks at most
_poll = select.poll  # bound before the user's code can replace it


class ScheduledUnit(Protocol):
    """A unit of work that runs in a child process.

    Attributes:
        name: Name of the unit in the log.
        needs: Names of the units that must finish before this one starts.
        may_retry: Whether another try can help; may change while the unit runs.
        where: What the child does first, for the message of a timeout, such as "while wf.py was imported";
            "" for the unit's own work.
    """

    name: str
    needs: set[str]
    may_retry: bool
    where: str

    def prepare(self) -> RunInChild:
        """Return the function that the child process calls. The scheduler calls this before each try."""

    def handle_message(self, child: ChildProcess, message: tuple[Any, ...]) -> None:
        """Process a message that the child process has sent."""

    def handle_report(self, child: ChildProcess, report: Report) -> None:
        """Process the report of a successful try."""


class UnitFailedError(Exception):
    """A unit failed, and it is not tried again.

    Attributes:
        unit: The unit.
        report: Report of its last try.
        exit_code: Exit code of the last child process; -N if signal N ended it.
    """

    def __init__(self, unit: ScheduledUnit, report: Report, exit_code: int) -> None:
        super().__init__(report.error)
        self.unit, self.report, self.exit_code = unit, report, exit_code


class UnitScheduler:
    """Execution of units in the order of their dependencies, `resources.cpu` of them in parallel.

    Args:
        units: Units in topological order.
        resources: Parallelism, time limit and retries.
        inherits_streams: Whether the children use the standard streams of this process; see Child.
    """

    def __init__(
        self,
        units: Sequence[ScheduledUnit],
        resources: PodResources,
        *,
        inherits_streams: bool = False,
    ) -> None:
        self._resources, self._inherits_streams = resources, inherits_streams
        self._needs = {unit.name: set(unit.needs) for unit in units}
        self._dependents: dict[str, list[ScheduledUnit]] = {unit.name: [] for unit in units}
        for unit in units:
            for name in unit.needs:
                self._dependents[name].append(unit)
        # pairs of a unit and the number of its failed tries
        self._ready = collections.deque((unit, 0) for unit in units if not unit.needs)
        self._retries: list[
            tuple[float, ScheduledUnit, int]
        ] = []  # the same, behind the time of the retry
        self._running: dict[ChildProcess, ScheduledUnit] = {}

    def run(self) -> None:
        """Run all units.

        Raises:
            FailedError: A unit failed. The units that ran in parallel were killed.
        """
        try:
            while self._ready or self._retries or self._running:
                self._start()
                self._wait()
        except (UnitFailedError, KeyboardInterrupt):
            for child in self._running:
                child.kill()
            raise
        except BaseException:
            for child in self._running:
                child.terminate()
            raise

    def _start(self) -> None:
        """Start units that are ready, as many as may run in parallel."""
        now = time.monotonic()
        self._ready.extendleft((unit, tries) for due, unit, tries in self._retries if due <= now)
        self._retries = [retry for retry in self._retries if retry[0] > now]
        while self._ready and len(self._running) < self._resources.cpu:
            unit, tries = self._ready.popleft()
            child = ChildProcess(
                unit.name,
                unit.prepare(),
                timeout_s=self._resources.timeout_s,
                tries=tries,
                inherits_streams=self._inherits_streams,
            )
            child.where = unit.where
            self._running[child] = unit

    def _wait(self) -> None:
        """Wait for output, messages, ends and deadlines of the children, and process them."""
        reading = {d: child for child in self._running for d in child.descriptors}
        poll = _poll()
        for descriptor in reading:
            poll.register(descriptor, select.POLLIN)
        # the next time at which something may happen without data in a pipe
        due = [child.deadline for child in self._running] + [retry[0] for retry in self._retries]
        intervals = [child.next_poll_interval() for child in self._running]
        pause_s = max(min(min(due) - time.monotonic(), *intervals, _MAX_POLL_S), 0.0)
        for descriptor, _ in poll.poll(pause_s * 1000):
            child = reading[descriptor]
            child.read(descriptor)
            for message in child.take_messages():
                self._running[child].handle_message(child, message)
        now = time.monotonic()
        for child in list(self._running):
            if child.has_ended():
                self._finish(child, child.end())
            elif child.deadline <= now:
                self._finish(child, child.kill())

    def _finish(self, child: ChildProcess, report: Report) -> None:
        """Process the report of a child that has ended: success, retry or failure."""
        unit = self._running.pop(child)
        for message in child.take_messages():
            unit.handle_message(child, message)
        if report.error:
            self._retry(unit, child, report)
            return
        unit.handle_report(child, report)
        for dependent in self._dependents[unit.name]:
            self._needs[dependent.name].discard(unit.name)
            if not self._needs[dependent.name]:
                self._ready.append((dependent, 0))

    def _retry(self, unit: ScheduledUnit, child: ChildProcess, report: Report) -> None:
        """Plan the next try of a unit that failed; raise FailedError if there is none."""
        tries = child.tries + 1
        wait_s = self._resources.plan_wait(tries) if unit.may_retry else None
        if wait_s is None:
            if tries > 1:
                report = report._replace(reason=f"{report.reason}, at the last of {tries} tries")
            raise UnitFailedError(unit, report, child.exit_code or 0)
        child.print_lines(report.error)
        child.print_lines(f"-- {report.reason}; again in {wait_s:g} s")
        self._retries.append((time.monotonic() + wait_s, unit, tries))
