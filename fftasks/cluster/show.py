"""What is printed of runs: lines and a bar while one is followed, and what is said at its end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from fftasks.cluster.account import Account
from fftasks.cluster.details import FINAL, UNKNOWN, Task
from fftasks.cluster.log import clean_driver_log, clean_log
from fftasks.cluster.outcome import Outcome
from fftasks.cluster.run import ClusterRun
from fftasks.errors import escape_controls
from fftasks.ports.kubectl import is_name
from fftasks.state import STATES
from fftasks.table import Cell, Column, has_colours, show_state
from fftasks.terminal import escape_all_but_colours, find_raw

_WORDS = {
    "": "waiting",
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "ran",
    "CACHED": "cached",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELING": "canceled",
    "CANCELED": "canceled",
    "PAUSED": "waiting",
    UNKNOWN: "unknown",
}
if TYPE_CHECKING:
    from fftasks.cluster.evidence import Evidence

_LOG_LINES = 20
_FAILURES = 3
_SHORT_S, _MINUTE, _HOUR = 10, 60, 3600
COLUMNS = (Column(), Column("node", wraps=True), Column("state"), Column("time", right=True))


def name_state(state: str) -> str:
    """Return the word of state.py for a state of KFP's; what is unknown counts as waiting."""
    return _WORDS.get(state, "waiting")


def name_task_state(run: ClusterRun, task: Task) -> str:
    """Return the word for a task's state: skipped, not waiting, if the run has ended without it."""
    return "skipped" if run.has_left_out(task) else name_state(task.state)


def name_node_state(
    run: ClusterRun, task: Task, node: str, outcome: Outcome | None, account: Account | None = None
) -> str:
    """Return the word for a node's state.

    outcome: of its group, if that has failed; account: what is told of it, if it is done
    """
    word = name_task_state(run, task)
    if word == "failed" and outcome is not None and outcome.failed and len(task.nodes) > 1:
        if node == outcome.failed:
            return word
        word = "ran" if node in outcome.finished else "skipped"
    if account is not None and len(task.nodes) > 1 and word in ("ran", "running"):
        return "cached" if account.is_kept else "ran"
    return word


def make_row(
    task: Task, node: str, word: str, account: Account | None, stream: TextIO
) -> tuple[str | Cell, ...]:
    """Return a row of COLUMNS for a node; word: for its state."""
    took = "" if word in ("skipped", "cached") else format_time(task)
    if took and len(task.nodes) > 1:  # the pod's time is not the node's
        seconds = None if account is None else account.seconds
        group = f"in group {task.group}, {took}"
        took = group if seconds is None else _format_own(seconds)
    return (show_state(word, stream), node, Cell(word, STATES[word].ansi), took)


def format_time(task: Task) -> str:
    """Return how long a task took, or has taken so far."""
    seconds = task.seconds
    if seconds is None and task.began and task.state == "RUNNING":
        seconds = (datetime.now(timezone.utc) - task.began).total_seconds()
    return "" if seconds is None or task.state == "CACHED" else format_seconds(seconds)


def format_seconds(seconds: float) -> str:
    """Return 7 s, 3 min 20 s, 2 h 5 min."""
    whole = max(round(seconds), 0)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def _format_own(seconds: float) -> str:
    """Return how long a function took, which may be far below a second."""
    return format_seconds(seconds) if seconds >= _SHORT_S else f"{seconds:.2f} s"


def format_duration(run: ClusterRun) -> str:
    """Return how long a run took, or has taken so far."""
    if run.began is None:
        return ""
    end = run.ended or datetime.now(timezone.utc)
    return format_seconds((end - run.began).total_seconds())


