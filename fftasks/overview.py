"""Nodes as a picture has them: with what is to become of them now, or with what became of them in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fftasks.errors import StoreError
from fftasks.picture.drawing import Item
from fftasks.plan import plan_nodes
from fftasks.project import Project
from fftasks.record import read_record
from fftasks.store.history import Run, find_run, read_graph, read_run


def list_items(
    nodes: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
) -> list[Item]:
    """Return the items of a picture.

    nodes: as project.describe_nodes gives them; states: label -> a word of state.py
    groups: label -> the name of the task that the node shares with others
    """
    return [
        Item(
            label,
            node["function"],
            tuple(node["upstream"]),
            node["workflow"],
            states[label],
            node["chain"],
            (groups or {}).get(label, ""),
        )
        for label, node in nodes.items()
    ]


def to_json(items: Sequence[Item]) -> dict[str, Any]:
    """Return a graph as JSON: each node with its state, and each edge from what gives to what takes."""
    names = {item.name for item in items}
    return {
        "nodes": [
            {
                "node": item.name,
                "workflow": item.workflow,
                "function": item.function,
                "state": item.state,
                "chain": item.chain,
                "group": item.group,
            }
            for item in items
        ],
        "edges": [
            {"from": other, "to": item.name}
            for item in items
            for other in item.upstream
            if other in names
        ],
    }


def find_groups(project: Project) -> dict[str, str]:
    """Return the task of each node that shares one with others on the cluster; see steps/grouping.py."""
    from fftasks.steps.grouping import find_grouping

    labels = {(n.workflow, n.content["id"]): label for label, n in project.nodes.items()}
    groups: dict[str, str] = {}
    for workflow in project.workflows:
        found = find_grouping(
            project, workflow, read_record(project.record_path("tasks", workflow))
        )
        for group in found.groups if found else ():
            if len(group.nodes) > 1:
                groups |= {
                    labels[workflow, n]: group.name for n in group.nodes if (workflow, n) in labels
                }
    return groups


def find_states(project: Project) -> dict[str, str]:
    """Return what each node is now: up to date, to run, or failed when it ran last."""
    failed = _list_failed(project)
    return {
        forecast.name: "up to date"
        if not forecast.runs
        else "failed"
        if forecast.name in failed
        else "will run"
        for forecast in plan_nodes(project)
    }


def list_states(run: Run, nodes: Mapping[str, Any]) -> dict[str, str]:
    """Return what became of each node in a run: "waiting" if it was not its turn yet, or not asked for."""
    same = {task.removeprefix("run:") for task in run.same}
    states = {}
    for label in nodes:
        event = run.events.get(f"run:{label}")
        states[label] = event.state if event else "up to date" if label in same else "waiting"
    return states


def read_items(project: Project, name: str) -> list[Item]:
    """Return the items of a local run; raise StoreError if there is no such run, or it has no graph."""
    run = read_run(project.folder, find_run(project.folder, name))
    nodes = read_graph(project.folder, run)
    if not nodes:
        raise StoreError(f"the graph of run {run.identity!r} is gone", tip="name another run")
    return list_items(nodes, list_states(run, nodes))


def _list_failed(project: Project) -> set[str]:
    """Return the nodes that failed in the last run here."""
    try:
        run = read_run(project.folder, find_run(project.folder))
    except StoreError:
        return set()
    events = run.events.values()
    return {event.task.removeprefix("run:") for event in events if event.state == "failed"}
