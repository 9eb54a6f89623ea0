"""See which files of the project a node's function opens, and whether to read or to write them.

Through audit events, which Python raises for all that opens files by its means; a library that opens files
in C alone is not seen. What is seen is only ever used to leave out files that nodes themselves make.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOT_THE_PROJECTS = frozenset({".fftasks", ".git", "__pycache__", ".venv", "venv", "site-packages"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Observed:
    """Files of the project, relative to its folder, that were opened to be read, and to be written."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


def relate(root: Path, path: str) -> str | None:
    """Return a path relative to the project, or None for what is not the project's own."""
    relative = Path(os.path.relpath(path, root))
    if relative.parts[:1] == ("..",) or NOT_THE_PROJECTS.intersection(relative.parts):
        return None
    return relative.as_posix()


@contextmanager
def observe_files(root: Path) -> Iterator[Observed]:
    """Collect what this process opens, code aside."""
    observed = Observed()
    active = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if active and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = relate(root, os.fsdecode(arguments[0]))
            if path is not None and not path.endswith((".py", ".pyc")):
                is_written = _is_writing(arguments[1], arguments[2])
                (observed.written if is_written else observed.read).add(path)
        elif active and event == "os.rename":
            path = relate(root, os.fsdecode(arguments[1]))
            observed.written |= {path} if path is not None else set()

    sys.addaudithook(watch)  # a hook cannot be taken away, only told to look elsewhere
    try:
        yield observed
    finally:
        active = False


def _is_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)
