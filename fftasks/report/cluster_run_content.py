"""The page content of a run on the cluster: nodes, results, logs, and the stages that submitted it.

Previews, types and metrics are metadata of artifacts. Texts, pages and pictures are separate artifacts, which
the pod of a node writes if its component declares them; they are downloaded once. Results themselves are
neither downloaded nor unpickled here. If a store cannot be reached, the page says so and shows the rest.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fftasks.cache.history import list_local_runs, read_local_run
from fftasks.errors import FFTasksError, SettingsError
from fftasks.kfp.diagnostics import RunDiagnostics
from fftasks.kfp.metadata import OutputArtifact, read_executions
from fftasks.kfp.node_status import (
    NodeMetrics,
    convert_kfp_state,
    format_task_error,
    get_node_state,
    list_node_durations,
    list_spans,
    read_node_metrics,
)
from fftasks.kfp.object_store import TooLargeError, UnreachableError
from fftasks.kfp.pod_log import TaskFailure, filter_node_log
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import ClusterTask, Executions
from fftasks.pipeline.download import download_unverified
from fftasks.pipeline.run_index import record_run
from fftasks.project import Project
from fftasks.report.diagram import DiagramNode
from fftasks.report.local_run_content import (
    list_class_names,
    make_stage_page_task,
    parse_preview_metrics,
)
from fftasks.report.page_content import PageRun, PageTask, Phase
from fftasks.report.reasons import REUSED_FROM_EARLIER_RUN, REUSED_FROM_LAST_RUN
from fftasks.report.result_documents import (
    MAX_DISPLAY_FILE_BYTES,
    ResultDisplay,
    filter_finite_numbers,
    format_classification,
    make_result_display,
    read_untrusted_text,
    split_html_by_node,
    split_markdown_by_node,
    split_metrics_by_node,
)
from fftasks.report.run_status import format_unknown_states, format_wait_reasons
from fftasks.report.settings_display import find_run_settings
from fftasks.runner.display_files import DISPLAY_FILES

_KFP_PROPERTIES = frozenset({"display_name", "store_session_info"})  # properties that are KFP's own
# prefix of metrics that the component does not declare; see runner/executor_input.py
_METRIC_PREFIX = "metric "
_DISPLAY_OUTPUTS = ("markdown", "html")  # outputs that are files to show
_MAX_DISPLAY_FILES = 40  # files that are downloaded for one page
_MAX_NAMES = 5
# beginnings of the previews of pictures and figures
_PICTURE_PREFIXES = ("<Figure", "<PIL.", "<IPython", r"b'\x89PNG", r"b'\xff\xd8\xff", "b'GIF8")
_UNDECLARED = (
    "Not shown: the pictures that {names} returned, as the components do not declare a page for them;"
    ' write @workflow(shows=["html"]).'
)
_STORE_RETRY_S = 60.0
_NO_METADATA_NOTICE = (
    "Results and metrics are not shown: the metadata store cannot be reached through kfp.host, as through"
    " the URL of the KFP web UI."
)
# stores that did not respond recently; they are not asked again, because the board updates every second
_unreachable_stores: dict[str, tuple[float, UnreachableError]] = {}
_ended_outputs: dict[str, dict[str, dict[str, OutputArtifact]]] = {}
_latest_executions: dict[str, Executions] = {}  # last answer of the metadata store, by run ID
_oversized_files: set[tuple[str, str]] = set()  # run IDs and URIs of files that are too large
_indexed_runs: set[str] = set()  # runs whose durations were recorded


@dataclass(frozen=True)
class NodeDisplay:
    """What the page shows of the result of a node.

    Attributes:
        node_metrics: Metadata that its pod reported; None for none.
        pages: Texts, documents and pictures.
    """

    node_metrics: NodeMetrics | None = None
    pages: ResultDisplay = field(default_factory=ResultDisplay)


def collect_node_displays(project: Project, run: ClusterRun) -> tuple[dict[str, NodeDisplay], str]:
    """Return the displays of the nodes of a run, and a notice about what is missing."""
    try:
        outputs = _read_run_outputs(project, run)
    except FFTasksError as error:
        return {}, f"Results and metrics are not shown: {error}"
    if outputs is None:
        return {}, _NO_METADATA_NOTICE
    files, notice = _download_display_files(project, run, outputs)
    accounts, shown = read_node_metrics(run, outputs), {}
    if outputs and run.is_over and run.run_id not in _indexed_runs:
        record_run(project, run, list_node_durations(run, accounts))
        _indexed_runs.add(run.run_id)
    for node, task in run.nodes.items():
        given = outputs.get(task.name, {})
        if len(task.nodes) == 1 and given:
            pages = _make_node_display(given, files.get(task.name, {}))
            shown[node] = NodeDisplay(accounts.get(node), pages)
        elif given and task.nodes[0] == node:
            shown |= _split_group_display(task.nodes, given, files.get(task.name, {}), accounts)
    return shown, "\n".join(filter(None, [notice, _format_undeclared_notice(run, outputs, shown)]))


def add_executions(run: ClusterRun) -> ClusterRun:
    """Return a run with the task states of the metadata store, if its outputs were read before."""
    known = _latest_executions.get(run.run_id)
    return run if known is None else dataclasses.replace(run, executions=known)


def list_run_metrics(project: Project, run: ClusterRun) -> dict[str, float]:
    """Return the metrics of a run, by node and name; {} if they are unknown."""
    try:
        outputs = _read_run_outputs(project, run) or {}
    except FFTasksError:
        return {}
    found = {}
    for task in run.tasks:
        for name, value in _find_numbers(outputs.get(task.name, {})).items():
            found[name if len(task.nodes) > 1 else f"{task.nodes[0]} {name}".strip()] = value
    return found


def _read_run_outputs(
    project: Project, run: ClusterRun
) -> dict[str, dict[str, OutputArtifact]] | None:
    if not project.settings.report.previews:
        return {}
    if run.run_id in _ended_outputs:
        return _ended_outputs[run.run_id]
    executions = read_executions(project.settings.kfp, run.run_id)
    if executions is None:
        return None
    _latest_executions[run.run_id] = executions
    outputs = {name: dict(one.outputs) for name, one in executions.items()}
    if run.is_over:
        _ended_outputs[run.run_id] = outputs
    return outputs


def _make_node_display(
    given: Mapping[str, OutputArtifact], files: Mapping[str, str]
) -> ResultDisplay:
    drawn = (
        format_classification(given["classification"].properties)
        if "classification" in given
        else ""
    )
    pages = make_result_display({**files, **({"classification.html": drawn} if drawn else {})})
    return dataclasses.replace(pages, metrics=_find_numbers(given))


def _split_group_display(
    nodes: Sequence[str],
    given: Mapping[str, OutputArtifact],
    files: Mapping[str, str],
    accounts: Mapping[str, NodeMetrics],
) -> dict[str, NodeDisplay]:
    """Return the displays of nodes that share a task."""
    numbers = split_metrics_by_node(nodes, _find_numbers(given))
    texts = split_markdown_by_node(nodes, files.get(DISPLAY_FILES["markdown"], ""))
    pages = split_html_by_node(nodes, files.get(DISPLAY_FILES["html"], ""))
    drawn = given["classification"].properties if "classification" in given else {}
    shown = {}
    for node in nodes:
        page, *others = pages.get(node, [""])
        own = {DISPLAY_FILES["markdown"]: texts.get(node, ""), DISPLAY_FILES["html"]: page}
        if drawn.get("display_name") == f"{node} (classification)" and not others:
            others = [format_classification(drawn)]
        own["classification.html"] = "".join(others)
        found = make_result_display({name: text for name, text in own.items() if text})
        node_metrics = accounts.get(node)
        metrics = numbers.get(node) or parse_preview_metrics(
            node_metrics.preview if node_metrics else ""
        )
        shown[node] = NodeDisplay(node_metrics, dataclasses.replace(found, metrics=metrics))
    return shown


def _find_numbers(given: Mapping[str, OutputArtifact]) -> dict[str, float]:
    """Return the metrics of a task: its declared metrics, and the numbers in its result."""
    numbers: dict[str, Any] = {}
    if "result" in given:
        properties = given["result"].properties
        numbers |= parse_preview_metrics(str(properties.get("preview", "")))
        numbers |= {
            k.removeprefix(_METRIC_PREFIX): v
            for k, v in properties.items()
            if k.startswith(_METRIC_PREFIX)
        }
    if "metrics" in given:
        numbers |= {
            k: v for k, v in given["metrics"].properties.items() if k not in _KFP_PROPERTIES
        }
    return filter_finite_numbers(numbers)


def _download_display_files(
    project: Project, run: ClusterRun, outputs: Mapping[str, Mapping[str, OutputArtifact]]
) -> tuple[dict[str, dict[str, str]], str]:
    """Return the texts and documents of tasks, by file name, and notices about those that are missing."""
    wanted = [
        (task.name, kind)
        for task in run.tasks
        for kind in _DISPLAY_OUTPUTS
        if kind in outputs.get(task.name, {})
    ]
    found: dict[str, dict[str, str]] = {}
    refused: list[str] = []
    left = f"{len(wanted) - _MAX_DISPLAY_FILES} more texts and pages are in the KFP web UI."
    large: list[str] = []
    for name, kind in wanted[:_MAX_DISPLAY_FILES]:
        try:
            path = _download_display_file(project, run, name, kind, outputs[name][kind].uri)
        except (UnreachableError, SettingsError) as error:  # noqa: PERF203
            return found, f"Texts, pages and pictures are not shown: {error}"
        except TooLargeError:
            large.append(f"{kind} of {name}")
        except FFTasksError as error:
            refused.append(str(error))
        else:
            found.setdefault(name, {})[DISPLAY_FILES[kind]] = read_untrusted_text(path)
    notices = [f"Not shown because too large: {', '.join(large)}."] if large else []
    notices += [f"A text, page or picture is not shown: {one}" for one in refused[:_MAX_NAMES]]
    if len(refused) > _MAX_NAMES:
        notices.append(f"{len(refused) - _MAX_NAMES} more are not shown either.")
    return found, "\n".join([*notices, *([left] if len(wanted) > _MAX_DISPLAY_FILES else [])])


def _download_display_file(
    project: Project, run: ClusterRun, task: str, output: str, uri: str
) -> Path:
    """Return the local file with an output; download it if necessary.

    Raises:
        UnreachableError: The store did not respond, now or recently.
        FFTasksError: The output is refused, or missing.
    """
    if (run.run_id, uri) in _oversized_files:
        raise TooLargeError(f"{output} of {task} is too large")
    place = uri.partition("://")[0] + repr(project.settings.object_store)
    if place in _unreachable_stores and time.monotonic() < _unreachable_stores[place][0]:
        raise _unreachable_stores[place][1]
    one = next(one for one in run.tasks if one.name == task)
    try:
        return download_unverified(project, run, one, output, uri, MAX_DISPLAY_FILE_BYTES)
    except TooLargeError:
        _oversized_files.add((run.run_id, uri))
        raise
    except UnreachableError as error:
        _unreachable_stores[place] = (time.monotonic() + _STORE_RETRY_S, error)
        raise


def _format_undeclared_notice(
    run: ClusterRun,
    outputs: Mapping[str, Mapping[str, OutputArtifact]],
    shown: Mapping[str, NodeDisplay],
) -> str:
    """Return a note that names the nodes that returned pictures but declare no HTML output."""
    names = [
        node
        for node, one in shown.items()
        if one.node_metrics
        and one.node_metrics.preview.startswith(_PICTURE_PREFIXES)
        and "html" not in outputs.get(run.nodes[node].name, {})
    ]
    if not names:
        return ""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return _UNDECLARED.format(names=", ".join(names[:_MAX_NAMES]) + more)


_MAX_HISTORY = 12
_MAX_LOGS = 10  # failed tasks whose logs are read
_MAX_ERROR_LINES = 20  # lines of a log in an error
_MAX_LISTED_RUNS = 50
_HISTORY_TTL_S = 30.0
# Caches: the board updates every second, and a list of runs contains the documents of all runs.
_earlier_runs: dict[str, tuple[float, list[PageRun]]] = {}
_ended_pods: dict[str, Mapping[str, Any]] = {}  # {} for a pod that was deleted
_diagnostics: dict[str, RunDiagnostics] = {}
_CLOCK_TOLERANCE_S = 60.0  # difference of the clocks of this machine and the cluster


def make_cluster_page_run(
    run: ClusterRun, link: str = "", metrics: Mapping[str, float] | None = None
) -> PageRun:
    """Return a run on the cluster as page content.

    Args:
        run: The run.
        link: URL of the run in the KFP web UI.
        metrics: Metrics by node and name.
    """
    return PageRun(
        name=run.run_id[:8],
        state=convert_kfp_state(run.state),
        begin=_to_timestamp(run.began),
        end=_to_timestamp(run.ended),
        where="on Kubeflow Pipelines",
        command=run.name,
        link=link,
        parameters={name: str(value) for name, value in _find_parameters(run).items()},
        metrics=metrics or {},
        ran=sum(task.state == "SUCCEEDED" for task in run.nodes.values()),
    )


def list_earlier_cluster_runs(project: Project, run: ClusterRun) -> list[PageRun]:
    """Return the last runs of the workflow, the newest first; only this run if KFP does not respond."""
    until, rows = _earlier_runs.get(run.run_id, (0.0, []))
    if time.monotonic() >= until:
        rows = _fetch_earlier_runs(project, run)
        _earlier_runs[run.run_id] = (time.monotonic() + _HISTORY_TTL_S, rows)
    own = make_cluster_page_run(run, metrics=list_run_metrics(project, run))
    others = [own if row.name == own.name else row for row in rows]
    return others or [own]


def _fetch_earlier_runs(project: Project, run: ClusterRun) -> list[PageRun]:
    from fftasks.kfp.client import fetch_runs as ask_runs

    try:
        runs = [ClusterRun(answer) for answer in ask_runs(project.settings.kfp, _MAX_LISTED_RUNS)]
    except FFTasksError:
        return []
    same = [one for one in runs if one.workflow == run.workflow]
    return [
        make_cluster_page_run(one, metrics=list_run_metrics(project, one))
        for one in same[:_MAX_HISTORY]
    ]


def list_cluster_diagram_nodes(
    project: Project, run: ClusterRun, shown: Mapping[str, NodeDisplay]
) -> list[DiagramNode]:
    """Return the nodes of a run for a diagram, from the document of the run if the graph has changed since.

    Args:
        project: The project.
        run: The run.
        shown: Displays of results, by node.
    """
    nodes = _describe_nodes(project, run)
    outcomes = _find_diagnostics(project, run).outcomes
    return [
        DiagramNode(
            name,
            node["function"],
            tuple(node["upstream"]),
            run.workflow or run.pipeline_name,
            get_node_state(
                run,
                run.nodes[name],
                name,
                outcomes.get(run.nodes[name].name),
                shown[name].node_metrics if name in shown else None,
            ),
            node["chain"],
            run.nodes[name].name if len(run.nodes[name].nodes) > 1 else "",
        )
        for name, node in nodes.items()
    ]


@dataclass(frozen=True)
class _RunFacts:
    """Facts about a run from other sources.

    Attributes:
        logs: Log of each node.
        outcomes: Cause of each failed task.
        pods: Status of each pod.
        shown: Display of each node.
        sent: Names of the stages that submitted the run.
        waits: Why each waiting task waits.
    """

    logs: Mapping[str, str]
    outcomes: Mapping[str, TaskFailure]
    pods: Mapping[str, Any]
    shown: Mapping[str, NodeDisplay]
    sent: tuple[str, ...]
    waits: Mapping[str, str]


def make_cluster_page_tasks(
    project: Project, run: ClusterRun, shown: Mapping[str, NodeDisplay]
) -> list[PageTask]:
    """Return the stages that submitted a run, if they ran on this machine, and its nodes.

    Args:
        project: The project.
        run: The run.
        shown: Displays of results, by node.
    """
    stages = _find_submit_stages(project, run)
    sent = tuple(stage.name for stage in stages if stage.stage == "submit")
    evidence = _find_diagnostics(project, run)
    logs = _read_logs(run, evidence)
    waits = format_wait_reasons(run, evidence)
    known = _RunFacts(logs, evidence.outcomes, _read_pods(project, run), shown, sent, waits)
    nodes = _describe_nodes(project, run)
    return [
        *stages,
        *(_make_node_page_task(run, name, node, known) for name, node in nodes.items()),
    ]


def _make_node_page_task(
    run: ClusterRun, name: str, node: Mapping[str, Any], known: _RunFacts
) -> PageTask:
    task, shown = run.nodes[name], known.shown.get(name, NodeDisplay())
    spans = list_spans(task.driver, task.step, known.pods.get(task.pod))
    began, end = _to_timestamp(task.began), _to_timestamp(task.ended)
    now = time.time() if end is None else end
    word = get_node_state(run, task, name, known.outcomes.get(task.name), shown.node_metrics)
    account = shown.node_metrics or NodeMetrics()
    return PageTask(
        name=name,
        state=word,
        reason=known.waits.get(task.name) or _format_reason(task, word),
        begin=min([*(span.begin for span in spans), *([began] if began else [])], default=None),
        end=end,
        seconds=None if word == "cached" else _get_node_duration(task, account, now),
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
        settings=find_run_settings(run, task, node.get("settings")),
        preview=account.preview,
        kind=account.kind,
        text=shown.pages.text,
        documents=shown.pages.documents,
        metrics=shown.pages.metrics,
        pictures=shown.pages.pictures,
        error=_format_error(task, known, name) if word == "failed" else "",
        log=known.logs.get(name, ""),
    )


def _format_reason(task: ClusterTask, word: str) -> str:
    if task.state == "CACHED":
        return REUSED_FROM_EARLIER_RUN
    group = f"in group {task.group}" if task.group and word not in ("waiting", "skipped") else ""
    return f"{REUSED_FROM_LAST_RUN}, {group}" if word == "cached" else group


def _get_node_duration(task: ClusterTask, account: NodeMetrics, now: float) -> float | None:
    """Return the duration of a node, so far if it is running; None for a node of a group without metrics."""
    began = _to_timestamp(task.began)
    if account.seconds is not None or began is None or task.group:
        return account.seconds
    return max(now - began, 0.0)


def _format_error(task: ClusterTask, known: _RunFacts, node: str) -> str:
    """Return the cause of the failure of a node, and the end of its log."""
    lines = known.logs.get(node, "").rstrip().splitlines()[-_MAX_ERROR_LINES:]
    outcome = known.outcomes.get(task.name, TaskFailure())
    reason = (
        format_task_error(task, outcome) if task.has_failed_driver else outcome.reason or task.error
    )
    return "\n".join([reason, *(["last lines of its log:", *lines] if lines else [])])


def _describe_nodes(project: Project, run: ClusterRun) -> dict[str, dict[str, Any]]:
    """Return descriptions of the nodes of a run, from the project's graph if that contains all of them."""
    known = {}
    with suppress(FFTasksError):  # the page does not require that workflow files can be imported
        if run.workflow in project.workflows:
            described = project.describe_nodes()
            labels = {project.nodes[label].content["name"]: label for label in described}
            own = {n: described[labels[n]] for n in run.nodes if n in labels}
            names = {label: name for name, label in labels.items()}
            known = {
                name: {
                    **node,
                    "upstream": [names[other] for other in node["upstream"]],
                    "settings": project.find_node_settings(project.nodes[labels[name]].content),
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


def list_cluster_literal_names(project: Project, run: ClusterRun) -> set[str]:
    """Return the names of a run's nodes, functions and workflow that are literals in the code."""
    nodes = _describe_nodes(project, run)
    is_written = any(node.get("is_workflow_written") for node in nodes.values())
    written = {name for name, node in nodes.items() if node.get("is_written")}
    written |= {n["function"] for n in nodes.values() if n.get("is_function_written")}
    return written | list_class_names(project) | ({run.workflow} if is_written else set())


def _read_pods(project: Project, run: ClusterRun) -> dict[str, Any]:
    from fftasks.kfp.client import fetch_pods

    tasks = [task for task in run.tasks if task.pod and task.state not in ("", "CACHED")]
    names = [task.pod for task in tasks if task.pod not in _ended_pods]
    found: dict[str, Any] = {}
    with suppress(FFTasksError):
        found = fetch_pods(project.settings.kfp, names)
        ended = [task.pod for task in tasks if task.ended and task.pod in names]
        _ended_pods.update({pod: found.get(pod, {}) for pod in ended})
    return {task.pod: found.get(task.pod) or _ended_pods.get(task.pod, {}) for task in tasks}


def _read_logs(run: ClusterRun, evidence: RunDiagnostics) -> dict[str, str]:
    """Return the logs of the first failed nodes, and of some other nodes of their groups."""
    failed = [task for task in run.tasks if convert_kfp_state(task.state) == "failed"][:_MAX_LOGS]
    logs: dict[str, str] = {}
    for task in failed:
        blamed = evidence.outcomes.get(task.name, TaskFailure()).failed
        for node in dict.fromkeys([*([blamed] if blamed else []), *task.nodes[:_MAX_LOGS]]):
            logs[node] = filter_node_log(evidence.read_log(task) or "", task, node)
    return logs


def _find_diagnostics(project: Project, run: ClusterRun) -> RunDiagnostics:
    """Return the diagnostics of a run. They keep the logs of ended tasks from the previous update."""
    before = _diagnostics.get(run.run_id)
    if before is None or before.run is not run:
        _diagnostics[run.run_id] = RunDiagnostics(project.settings, project.folder, run, before)
    return _diagnostics[run.run_id]


def list_notices(project: Project, run: ClusterRun) -> list[str]:
    """Return messages about the run as a whole."""
    evidence = _find_diagnostics(project, run)
    has_no_failed_task = run.state == "FAILED" and all(task.state != "FAILED" for task in run.tasks)
    reason = (run.error or evidence.root_failure) if has_no_failed_task else ""
    return [*([reason] if reason else []), *format_unknown_states(run, evidence)]


def _find_submit_stages(project: Project, run: ClusterRun) -> list[PageTask]:
    """Return the stages of the local run that submitted this run; [] if it is unknown."""
    began = _to_timestamp(run.began)
    for name in reversed(list_local_runs(project.folder)):
        with suppress(FFTasksError):
            local = read_local_run(project.folder, name)
            sent = local.events.get(f"submit:{run.workflow}")
            if began is None or sent is None or sent.begin is None or sent.state != "ran":
                continue
            if (
                sent.begin - _CLOCK_TOLERANCE_S
                < began
                < (sent.end or sent.begin) + _CLOCK_TOLERANCE_S
            ):
                return [
                    make_stage_page_task(event, local)
                    for event in local.events.values()
                    if not event.task.startswith("run:") and event.state != "up to date"
                ]
    return []


def _find_parameters(run: ClusterRun) -> Mapping[str, Any]:
    config = run.answer.get("runtime_config") or {}
    found: Mapping[str, Any] = config.get("parameters") or {}
    return found


def _to_timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
