"""Find the run that RUN on a command line names, and format runs of Kubeflow Pipelines for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from fftasks.errors import ToolError, escape_controls
from fftasks.kfp.client import fetch_runs
from fftasks.kfp.connection import NotFoundError
from fftasks.kfp.diagnostics import is_pod_name, read_cluster_run
from fftasks.kfp.node_status import (
    _FAILURES,
    NodeMetrics,
    convert_kfp_state,
    format_task_error,
    get_node_state,
)
from fftasks.kfp.pod_log import TaskFailure, clean_driver_log, clean_log
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import FINAL_TASK_STATES, UNKNOWN_STATE, ClusterTask
from fftasks.project import Project
from fftasks.records import Record, read_record
from fftasks.report.table import Cell, Column, has_colours, make_state_cell
from fftasks.task_states import STATES
from fftasks.terminal import escape_all_but_colours, format_elapsed_time, unwrap_stream

if TYPE_CHECKING:
    from fftasks.kfp.diagnostics import RunDiagnostics

_LATEST = 200  # runs that are searched
_ID_LENGTH = 36  # of a UUID

_SHORT_S = 10  # shorter durations are shown with decimals


def resolve_run(project: Project, wanted: str = "") -> ClusterRun:
    """Return the run that an argument RUN of a command names.

    Args:
        project: Project whose experiment is searched.
        wanted: ID, prefix of an ID, or name of a run; "" for the run that was submitted last.

    Raises:
        ToolError: No run or more than one run was found, or Kubeflow Pipelines does not respond.
    """
    if not wanted:
        return _find_last(project)
    settings = project.settings.kfp
    if len(wanted) == _ID_LENGTH:
        return read_cluster_run(settings, wanted)
    runs = _list_latest(project, wanted)
    named = [run for run in runs if run.name == wanted]  # newest first
    begins = [run for run in runs if run.run_id.startswith(wanted)]
    if not named and len(begins) > 1:
        found = [f"{run.run_id}  {run.name}" for run in begins[:10]]
        raise ToolError(f"{wanted!r} is a prefix of the IDs of {len(begins)} runs", found=found)
    for run in (*named, *begins):
        return read_cluster_run(settings, run.run_id)
    try:  # an ID of another experiment or in another format
        return read_cluster_run(settings, wanted)
    except NotFoundError as error:
        raise NotFoundError(
            f"run {wanted!r} not found in experiment {settings.experiment!r}",
            tip="`doit runs` lists the runs; RUN is an ID, a prefix of an ID, or a name",
        ) from error


def _list_latest(project: Project, wanted: str) -> list[ClusterRun]:
    """Return the latest runs; an error names the run that was searched for."""
    settings = project.settings.kfp
    try:
        return [ClusterRun(run) for run in fetch_runs(settings, _LATEST)]
    except ToolError as error:
        attempted = f"cannot look for run {wanted!r} in experiment {settings.experiment!r}"
        raise type(error)(attempted, found=error.found, tip=error.tip) from error


def list_submit_records(project: Project) -> list[Record]:
    """Return the records of the last run of each workflow, the latest first."""
    found = []
    for path in (project.folder / "submit").glob("*.json"):
        record = read_record(path)
        if record is not None:
            found.append((path.lstat().st_mtime_ns, path.name, record))
    return [record for *_, record in sorted(found, key=lambda row: row[:2], reverse=True)]


def _find_last(project: Project) -> ClusterRun:
    submitted = list_submit_records(project)
    if not submitted:
        raise ToolError("there is no run on Kubeflow Pipelines yet", tip="`doit submit` starts one")
    try:
        return read_cluster_run(project.settings.kfp, submitted[0]["run_id"])
    except NotFoundError as error:
        tip = "it was deleted, or kfp.host has changed: `doit submit` starts a new run"
        raise NotFoundError(error.attempted, found=error.found, tip=tip) from error


_LOG_LINES = 20
NODE_COLUMNS = (Column(), Column("node", wraps=True), Column("state"), Column("time", right=True))


def make_node_row(
    task: ClusterTask, node: str, word: str, account: NodeMetrics | None, stream: TextIO
) -> tuple[str | Cell, ...]:
    """Return a row of NODE_COLUMNS for a node.

    Args:
        task: Task that runs the node.
        node: Name of the node.
        word: State of the node, as in task_states.STATES.
        account: Metrics of the node, if its pod reported any.
        stream: Stream to which the row is printed; it determines the character of the state.
    """
    took = "" if word in ("skipped", "cached") else format_task_duration(task)
    if took and len(task.nodes) > 1:  # the duration is that of the whole pod
        seconds = None if account is None else account.seconds
        group = f"in group {task.group}, {took}"
        took = group if seconds is None else _format_own(seconds)
    return (make_state_cell(word, stream), node, Cell(word, STATES[word].ansi), took)


def format_task_duration(task: ClusterTask) -> str:
    """Return the duration of a task, so far if it is running; "" if it is unknown."""
    seconds = task.seconds
    if seconds is None and task.began and task.state == "RUNNING":
        seconds = (datetime.now(timezone.utc) - task.began).total_seconds()
    return "" if seconds is None or task.state == "CACHED" else format_elapsed_time(seconds)


def _format_own(seconds: float) -> str:
    """Return the duration of a function, with decimals if it is short."""
    return format_elapsed_time(seconds) if seconds >= _SHORT_S else f"{seconds:.2f} s"


def format_run_duration(run: ClusterRun) -> str:
    """Return the duration of a run, so far if it is running."""
    if run.began is None:
        return ""
    end = run.ended or datetime.now(timezone.utc)
    return format_elapsed_time((end - run.began).total_seconds())


def format_local_time(time: datetime | None) -> str:
    """Return a time in the local time zone; "" for None."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else ""


