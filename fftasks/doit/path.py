"""Where doit's own process looks for modules: doit puts the project's folder first, for dodo.py."""

from __future__ import annotations

import os
import sys


def prefer_standard_library(folder: str) -> None:
    """Let a module of Python's be found before one of the folder that has its name, such as http.py.

    To be called when dodo.py has been imported. Requests and many others are imported where they are
    needed, and would find the project's; its workflows are imported by other processes.

    folder: as os.getcwd() has it; `python -m doit`, --dir and a link bring it in again, or spelled otherwise
    """
    standard = os.path.dirname(os.__file__)  # noqa: PTH120 - each doit that begins calls it
    places = [n for n, path in enumerate(sys.path) if path in (standard, f"{standard}/lib-dynload")]
    front = sys.path[: max(places, default=-1) + 1]
    own = [path for path in front if os.path.realpath(path) == folder]
    sys.path[: len(front)] = [*(path for path in front if path not in own), *own]
