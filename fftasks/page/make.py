"""Put the page of a run together: which run is meant, what it is, and what must not be shown."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.overview import list_items, list_states, read_items
from fftasks.page.content import Privacy, make_content
from fftasks.page.local import list_classes, list_written, read_past, show_run, show_tasks
from fftasks.picture.drawing import Item
from fftasks.project import Project
from fftasks.settings.secrets import list_secret_settings, list_secret_variables
from fftasks.store.history import find_run, list_runs, read_graph, read_run

if TYPE_CHECKING:
    from fftasks.cluster.run import ClusterRun

_SHORTEST = 4  # a shorter secret would hide words


def describe_run(project: Project, name: str = "", *, cluster: bool = False) -> dict[str, Any]:
    """Return the content of the page of a run, here or on the cluster.

    name: the beginning of the name of a run here, or what `doit status` takes for one of the cluster; "" for
        the last one
    cluster: look there only
    """
    if cluster or not is_local(project, name):
        return _describe_cluster(project, name, cluster=cluster)
    return describe_local(project, name)


def is_local(project: Project, name: str) -> bool:
    """Tell whether a name is meant for a run here: the last one, or one that begins so."""
    return not name or any(run.startswith(name) for run in list_runs(project.folder))


def list_items_of(project: Project, name: str, *, cluster: bool = False) -> list[Item]:
    """Return the nodes of a run as the picture has them; name, cluster: as for describe_run."""
    if not cluster and is_local(project, name):
        return read_items(project, name)
    from fftasks.page.cluster import list_cluster_items

    return list_cluster_items(project, _find_cluster_run(project, name, cluster=cluster), {})


def _find_cluster_run(project: Project, name: str, *, cluster: bool) -> ClusterRun:
    """Return a run on the cluster; raise ToolError, which says where else was looked."""
    from fftasks.cluster.choose import find_run as find_there

    try:
        return find_there(project, name)
    except ToolError as error:
        if cluster:
            raise
        last = max(list_runs(project.folder), default="")
        here = f"no run here begins with {name!r}{f', the last one is {last}' if last else ''}"
        raise type(error)(error.attempted, found=[here, *error.found], tip=error.tip) from error


def _describe_cluster(project: Project, name: str, *, cluster: bool) -> dict[str, Any]:
    from fftasks.page import cluster as there
    from fftasks.page.outputs import add_executions, show_outputs
    from fftasks.ports.kfp import find_page

    run = _find_cluster_run(project, name, cluster=cluster)
    shown, notice = show_outputs(project, run)
    run = add_executions(run)
    name = f"{run.name} " if project.settings.report.previews else "run "
    return make_content(
        f"{project.root.name}: {name}{run.run_id[:8]}",
        there.show_cluster_run(run, find_page(project.settings.kfp, run.run_id)),
        there.show_cluster_tasks(project, run, shown),
        items=there.list_cluster_items(project, run, shown),
        render=draw_or_leave,
        history=there.list_earlier(project, run),
        privacy=find_privacy(project),
        written=there.list_written_names(project, run),
        notice="\n".join(filter(None, [notice, *there.list_notices(project, run)])),
    )


def describe_local(project: Project, name: str) -> dict[str, Any]:
    """Return the content of the page of a local run, the last one for "".

    Raises StoreError if there is none.
    """
    run = read_run(project.folder, find_run(project.folder, name))
    past = read_past(project, run.identity)
    nodes = read_graph(project.folder, run)
    states = list_states(run, nodes)
    inner = {other for node in nodes.values() for other in node["upstream"]}
    rows = [show_run(one, past[: number + 1], inner) for number, one in enumerate(past)]
    return make_content(
        f"{project.root.name}: run {run.identity}",
        rows[-1],
        show_tasks(project, run, past, states),
        items=list_items(nodes, states),
        render=draw_or_leave,
        history=rows[::-1],
        privacy=find_privacy(project),
        written=list_written(nodes) | list_classes(project),
    )


def find_privacy(project: Project) -> Privacy:
    """Return what the project's pages must not show."""
    return Privacy(tuple(dict.fromkeys(_list_secrets(project))), project.settings.report.previews)


def _list_secrets(project: Project) -> Iterator[str]:
    settings = (secret for _, secret in list_secret_settings(project.settings))
    yield from (secret for secret in settings if len(secret) >= _SHORTEST)
    yield from list_secret_variables(os.environ).values()


@functools.lru_cache(maxsize=8)  # the board asks again and again
def draw_or_leave(dot: str) -> str:
    """Return the picture as SVG, or "" where it cannot be drawn: a page is worth more than its picture."""
    from fftasks.ports.graphviz import render

    try:
        svg = render(dot, "svg").decode()
    except ToolError:
        return ""
    return svg[svg.index("<svg") :]
