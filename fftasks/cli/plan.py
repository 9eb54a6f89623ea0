"""`doit plan [TASK...]`: show what would run, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.cli.command import JSON_OPTION, ProjectCommand, make_flag
from fftasks.errors import FFTasksError, suggest_name
from fftasks.pipeline.cache_prediction import CachePrediction, NodePrediction, predict_cache
from fftasks.pipeline.fuse import RunEstimate, estimate_run
from fftasks.pipeline.secret_check import list_secret_warnings
from fftasks.project import Project
from fftasks.report.reasons import UP_TO_DATE, explain_reuse, summarize_reasons
from fftasks.report.table import Cell, Column, Row, make_state_cell, print_json, print_table
from fftasks.report.task_plan import STAGES, PlannedTask, plan_nodes, plan_stages

_VERBOSE = make_flag(
    "verbose",
    "show all reasons, the settings of each node and its code dependencies",
    short="v",
)
_COLUMNS = (Column(), Column(wraps=True), Column(wraps=True))


class PlanCommand(ProjectCommand):
    """Print what would run and why, without running, building or sending anything."""

    doc_purpose = "show what would run, and why"
    doc_usage = "[TASK...]"
    doc_description = (
        "TASK: run (all nodes), a node, or a stage such as submit (default: all nodes and stages)."
    )
    name = "plan"
    cmd_options = (_VERBOSE, JSON_OPTION)
    most = sys.maxsize

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the plan. The exit code is 0 if it could be made, whatever would run."""
        for warning in project.take_warnings(list_secret_warnings):
            sys.stderr.write(f"warning: {warning}\n")
        verbose, parts = options["verbose"], _plan_tasks(project, names)
        estimates, predictions = _estimate_runs(project, parts), _predict_caches(project, parts)
        if options["as_json"]:
            plans = {k: [f.to_json() for f in v] for k, v in parts.items()}
            runs = [p.to_json() for p in estimates]
            nodes = [one.to_json() for one in predictions]
            settings = _list_settings(project)
            print_json({**plans, "cluster": runs, "cluster_nodes": nodes, "settings": settings})
            return 0
        _print_planned_tasks(parts, verbose=verbose)
        _print_estimates(estimates, verbose=verbose)
        _print_predictions(predictions, verbose=verbose)
        if verbose and "run" not in parts:  # it has them beside each node
            _print_settings(_list_settings(project))
        print("".join(f"{line}\n" for line in _list_notes(project, verbose=verbose)), end="")
        return 0


def _plan_tasks(project: Project, tasks: list[str]) -> dict[str, list[PlannedTask]]:
    parts: dict[str, list[PlannedTask]] = {}
    labels = {project.find_label(task.removeprefix("run:")) for task in tasks} - {None}
    stages = [task for task in tasks if task in STAGES]
    unknown = [
        task
        for task in tasks
        if task not in (*STAGES, "run") and project.find_label(task.removeprefix("run:")) is None
    ]
    if unknown:
        known = ("run", *STAGES, *project.nodes)
        hint = suggest_name(unknown[0], known) or f"names: {', '.join(known)}"
        raise InvalidCommand(f"unknown task or node {unknown[0]!r}; {hint}")
    if not tasks or "run" in tasks or labels:
        everything = not tasks or "run" in tasks
        parts["run"] = plan_nodes(project, None if everything else {str(label) for label in labels})
    if not tasks or stages:
        wanted = stages or STAGES[-1:]
        parts[max(wanted, key=STAGES.index)] = plan_stages(project, *wanted)
    return parts


def _estimate_runs(project: Project, parts: dict[str, list[PlannedTask]]) -> list[RunEstimate]:
    """Return estimates of runs on the cluster, if a stage for them is planned."""
    if not {"tasks", "pins", "pipeline", "submit"}.intersection(parts):
        return []
    current = _list_up_to_date_stages(parts)
    return [estimate_run(project, workflow, current) for workflow in project.workflows]


def _predict_caches(project: Project, parts: dict[str, list[PlannedTask]]) -> list[CachePrediction]:
    """Return which nodes the next run of each workflow would compute, if it would be submitted."""
    current = _list_up_to_date_stages(parts)
    names = [name for name in project.workflows if f"submit:{name}" not in current]
    return (
        [_predict_workflow_cache(project, name, current) for name in names]
        if "submit" in parts
        else []
    )


def _list_up_to_date_stages(parts: dict[str, list[PlannedTask]]) -> frozenset[str]:
    """Return the names of the stages that are up to date, without nodes, which may have the same names."""
    stages = (stage for what, part in parts.items() if what != "run" for stage in part)
    return frozenset(stage.name for stage in stages if not stage.runs)


def _predict_workflow_cache(
    project: Project, name: str, current: frozenset[str]
) -> CachePrediction:
    try:
        return predict_cache(project, name, current)
    except FFTasksError as error:  # the image cannot be built; the plan of the stages shows it too
        return CachePrediction(name, (), error.attempted)


def _print_predictions(predictions: list[CachePrediction], *, verbose: bool) -> None:
    for prediction in predictions:
        print(f"  {prediction.describe()}")
        rows = (row for node in prediction.nodes for row in _list_node_rows(node, verbose=verbose))
        print_table(_COLUMNS, rows, indent=4)


def _list_settings(project: Project) -> dict[str, list[str]]:
    """Return the changed settings of nodes, with the places where they are set."""
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


def _print_estimates(estimates: list[RunEstimate], *, verbose: bool) -> None:
    if estimates:
        print("on the cluster:")
    for estimate in estimates:
        print("".join(f"  {line}\n" for line in estimate.describe()), end="")
        if verbose:
            print_table((Column(), Column(wraps=True)), estimate.list_groups(), indent=4)


def _list_notes(project: Project, *, verbose: bool) -> list[str]:
    """Return notes about code that could not be resolved, so that it counts as a whole."""
    notes = [note for graph in project.graphs for note in graph["notes"]] if verbose else []
    return (
        ["cannot be resolved and therefore counts as a whole:", *(f"  {n}" for n in notes)]
        if notes
        else []
    )


def _print_planned_tasks(parts: dict[str, list[PlannedTask]], *, verbose: bool) -> None:
    for title, tasks in parts.items():
        running = [task for task in tasks if task.runs]
        print(f"{title}: {len(running)} to run, {len(tasks) - len(running)} up to date")
        shown = tasks if verbose else running
        rows = (row for task in shown for row in _list_rows(task, verbose=verbose))
        print_table(_COLUMNS, rows, indent=2)


def _list_rows(task: PlannedTask, *, verbose: bool) -> Iterator[Row]:
    reasons = task.reasons or (UP_TO_DATE,)
    state = make_state_cell("will run" if task.runs else "up to date")
    yield state, task.name, summarize_reasons(reasons, verbose=verbose)
    if verbose:
        yield from (("", "", reason) for reason in reasons[1:])
        yield from (("", "", f"  {shown}") for shown in task.settings)
        yield from (("", "", Cell(f"  code: {piece}", "2")) for piece in task.code)
