"""`doit run --keep 5GB`: doit's own run, and room on the disk afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from doit.cmd_run import Run as DoitRun

from fftasks.errors import FFTasksError

_KEEP = {
    "name": "keep", "short": "", "long": "keep", "type": str, "default": "",
    "help": "when it has ended, remove the least recently used results until this much is left, such as 5GB;"
    " what is up to date stays",
}  # fmt: skip


class Run(DoitRun):  # type: ignore[misc]
    """Run tasks, and then remove results that no node has any more."""

    name = "run"
    cmd_options = (*DoitRun.cmd_options, _KEEP)

    def execute(self, params: dict[str, Any], args: list[str]) -> int:
        """Run doit's own command; return its exit code, or 3 if the size is none."""
        if not params["keep"]:
            return int(super().execute(params, args))
        from fftasks.gc import parse_size, remove_unused
        from fftasks.project import FOLDER

        try:
            keep_bytes = parse_size(params["keep"])
            code = int(super().execute(params, args))  # it goes to the folder of dodo.py
            print(remove_unused(Path(FOLDER), keep_bytes))
        except FFTasksError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code
        return code
