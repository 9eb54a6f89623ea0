"""Create, list and remove recurring runs on the cluster, and upload pipeline versions.

KFP reads cron expressions with six fields:

    second  minute  hour  day of the month  month  day of the week

It accepts five fields as well, but takes the first one for the second: "0 6 * * *", six o'clock in usual
cron, is each hour at minute 6 there. So fftasks rejects five fields.
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
from fftasks.records import read_record

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
_USUAL = 5  # fields in usual cron
_PREFIX = "fftasks: "  # of the names of recurring runs
_TIP = '"0 0 6 * * *" is each day at 6:00:00 UTC; fields: second minute hour day month weekday'


def check_cron(text: str) -> str:
    """Check a cron expression.

    Args:
        text: Six fields, a word such as "@daily", or "@every 1h30m".

    Returns:
        The expression with single blanks.

    Raises:
        SettingsError: KFP would reject the expression, or read it in another way than usual cron.
    """
    fields = text.split()
    cron = " ".join(fields)
    if cron in _WORDS or _EVERY.fullmatch(cron):
        return cron
    attempted = f"schedule: invalid cron expression {text!r}"
    if len(fields) == _USUAL:
        found = ["it has 5 fields; Kubeflow Pipelines needs 6, the first one for seconds"]
        raise SettingsError(attempted, found=found, tip=f'write "0 {cron}"')
    if len(fields) != len(_FIELDS):
        found = [f"it has {len(fields)} fields, not 6"]
        raise SettingsError(attempted, found=found, tip=_TIP)
    for field, (name, least, most, words) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _is_valid(part.upper(), least, most, words):
                allowed = f"{least} to {most}, *, ranges a-b, steps */n"
                found = [f"invalid {name}: {part!r}; allowed: {allowed}"]
                raise SettingsError(attempted, found=found, tip=_TIP)
    return cron


def _is_valid(part: str, least: int, most: int, words: Sequence[str]) -> bool:
    """Return whether a part of a field, such as "1-5/2", is valid."""
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


@dataclass(frozen=True)
class ScheduleResult:
    """The result of scheduling a workflow.

    Attributes:
        identity: Id of the recurring run.
        is_new: Whether it was created or changed; False if it existed with the same configuration.
    """

    identity: str
    is_new: bool


@dataclass(frozen=True)
class RecurringRun:
    """A recurring run that fftasks has created.

    Attributes:
        workflow: Name of the workflow.
        cron: Cron expression.
        is_on: Whether it is enabled, so that it starts runs.
        version: Name of the pipeline version that it runs.
        is_current: Whether that version is the pipeline that was compiled last on this machine.
        values: Name of a run parameter -> its value.
        identity: Id of the recurring run.
    """

    workflow: str
    cron: str
    is_on: bool
    version: str
    is_current: bool
    values: Mapping[str, Any]
    identity: str


def list_recurring_runs(project: Project) -> Iterator[RecurringRun]:
    """Yield the recurring runs of fftasks in the experiment of the settings, sorted by workflow."""
    settings = project.settings.kfp
    rows = [row for row in list_schedules(settings) if _name_workflow(row)]
    for row in sorted(rows, key=_name_workflow):
        workflow, reference = _name_workflow(row), row.get("pipeline_version_reference") or {}
        version = read_version_name(settings, reference)
        is_known = workflow in project.workflows
        compiled = read_record(project.record_path("pipeline", workflow)) if is_known else None
        yield RecurringRun(
            workflow=workflow,
            cron=_read_cron(row),
            is_on=row.get("status") == "ENABLED",
            version=version,
            is_current=version == (name_version(compiled) if compiled else ""),
            values=(row.get("runtime_config") or {}).get("parameters") or {},
            identity=str(row["recurring_run_id"]),
        )


def schedule_workflow(
    project: Project, workflow: str, version: PipelineVersion, cron: str
) -> ScheduleResult:
    """Create the recurring run of a workflow, or replace it if its configuration differs.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        version: Pipeline version to run.
        cron: Cron expression with six fields.

    Raises:
        ParameterError: KFP or Kubernetes would change the value of a run parameter.
        WorkflowError: The recurring run would contain a secret.
        ToolError: KFP failed.
    """
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
    """Remove the recurring runs of workflows; yield each workflow, and whether it had one.

    Args:
        project: The current project.
        names: Names of workflows, also of those that the project does not have any more; empty for all
            workflows of the project.

    Raises:
        ToolError: A workflow is unknown; the hint has the nearest name.
    """
    settings, known = project.settings.kfp, set(project.workflows)
    if not known.issuperset(names):
        known |= {_name_workflow(row) for row in list_schedules(settings)} - {""}
    for name in names:
        if name not in known:
            raise explain_unknown_name(f"unknown workflow {name!r}", name, sorted(known))
    for workflow in names or project.workflows:
        yield workflow, bool(remove_schedules(settings, name_schedule(workflow)))


def name_schedule(workflow: str) -> str:
    """Return the name of a workflow's recurring run."""
    return f"{_PREFIX}{workflow}"


def _name_workflow(schedule: Mapping[str, Any]) -> str:
    """Return the workflow of a recurring run, "" if it is not one of fftasks."""
    name = str(schedule.get("display_name", ""))
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else ""


def _read_cron(schedule: Mapping[str, Any]) -> str:
    return str(((schedule.get("trigger") or {}).get("cron_schedule") or {}).get("cron", ""))


def _describe(schedule: Mapping[str, Any]) -> tuple[object, ...]:
    """Return version, cron expression, status and configuration of a recurring run, for a comparison."""
    reference = schedule.get("pipeline_version_reference") or {}
    config = schedule.get("runtime_config") or {}
    known = {key: config[key] for key in ("pipeline_root", "parameters") if config.get(key)}
    version = reference.get("pipeline_version_id")
    return version, _read_cron(schedule), schedule.get("status"), known


def choose_workflows(project: Project, names: list[str]) -> list[str]:
    """Return the named workflows, or all workflows if `names` is empty.

    Raises:
        ToolError: A workflow is unknown; the hint has the nearest name.
    """
    known = list(project.workflows)
    for name in names:
        if name not in known:
            raise explain_unknown_name(f"unknown workflow {name!r}", name, known)
    return names or known


def upload_workflow(project: Project, workflow: str) -> PipelineVersion:
    """Upload the compiled pipeline of a workflow as a pipeline version, named by the pipeline's digest.

    Equal pipelines have the same version, which is uploaded once.

    Raises:
        StoreError: The pipeline is not compiled.
        WorkflowError: The pipeline contains a secret.
        ToolError: KFP failed.
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
