"""Plan a run: which nodes and stages would run, and why. Planning changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fftasks.cache.fingerprint import find_cached_record, list_fingerprint_inputs
from fftasks.image.builders import find_missing_images
from fftasks.pipeline.stages import plan_stage
from fftasks.pipeline.workflow_stages import list_references
from fftasks.project import BUILT_TOGETHER, STAGE_NEEDS, Project
from fftasks.records import Record
from fftasks.report.reasons import explain_node, explain_stage, explain_upstream

STAGES = tuple(STAGE_NEEDS)
_SHARED = STAGES[:3]


@dataclass(frozen=True)
class PlannedTask:
    """The plan for one node or stage.

    Attributes:
        name: Label of the node, or "<stage>" or "<stage>:<workflow>".
        runs: Whether it will run.
        reasons: Why it will run, one sentence each.
        code: Names of the code that a node depends on.
        settings: Changed settings of a node, with the places where they are set.
    """

    name: str
    runs: bool
    reasons: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        shown = {"code": self.code, "settings": self.settings}
        return {"task": self.name, "runs": self.runs, "reasons": self.reasons, **shown}


def list_required_stages(wanted: Iterable[str]) -> list[str]:
    """Return stages and all stages that they need, in the order in which they run.

    Args:
        wanted: Names of stages.
    """
    needed = set(wanted)
    for stage in reversed(STAGES):
        if stage in needed:
            needed.update(STAGE_NEEDS[stage], BUILT_TOGETHER.get(stage, ()))
    return [stage for stage in STAGES if stage in needed]


def plan_nodes(project: Project, wanted: set[str] | None = None) -> list[PlannedTask]:
    """Return the plans of nodes, upstream nodes first.

    Args:
        project: The project.
        wanted: Labels of nodes, which are planned with their upstream nodes; None for all nodes.
    """
    labels = list(project.nodes) if wanted is None else project.list_needed(wanted)
    records: dict[str, Record] = {}
    return [_plan_node(project, label, records) for label in labels]


def plan_stages(project: Project, *wanted: str) -> list[PlannedTask]:
    """Return the plans of stages and of all stages that they need.

    Args:
        project: The project.
        wanted: Names of stages.
    """
    plans: dict[str, PlannedTask] = {}
    for stage in list_required_stages(wanted):
        for workflow in ("",) if stage in _SHARED else tuple(project.workflows):
            name = f"{stage}:{workflow}" if workflow else stage
            plans[name] = _plan_stage(project, stage, workflow, plans)
    return list(_check_registry(project, plans).values())


def _check_registry(project: Project, plans: dict[str, PlannedTask]) -> dict[str, PlannedTask]:
    """Plan the stage pins if images that a submit needs were removed from the registry."""
    for workflow in project.workflows:
        names = [f"pins:{workflow}", f"submit:{workflow}"]
        if [plans[n].runs for n in names if n in plans] == [False, True]:
            references = list_references(project, workflow)
            gone = find_missing_images(project, references, wait=False)
            what = (
                "image was"
                if len(references) == 1
                else f"{len(gone)} of {len(references)} images were"
            )
            reason = f"{what} removed from the registry"
            if gone:
                plans[names[0]] = PlannedTask(names[0], True, (reason,))
    return plans


def _plan_node(project: Project, label: str, records: dict[str, Record]) -> PlannedTask:
    node = project.nodes[label]
    code, settings = tuple(node.pieces), project.find_node_settings(node.content)
    shown = tuple(settings.describe())
    waiting = [other for other in node.upstream if other not in records]
    if waiting:
        return PlannedTask(label, True, tuple(explain_upstream(waiting)), code, shown)
    ids = dict(zip(node.content["upstream"], node.upstream, strict=True))
    upstream = {identity: records[other] for identity, other in ids.items()}
    inputs = list_fingerprint_inputs(node.content, upstream, project.data, settings)
    record = find_cached_record(node.content, inputs, project.store, keep=False)
    if record is not None:
        records[label] = record
        return PlannedTask(label, False, (), code, shown)
    return PlannedTask(label, True, tuple(explain_node(project, label, inputs)), code, shown)


def _plan_stage(
    project: Project, stage: str, workflow: str, before: dict[str, PlannedTask]
) -> PlannedTask:
    name = f"{stage}:{workflow}" if workflow else stage
    step = plan_stage(project, stage, workflow)
    needs = [n if n in _SHARED else f"{n}:{workflow}" for n in STAGE_NEEDS[stage]]
    waiting = [other for other in needs if before[other].runs]
    if waiting:
        return PlannedTask(name, True, tuple(explain_upstream(waiting)))
    reasons = explain_stage(step)
    return PlannedTask(name, bool(reasons), tuple(reasons))
