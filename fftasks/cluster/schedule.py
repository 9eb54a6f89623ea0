"""Let workflows run by the clock on the cluster, and see which do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.cluster.run import refuse_name
from fftasks.ports.kfp import make_runtime_config
from fftasks.ports.kfp_catalog import (
    Version,
    list_schedules,
    read_version_name,
    remove_schedules,
    set_schedule,
)
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages.submit import check_values, name_version
from fftasks.steps.outgoing import check_outgoing

_PREFIX = "fftasks: "


@dataclass(frozen=True)
class Made:
    """A recurring run; is_new: it was not there before, or otherwise."""

    identity: str
    is_new: bool


@dataclass(frozen=True)
class Schedule:
    """A workflow that runs by the clock.

    version: the name of the pipeline's version; is_current: it is the pipeline that was compiled here last
    values: of the run parameters; is_on: it starts runs
    """

    workflow: str
    cron: str
    is_on: bool
    version: str
    is_current: bool
    values: Mapping[str, Any]
    identity: str


def list_scheduled(project: Project) -> Iterator[Schedule]:
    """Yield what runs by the clock in the settings' experiment and was scheduled by fftasks, by name."""
    settings = project.settings.kfp
    rows = [row for row in list_schedules(settings) if _name_workflow(row)]
    for row in sorted(rows, key=_name_workflow):
        workflow, reference = _name_workflow(row), row.get("pipeline_version_reference") or {}
        version = read_version_name(settings, reference)
        yield Schedule(
            workflow=workflow,
            cron=_read_cron(row),
            is_on=row.get("status") == "ENABLED",
            version=version,
            is_current=version == _name_current(project, workflow),
            values=(row.get("runtime_config") or {}).get("parameters") or {},
            identity=str(row["recurring_run_id"]),
        )


def schedule_workflow(project: Project, workflow: str, version: Version, cron: str) -> Made:
    """Let a version of a workflow run by the clock, unless it does so already, at these times."""
    settings, name = project.settings.kfp, name_schedule(workflow)
    values = project.list_values(workflow)
    check_values(values)
    check_outgoing(project, "the recurring run", name, cron, values)
    found = [row for row in list_schedules(settings) if row.get("display_name") == name]
    wanted = (version.version_id, cron, "ENABLED", make_runtime_config(settings, values))
    if len(found) == 1 and _describe(found[0]) == wanted:
        return Made(str(found[0]["recurring_run_id"]), is_new=False)
    return Made(set_schedule(settings, name, version, cron, values), is_new=True)


def unschedule(project: Project, names: list[str]) -> Iterator[tuple[str, bool]]:
    """Let workflows run by the clock no more; yield each, and whether it did.

    names: all of the project's if there are none; also those that the project does not have any more.
    Raises ToolError with the nearest name.
    """
    settings, known = project.settings.kfp, set(project.workflows)
    if not known.issuperset(names):
        known |= {_name_workflow(row) for row in list_schedules(settings)} - {""}
    for name in names:
        if name not in known:
            raise refuse_name(f"there is no workflow {name!r}", name, sorted(known))
    for workflow in names or project.workflows:
        yield workflow, bool(remove_schedules(settings, name_schedule(workflow)))


def name_schedule(workflow: str) -> str:
    """Return the name of a workflow's recurring run."""
    return f"{_PREFIX}{workflow}"


def _name_workflow(schedule: Mapping[str, Any]) -> str:
    """Return the workflow of a recurring run, "" if it is not one of fftasks."""
    name = str(schedule.get("display_name", ""))
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""


def _name_current(project: Project, workflow: str) -> str:
    known = workflow in project.workflows
    record: Record | None = (
        read_record(project.record_path("pipeline", workflow)) if known else None
    )
    return name_version(record) if record else ""


def _read_cron(schedule: Mapping[str, Any]) -> str:
    return str(((schedule.get("trigger") or {}).get("cron_schedule") or {}).get("cron", ""))


def _describe(schedule: Mapping[str, Any]) -> tuple[object, ...]:
    reference = schedule.get("pipeline_version_reference") or {}
    config = schedule.get("runtime_config") or {}
    known = {key: config[key] for key in ("pipeline_root", "parameters") if config.get(key)}
    version = reference.get("pipeline_version_id")
    return version, _read_cron(schedule), schedule.get("status"), known
