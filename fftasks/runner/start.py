"""Start a module like `python -m`, but without the current folder on sys.path.

    python start.py MODULE ARGUMENT...

The current folder is the project's. A json.py or types.py in it would hide the standard library's module from
all code that is imported before the user's file, and from `python -m` itself. Python's own options against
this exist only from 3.11 on (-P), or also disable PYTHONHASHSEED (-I). The folder of the user's file is added
to sys.path later, see source.py.
"""

from __future__ import annotations

import sys

RUNNER_MODULE = "fftasks.runner"  # the module that runs nodes, as in the command of a component


def make_command(module: str) -> list[str]:
    """Return the command that starts a module of fftasks with this Python, without the module's arguments."""
    return [sys.executable, __file__, module]


if __name__ == "__main__":
    if not getattr(
        sys.flags, "safe_path", False
    ):  # with safe_path, Python does not add this folder
        del sys.path[
            0
        ]  # the folder of this file: its modules must not be importable by their short names
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
