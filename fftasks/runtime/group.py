"""Run the nodes of a group in one container: each in a process of its own, as many at a time as it may.

The first node that fails ends the group: Kubeflow Pipelines keeps nothing of a task that fails.
"""

from __future__ import annotations

import collections
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.errors import NodeError
from fftasks.runtime.call import list_outputs, number_inputs
from fftasks.runtime.child import Child, say
from fftasks.runtime.debug import Examine
from fftasks.runtime.job import Job, Report, run_job
from fftasks.runtime.pack import Place, Value
from fftasks.workflow.node import Node

_MAX_NAMES = 20
# what is said of a group and of its nodes, which cluster/outcome.py and cluster/account.py read
AT_END = "the other lines of its log begin with {!r}"
SAYS_DONE = "-- done in {} s"
SAYS_KEPT = "-- unchanged, kept from the last run"
_WHOLE = 100  # seconds, from which on they have no fraction

Values = dict[tuple[str, str], Value]  # node and output -> value


@dataclass(frozen=True)
class Means:
    """What a group has to run with.

    cpu: how many nodes at a time
    timeout_s: seconds after which a node is killed; 0: never
    retries: how often a node is tried again; wait_s: seconds before; factor: how much longer each next time
    """

    cpu: int = 1
    timeout_s: int = 0
    retries: int = 0
    wait_s: float = 0.0
    factor: float = 2.0
    max_wait_s: float = 3600.0


@dataclass(frozen=True)
class Made:
    """What the nodes of a group gave: values, what each reported, and the folders with what they show."""

    values: Values = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    pages: dict[str, Path] = field(default_factory=dict)


class Group:
    """Nodes that run in one container, each when those that it needs are done.

    nodes: each behind those that it needs; given: what is there already; folder: takes the artifacts
    parameters: run parameter -> its value
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        given: Mapping[tuple[str, str], Value],
        folder: Path,
        means: Means,
        parameters: Mapping[str, Any],
    ) -> None:
        self.nodes, self.folder, self.means, self.parameters = nodes, folder, means, parameters
        self.values = dict(given)
        self.made = Made()
        names = {node.name for node in nodes}
        self._needs = {n.name: {p.name for p in n.parents} & names for n in nodes}
        self._followers: dict[str, list[Node]] = {name: [] for name in names}
        for node in nodes:
            for name in self._needs[node.name]:
                self._followers[name].append(node)
        self._ready = collections.deque((n, 0) for n in nodes if not self._needs[n.name])
        self._later: list[tuple[float, Node, int]] = []  # when to try a node again
        self._children: list[Child] = []
        self._begun = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> Made:
        """Run all nodes; raise NodeError for the first one that fails, with those that finished."""
        try:
            while self._ready or self._later or self._children:
                self._start()
                self._wait()
        finally:
            for child in self._children:
                child.kill()
            self._selector.close()
        return self.made

    def run_here(self, node: Node, examine: Examine) -> None:
        """Run one more node in this process, when all others are done; raise NodeError if it fails.

        examine: is shown what its function raises
        """
        job = self._make_job(node)._replace(timeout_s=0)
        report = run_job(node, job, examine=examine)
        if report.error:  # whoever examines it has seen the rest
            raise NodeError(report.error.partition("\n")[0])
        self._take(node, job, report)

    def _start(self) -> None:
        now = time.monotonic()
        self._ready.extendleft((node, tries) for due, node, tries in self._later if due <= now)
        self._later = [one for one in self._later if one[0] > now]
        while self._ready and len(self._children) < self.means.cpu:
            node, tries = self._ready.popleft()
            child = Child.start(node, self._make_job(node), tries)
            self._children.append(child)
            self._selector.register(child.report, selectors.EVENT_READ, (child, True))
            self._selector.register(child.printed, selectors.EVENT_READ, (child, False))

    def _make_job(self, node: Node) -> Job:
        self._begun += 1
        return Job(
            workflow="",
            node=node.name,
            inputs={
                name: self.values[needed.node.name, needed.output].place
                for name, needed in number_inputs(node).items()
            },
            outputs={
                output: str(self.folder / f"{self._begun}.{output}")
                for output in list_outputs(node)
            },
            values=self.parameters,
            timeout_s=self.means.timeout_s,
            pages=str(self.folder / f"{self._begun}.pages"),
        )

    def _wait(self) -> None:
        """Wait until something can be done, and do it."""
        next_s = min(
            [child.deadline for child in self._children] + [due for due, *_ in self._later]
        )
        left_s = None if next_s == float("inf") else max(next_s - time.monotonic(), 0.0)
        for key, _ in self._selector.select(left_s):
            child, is_report = key.data
            if is_report and not child.read_report():
                self._settle(child, child.end)
            elif not is_report and child in self._children and not child.read_printed():
                self._selector.unregister(child.printed)
        now = time.monotonic()
        for child in [child for child in self._children if child.deadline <= now]:
            self._settle(child, child.kill)

    def _settle(self, child: Child, end: Callable[[], Report]) -> None:
        self._children.remove(child)
        for descriptor in (child.report, child.printed):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        report = end()
        if report.error:
            self._try_again(child, report)
            return
        self._take(child.node, child.job, report)
        for follower in self._followers[child.node.name]:
            self._needs[follower.name].discard(child.node.name)
            if not self._needs[follower.name]:
                self._ready.append((follower, 0))

    def _take(self, node: Node, job: Job, report: Report) -> None:
        """Note what a node has given."""
        say(node, SAYS_DONE.format(spell_seconds(report.seconds)))
        for output, digest in report.outputs.items():
            self.values[node.name, output] = Value(Place(job.outputs[output]), digest)
            self.made.values[node.name, output] = self.values[node.name, output]
        self.made.reports[node.name] = report
        if report.pages:
            self.made.pages[node.name] = Path(job.pages)

    def _try_again(self, child: Child, report: Report) -> None:
        means, tries = self.means, child.tries + 1
        if tries > means.retries:
            raise self._describe_failure(child.node, report.error)
        wait_s = min(means.wait_s * means.factor**child.tries, means.max_wait_s)
        say(child.node, f"-- {report.error.partition(chr(10))[0]}; again in {wait_s:g} s")
        self._later.append((time.monotonic() + wait_s, child.node, tries))

    def _describe_failure(self, node: Node, error: str) -> NodeError:
        headline, _, rest = error.partition("\n")
        done = [other.name for other in self.nodes if other.name in self.made.reports]
        return NodeError(
            headline,
            found=[
                *([rest] if rest else []),
                f"of its group, {len(done)} of {len(self.nodes)} nodes have finished: {_list(done)}",
            ],
            tip=AT_END.format(node.name),
        )


def spell_seconds(seconds: float) -> str:
    """Return seconds in three digits, or as a whole number."""
    return f"{seconds:.3g}" if seconds < _WHOLE else f"{seconds:.0f}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES]) or "none"
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
