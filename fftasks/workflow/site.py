"""Where the user's code calls: a file and a line, for messages about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

_PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"


class Site(NamedTuple):
    """A line in a user's file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def find_site() -> Site:
    """Return the line of the user's code that is calling into this package."""
    frame = sys._getframe(1)  # inspect.stack() reads every source file on the way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return Site(frame.f_code.co_filename, frame.f_lineno)
