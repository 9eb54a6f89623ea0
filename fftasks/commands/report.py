"""`doit report [RUN]`: a run as one file to look at in a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.commands.command import CHOOSE_OUTPUT, CLUSTER, JSON, Command
from fftasks.errors import StoreError
from fftasks.page.html import format_page
from fftasks.page.make import describe_run
from fftasks.project import FOLDER, Project
from fftasks.runtime.regular import write_output
from fftasks.table import print_json

_OUTPUT = {
    "name": "output", "short": "o", "long": "output", "type": str, "default": "",
    "help": f"the file to write; {FOLDER}/report.html by default",
}  # fmt: skip


_DATA = ("title", "run", "tasks", "path", "spent", "history")


class Report(Command):
    """Write the page of a run: what ran and why, the graph, times, results, errors and logs."""

    doc_purpose = "write a page about a run"
    doc_usage = "[RUN]"
    doc_description = (
        "RUN: the beginning of the name of a run here, or of the id of one on the cluster;"
        " the last one here by default."
    )
    name = "report"
    cmd_options = (_OUTPUT, CLUSTER, JSON)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Write the page, and say where it is; as JSON, print what stands on it."""
        content = describe_run(project, *names, cluster=options["cluster"])
        if options["as_json"]:
            print_json({key: content[key] for key in _DATA})
            return 0
        page = format_page(content)
        path = Path(options["output"] or f"{FOLDER}/report.html")
        project.note_made(path)
        try:
            write_output(path, page.encode("utf-8", "replace"))
        except OSError as error:
            found = [error.strerror or str(error)]
            raise StoreError(
                f"report: {path} cannot be written", found=found, tip=CHOOSE_OUTPUT
            ) from error
        print(path)
        return 0
