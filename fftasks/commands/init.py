"""`fftasks init`: write a project that runs."""

from __future__ import annotations

import os
from pathlib import Path

from fftasks.errors import FFTasksError, SettingsError
from fftasks.settings import format_default

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
