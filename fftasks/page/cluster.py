"""A run on the cluster as the page has it: from Kubeflow Pipelines' answer, and the stages that led to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fftasks.cluster.account import Account
from fftasks.cluster.details import Task
from fftasks.cluster.evidence import Evidence
from fftasks.cluster.outcome import Outcome, choose_lines
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import (
    name_node_state,
    name_state,
    tell_error,
    tell_unknown,
    tell_waits,
)
from fftasks.cluster.spans import list_spans
from fftasks.errors import FFTasksError
from fftasks.page.content import PageRun, PageTask, Phase
from fftasks.page.local import list_classes, show_stage
from fftasks.page.outputs import Shown, list_metrics
from fftasks.page.settings import show_run_settings
from fftasks.picture.drawing import Item
from fftasks.project import Project
from fftasks.store.history import list_runs, read_run

_ROWS = 12
_LOGS = 10  # of failed nodes that are asked for
_LINES = 20  # of a log, in an error
_LATEST = 50
_PAUSE_S = 30.0
# what does not change, or hardly: the board asks each second, and a list of runs has all their documents
_earlier: dict[str, tuple[float, list[PageRun]]] = {}
_ended_pods: dict[str, Mapping[str, Any]] = {}  # {} for one that is gone
_evidence: dict[str, Evidence] = {}
_NEAR_S = 60.0  # the clocks here and there may differ


def show_cluster_run(
    run: ClusterRun, link: str = "", metrics: Mapping[str, float] | None = None
) -> PageRun:
    """Return a run of the cluster as the page has it."""
    return PageRun(
        name=run.run_id[:8],
        state=name_state(run.state),
        begin=_seconds(run.began),
        end=_seconds(run.ended),
        where="on Kubeflow Pipelines",
        command=run.name,
        link=link,
        parameters={name: str(value) for name, value in _find_parameters(run).items()},
        metrics=metrics or {},
        ran=sum(task.state == "SUCCEEDED" for task in run.nodes.values()),
    )


def list_earlier(project: Project, run: ClusterRun) -> list[PageRun]:
    """Return the last runs of the same workflow, the newest first; none but itself if nobody answers."""
    until, rows = _earlier.get(run.run_id, (0.0, []))
    if time.monotonic() >= until:
        rows = _ask_earlier(project, run)
        _earlier[run.run_id] = (time.monotonic() + _PAUSE_S, rows)
    own = show_cluster_run(run, metrics=list_metrics(project, run))
    others = [own if row.name == own.name else row for row in rows]
    return others or [own]


def _ask_earlier(project: Project, run: ClusterRun) -> list[PageRun]:
    from fftasks.ports.kfp_runs import list_runs as ask_runs

    try:
        runs = [ClusterRun(answer) for answer in ask_runs(project.settings.kfp, _LATEST)]
    except FFTasksError:
        return []
    same = [one for one in runs if one.workflow == run.workflow]
    return [show_cluster_run(one, metrics=list_metrics(project, one)) for one in same[:_ROWS]]


def list_cluster_items(project: Project, run: ClusterRun, shown: Mapping[str, Shown]) -> list[Item]:
    """Return the nodes of a run as the picture has them; by its document, if the graph is another now.

    shown: what there is to show of results, by node
    """
    nodes = _describe_nodes(project, run)
    outcomes = _find_evidence(project, run).outcomes
    return [
        Item(
            name,
            node["function"],
            tuple(node["upstream"]),
            run.workflow or run.pipeline_name,
            name_node_state(
                run,
                run.nodes[name],
                name,
                outcomes.get(run.nodes[name].name),
                shown[name].account if name in shown else None,
            ),
            node["chain"],
            run.nodes[name].name if len(run.nodes[name].nodes) > 1 else "",
        )
        for name, node in nodes.items()
    ]


@dataclass(frozen=True)
class _Known:
    """What was asked for at other places.

    logs, shown: by node; outcomes: of tasks that failed, by task; pods: by name; sent: what has sent the run
    waits: why tasks wait, by task
    """

    logs: Mapping[str, str]
    outcomes: Mapping[str, Outcome]
    pods: Mapping[str, Any]
    shown: Mapping[str, Shown]
    sent: tuple[str, ...]
    waits: Mapping[str, str]


def show_cluster_tasks(
    project: Project, run: ClusterRun, shown: Mapping[str, Shown]
) -> list[PageTask]:
    """Return the nodes of a run, behind the stages that led to it, if these were made here.

    shown: what there is to show of results, by node
    """
    stages = _find_stages(project, run)
    sent = tuple(stage.name for stage in stages if stage.stage == "submit")
    evidence = _find_evidence(project, run)
    logs = _read_logs(run, evidence)
    waits = tell_waits(run, evidence)
    known = _Known(logs, evidence.outcomes, _read_pods(project, run), shown, sent, waits)
    nodes = _describe_nodes(project, run)
    return [*stages, *(_show_node(run, name, node, known) for name, node in nodes.items())]


def _show_node(run: ClusterRun, name: str, node: Mapping[str, Any], known: _Known) -> PageTask:
    task, shown = run.nodes[name], known.shown.get(name, Shown())
    spans = list_spans(task.driver, task.step, known.pods.get(task.pod))
    began, end = _seconds(task.began), _seconds(task.ended)
    now = time.time() if end is None else end
    word = name_node_state(run, task, name, known.outcomes.get(task.name), shown.account)
    account = shown.account or Account()
    return PageTask(
        name=name,
        state=word,
        reason=known.waits.get(task.name) or _tell_reason(task, word),
        begin=min([*(span.begin for span in spans), *([began] if began else [])], default=None),
        end=end,
        seconds=None if word == "cached" else _measure(task, account, now),
        phases=tuple(
            Phase(span.name, span.begin, now if span.end is None else span.end)
            for span in spans
            if span.name != "run"
        ),
        function=node["function"],
        place=node.get("place", ""),
        line=node.get("line", ""),
        workflow=run.workflow or run.pipeline_name,
        upstream=tuple(node["upstream"]) or known.sent,
        arguments=node.get("arguments", {}),
        extra=tuple(node.get("extra", ())),
        settings=show_run_settings(run, task, node.get("settings")),
        preview=account.preview,
        kind=account.kind,
        text=shown.pages.text,
        documents=shown.pages.documents,
        metrics=shown.pages.metrics,
        pictures=shown.pages.pictures,
        error=_tell_error(task, known, name) if word == "failed" else "",
        log=known.logs.get(name, ""),
    )


def _tell_reason(task: Task, word: str) -> str:
    if task.state == "CACHED":
        return "an earlier run has computed it"
    group = f"in group {task.group}" if task.group and word not in ("waiting", "skipped") else ""
    return f"kept from the last run, {group}" if word == "cached" else group


def _measure(task: Task, account: Account, now: float) -> float | None:
    """Return how long a node took, or has taken; of one that shares a pod, only if somebody tells it."""
    began = _seconds(task.began)
    if account.seconds is not None or began is None or task.group:
        return account.seconds
    return max(now - began, 0.0)


def _tell_error(task: Task, known: _Known, node: str) -> str:
    """Return why a node failed, and the end of its log."""
    lines = known.logs.get(node, "").rstrip().splitlines()[-_LINES:]
    outcome = known.outcomes.get(task.name, Outcome())
    reason = tell_error(task, outcome) if task.has_failed_driver else outcome.reason or task.error
    return "\n".join([reason, *(["last lines of its log:", *lines] if lines else [])])


def _describe_nodes(project: Project, run: ClusterRun) -> dict[str, dict[str, Any]]:
    """Return what is known of a run's nodes: by the project's graph, where that has all of them."""
    known = {}
    with suppress(
        FFTasksError
    ):  # a file that cannot be imported must not keep anybody from a run's page
        if run.workflow in project.workflows:
            described = project.describe_nodes()
            labels = {project.nodes[label].content["name"]: label for label in described}
            own = {n: described[labels[n]] for n in run.nodes if n in labels}
            names = {label: name for name, label in labels.items()}
            known = {
                name: {
                    **node,
                    "upstream": [names[other] for other in node["upstream"]],
                    "settings": project.settings_of(project.nodes[labels[name]].content),
                }
                for name, node in own.items()
            }
    if known.keys() == run.nodes.keys():
        return known
    steps = run.document.get("root", {}).get("dag", {}).get("tasks", {})
    first = {task.name: task.nodes[0] for task in run.tasks}
    return {
        name: {
            # the name of a task consists of the names of its nodes
            "function": task.name if project.settings.report.previews else "",
            "chain": "",
            "upstream": [first[other] for other in steps[task.name].get("dependentTasks", ())],
        }
        for name, task in run.nodes.items()
    }


def list_written_names(project: Project, run: ClusterRun) -> set[str]:
    """Return the names of a run's nodes, functions and workflow that are literals in the code."""
    nodes = _describe_nodes(project, run)
    is_written = any(node.get("is_workflow_written") for node in nodes.values())
    written = {name for name, node in nodes.items() if node.get("is_written")}
    written |= {n["function"] for n in nodes.values() if n.get("is_function_written")}
    return written | list_classes(project) | ({run.workflow} if is_written else set())


