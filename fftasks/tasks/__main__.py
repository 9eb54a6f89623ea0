"""Run doit with the tasks of fftasks in the current folder, with or without a dodo.py: `python -m fftasks.tasks`."""

from __future__ import annotations

import sys

import fftasks.tasks


def main(arguments: list[str]) -> int:
    """Run doit and return its exit code.

    Args:
        arguments: Command line of doit, without the name of the program.
    """
    from doit.cmd_base import ModuleTaskLoader
    from doit.doit_cmd import DoitMain

    return int(DoitMain(ModuleTaskLoader(vars(fftasks.tasks))).run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
