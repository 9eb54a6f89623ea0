"""`doit upload [WORKFLOW...]`: store pipelines on the cluster, for its page, for others, for schedules."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fftasks.cli.command import JSON_OPTION
from fftasks.cli.run import RunCommand
from fftasks.errors import FFTasksError
from fftasks.pipeline.recurring_runs import choose_workflows, upload_workflow
from fftasks.project import Project, format_task_name, open_current
from fftasks.report.table import print_json
from fftasks.terminal import guarded_output


class UploadCommand(RunCommand):
    """Run the stages up to the pipeline, and store it."""

    doc_purpose = "store pipelines on Kubeflow Pipelines, as versions"
    doc_usage = "[WORKFLOW...]"
    doc_description = (
        "All workflows by default. What is stored already, by its digest, is not stored again."
    )
    name = "upload"
    cmd_options = (*RunCommand.cmd_options, JSON_OPTION)
    goal = "submit"
    flags: Mapping[str, str] = {"--json": "as_json"}  # that may stand behind names

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command on the pipelines, and then the rest."""
        names = self.parse_trailing_flags(params, args)
        tasks = [f"pipeline:{format_task_name(name)}" for name in names] or ["pipeline"]
        if params["as_json"]:
            params["outfile"] = sys.stderr
        try:
            if names:
                self.loader.setup(params)
                choose_workflows(open_current(), names)  # a name that is none is an error now
            code = super().execute(params, tasks)
            if code:
                return code
            self.show(self.finish(open_current(), names), as_json=params["as_json"])
        except FFTasksError as error:
            sys.stdout.flush()
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return 0

    def parse_trailing_flags(self, params: dict[str, Any], args: list[str]) -> list[str]:
        """Note the flags among the arguments and return the rest: doit's parser stops at the first name."""
        for flag in self.flags.keys() & set(args):
            params[self.flags[flag]] = True
        return [arg for arg in args if arg not in self.flags]

    def show(self, done: Iterator[tuple[str, dict[str, Any]]], *, as_json: bool) -> None:
        """Print what was done, line by line, or at the end as JSON."""
        facts = []
        with guarded_output():
            for line, fact in done:
                facts.append(fact)
                if not as_json:
                    print(line)
        if as_json:
            print_json(facts)

    def finish(self, project: Project, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Do what comes when the pipelines are there; yield of each workflow what was done, twice."""
        for workflow in choose_workflows(project, names):
            version = upload_workflow(project, workflow)
            how = "stored" if version.is_new else "is stored already"
            fact = {"workflow": workflow, **dataclasses.asdict(version)}
            yield f"{workflow}: {how}, {version.url}", fact
