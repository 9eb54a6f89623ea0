"""The doit tasks of fftasks: `from fftasks.tasks import *` in a dodo.py defines all of them.

doit imports this package in every project, because it asks for all installed database backends
(`fftasks.tasks.doit_database`). The task definitions are therefore imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fftasks.tasks.doit_tasks import DOIT_CONFIG as DOIT_CONFIG
    from fftasks.tasks.doit_tasks import task_components as task_components
    from fftasks.tasks.doit_tasks import task_context as task_context
    from fftasks.tasks.doit_tasks import task_image as task_image
    from fftasks.tasks.doit_tasks import task_nodes as task_nodes
    from fftasks.tasks.doit_tasks import task_pins as task_pins
    from fftasks.tasks.doit_tasks import task_pipeline as task_pipeline
    from fftasks.tasks.doit_tasks import task_push as task_push
    from fftasks.tasks.doit_tasks import task_submit as task_submit
    from fftasks.tasks.doit_tasks import task_tasks as task_tasks

__all__ = [
    "DOIT_CONFIG",
    "task_components",
    "task_context",
    "task_image",
    "task_nodes",
    "task_pins",
    "task_pipeline",
    "task_push",
    "task_submit",
    "task_tasks",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fftasks.tasks import doit_tasks

    return getattr(doit_tasks, name)
