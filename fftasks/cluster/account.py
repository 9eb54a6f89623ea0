"""What a run on the cluster tells of each of its nodes, whether they share a pod or not.

It stands in the metadata of what tasks give, and of groups in the logs of their pods: KFP itself knows only
when a pod began and ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fftasks.cluster.outcome import find_end, split_line
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.spans import list_spans
from fftasks.ports.answer import parse_json

if TYPE_CHECKING:
    from fftasks.cluster.evidence import Evidence
    from fftasks.ports.kfp_metadata import Output

_MOST_LOGS = 50  # that are asked for, of pods that tell nothing otherwise
_HAVE_LOGS = frozenset({"RUNNING", "SUCCEEDED", "FAILED", "CANCELED"})


@dataclass(frozen=True)
class Account:
    """What is told of a node that has a result.

    seconds: how long its function took, None if that is not told
    preview: the beginning of its result; kind: type and shape of it
    is_kept: it did not run, and has its result from the run before
    """

    seconds: float | None = None
    preview: str = ""
    kind: str = ""
    is_kept: bool = False


Accounts = Mapping[str, Account]  # by node
Outputs = Mapping[str, Mapping[str, "Output"]]  # by task and output


def ask_accounts(run: ClusterRun, evidence: Evidence) -> dict[str, Account]:
    """Return what is told of the nodes of a run, as far as somebody can be asked."""
    executions = evidence.executions or {}
    outputs = {name: one.outputs for name, one in executions.items()}
    accounts = read_accounts(run, outputs)
    groups = [task for task in run.tasks if len(task.nodes) > 1 and task.began]
    silent = [task for task in groups if accounts.keys().isdisjoint(task.nodes)]
    for task in [task for task in silent if task.state in _HAVE_LOGS][-_MOST_LOGS:]:
        accounts |= read_progress(evidence.read_log(task) or "", task.nodes)
    return accounts


def read_accounts(run: ClusterRun, outputs: Outputs) -> dict[str, Account]:
    """Return what the metadata of outputs tell; see ports/kfp_metadata.py."""
    found: dict[str, Account] = {}
    for task in run.tasks:
        given = outputs.get(task.name, {})
        if "result" in given and len(task.nodes) == 1:
            found[task.nodes[0]] = _read(given["result"].properties)
        elif "inner" in given:
            found |= _read_group(task.nodes, given["inner"].properties)
    return found


def read_progress(log: str, nodes: Sequence[str]) -> dict[str, Account]:
    """Return what the log of a group tells: its nodes that are done, and how long they took."""
    found, known = {}, frozenset(nodes)
    for line in log.splitlines():
        node, text = split_line(line, known)
        took = find_end(text) if node else None
        if took is not None:
            found[node] = Account(_parse(took), is_kept=not took)
    return found


def list_seconds(run: ClusterRun, accounts: Accounts) -> dict[str, float]:
    """Return how long nodes took: their functions, or else, of a pod that has one node, its command."""
    found = {node: one.seconds for node, one in accounts.items() if one.seconds is not None}
    for task in run.tasks:
        if len(task.nodes) == 1 and task.nodes[0] not in found and task.state == "SUCCEEDED":
            for span in list_spans(task.driver, task.step):
                if span.name == "run" and span.end is not None:
                    found[task.nodes[0]] = span.end - span.begin
    return found


def _read_group(nodes: Sequence[str], properties: Mapping[str, Any]) -> dict[str, Account]:
    """Return what a group tells of its nodes; see runtime/task.py."""
    found = {
        node: Account(_parse(word.lstrip("=")), is_kept=word.startswith("="))
        for node, word in zip(nodes, str(properties.get("seconds", "")).split(), strict=False)
    }
    try:
        told = parse_json(properties.get("nodes", "{}"))
    except (AttributeError, TypeError, ValueError):
        return found
    for node, one in told.items() if isinstance(told, dict) else ():
        if isinstance(one, dict):
            found[node] = replace(_read(one), is_kept=bool(one.get("kept")))
    return found


def _read(told: Mapping[str, Any]) -> Account:
    kind = " ".join(str(told[key]) for key in ("python_type", "shape") if key in told)
    seconds = told.get("seconds")
    number = _parse(str(seconds)) if isinstance(seconds, (int, float)) else None
    return Account(number, str(told.get("preview", "")), kind)


def _parse(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
