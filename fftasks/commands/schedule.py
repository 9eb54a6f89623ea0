"""`doit schedule "0 0 6 * * *" [WORKFLOW...]`: let pipelines run by the clock."""

from __future__ import annotations

import sys
from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.cluster.cron import check_cron
from fftasks.cluster.upload import (
    choose_workflows,
    name_schedule,
    schedule_workflow,
    upload_workflow,
)
from fftasks.commands.upload import Upload
from fftasks.errors import FFTasksError
from fftasks.ports.kfp_catalog import remove_schedules
from fftasks.project import Project, open_current

_OFF = {
    "name": "off", "short": "", "long": "off", "type": bool, "default": False,
    "help": "remove the schedule",
}  # fmt: skip


class Schedule(Upload):
    """Upload the pipelines, and make or change their recurring runs."""

    doc_purpose = "let pipelines run by the clock on Kubeflow Pipelines"
    doc_usage = 'CRON [WORKFLOW...], such as "0 0 6 * * *"'
    doc_description = (
        "CRON has six fields: second minute hour day month weekday, in UTC. All workflows by default. "
        "With --off and no CRON, schedules are removed."
    )
    name = "schedule"
    cmd_options = (*Upload.cmd_options, _OFF)

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Check the times before anything is built, and do the rest."""
        names = [arg for arg in args if arg != "--off"]
        try:
            if params["off"] or names != args:
                self.loader.setup(params)
                return _remove(open_current(), names)
            if not names:
                raise InvalidCommand(
                    f"usage: doit schedule {self.doc_usage}, or doit schedule --off"
                )
            self._cron = check_cron(names[0])
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return super().execute(params, names[1:])

    def finish(self, project: Project, names: list[str]) -> None:
        """Store the pipelines, and schedule the versions."""
        for workflow in choose_workflows(project, names):
            version = upload_workflow(project, workflow)
            schedule = schedule_workflow(project, workflow, version, self._cron)
            how = "scheduled" if schedule.is_new else "is scheduled already"
            print(f'{workflow}: {how}, "{self._cron}" (UTC), recurring run {schedule.identity}')


def _remove(project: Project, names: list[str]) -> int:
    for workflow in choose_workflows(project, names):
        count = remove_schedules(project.settings.kfp, name_schedule(workflow))
        print(f"{workflow}: {'its schedule is removed' if count else 'it had no schedule'}")
    return 0