def _read_pods(project: Project, run: ClusterRun) -> dict[str, Any]:
    from fftasks.ports.kfp_runs import read_pods

    tasks = [task for task in run.tasks if task.pod and task.state not in ("", "CACHED")]
    names = [task.pod for task in tasks if task.pod not in _ended_pods]
    found: dict[str, Any] = {}
    with suppress(FFTasksError):
        found = read_pods(project.settings.kfp, names)
        ended = [task.pod for task in tasks if task.ended and task.pod in names]
        _ended_pods.update({pod: found.get(pod, {}) for pod in ended})
    return {task.pod: found.get(task.pod) or _ended_pods.get(task.pod, {}) for task in tasks}


def _read_logs(run: ClusterRun, evidence: Evidence) -> dict[str, str]:
    """Return the logs of the first nodes that failed, and of some that ran beside them in their groups."""
    failed = [task for task in run.tasks if name_state(task.state) == "failed"][:_LOGS]
    logs: dict[str, str] = {}
    for task in failed:
        blamed = evidence.outcomes.get(task.name, Outcome()).failed
        for node in dict.fromkeys([*([blamed] if blamed else []), *task.nodes[:_LOGS]]):
            logs[node] = choose_lines(evidence.read_log(task) or "", task, node)
    return logs


def _find_evidence(project: Project, run: ClusterRun) -> Evidence:
    """Return what else is known of a run; the log of a task that has ended is asked for once."""
    before = _evidence.get(run.run_id)
    if before is None or before.run is not run:
        _evidence[run.run_id] = Evidence(project, run, before)
    return _evidence[run.run_id]