def format_run_summary(run: ClusterRun) -> str:
    """Return a line with name, ID, state and duration of a run."""
    done = sum(task.state in FINAL_TASK_STATES for task in run.nodes.values())
    word = convert_kfp_state(run.state)
    counted = "" if run.is_over else f", {done} of {len(run.nodes)} nodes done"
    return f"run {run.name!r} {run.run_id}: {word}, {format_run_duration(run)}{counted}"


def convert_run_to_json(
    run: ClusterRun, outcomes: Mapping[str, TaskFailure], accounts: Mapping[str, NodeMetrics]
) -> dict[str, Any]:
    """Return a run with its nodes as JSON.

    Some keys of a node: `state` is the state of KFP and `shown` the state of fftasks.
    `began` and `ended` are times of the pod; `seconds` is the duration of the function, null if unknown.
    `group` is the name of the group of nodes that share the pod, "" for a single node. `error` is the cause
    of a failure from the log, Kubernetes or KFP, "" if unknown.

    Args:
        run: The run.
        outcomes: Name of each failed task -> cause.
        accounts: Name of each node -> metrics that its pod reported.
    """
    return {
        "run_id": run.run_id,
        "name": run.name,
        "workflow": run.workflow,
        "state": run.state,
        "error": run.error,
        "nodes": [
            {
                "node": node,
                "task": task.name,
                "state": task.state,
                "shown": get_node_state(
                    run, task, node, outcomes.get(task.name), accounts.get(node)
                ),
                "seconds": accounts[node].seconds if node in accounts else None,
                "group": task.group,
                "preview": accounts[node].preview if node in accounts else "",
                "cached": task.state == "CACHED",
                "began": task.began and task.began.isoformat(),
                "ended": task.ended and task.ended.isoformat(),
                "error": _find_reason(task, node, outcomes.get(task.name)),
                "pod": task.pod,
            }
            for task in run.tasks
            for node in task.nodes
        ],
    }


def _find_reason(task: ClusterTask, node: str, outcome: TaskFailure | None) -> str:
    """Return why a node failed; "" for a node of a group in which another node failed."""
    if task.state != "FAILED" or outcome is None or outcome.failed not in ("", node):
        return task.error
    return outcome.reason or task.error


