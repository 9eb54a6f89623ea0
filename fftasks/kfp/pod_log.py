"""Read the log of a pod, and explain from its log and its status why a task failed or does not start.

In the pod of a task, Argo's executor starts the launcher of Kubeflow Pipelines (KFP), and the launcher
starts the command. Both write log lines before and after the output of the command. The pod of a driver has
no command. KFP itself gives no reason for a failure (seen with 2.17: none of 43 failed runs had an error
text).

The last line of the command's output names the node and the reason (see runner/pod.py). In the log of a
group, each line of a node has the node's name as a prefix, and the error follows at the end; see
runner/group.py.

Source: backend/src/v2/component/launcher_v2.go and backend/src/v2/cmd/ of kubeflow/pipelines 2.17.0;
cmd/argoexec/commands/emissary.go of argoproj/argo-workflows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fftasks.kfp.task_details import ClusterTask, Json
from fftasks.runner.group import LOG_PREFIX_NOTE, NODE_DONE_LINE, NODE_REUSED_LINE
from fftasks.runner.pod import FAILURE_PREFIX, find_failure

_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.-]+\.go:\d+\] ?(.*)")
_ARGO = re.compile(r"time=\S+ level=\w+ .*\bargo=true\b.*|Error: exit status \d+")
_DRIVER = re.compile(r"(?:KFP driver: )?driver\.\w+\(.*?\) failed: (.*)", re.DOTALL)
_ERROR_PREFIX = "failed to execute component: "
_COMMAND_FAILED = re.compile(r"exit status \d+|signal: .*")
_KILLED = "signal: killed"
_MAX_ERROR_LENGTH = 500  # characters of a message
_MAIN_CONTAINER = "main"  # Argo's name of the container that runs the command
_NORMAL_REASONS = frozenset({"ContainerCreating", "PodInitializing", "Completed", "Error", ""})
_OUT_OF_MEMORY = "OOMKilled"
_MAX_REASON_LENGTH = 300  # characters of a message of Kubernetes
_DONE = re.compile(re.escape(NODE_DONE_LINE).replace(r"\{\}", "(.*)"))


@dataclass(frozen=True)
class TaskFailure:
    """How a task failed.

    Attributes:
        failed: Name of the node that failed; "" if it is unknown.
        finished: Names of the nodes of the same group that had finished.
        error: Error in the log of a group, usually with a traceback; "" for a single node.
        reason: Cause in one line; "" if it is unknown.
    """

    failed: str = ""
    finished: frozenset[str] = frozenset()
    error: str = ""
    reason: str = ""


def clean_log(log: str) -> str:
    """Return the part of a log that the command printed.

    Lines of the launcher and of Argo's executor at the beginning and at the end are removed, and so is the
    line in which the entry point names the failure (see runner/pod.py). If the launcher itself failed, its
    warnings and errors are kept, because they contain the only explanation.
    """
    lines = split_lines(log)
    begin, after = 0, _find_launcher_tail(lines)
    while begin < after and _is_launcher_line(lines[begin]):
        begin += 1
    own = [line for line in lines[begin:after] if not _is_failure_line(line)]
    if not explain_launcher(log) or not any(map(_read_level, lines)):
        return "".join(own)
    errors = [
        line for line in (*lines[:begin], *lines[after:]) if _read_level(line) in tuple("WEF")
    ]
    return "".join([*own, *errors])


def clean_driver_log(log: str) -> str:
    """Return the warnings and errors in the log of a driver; other lines repeat the pipeline document."""
    kept, is_kept = [], False
    for line in split_lines(log):
        level = _read_level(line)
        is_kept = level in tuple("WEF") if level or _is_launcher_line(line) else is_kept
        kept += [line] if is_kept else []
    return "".join(kept)


def explain_launcher(log: str) -> str:
    """Return the error of a launcher or a driver; "" if it has none, or if the command failed."""
    error = _find_error(log)
    return "" if _COMMAND_FAILED.fullmatch(error) else error


def is_killed(log: str) -> bool:
    """Return whether the command was ended by SIGKILL."""
    return _find_error(log) == _KILLED


def find_exit(log: str) -> str:
    """Return how the command of a launcher ended, such as "exit status 3"; "" if the log does not say."""
    error = _find_error(log)
    return error if _COMMAND_FAILED.fullmatch(error) else ""


def split_lines(log: str) -> list[str]:
    """Split a log into lines with their line ends.

    A line of the launcher always begins a line, even if the output before it does not end with a line
    break.
    """
    lines: list[str] = []
    for line in log.splitlines(keepends=True):
        found = _GLOG.search(line)
        if found and found.start():
            lines += [f"{line[: found.start()]}\n", line[found.start() :]]
        else:
            lines.append(line)
    return lines


def _find_error(log: str) -> str:
    """Return the last error that a launcher or a driver logged, without the errors that it is wrapped in.

    An error before the failure line of the entry point was printed by the command. An error after it takes
    precedence over the line, which a program of the user may have printed: a command that was killed, or
    whose result could not be uploaded, did not fail by itself.
    """
    for line in reversed(split_lines(log)):
        if _is_failure_line(line):
            return ""
        found = _GLOG.match(line)
        if found and found[1] in "EF":
            message = found[2].strip()
            if message.startswith(_ERROR_PREFIX):
                message = message.removeprefix(_ERROR_PREFIX)
            elif inner := _DRIVER.match(message):
                message = inner[1]
            elif found[1] == "E" and message.startswith(
                "Component failed to execute successfully: "
            ):
                message = message.partition(": ")[2]
            return message[:_MAX_ERROR_LENGTH]
    return _find_start_error(log)


def _find_start_error(log: str) -> str:
    """Return why the container runtime could not start the program of a container; "" if it started.

    An example is "exec /bin/driver: argument list too long". Such a log contains nothing else.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in lines if not _ARGO.fullmatch(line)]
    is_alone = len(own) == 1 and own[0].startswith(("exec ", "Error: "))
    return own[0].removeprefix("Error: ")[:_MAX_ERROR_LENGTH] if is_alone else ""


