"""fftasks: workflows of plain Python functions, here and on Kubeflow Pipelines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fftasks.workflow import Parameter as Parameter
from fftasks.workflow import Workflow as Workflow
from fftasks.workflow import task as task
from fftasks.workflow import workflow as workflow

if TYPE_CHECKING:
    from fftasks.dropin.kfp import KFPWorkflow as KFPWorkflow
    from fftasks.dropin.local import LocalWorkflow as LocalWorkflow
    from fftasks.dropin.storage import storage_factory as storage_factory
    from fftasks.results import load as load
    from fftasks.workflow.page import HTML as HTML
    from fftasks.workflow.page import ConfusionMatrix as ConfusionMatrix
    from fftasks.workflow.page import Markdown as Markdown
    from fftasks.workflow.page import Metrics as Metrics
    from fftasks.workflow.page import Roc as Roc
    from fftasks.workflow.plugin import InitializerPlugin as InitializerPlugin
    from fftasks.workflow.plugin import PluginCollection as PluginCollection
    from fftasks.workflow.plugin import RandomStatePlugin as RandomStatePlugin

__version__ = "0.1.0"

# imported when first used: most processes need none, and a worker's fork costs by what is imported
_LATER = {
    "HTML": "fftasks.workflow.page",
    "ConfusionMatrix": "fftasks.workflow.page",
    "Markdown": "fftasks.workflow.page",
    "Metrics": "fftasks.workflow.page",
    "Roc": "fftasks.workflow.page",
    "InitializerPlugin": "fftasks.workflow.plugin",
    "KFPWorkflow": "fftasks.dropin.kfp",
    "LocalWorkflow": "fftasks.dropin.local",
    "PluginCollection": "fftasks.workflow.plugin",
    "RandomStatePlugin": "fftasks.workflow.plugin",
    "load": "fftasks.results",
    "storage_factory": "fftasks.dropin.storage",
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
