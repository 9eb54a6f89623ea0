"""What users import to build a graph: the decorator, nodes, class nodes and the workflow."""

from fftasks.workflow.decorator import task as task
from fftasks.workflow.decorator import workflow as workflow
from fftasks.workflow.graph import Workflow as Workflow
from fftasks.workflow.node import Node as Node
from fftasks.workflow.parameter import Parameter as Parameter
from fftasks.workflow.pending import Item as Item
