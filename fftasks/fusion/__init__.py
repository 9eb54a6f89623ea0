"""Choose which nodes of a workflow share a pod: pure functions of the graph, settings and durations."""

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
    "GraphLimits",
    "Grouping",
    "NodeGroup",
    "NodePlacement",
    "PodCosts",
    "estimate_groups",
    "group_nodes",
    "make_graph_limits",
]