def list_notices(project: Project, run: ClusterRun) -> list[str]:
    """Return what the reader of the page must know about a run as a whole."""
    evidence = _find_evidence(project, run)
    is_nobody = run.state == "FAILED" and not any(task.state == "FAILED" for task in run.tasks)
    reason = (run.error or evidence.root_failure) if is_nobody else ""
    return [*([reason] if reason else []), *tell_unknown(run, evidence)]


def _find_stages(project: Project, run: ClusterRun) -> list[PageTask]:
    """Return the stages of the local run that has submitted this one, if it is known here."""
    began = _seconds(run.began)
    for name in reversed(list_runs(project.folder)):
        with suppress(FFTasksError):
            local = read_run(project.folder, name)
            sent = local.events.get(f"submit:{run.workflow}")
            if began is None or sent is None or sent.begin is None or sent.state != "ran":
                continue
            if sent.begin - _NEAR_S < began < (sent.end or sent.begin) + _NEAR_S:
                return [
                    show_stage(event, local)
                    for event in local.events.values()
                    if not event.task.startswith("run:") and event.state != "up to date"
                ]
    return []


def _find_parameters(run: ClusterRun) -> Mapping[str, Any]:
    config = run.answer.get("runtime_config") or {}
    found: Mapping[str, Any] = config.get("parameters") or {}
    return found


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
