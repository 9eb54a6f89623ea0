"""The command `fftasks`: what is done before there is a project; all else is `doit`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fftasks import __version__
from fftasks.commands.init import write_project
from fftasks.errors import FFTasksError
from fftasks.runtime.regular import STATE_FOLDER
from fftasks.store.gc import parse_size, remove_unused
from fftasks.terminal import guarded_output

_WRONG = 2  # as argparse has it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; argparse exits with 2 for a wrong one."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return _WRONG
    try:
        with guarded_output():
            if arguments.command == "gc":
                return _gc(Path(arguments.folder), arguments.keep)
            return _init(Path(arguments.folder))
    except FFTasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fftasks",
        description="Make projects with workflows, and tidy up in them.",
        epilog="In a project, all else is doit: `doit run` runs its workflows, `doit help` shows the rest.",
    )
    parser.add_argument("--version", action="version", version=f"fftasks {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    init = commands.add_parser("init", help="write a project that runs")
    init.add_argument(
        "folder", nargs="?", default=".", help="where to; the current folder by default"
    )
    gc = commands.add_parser("gc", help="remove results that no node has any more")
    gc.add_argument(
        "folder", nargs="?", default=".", help="the project's; the current one by default"
    )
    gc.add_argument("--keep", default="0", metavar="SIZE", help="how much may stay, such as 5GB")
    return parser


def _gc(folder: Path, keep: str) -> int:
    print(remove_unused(folder / STATE_FOLDER, parse_size(keep)))
    return 0


def _init(folder: Path) -> int:
    for path in write_project(folder):
        print(f"wrote {path}")
    steps = {
        "doit run": "run the workflow of words.py here",
        'doit result "most used"': "print a result",
        "doit help": "show what else there is",
        "doit submit": "run it on Kubeflow Pipelines, once config/default.yaml says where",
    }
    if folder != Path():
        steps = {f"cd {shlex.quote(str(folder))}": "", **steps}
    width = max(map(len, steps))
    print("\nnext:")
    for command, what in steps.items():
        print(f"  {command:{width}}  {'# ' if what else ''}{what}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
