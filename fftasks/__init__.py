"""fftasks: workflows of plain Python functions, here and on Kubeflow Pipelines."""

from fftasks.dropin.kfp import KFPWorkflow as KFPWorkflow
from fftasks.dropin.local import LocalWorkflow as LocalWorkflow
from fftasks.dropin.storage import storage_factory as storage_factory
from fftasks.results import load as load
from fftasks.workflow import Workflow as Workflow
from fftasks.workflow import task as task
from fftasks.workflow import workflow as workflow

__version__ = "0.1.0"
