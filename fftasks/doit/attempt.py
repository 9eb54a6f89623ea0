"""One attempt at a node, in steps, so that whoever waits for one node can go on with others."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fftasks.doit.database import ONCE
from fftasks.project import Project
from fftasks.stages import node as node_stage
from fftasks.stages.reasons import list_reasons

if TYPE_CHECKING:
    from fftasks.runtime.job import Job, Report


class Attempt:
    """A node from its lock to its record.

    job: what prepare() gave; as a further try, once plan_retry() has asked for one
    found: what doit keeps of a node whose result is there
    wait: for another run that has the node; else BlockingIOError is raised
    """

    job: Job
    found: dict[str, Any] = {"ran": False}  # noqa: RUF012 - never changed

    def __init__(self, project: Project, label: str, *, wait: bool = True) -> None:
        self.label = label
        self._project = project
        self._node = project.nodes[label].content
        self._inputs: dict[str, str] = {}
        self._errors: list[str] = []
        self._reason = ""
        self._is_running = False
        self._begin = time.time()
        self._lock = project.store.take_lock(self._node["slug"], wait=wait)

    def __enter__(self) -> Attempt:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def prepare(self) -> Job | None:
        """Return the job to run, or None if the result is there: another run may just have made it."""
        self._inputs = self._project.list_inputs(self.label)
        if self._project.find_node(self.label, self._inputs) is not None:
            return None
        pieces = self._project.list_pieces(self.label)
        reasons = list_reasons(self._node, self._inputs, self._project.store, pieces)
        self._reason = reasons[0]
        self._is_running = True
        self.job = self._project.prepare_node(self.label, self._inputs)
        return self.job

    def plan_retry(self, report: Report) -> float | None:
        """Return after how many seconds to run the job again, or None: then it has ended."""
        if not report.error:
            return None
        self._errors.append(report.error)
        self.job = self.job._replace(is_retry=True)
        return node_stage.plan_wait(self._project.settings_of(self._node), len(self._errors))

    def finish(self, report: Report) -> dict[str, Any]:
        """Record what the node gave, and return what doit keeps of it; raise NodeError if it failed."""
        trace = self._project.finish_node(self.label, self._inputs, report, self._errors)
        self._is_running = False
        tries = f"; try {trace.tries}" if trace.tries > 1 else ""
        return {
            "ran": True,
            "reason": f"{self._reason}{tries}",
            "seconds": trace.seconds,
            ONCE: {
                "begin": self._begin,
                "preview": trace.previews[""],
                "output": trace.outputs["result"],
            },
        }

    def close(self) -> None:
        """Let other runs have the node; remove what it has left, if it did not come to its end."""
        if self._is_running:
            node_stage.clear(self._node, self._project.store)
        os.close(self._lock)
