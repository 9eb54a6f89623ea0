"""Store a workflow's pipeline on the cluster, and let it run by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.cluster.run import refuse_name
from fftasks.errors import StoreError
from fftasks.pipeline_steps import keep_images
from fftasks.ports.kfp import make_runtime_config
from fftasks.ports.kfp_catalog import Package, Version, list_schedules, set_schedule, upload_version
from fftasks.project import Project
from fftasks.record import read_record
from fftasks.stages.submit import check_values, describe


@dataclass(frozen=True)
class Schedule:
    """A workflow that runs by the clock; is_new: it did not so before, or otherwise."""

    name: str
    identity: str
    is_new: bool


def choose_workflows(project: Project, names: list[str]) -> list[str]:
    """Return the workflows that are meant; all if none is named. Raises ToolError with the nearest name."""
    known = list(project.workflows)
    for name in names:
        if name not in known:
            raise refuse_name(f"there is no workflow {name!r}", name, known)
    return names or known


def upload_workflow(project: Project, workflow: str) -> Version:
    """Store a workflow's compiled pipeline; the version is named by its digest, so equal ones are one."""
    keep_images(project, workflow)
    record = read_record(project.record_path("pipeline", workflow))
    if record is None:
        raise StoreError(f"the pipeline of {workflow!r} is gone", tip="run `doit pipeline`")
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    text = (project.folder / "pipeline" / f"{slug}.yaml").read_text("utf-8")
    settings = project.settings.kfp
    version = record["output"].removeprefix("sha256:")[:12]
    return upload_version(settings, Package(slug, version, describe(record, settings), text))


def schedule_workflow(project: Project, workflow: str, version: Version, cron: str) -> Schedule:
    """Let a version of a workflow run by the clock, unless it does so already, at these times."""
    settings, name = project.settings.kfp, name_schedule(workflow)
    values = project.list_values(workflow)
    check_values(values)
    found = list_schedules(settings, name)
    wanted = (version.version_id, cron, "ENABLED", make_runtime_config(settings, values))
    if len(found) == 1 and _describe(found[0]) == wanted:
        return Schedule(name, str(found[0]["recurring_run_id"]), is_new=False)
    identity = set_schedule(settings, name, version, cron, values)
    return Schedule(name, identity, is_new=True)


def _describe(schedule: Mapping[str, Any]) -> tuple[object, ...]:
    reference = schedule.get("pipeline_version_reference") or {}
    trigger = (schedule.get("trigger") or {}).get("cron_schedule") or {}
    config = schedule.get("runtime_config") or {}
    known = {key: config[key] for key in ("pipeline_root", "parameters") if config.get(key)}
    return (
        *(reference.get("pipeline_version_id"), trigger.get("cron")),
        *(schedule.get("status"), known),
    )


def name_schedule(workflow: str) -> str:
    """Return the name of a workflow's recurring run."""
    return f"fftasks: {workflow}"
