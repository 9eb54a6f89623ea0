"""fftasks: workflows of plain Python functions, on this machine and on Kubeflow Pipelines.

This module offers the public names. A container image contains only it, `api`, `runner`, `errors`,
`state_folder`, `records` and cloudpickle, so every public name must be importable from these. Code of
the layers above is imported by import_implementation() when a function that needs it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fftasks.api import Parameter as Parameter
from fftasks.api import Workflow as Workflow
from fftasks.api import task as task
from fftasks.api import workflow as workflow

if TYPE_CHECKING:
    from pathlib import Path

    from fftasks.api.display import HTML as HTML
    from fftasks.api.display import ConfusionMatrix as ConfusionMatrix
    from fftasks.api.display import Markdown as Markdown
    from fftasks.api.display import Metrics as Metrics
    from fftasks.api.display import Roc as Roc
    from fftasks.api.functionfuse import KFPWorkflow as KFPWorkflow
    from fftasks.api.functionfuse import LocalWorkflow as LocalWorkflow
    from fftasks.api.functionfuse import storage_factory as storage_factory
    from fftasks.api.plugin import InitializerPlugin as InitializerPlugin
    from fftasks.api.plugin import PluginCollection as PluginCollection
    from fftasks.api.plugin import RandomStatePlugin as RandomStatePlugin

__version__ = "0.1.0"

# Imported at first use: most processes need none of them, and forking a worker takes longer with each
# module that is loaded.
_DEFERRED = {
    "HTML": "fftasks.api.display",
    "ConfusionMatrix": "fftasks.api.display",
    "Markdown": "fftasks.api.display",
    "Metrics": "fftasks.api.display",
    "Roc": "fftasks.api.display",
    "InitializerPlugin": "fftasks.api.plugin",
    "KFPWorkflow": "fftasks.api.functionfuse",
    "LocalWorkflow": "fftasks.api.functionfuse",
    "PluginCollection": "fftasks.api.plugin",
    "RandomStatePlugin": "fftasks.api.plugin",
    "storage_factory": "fftasks.api.functionfuse",
}
__all__ = [  # noqa: PLE0604 - the keys of _DEFERRED are strings
    "Parameter",
    "Workflow",
    "load",
    "task",
    "workflow",
    *_DEFERRED,
]


def __getattr__(name: str) -> Any:
    if name not in _DEFERRED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_DEFERRED[name]), name))


def load(name: str, folder: str | Path = ".") -> Any:
    """Return the result of a node from the last `doit run`, for notebooks and scripts.

    Large arrays are memory-mapped instead of read.

    Args:
        name: Name of the node, as `doit run` shows it, or "<workflow>/<name>".
        folder: Folder of the project, or a folder below it.

    Returns:
        The result.

    Raises:
        WorkflowError: The project has no node with this name, or the function was called in a pod.
        StoreError: The node has not run yet, or its artifact is missing or damaged.
    """
    return import_implementation("fftasks.cache.results", "load", "load()")(name, folder)


def import_implementation(module: str, name: str, caller: str) -> Any:
    """Import a function or class from a layer that container images do not contain.

    `fftasks.api` uses this function because it must not import the layers above it.

    Args:
        module: Full name of the module, such as "fftasks.functionfuse.local".
        name: Name of the function or class in the module.
        caller: What the user called, for the error message, such as "load()".

    Returns:
        The function or class.

    Raises:
        WorkflowError: The module is missing, as in a pod.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("fftasks."):
            raise
        from fftasks.api.node import find_source_location
        from fftasks.errors import WorkflowError

        raise WorkflowError(
            f"{find_source_location()}: {caller} failed: it is not available in a pod",
            found=[f"the container image does not contain {error.name}"],
            tip='call it on your machine only, such as below `if __name__ == "__main__":`; '
            "a node gets the result of another node as an argument",
        ) from None
