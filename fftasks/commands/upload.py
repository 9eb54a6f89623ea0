"""`doit upload [WORKFLOW...]`: store pipelines on the cluster, for its page, for others, for schedules."""

from __future__ import annotations

import sys
from typing import Any

from fftasks.cluster.upload import choose_workflows, upload_workflow
from fftasks.commands.run import Run
from fftasks.errors import FFTasksError
from fftasks.project import Project, open_current
from fftasks.tasks import name_task


class Upload(Run):
    """Run the stages up to the pipeline, and store it."""

    doc_purpose = "store pipelines on Kubeflow Pipelines, as versions"
    doc_usage = "[WORKFLOW...]"
    doc_description = (
        "All workflows by default. What is stored already, by its digest, is not stored again."
    )
    name = "upload"
    goal = "submit"

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command on the pipelines, and then the rest."""
        tasks = [f"pipeline:{name_task(name)}" for name in args] or ["pipeline"]
        try:
            if args:
                self.loader.setup(params)
                choose_workflows(open_current(), args)  # a name that is none is an error now
            code = super().execute(params, tasks)
            if code:
                return code
            self.finish(open_current(), args)
        except FFTasksError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return 0

    def finish(self, project: Project, names: list[str]) -> None:
        """Do what comes when the pipelines are there."""
        for workflow in choose_workflows(project, names):
            version = upload_workflow(project, workflow)
            how = "stored" if version.is_new else "is stored already"
            print(f"{workflow}: {how}, {version.url}")
