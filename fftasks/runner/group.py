"""Run the nodes of a group in one container: each in a process of its own, as many at a time as it may.

The first node that fails ends the group: Kubeflow Pipelines keeps nothing of a task that fails.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, number_inputs
from fftasks.errors import NodeError
from fftasks.runner.artifact import Place, Value
from fftasks.runner.child_process import Child, Run, Tell
from fftasks.runner.job import Examine, Job, Report, list_outputs, run_job
from fftasks.runner.scheduler import FailedError, Means, Schedule

_MAX_NAMES = 20
# what is said of a group and of its nodes, which cluster/outcome.py and cluster/account.py read
AT_END = "the other lines of its log begin with {!r}"
DONE = "done"  # message of the process that runs the nodes: one has finished
SAYS_DONE = "-- done in {} s"
SAYS_KEPT = "-- up to date, result reused from the last run"
_WHOLE = 100  # seconds, from which on they have no fraction

Values = dict[tuple[str, str], Value]  # node and output -> value


@dataclass(frozen=True)
class Made:
    """What the nodes of a group gave: values, what each reported, and the folders with what they show."""

    values: Values = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    pages: dict[str, Path] = field(default_factory=dict)


class NodeFailure(NodeError):  # noqa: N818 - one kind of NodeError
    """A node has failed.

    Attributes:
        node: Its name.
        reason: One line without its name.
    """

    def __init__(self, attempted: str, *, node: str = "", reason: str = "", **more: Any) -> None:
        super().__init__(attempted, **more)
        self.node, self.reason = node, reason


class Group:
    """Nodes that run in one container, each when those that it needs are done.

    Args:
        nodes: Each behind those that it needs.
        given: The values that are there already.
        folder: Takes the artifacts.
        means: How many run at a time, how long, and how often they are tried.
        parameters: The values of run parameters.
        tell: Is called with "done" and the name of each node that has finished.
    """

    def __init__(  # noqa: PLR0913
        self,
        nodes: Sequence[Node],
        given: Mapping[tuple[str, str], Value],
        folder: Path,
        means: Means,
        parameters: Mapping[str, Any],
        *,
        tell: Tell,
    ) -> None:
        self.nodes, self.folder, self.means, self.parameters = nodes, folder, means, parameters
        self.values = dict(given)
        self.made = Made()
        self._tell = tell
        self._begun = 0

    def run(self) -> Made:
        """Run all nodes; raise NodeFailure for the first one that fails, with those that finished."""
        names = {node.name for node in self.nodes}
        units = [_NodeUnit(self, node, names) for node in self.nodes]
        try:
            Schedule(units, self.means).run()
        except FailedError as failed:
            raise self._describe_failure(failed.unit.name, failed.report) from None
        return self.made

    def run_here(self, node: Node, examine: Examine | None = None) -> Made:
        """Run one more node in this process, when all others are done; raise NodeFailure if it fails.

        Args:
            node: The node.
            examine: Is shown what its function raises.
        """
        job = self.make_job(node)
        report = run_job(node, job, examine=examine)
        if report.error:  # whoever examines it has seen the rest
            error = report.error.partition("\n")[0] if examine else report.error
            raise NodeFailure(error, node=node.name, reason=report.reason)
        self.take(node, job, report)
        return self.made

    def make_job(self, node: Node) -> Job:
        """Return the job of one try of a node, with paths of its own for all that it writes."""
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
            pages=str(self.folder / f"{self._begun}.pages"),
        )

    def take(self, node: Node, job: Job, report: Report) -> None:
        """Note what a node has given."""
        for output, digest in report.outputs.items():
            self.values[node.name, output] = Value(Place(job.outputs[output]), digest)
            self.made.values[node.name, output] = self.values[node.name, output]
        self.made.reports[node.name] = report
        if report.pages:
            self.made.pages[node.name] = Path(job.pages)
        self._tell(DONE, node.name)

    def _describe_failure(self, node: str, report: Report) -> NodeFailure:
        headline, _, rest = report.error.partition("\n")
        done = [other.name for other in self.nodes if other.name in self.made.reports]
        counted = f"{len(done)} of {len(self.nodes)} nodes have finished"
        return NodeFailure(
            headline,
            node=node,
            reason=report.reason,
            found=[*([rest] if rest else []), f"of its group, {counted}: {_list(done)}"],
            tip=AT_END.format(node),
        )


class _NodeUnit:
    """A node of a group, as the schedule runs it."""

    may_retry, where = True, ""

    def __init__(self, group: Group, node: Node, names: set[str]) -> None:
        self.name = node.name
        self.needs = {parent.name for parent in node.parents} & names
        self._group, self._node = group, node
        self._job: Job

    def prepare(self) -> Run:
        # the inputs are numbered here, as each process would have to copy the memory that it touches
        self._job, inputs = self._group.make_job(self._node), number_inputs(self._node)
        run = functools.partial(run_job, self._node, self._job, None, inputs)
        return lambda _tell: run()

    def note(self, child: Child, message: tuple[Any, ...]) -> None:
        pass

    def take(self, child: Child, report: Report) -> None:
        child.say(SAYS_DONE.format(spell_seconds(report.seconds)))
        self._group.take(self._node, self._job, report)


def spell_seconds(seconds: float) -> str:
    """Return seconds in three digits, or as a whole number."""
    return f"{seconds:.3g}" if seconds < _WHOLE else f"{seconds:.0f}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES]) or "none"
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
