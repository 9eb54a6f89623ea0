"""The names with which users build a graph: the decorator, nodes, class nodes and the workflow."""

from __future__ import annotations

from fftasks.api.decorator import task as task
from fftasks.api.decorator import workflow as workflow
from fftasks.api.node import Item as Item
from fftasks.api.node import Node as Node
from fftasks.api.parameter import Parameter as Parameter
from fftasks.api.workflow_graph import Workflow as Workflow
