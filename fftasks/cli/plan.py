"""`doit plan [TASK]`: what would run, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.cli.command import JSON_OPTION, ProjectCommand, make_flag
from fftasks.errors import FFTasksError, suggest_name
from fftasks.pipeline.cache_prediction import CachePrediction as ClusterForecast
from fftasks.pipeline.cache_prediction import NodePrediction, predict_cache
from fftasks.pipeline.fuse import RunEstimate, estimate_run
from fftasks.pipeline.secret_check import list_secret_warnings
from fftasks.project import Project
from fftasks.report.reasons import UP_TO_DATE, explain_reuse, summarize_reasons
from fftasks.report.table import Cell, Column, Row, make_state_cell, print_json, print_table
from fftasks.report.task_plan import STAGES, PlannedTask, plan_nodes, plan_stages
from fftasks.tasks.node_lookup import find_node_label

_VERBOSE = make_flag(
    "verbose",
    "show all reasons, the settings of each node, and what its code consists of",
    short="v",
)
_COLUMNS = (Column(), Column(wraps=True), Column(wraps=True))


class PlanCommand(ProjectCommand):
    """Print what a run would do; nothing is run, built or sent."""

    doc_purpose = "show what would run, and why"
    doc_usage = "[TASK...]"
    doc_description = (
        "TASK: run (all nodes), a node, or a stage such as submit; all of them by default."
    )
    name = "plan"
    cmd_options = (_VERBOSE, JSON_OPTION)
    most = sys.maxsize

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the plan; the exit code says only whether there is one."""
        for warning in project.take_warnings(list_secret_warnings):
            sys.stderr.write(f"warning: {warning}\n")
        verbose, parts = options["verbose"], _plan_tasks(project, names)
        prospects, clusters = _estimate_runs(project, parts), _predict_caches(project, parts)
        if options["as_json"]:
            forecasts = {k: [f.to_json() for f in v] for k, v in parts.items()}
            runs = [p.to_json() for p in prospects]
            nodes = [one.to_json() for one in clusters]
            settings = _list_settings(project)
            print_json({**forecasts, "cluster": runs, "cluster_nodes": nodes, "settings": settings})
            return 0
        _print_planned_tasks(parts, verbose=verbose)
        _print_estimates(prospects, verbose=verbose)
        _print_predictions(clusters, verbose=verbose)
        if verbose and "run" not in parts:  # it has them beside each node
            _print_settings(_list_settings(project))
        print("".join(f"{line}\n" for line in _list_notes(project, verbose=verbose)), end="")
        return 0


def _plan_tasks(project: Project, tasks: list[str]) -> dict[str, list[PlannedTask]]:
    parts: dict[str, list[PlannedTask]] = {}
    labels = {find_node_label(project, task.removeprefix("run:")) for task in tasks} - {None}
    stages = [task for task in tasks if task in STAGES]
    unknown = [
        task
        for task in tasks
        if task not in (*STAGES, "run")
        and find_node_label(project, task.removeprefix("run:")) is None
    ]
    if unknown:
        known = ("run", *STAGES, *project.nodes)
        hint = suggest_name(unknown[0], known) or f"there are: {', '.join(known)}"
        raise InvalidCommand(f"there is nothing to plan for {unknown[0]!r}; {hint}")
    if not tasks or "run" in tasks or labels:
        everything = not tasks or "run" in tasks
        parts["run"] = plan_nodes(project, None if everything else {str(label) for label in labels})
    if not tasks or stages:
        wanted = stages or STAGES[-1:]
        parts[max(wanted, key=STAGES.index)] = plan_stages(project, *wanted)
    return parts


def _estimate_runs(project: Project, parts: dict[str, list[PlannedTask]]) -> list[RunEstimate]:
    """Return what runs on the cluster would be like, if any stage for them is asked about."""
    if not {"tasks", "pins", "pipeline", "submit"}.intersection(parts):
        return []
    current = _list_up_to_date_stages(parts)
    return [estimate_run(project, workflow, current) for workflow in project.workflows]