class LineDisplay:
    """Displays the progress of a run as lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def change(self, run: ClusterRun, task: ClusterTask) -> None:  # noqa: ARG002 - see polling.RunDisplay
        """Print a line for a task. KFP does not report the states of the nodes of a group."""
        if task.state in ("PENDING", UNKNOWN_STATE):
            return
        word = convert_kfp_state(task.state)
        sign = make_state_cell(word, self.stream)
        shown = f"\x1b[{sign.style}m{sign.text}\x1b[0m" if has_colours(self.stream) else sign.text
        took = format_task_duration(task) if task.state in FINAL_TASK_STATES else ""
        if task.nodes:
            self.say(f"{shown} {task.title}  {word}{f' in {took}' if took else ''}")

    def draw(self, run: ClusterRun) -> None:
        """Draw nothing: there is no progress bar."""

    def say(self, text: str) -> None:
        """Print a line."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """Do nothing: there is no progress bar."""


class ProgressBarDisplay(LineDisplay):
    """Displays lines above a progress bar with the number of finished nodes and the running nodes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(file=unwrap_stream(stream)),
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None)
        self._progress.start()

    def draw(self, run: ClusterRun) -> None:
        """Update the progress bar."""
        nodes = run.nodes
        done = sum(task.state in FINAL_TASK_STATES for task in nodes.values())
        running = [node for node, task in nodes.items() if task.state == "RUNNING"]
        text = escape_controls(", ".join(running)[:60])
        self._progress.update(self._bar, completed=done, total=len(nodes), description=text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.text import Text

        shown = Text.from_ansi(escape_all_but_colours(text))
        self._progress.console.print(shown, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the progress bar from the terminal."""
        self._progress.stop()


def make_run_display(stream: TextIO) -> LineDisplay:
    """Return a progress bar for a terminal, and lines for any other stream."""
    return ProgressBarDisplay(stream) if stream.isatty() else LineDisplay(stream)


def format_run_end(run: ClusterRun, evidence: RunDiagnostics) -> list[str]:
    """Return the lines that are printed when a run has ended.

    Args:
        run: The run.
        evidence: Logs and causes of failures.
    """
    took = (run.ended - run.began).total_seconds() if run.began and run.ended else None
    after = f" after {format_elapsed_time(took)}" if took is not None else ""
    if run.state == "SUCCEEDED":
        cached = sum(task.state == "CACHED" for task in run.nodes.values())
        counted = f", {cached} of {len(run.nodes)} nodes cached" if cached else ""
        return [
            f"run {run.name!r} has succeeded{after}{counted}",
            *format_unknown_states(run, evidence),
        ]
    word = convert_kfp_state(run.state)
    lines = [f"run {run.name!r} {'was' if word == 'canceled' else 'has'} {word}{after}"]
    failed = [task for task in run.tasks if task.state == "FAILED"]
    for task in failed[:_FAILURES]:
        outcome = evidence.outcomes.get(task.name, TaskFailure())
        lines += format_task_failure(run, task, outcome, evidence)
    if len(failed) > _FAILURES:
        lines.append(
            f"  and {len(failed) - _FAILURES} more: `doit status {_quote(run.run_id[:8])}`"
        )
    if not failed:
        reason = run.error or (evidence.root_failure if word == "failed" else "")
        lines += [f"  {reason}"] if reason else []
    return [*lines, *format_unknown_states(run, evidence)]


def format_task_failure(
    run: ClusterRun, task: ClusterTask, outcome: TaskFailure, evidence: RunDiagnostics
) -> list[str]:
    """Return the cause of a failed task, the end of its log, and hints.

    Args:
        run: The run.
        task: The failed task.
        outcome: Cause of the failure.
        evidence: Logs of the run.
    """
    node = outcome.failed or (task.nodes or (task.name,))[0]
    lines = [f"  {format_task_error(task, outcome)}"]
    log = evidence.read_log(task)
    clean = clean_driver_log if task.has_failed_driver else clean_log
    text = clean(log or "").rstrip()
    if text:
        whose = "the driver's" if task.has_failed_driver else "its"
        lines += [f"  last lines of {whose} log:"]
        lines += [f"    {line}" for line in text.splitlines()[-_LOG_LINES:]]
    elif log is None:
        lines += [f"  its log is not available: {suggest_kubectl(task, evidence.namespace)}"]
    short = _quote(run.run_id[:8])
    if task.has_failed_driver:
        return [
            *lines,
            f"  hint: `doit logs {_quote(node)} {short} --all` shows the whole log of the driver",
        ]
    lines.append(f"  hint: `doit logs {_quote(node)} {short}` shows the whole log;")
    lines.append(
        f"        `doit replay {_quote(node)} {short} --pdb` runs it on this machine with its inputs"
    )
    return lines


def suggest_kubectl(task: ClusterTask, namespace: str) -> str:
    """Return a kubectl command for the pod of a task, or of its driver."""
    pod = (task.driver_pod if task.has_failed_driver else task.pod) or task.driver_pod
    place = _quote(namespace)
    # The name comes from the cluster; an invalid name could be read as an option.
    what = f"pod -n {place} {_quote(pod)}" if is_pod_name(pod) else f"workflows -n {place}"
    return f"`kubectl describe {what}` shows more"


def format_wait_reasons(run: ClusterRun, evidence: RunDiagnostics) -> dict[str, str]:
    """Return a line for each task that has waited for a long time: the reason, or how to find it.

    Args:
        run: The run.
        evidence: Reasons why tasks wait.

    Returns:
        Name of each task -> line.
    """
    tasks = {task.name: task for task in run.tasks}
    lines = {}
    for name, reason in evidence.waits.items():
        task = tasks[name]
        what = "the driver of " if task.state == "" else ""
        why = reason or f"reason unknown; {suggest_kubectl(task, evidence.namespace)}"
        lines[name] = f"{what}{task.title} does not start: {why}"
    return lines


def format_unknown_states(run: ClusterRun, evidence: RunDiagnostics) -> list[str]:
    """Return the lines for a run whose task states are unknown because Argo has compressed them."""
    if not run.details.is_cut:
        return []
    limit = "Kubeflow Pipelines gives no task states, because Argo has compressed them"
    label = _quote(f"pipeline/runid={run.run_id}")
    look = f"kubectl get pods -n {_quote(evidence.namespace)} -l {label}"
    lines = []
    if run.executions is None:
        store = "the metadata store, which has them, cannot be reached through kfp.host"
        at_least = f"; at least {run.details.finished} of {len(run.tasks)} tasks have finished"
        lines = [f"{limit}, and {store}{'' if run.state == 'SUCCEEDED' else at_least}"]
    if any(task.state == UNKNOWN_STATE for task in run.tasks):
        lines = [*(lines or [limit]), f"hint: `{look}` lists the pods"]
    if run.state == "FAILED" and not any(task.state == "FAILED" for task in run.tasks):
        lines.append(
            "it has probably become too large for Kubernetes: let nodes share pods (setting kfp.fuse)"
        )
    return lines


def _quote(node: str) -> str:
    return shlex.quote(node)
