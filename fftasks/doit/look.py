"""Look whether what a task makes is there already, and is what making it now would give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from fftasks.doit.database import RecordChecker
from fftasks.project import FOLDER, Project, open_current


class Checker(RecordChecker):
    """Knows what nodes gave by their records' signatures: each is asked for by all that need it."""

    def recall_outputs(self, path: str) -> Mapping[str, str] | None:
        """Return what the record at a path is known to give; None if it must be read."""
        if not path.startswith(f"{FOLDER}/nodes/"):
            return None
        project = open_current()
        return project.store.recall_last_outputs(f"{project.root}/{path}")


class StageLook:
    """Tell whether a stage's record is what making it now would give; an `uptodate` of doit."""

    def __init__(self, stage: str, workflow: str, *, again: bool) -> None:
        self.stage, self.workflow, self.again = stage, workflow, again

    def __repr__(self) -> str:
        return f"the record of {self.stage} {self.workflow}".strip()

    def __call__(self) -> bool:
        from fftasks.steps.assembly import plan
        from fftasks.steps.step import is_current

        try:
            return is_current(plan(open_current(), self.stage, self.workflow, again=self.again))
        except Exception:  # noqa: BLE001 - see NodeLook
            return False


class NodeLook:
    """Tell whether a node's result is there for what its fingerprint is now; an `uptodate` of doit."""

    # doit asks each for its parameters, and finding them out takes longer than looking
    __signature__ = inspect.Signature()

    def __init__(self, project: Project, label: str) -> None:
        self.project, self.label = project, label

    def __repr__(self) -> str:
        return f"the result of {self.label} is there"

    def __call__(self) -> bool:
        try:
            inputs = self.project.list_inputs(self.label)
            return self.project.find_node(self.label, inputs) is not None
        except Exception:  # noqa: BLE001 - the action meets it again, and says it as a failure; with an
            return False  # exception here doit would end, and wait for its workers for ever
