"""`python -m fftasks.tasks`: doit with the tasks of fftasks in the current folder, without a dodo.py."""

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

    names = {name: getattr(fftasks.tasks, name) for name in fftasks.tasks.__all__}
    return int(DoitMain(ModuleTaskLoader(names)).run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
