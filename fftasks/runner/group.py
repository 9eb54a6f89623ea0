"""Run the nodes of a group in one container, each node in a child process, several in parallel.

The first node that fails ends the group: Kubeflow Pipelines stores no output of a task that fails.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, name_inputs
from fftasks.errors import NodeError
from fftasks.runner.artifact import ArtifactLocation, StoredValue
from fftasks.runner.child_process import ChildProcess, RunInChild, SendMessage
from fftasks.runner.job import Job, OnError, Report, list_outputs, run_job
from fftasks.runner.scheduler import PodResources, UnitFailedError, UnitScheduler

_MAX_NAMES = 20
# lines of a group's log; kfp/pod_log.py searches for them
LOG_PREFIX_NOTE = "the other lines of its log begin with {!r}"
NODE_DONE_LINE = "-- done in {} s"
NODE_REUSED_LINE = "-- up to date, result reused from the last run"
DONE = "done"  # kind of the message that a node of the group has finished
_WHOLE_SECONDS = 100  # seconds from which on a duration is shown without a fraction

GroupValues = dict[tuple[str, str], StoredValue]  # node and output -> value


@dataclass(frozen=True)
class GroupResults:
    """The results of the nodes of a group that have finished.

    Attributes:
        values: Node and output -> value.
        reports: Node -> its report.
        pages: Node -> folder with the files that display its result.
    """

    values: GroupValues = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    pages: dict[str, Path] = field(default_factory=dict)


class NodeFailure(NodeError):  # noqa: N818 - one kind of NodeError
    """A node has failed.

    Attributes:
        node: Its name.
        reason: The error in one line, without the name.
    """

    def __init__(self, attempted: str, *, node: str = "", reason: str = "", **more: Any) -> None:
        super().__init__(attempted, **more)
        self.node, self.reason = node, reason


class Group:
    """Nodes that run in one container, in the order of their dependencies.

    Args:
        nodes: Nodes in topological order.
        given: Values that exist already: node and output -> value.
        folder: Folder for the artifacts.
        resources: Parallelism, time limit and retries.
        parameters: Run parameter -> value, where it differs from the default.
        send: Function that is called with DONE and the name of each node that has finished.
    """

    def __init__(  # noqa: PLR0913
        self,
        nodes: Sequence[Node],
        given: Mapping[tuple[str, str], StoredValue],
        folder: Path,
        resources: PodResources,
        parameters: Mapping[str, Any],
        *,
        send: SendMessage,
    ) -> None:
        self.nodes, self.folder, self.parameters = nodes, folder, parameters
        self.resources = resources
        self.values = dict(given)
        self.results = GroupResults()
        self._send = send
        self._jobs = 0  # number of jobs so far, for the names of their files

    def run(self) -> GroupResults:
        """Run all nodes.

        Raises:
            NodeFailure: A node failed. The error names the nodes that had finished.
        """
        names = {node.name for node in self.nodes}
        units = [_NodeUnit(self, node, names) for node in self.nodes]
        try:
            UnitScheduler(units, self.resources).run()
        except UnitFailedError as failed:
            node, report = failed.unit.name, failed.report
            headline, _, rest = report.error.partition("\n")
            done = [other.name for other in self.nodes if other.name in self.results.reports]
            counted = f"{len(done)} of {len(self.nodes)} nodes have finished"
            raise NodeFailure(
                headline,
                node=node,
                reason=report.reason,
                found=[*([rest] if rest else []), f"of its group, {counted}: {_join_names(done)}"],
                tip=LOG_PREFIX_NOTE.format(node),
            ) from None
        return self.results

    def run_in_this_process(self, node: Node, on_error: OnError | None = None) -> GroupResults:
        """Run one more node, without a child process; call this after run().

        Args:
            node: The node.
            on_error: Called with the error of the node's function; it shows the error to the user.

        Returns:
            The results of all nodes so far.

        Raises:
            NodeFailure: The node failed.
        """
        job = self.make_job(node)
        report = run_job(node, job, on_error=on_error)
        if report.error:
            # on_error has shown the traceback already
            error = report.error.partition("\n")[0] if on_error else report.error
            raise NodeFailure(error, node=node.name, reason=report.reason)
        self.add_result(node, job, report)
        return self.results

    def make_job(self, node: Node) -> Job:
        """Return the job for one try of a node; it writes to paths that no other job uses."""
        self._jobs += 1
        return Job(
            workflow="",
            node=node.name,
            inputs={
                name: self.values[needed.node.name, needed.output].place
                for name, needed in name_inputs(node).items()
            },
            outputs={
                output: str(self.folder / f"{self._jobs}.{output}") for output in list_outputs(node)
            },
            values=self.parameters,
            pages=str(self.folder / f"{self._jobs}.pages"),
        )

    def add_result(self, node: Node, job: Job, report: Report) -> None:
        """Store the result of a node that has finished, and send the message that it is done."""
        for output, digest in report.outputs.items():
            self.values[node.name, output] = StoredValue(
                ArtifactLocation(job.outputs[output]), digest
            )
            self.results.values[node.name, output] = self.values[node.name, output]
        self.results.reports[node.name] = report
        if report.pages:
            self.results.pages[node.name] = Path(job.pages)
        self._send(DONE, node.name)


class _NodeUnit:
    """A node of a group as a unit of the schedule."""

    may_retry, where = True, ""

    def __init__(self, group: Group, node: Node, names: set[str]) -> None:
        self.name = node.name
        self.needs = {parent.name for parent in node.parents} & names
        self._group, self._node = group, node
        self._job: Job

    def prepare(self) -> RunInChild:
        # name_inputs is called in the parent: a child would have to copy the memory pages that it touches
        self._job, inputs = self._group.make_job(self._node), name_inputs(self._node)
        run = functools.partial(run_job, self._node, self._job, None, inputs)
        return lambda _send: run()

    def handle_message(self, child: ChildProcess, message: tuple[Any, ...]) -> None:
        pass

    def handle_report(self, child: ChildProcess, report: Report) -> None:
        child.print_lines(NODE_DONE_LINE.format(format_duration(report.seconds)))
        self._group.add_result(self._node, self._job, report)


def format_duration(seconds: float) -> str:
    """Return seconds with three digits, or as an integer if there are more digits before the point."""
    return f"{seconds:.3g}" if seconds < _WHOLE_SECONDS else f"{seconds:.0f}"


def _join_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES]) or "none"
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
