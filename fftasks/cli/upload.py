"""`doit upload [WORKFLOW...]`: upload pipelines to Kubeflow Pipelines as pipeline versions."""

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
    """Run the stages up to the pipeline and upload it."""

    doc_purpose = "upload pipelines to Kubeflow Pipelines as pipeline versions"
    doc_usage = "[WORKFLOW...]"
    doc_description = (
        "Default: all workflows. A pipeline with the same digest is not uploaded again."
    )
    name = "upload"
    cmd_options = (*RunCommand.cmd_options, JSON_OPTION)
    goal = "submit"
    flags: Mapping[str, str] = {"--json": "as_json"}  # flags that may follow names

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run the pipeline tasks, then upload; return the exit code."""
        names = self.parse_trailing_flags(params, args)
        tasks = [f"pipeline:{format_task_name(name)}" for name in names] or ["pipeline"]
        if params["as_json"]:
            params["outfile"] = sys.stderr
        try:
            if names:
                self.loader.setup(params)
                choose_workflows(
                    open_current(), names
                )  # report unknown names before anything is built
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
        """Store the flags among the arguments and return the rest. doit's parser stops at the first name."""
        for flag in self.flags.keys() & set(args):
            params[self.flags[flag]] = True
        return [arg for arg in args if arg not in self.flags]

    def show(self, done: Iterator[tuple[str, dict[str, Any]]], *, as_json: bool) -> None:
        """Print each action when it is done, or all of them as JSON at the end."""
        facts = []
        with guarded_output():
            for line, fact in done:
                facts.append(fact)
                if not as_json:
                    print(line)
        if as_json:
            print_json(facts)

    def finish(self, project: Project, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Upload the pipelines; yield for each workflow what was done, as a line of text and as JSON."""
        for workflow in choose_workflows(project, names):
            version = upload_workflow(project, workflow)
            how = "uploaded" if version.is_new else "already uploaded"
            fact = {"workflow": workflow, **dataclasses.asdict(version)}
            yield f"{workflow}: {how}, {version.url}", fact
