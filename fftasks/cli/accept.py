"""`doit accept NODE`: mark the result of a node as up to date although its code has changed."""

from __future__ import annotations

import shlex
import sys

from doit.exceptions import InvalidCommand

from fftasks.cli.command import CommandWithHelp
from fftasks.errors import FFTasksError, StoreError, escape_controls
from fftasks.graph.run_parameters import format_parameters
from fftasks.project import open_current
from fftasks.tasks.node_lookup import list_differing_parameters, parse_node_name


class AcceptCommand(CommandWithHelp):
    """Store the existing result of a node under its current fingerprint, without running the node."""

    doc_purpose = "mark the result of a node as up to date although its code has changed"
    doc_usage = "NODE..."
    doc_description = (
        "Use it for changes that cannot change the result. Upstream nodes must be up to date."
    )
    name = "accept"
    cmd_options = ()

    def _execute(self, pos_args: list[str]) -> int:
        if not pos_args:
            raise InvalidCommand("usage: doit accept NODE...; see `doit help accept`")
        project = open_current()
        labels = [parse_node_name(project, name) for name in pos_args]
        try:
            for label in labels:
                # A result that was computed with other run parameters is the result of something else.
                chosen = format_parameters(list_differing_parameters(project, label))
                if chosen:
                    values = shlex.join(chosen)
                    raise StoreError(
                        f"accept: the result of {label} was computed with {values}",
                        tip=f"doit accept {label} {values}",
                    )
                project.accept(label)
                print(escape_controls(f"{label}: result accepted"))
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        finally:
            self.dep_manager.close()
        return 0
