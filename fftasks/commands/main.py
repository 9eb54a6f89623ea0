"""The command `fftasks`: what is done before there is a project; all else is `doit`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fftasks import __version__
from fftasks.commands.init import write_project
from fftasks.errors import FFTasksError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="fftasks", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fftasks {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    init = commands.add_parser("init", help="write a project that runs")
    init.add_argument(
        "folder", nargs="?", default=".", help="where to; the current folder by default"
    )
    arguments = parser.parse_args(argv)
    try:
        files = write_project(Path(arguments.folder))
    except FFTasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(f"wrote {file}" for file in files))
    go = "" if arguments.folder == "." else f"cd {arguments.folder} && "
    print(f"\nnow:  {go}doit run\nthen: doit list, and look at config/default.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
