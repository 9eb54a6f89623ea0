"""How long nodes are expected to take: as when they ran last on the cluster, else here, else a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fftasks.project import Project

_SIMILAR = 2.0  # a duration that changed by less changes no groups


@dataclass(frozen=True)
class Durations:
    """How long the nodes of a workflow take, as far as it is known.

    seconds: by node id
    there, here: how many were measured on the cluster, and here
    before: how many only the groups before knew; assumed: how many are not known
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    there: int = 0
    here: int = 0
    before: int = 0
    assumed: int = 0

    def count(self) -> dict[str, Any]:
        """Return how many durations come from where."""
        return {name: count for name, count in asdict(self).items() if name != "seconds"}

    def describe(self) -> str:
        """Return where they come from, in a line."""
        counted = (
            (self.there, "measured on the cluster"),
            (self.here, "measured here"),
            (self.before, "measured earlier"),
            (self.assumed, "assumed to be 1 s"),
        )
        return "durations: " + ", ".join(f"{count} {how}" for count, how in counted if count)


def find_durations(project: Project, workflow: str, before: Mapping[str, float]) -> Durations:
    """Return how long nodes are expected to take.

    The cluster's times come first: it is its runs that are looked ahead to.
    before: node id -> its duration when the groups were made that there are; it stays while it is about right
    """
    from fftasks.cluster.memory import read_seconds  # here: a no-op has no use for it

    graph = project.workflows[workflow]
    ids = graph["workflows"][workflow]["nodes"]
    measured = read_seconds(project, workflow)
    names = {identity: graph["nodes"][identity]["name"] for identity in ids}
    there = {i: measured[name] for i, name in names.items() if name in measured}
    here = _find_here(project, workflow, set(ids) - there.keys())
    known = {**here, **there}
    kept = {i: one for i, one in before.items() if i in names and _is_similar(one, known.get(i))}
    seconds = {**known, **kept}
    only_before = len(seconds) - len(known)
    return Durations(seconds, len(there), len(here), only_before, len(ids) - len(seconds))


def _is_similar(old: float, new: float | None) -> bool:
    return bool(old) and (new is None or 1 / _SIMILAR < new / old < _SIMILAR)


def _find_here(project: Project, workflow: str, wanted: set[str]) -> dict[str, float]:
    """Return how long nodes took when they last ran here."""
    graph = project.workflows[workflow]
    found = {}
    for label, node in project.nodes.items():
        if node.graph is graph and node.content["id"] in wanted:
            trace = project.find_trace(label)
            if trace is not None:
                found[node.content["id"]] = trace.seconds
    return found
