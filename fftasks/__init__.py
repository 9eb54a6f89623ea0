"""fftasks: workflows of plain Python functions, here and on Kubeflow Pipelines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fftasks.api import Parameter as Parameter
from fftasks.api import Workflow as Workflow
from fftasks.api import task as task
from fftasks.api import workflow as workflow

if TYPE_CHECKING:
    from fftasks.api.display import HTML as HTML
    from fftasks.api.display import ConfusionMatrix as ConfusionMatrix
    from fftasks.api.display import Markdown as Markdown
    from fftasks.api.display import Metrics as Metrics
    from fftasks.api.display import Roc as Roc
    from fftasks.api.plugin import InitializerPlugin as InitializerPlugin
    from fftasks.api.plugin import PluginCollection as PluginCollection
    from fftasks.api.plugin import RandomStatePlugin as RandomStatePlugin
    from fftasks.cache.results import load as load
    from fftasks.functionfuse.kfp import KFPWorkflow as KFPWorkflow
    from fftasks.functionfuse.local import LocalWorkflow as LocalWorkflow
    from fftasks.functionfuse.storage import storage_factory as storage_factory

__version__ = "0.1.0"

# imported when first used: most processes need none, and a worker's fork costs by what is imported
_LATER = {
    "HTML": "fftasks.api.display",
    "ConfusionMatrix": "fftasks.api.display",
    "Markdown": "fftasks.api.display",
    "Metrics": "fftasks.api.display",
    "Roc": "fftasks.api.display",
    "InitializerPlugin": "fftasks.api.plugin",
    "KFPWorkflow": "fftasks.functionfuse.kfp",
    "LocalWorkflow": "fftasks.functionfuse.local",
    "PluginCollection": "fftasks.api.plugin",
    "RandomStatePlugin": "fftasks.api.plugin",
    "load": "fftasks.cache.results",
    "storage_factory": "fftasks.functionfuse.storage",
}
__all__ = [  # noqa: PLE0604 - the names above are strings
    "Parameter",
    "Workflow",
    "task",
    "workflow",
    *_LATER,
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_LATER[name]), name))
