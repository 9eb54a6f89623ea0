"""fftasks' own project: the example workflows, and the work on fftasks itself.

`doit` runs the examples here; `doit list` shows what else there is.
"""

from fftasks.tasks import *


def task_test():
    """Run the tests."""
    return {"actions": ["python -m pytest"], "verbosity": 2}


def task_lint():
    """Check the style, and that imports go down the layers."""
    return {"actions": ["ruff check", "ruff format --check", "lint-imports"], "verbosity": 2}


def task_types():
    """Check the types."""
    return {"actions": ["mypy"], "verbosity": 2}


def task_docs():
    """Build the documentation as a site, in build/docs."""
    return {
        "actions": ["python -m sphinx -W --keep-going -q -b html docs build/docs"],
        "verbosity": 2,
    }
