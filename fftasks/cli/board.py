"""`doit board [RUN]`: serve the page of `doit report` and update it while the run is active."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, NoReturn

from fftasks.cli.command import CLUSTER_OPTION, ProjectCommand
from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.report.page_content import make_empty_page_content
from fftasks.report.run_report import describe_run
from fftasks.report.web_page import BoardApplication, serve_board

_PORT = {
    "name": "port", "short": "p", "long": "port", "type": int, "default": 8765,
    "help": "TCP port on localhost; 0 selects a free port [default: %(default)s]",
}  # fmt: skip


class BoardCommand(ProjectCommand):
    """Serve the page of a run to browsers on this machine; the page updates itself."""

    doc_purpose = "watch a run in the browser"
    doc_usage = "[RUN]"
    doc_description = (
        "RUN: as for `doit report`. Without RUN, the page switches to the next local run when it"
        " starts."
    )
    name = "board"
    cmd_options = (_PORT, CLUSTER_OPTION)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Serve the page until Ctrl-C."""
        signal.signal(signal.SIGTERM, _stop)
        board = BoardApplication(
            lambda: _describe(project, names, cluster=options["cluster"]),
            empty=make_empty_page_content(project.root.name),
        )
        if names or options["cluster"]:
            describe_run(
                project, *names, cluster=options["cluster"]
            )  # report an unknown name before the server starts
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
            "The page cannot be created: run `doit report` to see the reason."
        ) from error


def _print_url(address: str) -> None:
    print(f"{address}  (stop with Ctrl-C)" if address else "", flush=True)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt
