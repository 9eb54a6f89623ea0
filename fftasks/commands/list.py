"""`doit list`: doit's own, and on a terminal where the commands are listed, which are no tasks."""

from __future__ import annotations

import sys
from typing import Any

from doit import cmd_list

from fftasks.terminal import guarded_output


class List(cmd_list.List):  # type: ignore[misc]
    """List the tasks."""

    name = "list"

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command; return its exit code."""
        with guarded_output():
            self.outstream = sys.stdout  # doit has already stored the old sys.stdout
            code = int(super().execute(params, args))
        isatty = getattr(self.outstream, "isatty", bool)
        if isatty() and not (params["quiet"] or params["template"]):
            self.outstream.write(
                "\n`doit help` lists the commands: plan, result, status, logs, ...\n"
            )
        return code