def _predict_caches(project: Project, parts: dict[str, list[PlannedTask]]) -> list[ClusterForecast]:
    """Return what the next run of each workflow would compute; nothing of those that start none."""
    current = _list_up_to_date_stages(parts)
    names = [name for name in project.workflows if f"submit:{name}" not in current]
    return (
        [_predict_workflow_cache(project, name, current) for name in names]
        if "submit" in parts
        else []
    )


def _list_up_to_date_stages(parts: dict[str, list[PlannedTask]]) -> frozenset[str]:
    """Return the names of the stages that are up to date; nodes may be called so as well."""
    stages = (stage for what, part in parts.items() if what != "run" for stage in part)
    return frozenset(stage.name for stage in stages if not stage.runs)


def _predict_workflow_cache(
    project: Project, name: str, current: frozenset[str]
) -> ClusterForecast:
    try:
        return predict_cache(project, name, current)
    except (
        FFTasksError
    ) as error:  # no image can be made of the folder; the plan of the stages says it too
        return ClusterForecast(name, (), error.attempted)


def _print_predictions(clusters: list[ClusterForecast], *, verbose: bool) -> None:
    for cluster in clusters:
        print(f"  {cluster.describe()}")
        rows = (row for node in cluster.nodes for row in _list_node_rows(node, verbose=verbose))
        print_table(_COLUMNS, rows, indent=4)


def _list_settings(project: Project) -> dict[str, list[str]]:
    """Return what is set for each node, with the places; nothing of a node for which nothing is."""
    found = {
        label: list(project.find_node_settings(node.content).describe())
        for label, node in project.nodes.items()
    }
    return {label: settings for label, settings in found.items() if settings}


def _print_settings(settings: Mapping[str, Sequence[str]]) -> None:
    if settings:
        print("settings of nodes:")
    rows = (
        (label if i == 0 else "", line) for label, s in settings.items() for i, line in enumerate(s)
    )
    print_table((Column(wraps=True), Column(wraps=True)), rows, indent=2)


def _list_node_rows(node: NodePrediction, *, verbose: bool) -> Iterator[Row]:
    if node.computes:
        yield (
            make_state_cell("will run"),
            node.node,
            summarize_reasons(node.reasons, verbose=verbose),
        )
        if verbose:
            yield from (("", "", reason) for reason in node.reasons[1:])
    elif verbose:
        yield make_state_cell("cached"), node.node, explain_reuse(node.run_id)


def _print_estimates(prospects: list[RunEstimate], *, verbose: bool) -> None:
    if prospects:
        print("on the cluster:")
    for prospect in prospects:
        print("".join(f"  {line}\n" for line in prospect.describe()), end="")
        if verbose:
            print_table((Column(), Column(wraps=True)), prospect.list_groups(), indent=4)


def _list_notes(project: Project, *, verbose: bool) -> list[str]:
    """Return why more code counts than the nodes name: what could not be resolved."""
    notes = [note for graph in project.graphs for note in graph["notes"]] if verbose else []
    return (
        ["counted as a whole, for it cannot be resolved:", *(f"  {n}" for n in notes)]
        if notes
        else []
    )


def _print_planned_tasks(parts: dict[str, list[PlannedTask]], *, verbose: bool) -> None:
    for title, forecasts in parts.items():
        running = [predict_cache for predict_cache in forecasts if predict_cache.runs]
        print(f"{title}: {len(running)} to run, {len(forecasts) - len(running)} up to date")
        shown = forecasts if verbose else running
        rows = (
            row for predict_cache in shown for row in _list_rows(predict_cache, verbose=verbose)
        )
        print_table(_COLUMNS, rows, indent=2)


def _list_rows(forecast: PlannedTask, *, verbose: bool) -> Iterator[Row]:
    reasons = forecast.reasons or (UP_TO_DATE,)
    state = make_state_cell("will run" if forecast.runs else "up to date")
    yield state, forecast.name, summarize_reasons(reasons, verbose=verbose)
    if verbose:
        yield from (("", "", reason) for reason in reasons[1:])
        yield from (("", "", f"  {shown}") for shown in forecast.settings)
        yield from (("", "", Cell(f"  code: {piece}", "2")) for piece in forecast.code)
