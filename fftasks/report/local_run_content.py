"""The page content of a local run, from its history, the state of the project, and logs."""

from __future__ import annotations

import ast
import time
from collections.abc import Container, Mapping
from contextlib import suppress
from typing import Any

from fftasks.cache.history import (
    LocalRun,
    TaskEvent,
    list_local_runs,
    read_local_run,
    read_run_graph,
)
from fftasks.cache.store import Store
from fftasks.errors import StoreError
from fftasks.project import STAGE_NEEDS, Project
from fftasks.report.page_content import PageRun, PageTask, Phase
from fftasks.report.result_documents import (
    ResultDisplay,
    filter_finite_numbers,
    read_result_display,
)
from fftasks.report.settings_display import format_changed_settings
from fftasks.state_folder import open_regular

_MAX_LOCAL_HISTORY = 12  # runs in the table of earlier runs
_MTIME_TOLERANCE_S = 2.0
_MAX_LOG_BYTES = 1 << 16
_MAX_PREVIEW_LENGTH = 2000  # characters; a longer preview is not parsed


def read_earlier_local_runs(project: Project, last: str) -> list[LocalRun]:
    """Return the last runs up to a given run, the oldest first.

    Args:
        project: The project.
        last: Name of the newest run to return.
    """
    names = [name for name in list_local_runs(project.folder) if name < last][
        1 - _MAX_LOCAL_HISTORY :
    ]
    earlier = []
    for name in names:
        with suppress(StoreError):  # it was just deleted, or is damaged
            earlier.append(read_local_run(project.folder, name))
    return [*earlier, read_local_run(project.folder, last)]


def make_local_page_run(run: LocalRun, past: list[LocalRun], inner: Container[str] = ()) -> PageRun:
    """Return a local run as page content.

    Args:
        run: The run.
        past: The runs up to it, the oldest first.
        inner: Names of nodes with downstream nodes. A result that is a single number counts as a metric only
            for other nodes.
    """
    ran = [e for e in run.events.values() if e.state == "ran" and e.task.startswith("run:")]
    known = _find_last_events(past)
    metrics: dict[str, float] = {}
    for task in dict.fromkeys([*run.events, *run.same]):
        if task.startswith("run:") and task in known:
            name = task.removeprefix("run:")
            for key, value in parse_preview_metrics(known[task].preview).items():
                if key or name not in inner:
                    metrics[f"{name} {key}".strip()] = value
    return PageRun(
        name=run.identity,
        state=run.state,
        begin=run.begin,
        end=run.end if run.end is not None or run.state == "running" else _find_last_end(run),
        where="on this machine",
        command=f"doit {' '.join(run.header.get('tasks', ()))}",
        parameters={name: str(value) for name, value in run.header.get("parameters", {}).items()},
        metrics=metrics,
        ran=len(ran),
    )


def make_local_page_tasks(
    project: Project, run: LocalRun, past: list[LocalRun], states: Mapping[str, str]
) -> list[PageTask]:
    """Return the stages and nodes of a run as page content.

    Args:
        project: The project.
        run: The run.
        past: The runs up to it, the oldest first.
        states: Label of each node -> key of task_states.STATES.
    """
    nodes = read_run_graph(project.folder, run)
    known = _find_last_events(past)
    tasks = [
        make_stage_page_task(event, run)
        for event in run.events.values()
        if event.task.partition(":")[0] in STAGE_NEEDS
    ]
    for label, node in nodes.items():
        event = run.events.get(f"run:{label}") or TaskEvent(f"run:{label}", states[label])
        shown = known.get(event.task, event)
        failed = event.state == "failed"
        pages = (
            ResultDisplay()
            if failed
            else read_result_display(project.store.list_pages(node["slug"], shown.output))
        )
        task = PageTask(
            name=label,
            state=states[label],
            reason=event.reason,
            begin=event.begin,
            end=event.end,
            seconds=event.seconds if event.seconds is not None else _measure_event(event),
            phases=_list_phases(event),
            function=node["function"],
            place=node["place"],
            line=node["line"],
            workflow=node["workflow"],
            upstream=tuple(node["upstream"]),
            arguments=node["arguments"],
            extra=tuple(node.get("extra", node["arguments"])),
            settings=_show_settings(project, label),
            preview="" if failed else shown.preview,
            text=pages.text,
            documents=pages.documents,
            metrics={} if failed else {**parse_preview_metrics(shown.preview), **pages.metrics},
            pictures=pages.pictures,
            error=event.error,
            log=_read_log(project.store, node["slug"], event if event.begin else shown),
        )
        tasks.append(task)
    return tasks


