"""`doit accept NODE`: record a change as harmless, without running."""

from __future__ import annotations

import shlex
import sys

from doit.exceptions import InvalidCommand

from fftasks.cli.command import CommandWithHelp
from fftasks.errors import FFTasksError, StoreError, escape_controls
from fftasks.graph.run_parameters import format_parameters
from fftasks.project import Project, open_current
from fftasks.tasks.node_lookup import list_differing_parameters, parse_node_name


class AcceptCommand(CommandWithHelp):
    """Take the result that a node has as the one for what its code and constants are now."""

    doc_purpose = "keep a node's result although its code has changed"
    doc_usage = "NODE..."
    doc_description = (
        "For changes that you know to be harmless. What is upstream must be up to date."
    )
    name = "accept"
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> int:
        if not pos_args:
            raise InvalidCommand("doit accept takes the names of nodes")
        project = open_current()
        labels = [parse_node_name(project, name) for name in pos_args]
        try:
            for label in labels:
                _check_values(project, label)
                project.accept(label)
                print(escape_controls(f"{label}: its result is kept"))
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        finally:
            self.dep_manager.close()
        return 0


def _check_values(project: Project, label: str) -> None:
    """Raise StoreError if a node's result was made with other values of run parameters: it is another one."""
    chosen = format_parameters(list_differing_parameters(project, label))
    if chosen:
        values = shlex.join(chosen)
        raise StoreError(
            f"{label} has a result that was made with {values}", tip=f"doit accept {label} {values}"
        )
