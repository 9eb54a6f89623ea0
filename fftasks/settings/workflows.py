"""The setting `workflows`: files of the project, each in one spelling."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fftasks.errors import SettingsError
from fftasks.settings.config import DEFAULT
from fftasks.settings.rule import Value, suggest

_MANY_FILES = 2000


def check_workflows(folder: Path, given: Value | None) -> tuple[str, ...]:
    """Return the files that build workflows, relative to the project's folder.

    Raises SettingsError, with the line and the nearest file, for one that is none.
    """
    if given is None or not given.value:
        tip = "write `workflows: [my_workflow.py]`, or begin with `fftasks init`"
        raise SettingsError(f"{given.origin if given else DEFAULT} names no workflows", tip=tip)
    checked: dict[str, str] = {}
    for file, origin in zip(given.value, given.items, strict=True):
        path = _check_workflow(folder, file, origin)
        if path in checked:
            raise SettingsError(
                f"{origin}: workflow {file!r} is named twice", found=[f"before: {checked[path]}"]
            )
        checked[path] = origin
    return tuple(checked)


def _check_workflow(folder: Path, file: str, origin: str) -> str:
    root, path = folder.resolve(), (folder / file).resolve()
    what = f"{origin}: workflow {file!r}"
    if not path.is_relative_to(root):
        raise SettingsError(f"{what} is outside the project's folder", tip=_suggest(folder, file))
    if path.is_dir():
        raise SettingsError(f"{what} is a folder", tip="name the Python files in it")
    if path.suffix != ".py":
        raise SettingsError(f"{what} is no Python file", tip=_suggest(folder, file))
    if not path.is_file():
        raise SettingsError(f"{what} does not exist", tip=_suggest(folder, file))
    plain = Path(os.path.normpath(file))
    # records have no absolute paths, and one file has one name
    return (
        path.relative_to(root) if plain.is_absolute() or ".." in plain.parts else plain
    ).as_posix()


def _suggest(folder: Path, file: str) -> str:
    """Return the sentence that offers the nearest Python file of the project."""
    files = list(islice(_list_python(folder), _MANY_FILES))
    same = [one for one in files if Path(one).name == Path(file).name]
    near = f"did you mean {same[0]}?" if same else suggest(file, files, cutoff=0.5)
    return near or "paths are relative to the folder of dodo.py"


def _list_python(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        # neither hidden folders nor virtual environments
        folders[:] = sorted(
            f for f in folders if f[0] != "." and not (Path(parent, f) / "pyvenv.cfg").exists()
        )
        for file in sorted(files):
            if file.endswith(".py"):
                yield (Path(parent) / file).relative_to(folder).as_posix()