def _find_launcher_tail(lines: Sequence[str]) -> int:
    """Return the index from which on all lines are lines of the launcher or of Argo."""
    at = len(lines)
    while at:
        if _is_launcher_line(lines[at - 1]) or _is_failure_line(lines[at - 1]):
            at -= 1
        elif (
            lines[at - 1].rstrip() == "}"
            and (opened := _find_executor_output(lines, at)) is not None
        ):
            at = opened
        else:
            break
    return at


def _find_executor_output(lines: Sequence[str], end: int) -> int | None:
    """Return the index of the launcher's line whose JSON ends before a line; see launcher_v2.go."""
    for number in range(end - 2, -1, -1):
        if _GLOG.match(lines[number]):
            return number if lines[number].rstrip().endswith("ExecutorOutput: {") else None
        if lines[number][:1] not in (" ", "\t"):
            return None
    return None


def _is_launcher_line(line: str) -> bool:
    text = line.rstrip("\r\n")
    return bool(_GLOG.match(text) or _ARGO.fullmatch(text))


def _is_failure_line(line: str) -> bool:
    return line.startswith(FAILURE_PREFIX) and find_failure(line) is not None


def _read_level(line: str) -> str:
    found = _GLOG.match(line)
    return found[1] if found else ""


def explain_log(log: str, memory_limit: str = "") -> str:
    """Return the reason for the failure of a task in its log; "" if the log contains none.

    Args:
        log: Log of the pod of the task, or of its driver.
        memory_limit: Memory limit of the container, such as "2Gi"; "" if it has none.
    """
    if is_killed(log):
        limit = f"its memory limit is {memory_limit}" if memory_limit else "it has no memory limit"
        return (
            f"was killed by SIGKILL from outside, probably because it ran out of memory ({limit})"
        )
    if error := explain_launcher(log):
        return error
    failure = find_failure(log)
    return failure.reason if failure else ""


def explain_exit(log: str) -> str:
    """Return how the command of a task ended, as a last resort for a reason; "" if it is unknown."""
    ended = find_exit(log)
    return f"its command ended with {ended}" if ended else ""


def explain_pod(pod: Json, events: Iterable[Json] = (), memory_limit: str = "") -> str:
    """Return why a pod failed or does not start, in the words of Kubernetes; "" if its status is normal.

    Args:
        pod: The pod as Kubernetes describes it; {} if it is unknown.
        events: Events of the pod.
        memory_limit: Memory limit of its main container, such as "2Gi"; "" if it has none.
    """
    status = pod.get("status") or {}
    if status.get("reason"):  # such as Evicted, DeadlineExceeded
        return _join(status.get("reason"), status.get("message"))
    states = [one.get("state") or {} for one in _list_statuses(status)]
    has_begun = bool(states and {"running", "terminated"}.intersection(states[0]))
    for ended in (state.get("terminated") or {} for state in states):
        if reason := _explain_end(ended, memory_limit):
            return reason
    waiting = [state.get("waiting") or {} for state in states]
    waiting += [
        condition
        for condition in status.get("conditions") or ()
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False")
    ]
    for waits in waiting:
        if waits.get("reason", "") not in _NORMAL_REASONS:
            return _join(waits.get("reason"), waits.get("message"))
    return "" if has_begun else _explain_events(events)  # events may be older than the container


