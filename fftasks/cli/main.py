"""`fftasks init`: write a project that runs.

The command `fftasks`: what is done before there is a project; all else is `doit`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fftasks import __version__
from fftasks.cache.store import remove_unused
from fftasks.config.sizes import parse_size
from fftasks.config.tree import format_default
from fftasks.errors import FFTasksError, SettingsError
from fftasks.state_folder import STATE_FOLDER
from fftasks.terminal import guarded_output

_TEMPLATE = Path(__file__).parent / "template"

# written as -> file of the template; the names differ so that no tool takes the template for a project
_FILES = {
    "dodo.py": "dodo.txt",
    "words.py": "words.txt",
    "requirements.txt": "requirements.txt",
    ".dockerignore": "dockerignore.txt",
}


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project and return their paths; what is there already is never changed.

    Raises SettingsError, with a list, if a file is there with another content, and FFTasksError if
    one cannot be written. In the first case nothing is written; after the second, try again.
    """
    files = {folder / name: (_TEMPLATE / file).read_bytes() for name, file in _FILES.items()}
    files[folder / "config" / "default.yaml"] = format_default(("words.py",)).encode()
    try:
        _check_free(folder, files)
        return [path for path, content in files.items() if _write(path, content)]
    except OSError as error:
        raise FFTasksError(
            f"init: {error.filename or folder} cannot be written",
            found=[error.strerror or str(error)],
            tip="name a folder that you may write to: fftasks init my-project",
        ) from error


def _check_free(folder: Path, files: dict[Path, bytes]) -> None:
    """Raise SettingsError if something stands where a file or its folder must be."""
    places = {parent for path in files for parent in (path.parent, folder)}
    there = [path for path in places if os.path.lexists(path) and not path.is_dir()]
    there += [path for path, content in files.items() if not _is_free(path, content)]
    if there:
        raise SettingsError(
            f"init: {folder.resolve()} has what would be overwritten",
            found=[str(path) for path in sorted(there)],
            tip="name a new folder: fftasks init my-project",
        )


def _is_free(path: Path, content: bytes) -> bool:
    # lexists: a link to nowhere is something as well
    return not os.path.lexists(path) or (path.is_file() and path.read_bytes() == content)


def _write(path: Path, content: bytes) -> bool:
    """Write a file unless it is there; return whether it was not. Half a file is taken away again."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            path.unlink()
            raise
    return True


_USAGE_ERROR = 2  # as argparse has it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; argparse exits with 2 for a wrong one."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return _USAGE_ERROR
    try:
        with guarded_output():
            if arguments.command == "gc":
                return _run_gc(Path(arguments.folder), arguments.keep)
            return _run_init(Path(arguments.folder))
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


def _run_gc(folder: Path, keep: str) -> int:
    print(remove_unused(folder / STATE_FOLDER, parse_size(keep, "--keep")))
    return 0


def _run_init(folder: Path) -> int:
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
