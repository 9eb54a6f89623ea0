"""Groups: which nodes of a workflow share a task on Kubeflow Pipelines, and why.

Pure functions from a graph record, settings and known durations.
"""

from __future__ import annotations

from fftasks.fusion.cost import CostEstimate, GraphLimits, PodCosts, make_graph_limits
from fftasks.fusion.grouping import (
    MODES,
    Grouping,
    NodeGroup,
    NodePlacement,
    estimate_groups,
    group_nodes,
)

__all__ = [
    "MODES",
    "CostEstimate",
    "NodeGroup",
    "Grouping",
    "GraphLimits",
    "NodePlacement",
    "PodCosts",
    "estimate_groups",
    "group_nodes",
    "make_graph_limits",
]
