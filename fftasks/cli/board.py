"""`doit board [RUN]`: the page of `doit report`, while the run goes on."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, NoReturn

from fftasks.cli.command import CLUSTER_OPTION, ProjectCommand
from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.report.page_content import make_empty_page_content
from fftasks.report.run_report import describe_run
from fftasks.report.web_page import BoardApplication as Application
from fftasks.report.web_page import serve_board

_PORT = {
    "name": "port", "short": "p", "long": "port", "type": int, "default": 8765,
    "help": "where to listen on this machine; 0 takes a free port",
}  # fmt: skip


class BoardCommand(ProjectCommand):
    """Serve the page of a run to browsers on this machine; it follows the run by itself."""

    doc_purpose = "follow a run in the browser"
    doc_usage = "[RUN]"
    doc_description = (
        "RUN: as for `doit report`; without it, the board goes on to the next run here."
    )
    name = "board"
    cmd_options = (_PORT, CLUSTER_OPTION)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Serve until Ctrl-C."""
        signal.signal(signal.SIGTERM, _stop)
        board = Application(
            lambda: _describe(project, names, cluster=options["cluster"]),
            empty=make_empty_page_content(project.root.name),
        )
        if names or options["cluster"]:
            describe_run(
                project, *names, cluster=options["cluster"]
            )  # a name that is none is an error now
        serve_board(
            board,
            options["port"],
            _print_url,
        )
        return 0


def _describe(project: Project, names: list[str], *, cluster: bool) -> dict[str, Any]:
    """Return the content of the page. With report.previews: false, errors are shown without values."""
    try:
        return describe_run(project, *names, cluster=cluster)
    except FFTasksError as error:
        if project.settings.report.previews:
            raise
        raise type(error)(
            "The page cannot be made: run `doit report` to see the reason."
        ) from error


def _print_url(address: str) -> None:
    print(f"{address}  (Ctrl-C ends it)" if address else "", flush=True)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt
