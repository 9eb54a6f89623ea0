"""See which files of the project a node's function opens, and whether to read or to write them.

Through audit events, which Python raises for all that opens files by its means; a library that opens files
in C alone is not seen. What is seen is only ever used to leave out files that nodes themselves make.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_THE_PROJECTS = frozenset({".fftasks", ".git", "__pycache__", ".venv", "venv", "site-packages"})
_EVENTS = frozenset({"open", "import", "os.rename"})
_watch: Callable[[str, tuple[Any, ...]], None] | None = None
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Observed:
    """Files of the project, relative to its folder, that were opened to be read, and to be written.

    imported: whether anything may have been imported
    """

    read: set[str]
    written: set[str]
    imported: bool = False


def relate(root: Path, path: str) -> str | None:
    """Return a path relative to the project, or None for what is not the project's own."""
    relative = Path(os.path.relpath(path, root))
    if relative.parts[:1] == ("..",) or NOT_THE_PROJECTS.intersection(relative.parts):
        return None
    return relative.as_posix()


class observe_files:  # noqa: N801 - contextmanager would be more to copy for each node's process
    """Collect what this process opens, code aside."""

    def __init__(self, root: Path) -> None:
        install_hook()
        self._root, self._own = root, f"{root}{os.sep}.fftasks{os.sep}"
        self._observed = Observed(set(), set())

    def __enter__(self) -> Observed:
        global _watch
        self._before, _watch = _watch, self._note
        return self._observed

    def __exit__(self, *_error: object) -> None:
        global _watch
        _watch = self._before

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            _note(self._root, self._own, self._observed, event, arguments)


@functools.cache
def install_hook() -> None:
    """Get ready to observe; a process that does it before it forks spares its children the work."""
    # a hook cannot be taken away, only told to look elsewhere
    sys.addaudithook(lambda event, arguments: _watch and _watch(event, arguments))


def _note(root: Path, own: str, observed: Observed, event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        name = os.fsdecode(arguments[0])
        if name.endswith((".py", ".pyc")):
            observed.imported = True
        # a node's own inputs and outputs are most of what it opens
        elif not name.startswith(own) or ".." in name:
            is_written = _is_writing(arguments[1], arguments[2])
            _add(root, name, observed.written if is_written else observed.read)
    elif event == "import":
        observed.imported = True
    elif event == "os.rename":
        _add(root, os.fsdecode(arguments[1]), observed.written)


def _add(root: Path, name: str, paths: set[str]) -> None:
    path = relate(root, name)
    if path is not None:
        paths.add(path)


def _is_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)
