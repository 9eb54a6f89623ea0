"""Groups: which nodes of a workflow share a task on Kubeflow Pipelines, and why.

Pure functions from a graph record, settings and known durations.
"""

from fftasks.stages.groups.estimate import Estimate, Limits, Pods, limit_groups
from fftasks.stages.groups.make import (
    MODES,
    Group,
    Grouping,
    Place,
    estimate_groups,
    group_nodes,
)

__all__ = [
    "MODES",
    "Estimate",
    "Group",
    "Grouping",
    "Limits",
    "Place",
    "Pods",
    "estimate_groups",
    "group_nodes",
    "limit_groups",
]
