"""The last line of a failed pod's log: it names the node that failed and the reason.

The entry point prints the line, and the commands that show a run on the cluster look for it in the log,
because Kubeflow Pipelines hands over neither an exit code nor a text. Standard library only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

PREFIX = "-- failed: "


@dataclass(frozen=True)
class Failure:
    """Why a pod failed.

    Attributes:
        node: The node that failed; for a group that was stopped from outside, the name of the group.
        reason: One line in the user's words, such as "ValueError: bad value".
        finished: In a group, the nodes that had finished before.
    """

    node: str
    reason: str
    finished: tuple[str, ...] = ()


def format_failure(failure: Failure) -> str:
    """Return the line for the log, without a line end.

    The line is ASCII: the log of a pod passes through programs that are strict about encodings.
    """
    content = {
        "node": failure.node,
        "reason": " ".join(failure.reason.split()),
        **({"finished": failure.finished} if failure.finished else {}),
    }
    return PREFIX + json.dumps(content, separators=(",", ":"))


def find_failure(log: str) -> Failure | None:
    """Return the failure that a log ends with, or None.

    Args:
        log: A log or the end of one. Other programs may have written lines before and behind the line.

    Returns:
        What the last line that begins with the prefix and can be parsed says, so that a node that prints
        something similar does no harm.
    """
    for line in reversed(log.split("\n")):
        if line.startswith(PREFIX) and (failure := _parse(line.removeprefix(PREFIX))):
            return failure
    return None


def _parse(text: str) -> Failure | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    node, reason, finished = (content.get(key) for key in ("node", "reason", "finished"))
    names = [] if finished is None else finished
    if not (isinstance(node, str) and isinstance(reason, str) and isinstance(names, list)):
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return Failure(node, reason, tuple(names))
