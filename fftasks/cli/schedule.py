"""`doit schedule [CRON [WORKFLOW...]]`: create, list and remove recurring runs on Kubeflow Pipelines."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cli.command import make_flag
from fftasks.cli.upload import UploadCommand
from fftasks.errors import FFTasksError
from fftasks.graph.run_parameters import format_parameters
from fftasks.pipeline.recurring_runs import (
    RecurringRun,
    check_cron,
    choose_workflows,
    list_recurring_runs,
    schedule_workflow,
    unschedule_workflows,
    upload_workflow,
)
from fftasks.project import Project, open_current
from fftasks.report.table import Cell, Column, Row, print_json, print_table
from fftasks.terminal import guarded_output

_OFF = make_flag("off", "remove the recurring runs of the workflows (default: of all workflows)")
_COLUMNS = (
    *(Column("workflow", wraps=True), Column("time (UTC)"), Column("state")),
    *(Column("pipeline"), Column("parameters", wraps=True), Column("recurring run")),
)


class ScheduleCommand(UploadCommand):
    """List recurring runs; or upload the pipelines and create or change their recurring runs."""

    doc_purpose = "create a recurring run on Kubeflow Pipelines, or list recurring runs"
    doc_usage = "[CRON [WORKFLOW...]]"
    doc_description = (
        "Without CRON, recurring runs are listed; with --off, they are removed. CRON has six fields: "
        'second minute hour day month weekday, in UTC, such as "0 0 6 * * *" for every day at 6:00. '
        "Default: all workflows."
    )
    name = "schedule"
    cmd_options = (*UploadCommand.cmd_options, _OFF)
    flags: Mapping[str, str] = {**UploadCommand.flags, "--off": "off"}

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Check CRON before anything is built, then run the command; return the exit code."""
        names, as_json = self.parse_trailing_flags(params, args), params["as_json"]
        try:
            if params["off"] or not names:
                self.loader.setup(params)
                project = open_current()
                if not params["off"]:
                    with guarded_output():
                        return _list_schedules(project, as_json=as_json)
                self.show(_unschedule(project, names), as_json=as_json)
                return 0
            self._cron = check_cron(names[0])
        except FFTasksError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return super().execute(params, names[1:])

    def finish(self, project: Project, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Upload the pipelines and create or change a recurring run of each."""
        for workflow in choose_workflows(project, names):
            version = upload_workflow(project, workflow)
            made = schedule_workflow(project, workflow, version, self._cron)
            how = "scheduled" if made.is_new else "already scheduled"
            text = f'{workflow}: {how}, "{self._cron}" (UTC), recurring run {made.identity}'
            yield text, {"workflow": workflow, "cron": self._cron, **dataclasses.asdict(made)}


def _unschedule(project: Project, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow, was_on in unschedule_workflows(project, names):
        text = f"{workflow}: {'recurring run removed' if was_on else 'no recurring run'}"
        yield text, {"workflow": workflow, "was_scheduled": was_on}


def _list_schedules(project: Project, *, as_json: bool) -> int:
    schedules = list(list_recurring_runs(project))
    if as_json:
        print_json([dataclasses.asdict(schedule) for schedule in schedules])
        return 0
    if not schedules:
        where = f"experiment {project.settings.kfp.experiment!r}"
        print(
            f'no recurring runs in {where}; `doit schedule "0 0 6 * * *"` creates one for every day at 6:00'
        )
    print_table(_COLUMNS, list(_make_rows(schedules)))
    if not all(schedule.is_current for schedule in schedules):
        print(
            "(other): not the current pipeline in .fftasks/pipeline/, which `doit schedule CRON` uses"
        )
    return 0


def _make_rows(schedules: list[RecurringRun]) -> Iterator[Row]:
    for one in schedules:
        state = Cell("on", "32") if one.is_on else Cell("off", "2")
        version = f"{one.version or 'removed'}{'' if one.is_current else ' (other)'}"
        values = shlex.join(format_parameters(one.values))
        yield one.workflow, f'"{one.cron}"', state, version, values, one.identity
