"""`doit report [RUN]`: write a run as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.cli.command import CLUSTER_OPTION, JSON_OPTION, OUTPUT_HINT, ProjectCommand
from fftasks.errors import StoreError
from fftasks.project import Project
from fftasks.report.run_report import describe_run
from fftasks.report.table import print_json
from fftasks.report.web_page import format_page
from fftasks.state_folder import STATE_FOLDER, write_output

_OUTPUT = {
    "name": "output", "short": "o", "long": "output", "type": str, "default": "",
    "metavar": "FILE",
    "help": f"output file (default: {STATE_FOLDER}/report.html)",
}  # fmt: skip


_JSON_KEYS = ("title", "run", "tasks", "path", "path_seconds", "history")


class ReportCommand(ProjectCommand):
    """Write an HTML report of a run: reasons, graph, times, results, errors and logs."""

    doc_purpose = "write an HTML report of a run"
    doc_usage = "[RUN]"
    doc_description = (
        "RUN: prefix of the name of a local run, or of the ID of a run on Kubeflow Pipelines"
        " (default: the last local run)."
    )
    name = "report"
    cmd_options = (_OUTPUT, CLUSTER_OPTION, JSON_OPTION)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Write the report and print its path; with --json, print its content instead."""
        content = describe_run(project, *names, cluster=options["cluster"])
        if options["as_json"]:
            print_json({key: content[key] for key in _JSON_KEYS})
            return 0
        page = format_page(content)
        path = Path(options["output"] or f"{STATE_FOLDER}/report.html")
        project.note_own_file(path)
        try:
            write_output(path, page.encode("utf-8", "replace"))
        except OSError as error:
            found = [error.strerror or str(error)]
            raise StoreError(
                f"report: {path} cannot be written", found=found, tip=OUTPUT_HINT
            ) from error
        print(path)
        return 0
