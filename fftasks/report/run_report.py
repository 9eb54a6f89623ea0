"""Compose the page of a run, and list the nodes of a diagram with their states now or in a run."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fftasks.cache.history import (
    LocalRun,
    find_local_run,
    list_local_runs,
    read_local_run,
    read_run_graph,
)
from fftasks.errors import StoreError, ToolError
from fftasks.project import Project
from fftasks.records import read_record
from fftasks.report.diagram import DiagramNode
from fftasks.report.local_run_content import (
    list_class_names,
    list_literal_names,
    make_local_page_run,
    make_local_page_tasks,
    read_earlier_local_runs,
)
from fftasks.report.page_content import Privacy, make_page_content
from fftasks.report.task_plan import plan_nodes
from fftasks.secrets.secret_names import list_secret_settings, list_secret_variables

if TYPE_CHECKING:
    from fftasks.kfp.run import ClusterRun


def make_diagram_nodes(
    nodes: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
) -> list[DiagramNode]:
    """Return the nodes of a diagram.

    Args:
        nodes: Descriptions from project.describe_nodes().
        states: Label of each node -> key of task_states.STATES.
        groups: Label of each node that shares a pod -> name of the task.
    """
    return [
        DiagramNode(
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


def convert_diagram_to_json(items: Sequence[DiagramNode]) -> dict[str, Any]:
    """Return a graph as JSON: nodes with their states, and edges from upstream to downstream nodes."""
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


def find_node_groups(project: Project) -> dict[str, str]:
    """Return the task of each node that shares a pod on the cluster; see pipeline/fuse.py."""
    from fftasks.pipeline.fuse import choose_grouping

    labels = {(n.workflow, n.content["id"]): label for label, n in project.nodes.items()}
    groups: dict[str, str] = {}
    for workflow in project.workflows:
        found = choose_grouping(
            project, workflow, read_record(project.record_path("tasks", workflow))
        )
        for group in found.groups if found else ():
            if len(group.nodes) > 1:
                groups |= {
                    labels[workflow, n]: group.name for n in group.nodes if (workflow, n) in labels
                }
    return groups


def find_current_node_states(project: Project) -> dict[str, str]:
    """Return the current state of each node: "up to date", "will run", or "failed" in its last run."""
    failed = _list_failed(project)
    return {
        task.name: "up to date"
        if not task.runs
        else "failed"
        if task.name in failed
        else "will run"
        for task in plan_nodes(project)
    }


def list_node_states_of_run(run: LocalRun, nodes: Mapping[str, Any]) -> dict[str, str]:
    """Return the state of each node in a run; "waiting" if it has not started or was not selected.

    Args:
        run: The run.
        nodes: Descriptions of the nodes, by label.
    """
    same = {task.removeprefix("run:") for task in run.same}
    states = {}
    for label in nodes:
        event = run.events.get(f"run:{label}")
        states[label] = event.state if event else "up to date" if label in same else "waiting"
    return states


def read_local_diagram_nodes(project: Project, name: str) -> list[DiagramNode]:
    """Return the nodes of a local run with their states.

    Args:
        project: The project.
        name: Prefix of the name of the run; "" for the last run.

    Raises:
        StoreError: The run or its graph is not found.
    """
    run = read_local_run(project.folder, find_local_run(project.folder, name))
    nodes = read_run_graph(project.folder, run)
    if not nodes:
        raise StoreError(f"graph of run {run.identity!r} not found", tip="name another run")
    return make_diagram_nodes(nodes, list_node_states_of_run(run, nodes))


def _list_failed(project: Project) -> set[str]:
    """Return the nodes that failed in the last run here."""
    try:
        run = read_local_run(project.folder, find_local_run(project.folder))
    except StoreError:
        return set()
    events = run.events.values()
    return {event.task.removeprefix("run:") for event in events if event.state == "failed"}


_MIN_SECRET_LENGTH = 4  # hiding a shorter secret would also hide parts of words


def describe_run(project: Project, name: str = "", *, cluster: bool = False) -> dict[str, Any]:
    """Return the content of the page of a local run or a run on the cluster.

    Args:
        project: The project.
        name: Prefix of the name of a local run, or ID, prefix of an ID, or name of a run on the cluster; ""
            for the last run.
        cluster: Search runs on the cluster only.
    """
    if cluster or not is_local_run(project, name):
        return _describe_cluster_run(project, name, cluster=cluster)
    return describe_local_run(project, name)


def is_local_run(project: Project, name: str) -> bool:
    """Return whether a name is "" or the prefix of the name of a local run."""
    return not name or any(run.startswith(name) for run in list_local_runs(project.folder))


def list_run_diagram_nodes(
    project: Project, name: str, *, cluster: bool = False
) -> list[DiagramNode]:
    """Return the nodes of a run for a diagram.

    Args:
        project: The project.
        name: See describe_run().
        cluster: See describe_run().
    """
    if not cluster and is_local_run(project, name):
        return read_local_diagram_nodes(project, name)
    from fftasks.report.cluster_run_content import list_cluster_diagram_nodes

    return list_cluster_diagram_nodes(
        project, _find_cluster_run(project, name, cluster=cluster), {}
    )


def _find_cluster_run(project: Project, name: str, *, cluster: bool) -> ClusterRun:
    """Return a run on the cluster. The error for an unknown run also mentions local runs."""
    from fftasks.report.run_status import resolve_run

    try:
        return resolve_run(project, name)
    except ToolError as error:
        if cluster:
            raise
        last = max(list_local_runs(project.folder), default="")
        here = f"no local run begins with {name!r}{f'; the last one is {last}' if last else ''}"
        raise type(error)(error.attempted, found=[here, *error.found], tip=error.tip) from error


def _describe_cluster_run(project: Project, name: str, *, cluster: bool) -> dict[str, Any]:
    from fftasks.kfp.client import get_run_url
    from fftasks.report import cluster_run_content as there
    from fftasks.report.cluster_run_content import add_executions, collect_node_displays

    run = _find_cluster_run(project, name, cluster=cluster)
    shown, notice = collect_node_displays(project, run)
    run = add_executions(run)
    name = f"{run.name} " if project.settings.report.previews else "run "
    return make_page_content(
        f"{project.root.name}: {name}{run.run_id[:8]}",
        there.make_cluster_page_run(run, get_run_url(project.settings.kfp, run.run_id)),
        there.make_cluster_page_tasks(project, run, shown),
        items=there.list_cluster_diagram_nodes(project, run, shown),
        render=render_svg_or_empty,
        history=there.list_earlier_cluster_runs(project, run),
        privacy=find_privacy(project),
        written=there.list_cluster_literal_names(project, run),
        notice="\n".join(filter(None, [notice, *there.list_notices(project, run)])),
    )


def describe_local_run(project: Project, name: str) -> dict[str, Any]:
    """Return the content of the page of a local run.

    Args:
        project: The project.
        name: Prefix of the name of the run; "" for the last run.

    Raises:
        StoreError: The run is not found.
    """
    run = read_local_run(project.folder, find_local_run(project.folder, name))
    past = read_earlier_local_runs(project, run.identity)
    nodes = read_run_graph(project.folder, run)
    states = list_node_states_of_run(run, nodes)
    inner = {other for node in nodes.values() for other in node["upstream"]}
    rows = [make_local_page_run(one, past[: number + 1], inner) for number, one in enumerate(past)]
    return make_page_content(
        f"{project.root.name}: run {run.identity}",
        rows[-1],
        make_local_page_tasks(project, run, past, states),
        items=make_diagram_nodes(nodes, states),
        render=render_svg_or_empty,
        history=rows[::-1],
        privacy=find_privacy(project),
        written=list_literal_names(nodes) | list_class_names(project),
    )


def find_privacy(project: Project) -> Privacy:
    """Return what pages of the project must not show: its secrets, and values if report.previews is false."""
    return Privacy(tuple(dict.fromkeys(_list_secrets(project))), project.settings.report.previews)


def _list_secrets(project: Project) -> Iterator[str]:
    settings = (secret for _, secret in list_secret_settings(project.settings))
    yield from (secret for secret in settings if len(secret) >= _MIN_SECRET_LENGTH)
    yield from list_secret_variables(os.environ).values()


@functools.lru_cache(maxsize=8)  # the board renders the same drawing repeatedly
def render_svg_or_empty(dot: str) -> str:
    """Return a drawing as SVG, or "" if it cannot be drawn: the page is useful without it."""
    from fftasks.report.diagram import render_dot

    try:
        svg = render_dot(dot, "svg").decode()
    except ToolError:
        return ""
    return svg[svg.index("<svg") :]
