"""Execution settings of a pod: number of parallel nodes, time limit, retries. Standard library only.

The values travel in an environment variable, which is not part of the cache key of Kubeflow Pipelines: a
change of retries or of a time limit invalidates no result.

Run units of work in processes of their own, in the order of their needs: time limits and retries.

Both the entry point of a pod and the process that runs the nodes of a group use it.
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
from fftasks.runner.child_process import Child, Run
from fftasks.runner.job import Report

VARIABLE = "FFMEANS"
_RETRY_INDEX = (
    "KFP_RETRY_INDEX"  # how often Kubernetes has started the pod again; from KFP 2.16.1 on
)
_MAX_EXPONENT = 64  # beyond it, every wait is the longest one, and floats overflow


@dataclass(frozen=True)
class PodResources:
    """What the nodes of a pod are run with.

    Attributes:
        cpu: How many nodes of a group run at a time.
        timeout_s: Seconds after which one try is killed; 0 for no limit.
        retries: How often a node that failed is tried again.
        wait_s: Seconds before the first retry.
        factor: By how much each further wait is longer than the one before.
        max_wait_s: The longest wait in seconds.
    """

    cpu: int = 1
    timeout_s: int = 0
    retries: int = 0
    wait_s: float = 0.0
    factor: float = 2.0
    max_wait_s: float = 3600.0

    def plan_wait(self, failures: int) -> float | None:
        """Return the seconds before the next try, or None if there is none.

        Args:
            failures: How often the node has failed, at least 1.
        """
        if failures > self.retries:
            return None
        wait_s = self.wait_s * self.factor ** min(failures - 1, _MAX_EXPONENT)
        return float(min(wait_s, self.max_wait_s))


def format_pod_resources(means: PodResources) -> str:
    """Return the value of the environment variable, "" where all is as without it."""
    given = {
        field.name: getattr(means, field.name)
        for field in dataclasses.fields(PodResources)
        if getattr(means, field.name) != field.default
    }
    return json.dumps(given, separators=(",", ":")) if given else ""


def _parse(text: str) -> PodResources:
    fields = {field.name: field.default for field in dataclasses.fields(PodResources)}
    try:
        given = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise WorkflowError(f"{VARIABLE} is not a JSON object", found=[str(error), text]) from error
    for name, value in given.items():
        is_fit = type(value) in ((int, float) if isinstance(fields.get(name), float) else (int,))
        if name not in fields or not is_fit:
            raise WorkflowError(
                f"{VARIABLE} has an invalid value: {name}: {value!r}",
                found=[f"known, with their defaults: {json.dumps(fields)}"],
                tip="run `doit submit` again, so that image and pipeline are of the same version",
            )
    return PodResources(**given)


def read_pod_resources() -> PodResources:
    """Return what the environment of this pod says.

    A pod that Kubernetes has started again tries each node once: tries would be multiplied otherwise.
    """
    means = _parse(os.environ.get(VARIABLE) or "{}")
    index = os.environ.get(_RETRY_INDEX, "")
    if index.isdecimal() and int(index) > 0:
        return dataclasses.replace(means, retries=0)
    return means


_LONGEST_S = 3600.0  # that poll is asked to wait, which takes no more than some weeks
_poll = select.poll  # before code of the user's can replace it


class Unit(Protocol):
    """What is run in a process of its own.

    Attributes:
        name: What the log calls it.
        needs: The names of the units that have to be done before.
        may_retry: Whether another try is of use; may change while it runs.
        where: What its process does first, for a timeout: "while wf.py was imported"; "" for nothing special.
    """

    name: str
    needs: set[str]
    may_retry: bool
    where: str

    def prepare(self) -> Run:
        """Return what a new process is to run; called before each try."""

    def note(self, child: Child, message: tuple[Any, ...]) -> None:
        """Take a message that the process has sent."""

    def take(self, child: Child, report: Report) -> None:
        """Take the report of a try that went well."""


class FailedError(Exception):
    """A unit has failed, and is not tried again.

    Attributes:
        unit: The unit.
        report: What its last try has reported.
        exit_code: The exit code of the last process, or a signal as -code.
    """

    def __init__(self, unit: Unit, report: Report, exit_code: int) -> None:
        super().__init__(report.error)
        self.unit, self.report, self.exit_code = unit, report, exit_code


class Schedule:
    """Units that run when those that they need are done, `means.cpu` at a time.

    Args:
        units: Each behind those that it needs.
        means: How many run at a time, how long, and how often they are tried.
        is_alone: Whether the processes have the standard streams of this one; see Child.
    """

    def __init__(self, units: Sequence[Unit], means: PodResources, *, is_alone: bool = False) -> None:
        self._means, self._is_alone = means, is_alone
        self._needs = {unit.name: set(unit.needs) for unit in units}
        self._followers: dict[str, list[Unit]] = {unit.name: [] for unit in units}
        for unit in units:
            for name in unit.needs:
                self._followers[name].append(unit)
        self._ready = collections.deque((unit, 0) for unit in units if not unit.needs)
        self._later: list[tuple[float, Unit, int]] = []  # when to try again
        self._running: dict[Child, Unit] = {}

    def run(self) -> None:
        """Run all units.

        Raises:
            FailedError: One has failed; those that ran beside it were killed.
        """
        try:
            while self._ready or self._later or self._running:
                self._start()
                self._wait()
        except (FailedError, KeyboardInterrupt):
            for child in self._running:
                child.kill()
            raise
        except BaseException:
            for child in self._running:
                child.terminate()
            raise

    def _start(self) -> None:
        now = time.monotonic()
        self._ready.extendleft((unit, tries) for due, unit, tries in self._later if due <= now)
        self._later = [one for one in self._later if one[0] > now]
        while self._ready and len(self._running) < self._means.cpu:
            unit, tries = self._ready.popleft()
            timeout_s = self._means.timeout_s
            child = Child(
                unit.name, unit.prepare(), timeout_s=timeout_s, tries=tries, is_alone=self._is_alone
            )
            child.where = unit.where
            self._running[child] = unit

    def _wait(self) -> None:
        """Wait until something can be done, and do it."""
        reading = {d: child for child in self._running for d in child.descriptors}
        poll = _poll()
        for descriptor in reading:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(self._plan_pause() * 1000):
            child = reading[descriptor]
            child.read(descriptor)
            for message in child.take_messages():
                self._running[child].note(child, message)
        now = time.monotonic()
        for child in list(self._running):
            if child.has_ended():
                self._settle(child, child.end())
            elif child.deadline <= now:
                self._settle(child, child.kill())

    def _plan_pause(self) -> float:
        """Return the seconds until there may be something to do that no pipe tells."""
        due = [child.deadline for child in self._running] + [one[0] for one in self._later]
        looks = [child.plan_look() for child in self._running]
        return max(min(min(due) - time.monotonic(), *looks, _LONGEST_S), 0.0)

    def _settle(self, child: Child, report: Report) -> None:
        unit = self._running.pop(child)
        for message in child.take_messages():
            unit.note(child, message)
        if report.error:
            self._try_again(unit, child, report)
            return
        unit.take(child, report)
        for follower in self._followers[unit.name]:
            self._needs[follower.name].discard(unit.name)
            if not self._needs[follower.name]:
                self._ready.append((follower, 0))

    def _try_again(self, unit: Unit, child: Child, report: Report) -> None:
        tries = child.tries + 1
        wait_s = self._means.plan_wait(tries) if unit.may_retry else None
        if wait_s is None:
            if tries > 1:
                report = report._replace(reason=f"{report.reason}, at the last of {tries} tries")
            raise FailedError(unit, report, child.exit_code or 0)
        child.say(report.error)
        child.say(f"-- {report.reason}; again in {wait_s:g} s")
        self._later.append((time.monotonic() + wait_s, unit, tries))
