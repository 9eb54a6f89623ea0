"""Why a task failed, read from the log of its pod; for a group, also which node failed.

The last line of the log names the node and the reason (see runtime/failure.py). In the log of a group, a line
of a node stands behind the node's name, and the error stands behind all of them; see runtime/group.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fftasks.cluster.details import Task
from fftasks.cluster.log import clean_driver_log, clean_log
from fftasks.runtime.failure import find_failure
from fftasks.runtime.group import AT_END, SAYS_DONE, SAYS_KEPT

_DONE = re.compile(re.escape(SAYS_DONE).replace(r"\{\}", "(.*)"))


@dataclass(frozen=True)
class Outcome:
    """How a task went that has failed.

    Attributes:
        failed: The node that failed; "" if the log does not tell it.
        finished: The nodes of the same group that had finished.
        error: The error as the log of a group shows it, mostly with a traceback; "" for a node alone.
        reason: Why it failed, in one line; "" if that is not known.
    """

    failed: str = ""
    finished: frozenset[str] = frozenset()
    error: str = ""
    reason: str = ""


def read_outcome(log: str, nodes: Sequence[str]) -> Outcome:
    """Return what the log of a task says of its nodes; an empty outcome if no node is blamed."""
    failure = find_failure(log)
    outcome = _read_group(log, nodes) if len(nodes) > 1 else Outcome()
    if failure is None:
        return outcome
    failed = failure.node if failure.node in nodes else ""
    finished = outcome.finished | frozenset(failure.finished).intersection(nodes)
    return replace(outcome, failed=failed, finished=finished, reason=failure.reason)


def _read_group(log: str, nodes: Sequence[str]) -> Outcome:
    """Return what the marked lines of a group's log tell."""
    lines = log.splitlines(keepends=True)
    tips = {f"  tip: {AT_END.format(node)}": node for node in nodes}
    ends = [number for number, line in enumerate(lines, 1) if line.rstrip() in tips]
    if not ends:
        return Outcome()
    finished, known, begin = set(), frozenset(nodes), 0
    for number, line in enumerate(lines[: ends[-1]], 1):
        name, text = split_line(line, known)
        if name:
            begin = number
            if find_end(text.rstrip("\n")) is not None:
                finished.add(name)
    failed = tips[lines[ends[-1] - 1].rstrip()]
    return Outcome(failed, frozenset(finished), "".join(lines[begin : ends[-1]]))


def split_line(line: str, nodes: frozenset[str]) -> tuple[str, str]:
    """Return the node that has printed a line of a group's log, and the line; "" for the group itself."""
    name, bar, text = line.partition(" | ")
    while bar and name not in nodes:  # a name may have a bar as well
        more, bar, text = text.partition(" | ")
        name = f"{name} | {more}"
    return (name, text) if bar else ("", line)


def find_end(text: str) -> str | None:
    """Return how many seconds a node took, if a line of its log says that it is done; "" if it was kept."""
    done = _DONE.fullmatch(text)
    if done:
        return done[1]
    return "" if text == SAYS_KEPT else None


def choose_lines(log: str, task: Task, node: str) -> str:
    """Return what one node of a task has printed, and its error.

    Args:
        log: The log of the task's pod, with the lines of the launcher.
        task: The task.
        node: The node; if no line of a group's log is marked as the node's, all lines are returned.
    """
    if task.has_failed_driver:
        return clean_driver_log(log)
    text = clean_log(log)
    if len(task.nodes) <= 1:
        return text
    outcome = read_outcome(log, task.nodes)
    known = frozenset(task.nodes)
    split = (split_line(line, known) for line in text.splitlines(keepends=True))
    own = "".join(line for name, line in split if name == node)
    return own + outcome.error if node == outcome.failed else own or text
