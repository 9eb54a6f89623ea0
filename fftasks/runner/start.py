"""Start a module as `python -m` does, but without the folder that it is started in on the path.

    python start.py MODULE ARGUMENT...

That folder is the project's: a json.py or types.py in it would be taken for Python's own by all that is
imported before the user's file is, and by `python -m` itself. Python's own options against it came with 3.11
(-P), or take PYTHONHASHSEED away as well (-I). The user's file has its folder on the path: see source.py.
"""

from __future__ import annotations

import sys

MODULE = "fftasks.runner"  # what runs nodes; as a component's command has it, behind this file


def make_command(module: str) -> list[str]:
    """Return the command that starts a module of ours by this Python; arguments come behind it."""
    return [sys.executable, __file__, module]


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # else it is not there
        del sys.path[0]  # the folder of this file, whose names are nobody's
    import runpy

    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
