"""When a schedule fires: cron with six fields, as Kubeflow Pipelines reads it.

    second  minute  hour  day of the month  month  day of the week

It takes five fields as well, and reads the first one as the second: "0 6 * * *", six o'clock to everybody
else, is each hour at minute 6 there. So five fields are refused here.

Let workflows run by the clock on the cluster, and see which do.

Store a workflow's pipeline on the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.errors import SettingsError, StoreError
from fftasks.kfp.client import make_runtime_config
from fftasks.kfp.pipeline_versions import (
    Package,
    PipelineVersion,
    list_schedules,
    read_version_name,
    remove_schedules,
    set_schedule,
    upload_version,
)
from fftasks.kfp.run import explain_unknown_name, format_run_description
from fftasks.pipeline.secret_check import check_outgoing
from fftasks.pipeline.submit import check_values, name_version
from fftasks.pipeline.workflow_stages import ensure_images, read_pipeline
from fftasks.project import Project
from fftasks.records import Record, read_record

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_DAYS = "SUN MON TUE WED THU FRI SAT".split()
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_EVERY = re.compile(r"@every (\d+(\.\d+)?(h|m|s))+")
_USUAL = 5
_TIP = '"0 0 6 * * *" is each day at 6:00:00 UTC; fields: second minute hour day month weekday'


def check_cron(text: str) -> str:
    """Return a schedule with single blanks; raise SettingsError for what KFP would not read as meant."""
    fields = text.split()
    cron = " ".join(fields)
    if cron in _WORDS or _EVERY.fullmatch(cron):
        return cron
    attempted = f"schedule: {text!r} is not a time that Kubeflow Pipelines understands as meant"
    if len(fields) == _USUAL:
        found = ["it has 5 fields; here there are 6, and the first one is the second"]
        raise SettingsError(attempted, found=found, tip=f'write "0 {cron}"')
    if len(fields) != len(_FIELDS):
        found = [f"it has {len(fields)} fields, not 6"]
        raise SettingsError(attempted, found=found, tip=_TIP)
    for field, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _is_valid(part.upper(), least, most, words):
                found = [f"{part!r} is no {name}: {least} to {most}, *, ranges a-b, steps */n"]
                raise SettingsError(attempted, found=found, tip=_TIP)
    return cron


def _is_valid(part: str, least: int, most: int, words: Sequence[str]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    ends = span.split("-")
    numbers = [_read(end, least, words) for end in ends]
    if len(ends) > 2 or None in numbers:  # noqa: PLR2004 - a range has two ends
        return False
    known = [number for number in numbers if number is not None]
    return least <= known[0] <= known[-1] <= most


def _read(word: str, least: int, words: Sequence[str]) -> int | None:
    if word in words:
        return words.index(word) + least
    return int(word) if word.isascii() and word.isdecimal() else None


_PREFIX = "fftasks: "


@dataclass(frozen=True)
class ScheduleResult:
    """A recurring run; is_new: it was not there before, or otherwise."""

    identity: str
    is_new: bool


@dataclass(frozen=True)
class RecurringRun:
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


def list_recurring_runs(project: Project) -> Iterator[RecurringRun]:
    """Yield what runs by the clock in the settings' experiment and was scheduled by fftasks, by name."""
    settings = project.settings.kfp
    rows = [row for row in list_schedules(settings) if _name_workflow(row)]
    for row in sorted(rows, key=_name_workflow):
        workflow, reference = _name_workflow(row), row.get("pipeline_version_reference") or {}
        version = read_version_name(settings, reference)
        yield RecurringRun(
            workflow=workflow,
            cron=_read_cron(row),
            is_on=row.get("status") == "ENABLED",
            version=version,
            is_current=version == _name_current(project, workflow),
            values=(row.get("runtime_config") or {}).get("parameters") or {},
            identity=str(row["recurring_run_id"]),
        )


def schedule_workflow(
    project: Project, workflow: str, version: PipelineVersion, cron: str
) -> ScheduleResult:
    """Let a version of a workflow run by the clock, unless it does so already, at these times."""
    settings, name = project.settings.kfp, name_schedule(workflow)
    values = project.list_values(workflow)
    check_values(values)
    check_outgoing(project, "the recurring run", name, cron, values)
    found = [row for row in list_schedules(settings) if row.get("display_name") == name]
    wanted = (version.version_id, cron, "ENABLED", make_runtime_config(settings, values))
    if len(found) == 1 and _describe(found[0]) == wanted:
        return ScheduleResult(str(found[0]["recurring_run_id"]), is_new=False)
    return ScheduleResult(set_schedule(settings, name, version, cron, values), is_new=True)


def unschedule_workflows(project: Project, names: list[str]) -> Iterator[tuple[str, bool]]:
    """Let workflows run by the clock no more; yield each, and whether it did.

    names: all of the project's if there are none; also those that the project does not have any more.
    Raises ToolError with the nearest name.
    """
    settings, known = project.settings.kfp, set(project.workflows)
    if not known.issuperset(names):
        known |= {_name_workflow(row) for row in list_schedules(settings)} - {""}
    for name in names:
        if name not in known:
            raise explain_unknown_name(f"there is no workflow {name!r}", name, sorted(known))
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


def choose_workflows(project: Project, names: list[str]) -> list[str]:
    """Return the workflows that are meant; all if none is named. Raises ToolError with the nearest name."""
    known = list(project.workflows)
    for name in names:
        if name not in known:
            raise explain_unknown_name(f"there is no workflow {name!r}", name, known)
    return names or known


def upload_workflow(project: Project, workflow: str) -> PipelineVersion:
    """Store a workflow's compiled pipeline; the version is named by its digest, so equal ones are one.

    Raises StoreError if there is no pipeline, and what the port raises.
    """
    ensure_images(project, workflow)
    record = read_record(project.record_path("pipeline", workflow))
    if record is None:
        raise StoreError(f"the pipeline of {workflow!r} is gone", tip="run `doit pipeline`")
    slug = project.workflows[workflow]["workflows"][workflow]["slug"]
    text = read_pipeline(project, slug)
    settings = project.settings.kfp
    package = Package(slug, name_version(record), format_run_description(record, settings), text)
    check_outgoing(project, "the pipeline's version", text, package.description)
    return upload_version(settings, package)