def list_literal_names(nodes: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the names of nodes, functions and workflows that are literals in the code.

    Args:
        nodes: Nodes as project.describe_nodes returns them. Records of older runs do not mark literal names.
    """
    written = {name for name, node in nodes.items() if node.get("is_written")}
    written |= {n["function"] for n in nodes.values() if n.get("is_function_written")}
    return written | {n["workflow"] for n in nodes.values() if n.get("is_workflow_written")}


def list_class_names(project: Project) -> set[str]:
    """Return the names of the classes in the code of the project's nodes.

    Only a page without values needs them. For other pages the set is empty, so that the graph is not read.
    """
    if project.settings.report.previews:
        return set()
    pieces = (name for graph in project.graphs for code in graph["codes"].values() for name in code)
    return {after for _, found, after in (name.partition(": class ") for name in pieces) if found}


def parse_preview_metrics(preview: str) -> dict[str, float]:
    """Parse the finite numbers of a result, by name, from its preview.

    Args:
        preview: The beginning of repr() of the result, a number or a dictionary. The name of a single
            number is "".
    """
    if preview.startswith("Metrics("):  # fftasks.Metrics, which is a dictionary
        preview = preview[len("Metrics(") : -1]
    if len(preview) > _MAX_PREVIEW_LENGTH:
        return {}
    try:
        value = ast.literal_eval(preview)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    values = value if isinstance(value, dict) else {"": value}
    if not values or not all(type(number) in (int, float) for number in values.values()):
        return {}
    return filter_finite_numbers(values)


def _find_last_events(past: list[LocalRun]) -> dict[str, TaskEvent]:
    """Return the last event of each task in which it ran."""
    return {e.task: e for run in past for e in run.events.values() if e.state == "ran"}


def make_stage_page_task(event: TaskEvent, run: LocalRun) -> PageTask:
    """Return a stage of a run as page content.

    Args:
        event: Event of the stage in the history.
        run: The run.
    """
    stage, _, workflow = event.task.partition(":")
    needs = (name for need in STAGE_NEEDS[stage] for name in (need, f"{need}:{workflow}"))
    return PageTask(
        name=event.task,
        state=event.state,
        reason=event.reason,
        begin=event.begin,
        end=event.end,
        seconds=_measure_event(event),
        function=f"stage {stage}",
        stage=stage,
        workflow=workflow,
        upstream=tuple(name for name in needs if name in run.events),
        error=event.error,
    )


def _measure_event(event: TaskEvent) -> float | None:
    if event.begin is None or event.state in ("up to date", "skipped"):
        return None
    return max((time.time() if event.end is None else event.end) - event.begin, 0.0)


def _list_phases(event: TaskEvent) -> tuple[Phase, ...]:
    """Return the phase in which the process of a node started, read its inputs and wrote its results."""
    if event.begin is None or event.end is None or event.seconds is None:
        return ()
    rest = event.end - event.begin - event.seconds
    return (Phase("start, read, write", event.begin, event.begin + rest),) if rest > 0 else ()


def _show_settings(project: Project, label: str) -> dict[str, str]:
    """Return the changed settings of a node, with the places where they are set."""
    node = project.nodes.get(label)
    if node is None:  # a node of an older graph
        return {}
    return format_changed_settings(project.find_node_settings(node.content))


def _find_last_end(run: LocalRun) -> float | None:
    """Return the time of the last event of a run that was killed."""
    return max((event.end for event in run.events.values() if event.end is not None), default=None)


def _read_log(store: Store, slug: str, event: TaskEvent) -> str:
    """Return the end of the log of a node in this run. A later run overwrites the log."""
    if event.begin is None:
        return ""
    try:
        path = store.log_path(slug)
        changed = path.lstat().st_mtime
        if changed < event.begin - _MTIME_TOLERANCE_S or (
            event.end is not None and changed > event.end + _MTIME_TOLERANCE_S
        ):
            return "a later run of this node has overwritten its log"
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
            size = file.seek(0, 2)
            file.seek(max(0, size - _MAX_LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