def _explain_end(ended: Json, memory_limit: str) -> str:
    """Return why a container ended; "" if it has not ended, or if the log explains it."""
    failure = find_failure(str(ended.get("message") or ""))
    if failure is not None:  # the entry point writes the failure to the termination message too
        return failure.reason
    if ended.get("reason") == _OUT_OF_MEMORY:
        limit = f"memory limit {memory_limit}" if memory_limit else "no memory limit"
        return _join(_OUT_OF_MEMORY, f"it ran out of memory ({limit})")
    is_normal = ended.get("reason", "") in _NORMAL_REASONS
    return "" if is_normal else _join(ended.get("reason"), ended.get("message"))


def _list_statuses(status: Json) -> Iterator[Json]:
    """Yield the statuses of the containers, the main one first."""
    inits = status.get("initContainerStatuses") or ()
    found = [*(status.get("containerStatuses") or ()), *inits]
    yield from sorted(found, key=lambda one: one.get("name") != _MAIN_CONTAINER)


def _explain_events(events: Iterable[Json]) -> str:
    """Return the latest warning about a pod."""
    warnings = [event for event in events if event.get("type") == "Warning"]
    latest = max(warnings, key=_find_event_time, default={})
    return _join(latest.get("reason"), latest.get("message")) if latest else ""


def _find_event_time(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _join(reason: object, message: object) -> str:
    words = " ".join(str(message or "").split())[:_MAX_REASON_LENGTH]
    return f"{reason}: {words}" if reason and words else str(reason or words)


def read_task_failure(log: str, nodes: Sequence[str]) -> TaskFailure:
    """Return how a task failed, from its log; an empty TaskFailure if the log names no node.

    Args:
        log: Log of the pod of the task.
        nodes: Names of the nodes that the task executes.
    """
    failure = find_failure(log)
    outcome = _parse_group_log(log, nodes) if len(nodes) > 1 else TaskFailure()
    if failure is None:
        return outcome
    failed = failure.node if failure.node in nodes else ""
    finished = outcome.finished | frozenset(failure.finished).intersection(nodes)
    return replace(outcome, failed=failed, finished=finished, reason=failure.reason)


def _parse_group_log(log: str, nodes: Sequence[str]) -> TaskFailure:
    """Return how a group failed, from the lines of its nodes."""
    lines = log.splitlines(keepends=True)
    tips = {f"  hint: {LOG_PREFIX_NOTE.format(node)}": node for node in nodes}
    ends = [number for number, line in enumerate(lines, 1) if line.rstrip() in tips]
    if not ends:
        return TaskFailure()
    finished, known, begin = set(), frozenset(nodes), 0
    for number, line in enumerate(lines[: ends[-1]], 1):
        name, text = split_group_line(line, known)
        if name:
            begin = number
            if parse_finish_line(text.rstrip("\n")) is not None:
                finished.add(name)
    failed = tips[lines[ends[-1] - 1].rstrip()]
    return TaskFailure(failed, frozenset(finished), "".join(lines[begin : ends[-1]]))


def split_group_line(line: str, nodes: frozenset[str]) -> tuple[str, str]:
    """Split a line of a group's log into the name of the node that printed it and the text.

    Args:
        line: The line.
        nodes: Names of the nodes of the group.

    Returns:
        The name ("" for a line of the group itself) and the text.
    """
    name, bar, text = line.partition(" | ")
    while bar and name not in nodes:  # the name of a node may contain a bar
        more, bar, text = text.partition(" | ")
        name = f"{name} | {more}"
    return (name, text) if bar else ("", line)


def parse_finish_line(text: str) -> str | None:
    """Return the duration of a node in seconds from the line that says it has finished.

    Returns:
        The number as text; "" if the result of the node was reused; None for any other line.
    """
    done = _DONE.fullmatch(text)
    if done:
        return done[1]
    return "" if text == NODE_REUSED_LINE else None


def filter_node_log(log: str, task: ClusterTask, node: str) -> str:
    """Return the output of one node of a task, and its error.

    Args:
        log: Log of the pod of the task, with the lines of the launcher.
        task: The task.
        node: Name of the node. If no line of a group's log belongs to the node, all lines are returned.
    """
    if task.has_failed_driver:
        return clean_driver_log(log)
    text = clean_log(log)
    if len(task.nodes) <= 1:
        return text
    outcome = read_task_failure(log, task.nodes)
    known = frozenset(task.nodes)
    split = (split_group_line(line, known) for line in text.splitlines(keepends=True))
    own = "".join(line for name, line in split if name == node)
    return own + outcome.error if node == outcome.failed else own or text
