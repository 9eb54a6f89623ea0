"""What became of each node of a group that failed, as the log of its pod says: KFP knows the group only.

Lines of a node stand behind its name, and the error behind all of them; see runtime/group.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fftasks.cluster.details import Task
from fftasks.cluster.run import ClusterRun
from fftasks.runtime.group import AT_END, SAYS_DONE, SAYS_KEPT

_DONE = re.compile(re.escape(SAYS_DONE).replace(r"\{\}", "(.*)"))


@dataclass(frozen=True)
class Outcome:
    """How a group went.

    failed: the node that failed, "" if the log does not say
    finished: the nodes that had finished
    error: what is said of the failure
    """

    failed: str = ""
    finished: frozenset[str] = frozenset()
    error: str = ""


def read_outcome(log: str, nodes: Sequence[str]) -> Outcome:
    """Return what the log of a group says of its nodes; an empty outcome if no node is blamed."""
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


def read_outcomes(run: ClusterRun, read_log: Callable[[Task], str | None]) -> Mapping[str, Outcome]:
    """Return the outcomes of the groups of a run that failed, by the names of their tasks."""
    failed = [task for task in run.tasks if task.state == "FAILED" and len(task.nodes) > 1]
    return {task.name: read_outcome(read_log(task) or "", task.nodes) for task in failed}


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
    """Return what one node of a task has printed, and its error; all, if no line is marked as the node's."""
    if len(task.nodes) == 1:
        return log
    outcome = read_outcome(log, task.nodes)
    known = frozenset(task.nodes)
    split = (split_line(line, known) for line in log.splitlines(keepends=True))
    own = "".join(text for name, text in split if name == node)
    return own + outcome.error if node == outcome.failed else own or log
