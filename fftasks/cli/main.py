"""The program `fftasks`: `fftasks init` creates a project, `fftasks gc` removes unused results.

All other commands are commands of doit.
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
from fftasks.config.tree import format_default_file
from fftasks.errors import FFTasksError, SettingsError
from fftasks.state_folder import STATE_FOLDER
from fftasks.terminal import guarded_output

_TEMPLATE = Path(__file__).parent / "template"

# File of the project -> file of the template. The names differ so that no tool mistakes the template for a
# project.
_FILES = {
    "dodo.py": "dodo.txt",
    "words.py": "words.txt",
    "requirements.txt": "requirements.txt",
    ".dockerignore": "dockerignore.txt",
}


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project. Existing files are never changed.

    Args:
        folder: Folder of the project; it is created.

    Returns:
        Paths of the files that did not exist before.

    Raises:
        SettingsError: Files with other content exist. Nothing is written.
        FFTasksError: A file cannot be written; some files may have been written.
    """
    files = {folder / name: (_TEMPLATE / file).read_bytes() for name, file in _FILES.items()}
    files[folder / "config" / "default.yaml"] = format_default_file(("words.py",)).encode()
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
    """Raise SettingsError if a file with other content, or a file in place of a folder, exists."""
    places = {parent for path in files for parent in (path.parent, folder)}
    there = [path for path in places if os.path.lexists(path) and not path.is_dir()]
    there += [path for path, content in files.items() if not _is_free(path, content)]
    if there:
        raise SettingsError(
            f"init: files in {folder.resolve()} would be overwritten",
            found=[str(path) for path in sorted(there)],
            tip="name a new folder: fftasks init my-project",
        )


def _is_free(path: Path, content: bytes) -> bool:
    # lexists: a broken symbolic link also occupies the name
    return not os.path.lexists(path) or (path.is_file() and path.read_bytes() == content)


def _write(path: Path, content: bytes) -> bool:
    """Write a file if it does not exist; return whether it was written. An incomplete file is removed."""
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


_USAGE_ERROR = 2  # exit code of argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; argparse exits with 2 for an invalid one."""
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
        description="Create a project, or remove unused results.",
        epilog="All other commands are doit commands: `doit run` runs the workflows, `doit help` lists all"
        " commands.",
    )
    parser.add_argument("--version", action="version", version=f"fftasks {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    init = commands.add_parser("init", help="create an example project")
    init.add_argument(
        "folder", nargs="?", default=".", help="folder of the new project (default: current folder)"
    )
    gc = commands.add_parser("gc", help="remove results that no node uses")
    gc.add_argument(
        "folder", nargs="?", default=".", help="project folder (default: current folder)"
    )
    gc.add_argument(
        "--keep",
        default="0",
        metavar="SIZE",
        help="total size of unused results to keep, such as 5GB (default: 0, remove all)",
    )
    return parser


def _run_gc(folder: Path, keep: str) -> int:
    print(remove_unused(folder / STATE_FOLDER, parse_size(keep, "--keep")))
    return 0


def _run_init(folder: Path) -> int:
    for path in write_project(folder):
        print(f"wrote {path}")
    steps = {
        "doit run": "run the workflow of words.py on this machine",
        'doit result "most used"': "print a result",
        "doit help": "list all commands",
        "doit submit": "run it on Kubeflow Pipelines, after you have set kfp.host in config/default.yaml",
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