def format_when(time: datetime | None) -> str:
    """Return a time as the clock here has it; "" for none."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}" if time else ""


def tell_head(run: ClusterRun) -> str:
    """Return the line that says which run this is, and how it is."""
    done = sum(task.state in FINAL for task in run.nodes.values())
    word = name_state(run.state)
    counted = "" if run.is_over else f", {done} of {len(run.nodes)} nodes done"
    return f"run {run.name!r} {run.run_id}: {word}, {format_duration(run)}{counted}"


def to_json(
    run: ClusterRun, outcomes: Mapping[str, Outcome], accounts: Mapping[str, Account]
) -> dict[str, Any]:
    """Return a run with its nodes as JSON, with the states in KFP's words and in ours.

    Of a node: began, ended: its pod; seconds: its function, null where nobody tells it
    group: the name of what it shares a pod with, "" if it is alone
    error: why it failed, as its log, Kubernetes or Kubeflow Pipelines tells; "" if that is not known
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
                "shown": name_node_state(
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


def _find_reason(task: Task, node: str, outcome: Outcome | None) -> str:
    """Return why a node failed; "" for a node of a group in which another one did."""
    if task.state != "FAILED" or outcome is None or outcome.failed not in ("", node):
        return task.error
    return outcome.reason or task.error


class Lines:
    """Changes as plain lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def change(self, run: ClusterRun, task: Task) -> None:  # noqa: ARG002 - see follow.Show
        """Print a line for a task: the nodes of a group come and go where nobody sees it."""
        if task.state in ("PENDING", UNKNOWN):
            return
        word = name_state(task.state)
        sign = show_state(word, self.stream)
        shown = f"\x1b[{sign.style}m{sign.text}\x1b[0m" if has_colours(self.stream) else sign.text
        took = format_time(task) if task.state in FINAL else ""
        if task.nodes:
            self.say(f"{shown} {task.title}  {word}{f' in {took}' if took else ''}")

    def draw(self, run: ClusterRun) -> None:
        """Draw nothing: lines stay."""

    def say(self, text: str) -> None:
        """Print a line."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave all as it is."""


class Bar(Lines):
    """Changes as lines above a bar, which says how many nodes are done, and which run."""

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
            console=Console(file=find_raw(stream)),
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None)
        self._progress.start()

    def draw(self, run: ClusterRun) -> None:
        """Show how far a run is."""
        nodes = run.nodes
        done = sum(task.state in FINAL for task in nodes.values())
        running = [node for node, task in nodes.items() if task.state == "RUNNING"]
        text = escape_controls(", ".join(running)[:60])
        self._progress.update(self._bar, completed=done, total=len(nodes), description=text)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.text import Text

        shown = Text.from_ansi(escape_all_but_colours(text))
        self._progress.console.print(shown, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar off the screen."""
        self._progress.stop()


def make_show(stream: TextIO) -> Lines:
    """Return what fits a stream: a bar on a terminal, else plain lines."""
    return Bar(stream) if stream.isatty() else Lines(stream)


def tell_end(run: ClusterRun, evidence: Evidence) -> list[str]:
    """Return what there is to say about a run that has ended.

    Args:
        run: The run.
        evidence: Gives logs and reasons.
    """
    took = (run.ended - run.began).total_seconds() if run.began and run.ended else None
    after = f" after {format_seconds(took)}" if took is not None else ""
    if run.state == "SUCCEEDED":
        cached = sum(task.state == "CACHED" for task in run.nodes.values())
        counted = f", {cached} of {len(run.nodes)} nodes cached" if cached else ""
        return [f"run {run.name!r} has succeeded{after}{counted}", *tell_unknown(run, evidence)]
    word = name_state(run.state)
    lines = [f"run {run.name!r} {'was' if word == 'canceled' else 'has'} {word}{after}"]
    failed = [task for task in run.tasks if task.state == "FAILED"]
    for task in failed[:_FAILURES]:
        outcome = evidence.outcomes.get(task.name, Outcome())
        lines += tell_failure(run, task, outcome, evidence)
    if len(failed) > _FAILURES:
        lines.append(
            f"  and {len(failed) - _FAILURES} more: `doit status {_quote(run.run_id[:8])}`"
        )
    if not failed:
        reason = run.error or (evidence.root_failure if word == "failed" else "")
        lines += [f"  {reason}"] if reason else []
    return [*lines, *tell_unknown(run, evidence)]


def tell_failure(run: ClusterRun, task: Task, outcome: Outcome, evidence: Evidence) -> list[str]:
    """Return what is known of a task that failed: the reason, the end of its log, and what to do."""
    node = outcome.failed or (task.nodes or (task.name,))[0]
    lines = [f"  {tell_error(task, outcome)}"]
    log = evidence.read_log(task)
    clean = clean_driver_log if task.has_failed_driver else clean_log
    text = clean(log or "").rstrip()
    if text:
        whose = "the driver's" if task.has_failed_driver else "its"
        lines += [f"  last lines of {whose} log:"]
        lines += [f"    {line}" for line in text.splitlines()[-_LOG_LINES:]]
    elif log is None:
        lines += [f"  its log is not available: {tell_look(task, evidence.namespace)}"]
    short = _quote(run.run_id[:8])
    if task.has_failed_driver:
        return [
            *lines,
            f"  tip: `doit logs {_quote(node)} {short} --all` shows all of the driver's log",
        ]
    lines.append(f"  tip: `doit logs {_quote(node)} {short}` shows all of it,")
    lines.append(f"       `doit replay {_quote(node)} {short} --pdb` runs it here with its inputs")
    return lines


def tell_look(task: Task, namespace: str) -> str:
    """Return how to look at the pod of a task, or of its driver, with kubectl."""
    pod = (task.driver_pod if task.has_failed_driver else task.pod) or task.driver_pod
    place = _quote(namespace)
    # the name comes from the cluster: one that is not valid could be an option
    what = f"pod -n {place} {_quote(pod)}" if is_name(pod) else f"workflows -n {place}"
    return f"`kubectl describe {what}` says more"


def tell_waits(run: ClusterRun, evidence: Evidence) -> dict[str, str]:
    """Return a line for each task that has waited for long, by name: the reason, or how to find it."""
    tasks = {task.name: task for task in run.tasks}
    lines = {}
    for name, reason in evidence.waits.items():
        task = tasks[name]
        what = "the driver of " if task.state == "" else ""
        why = reason or f"reason unknown; {tell_look(task, evidence.namespace)}"
        lines[name] = f"{what}{task.title} does not start: {why}"
    return lines


def tell_error(task: Task, outcome: Outcome | None = None) -> str:
    """Return which node of a task failed, and why, as far as it is known."""
    reason = (outcome.reason if outcome else "") or task.error
    because = f": {reason}" if reason else ""
    if task.has_failed_driver:
        kind = "node" if len(task.nodes) == 1 else "nodes"
        return f"the driver of {kind} {task.title} failed before the {kind} started{because}"
    name = task.title
    if outcome and outcome.failed and len(task.nodes) > 1:
        counted = f"{len(outcome.finished)} of {len(task.nodes)} nodes had finished"
        name = f"{outcome.failed} (of its group, {counted})"
    return f"{name} failed{because}"


def list_blamed(run: ClusterRun, outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return the failures that kept the nodes behind them from starting, one each line."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    return [tell_error(task, outcomes.get(task.name)) for task in failed[:_FAILURES]]


def tell_unknown(run: ClusterRun, evidence: Evidence) -> list[str]:
    """Return the lines for a run whose task states Kubeflow Pipelines does not show."""
    if not run.details.is_cut:
        return []
    limit = "Kubeflow Pipelines gives no task states, because Argo has compressed them"
    label = _quote(f"pipeline/runid={run.run_id}")
    look = f"kubectl get pods -n {_quote(evidence.namespace)} -l {label}"
    lines = []
    if run.executions is None:
        store = "kfp.host does not lead to the metadata store, which has them"
        at_least = f"; at least {run.details.finished} of {len(run.tasks)} tasks have finished"
        lines = [f"{limit}, and {store}{'' if run.state == 'SUCCEEDED' else at_least}"]
    if any(task.state == UNKNOWN for task in run.tasks):
        lines = [*(lines or [limit]), f"tip: `{look}` lists the pods"]
    if run.state == "FAILED" and not any(task.state == "FAILED" for task in run.tasks):
        lines.append(
            "it has probably become too large for Kubernetes: let nodes share pods (kfp.fuse)"
        )
    return lines


def _quote(node: str) -> str:
    return shlex.quote(node)
