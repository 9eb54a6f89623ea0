"""Look through the nodes of a file as a pod would find them, without running any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fftasks.runtime.artifact import dump
from fftasks.runtime.source import import_workflows
from fftasks.workflow.node import Node
from fftasks.workflow.pending import replace_pending


def check_file(root: Path, file: str) -> dict[str, Any]:
    """Return how many nodes a file has, and which of their constants cannot be pickled.

    Raises WorkflowError if it cannot be imported.
    """
    nodes = {id(node): node for w in import_workflows(root, file) for node in w.nodes}.values()
    return {"nodes": len(nodes), "problems": [p for node in nodes for p in _list_problems(node)]}


def _list_problems(node: Node) -> Iterator[str]:
    for name, value in node.arguments.items():
        problem = _find_problem(value)
        if problem:
            yield f"constant {name} of {node.name} cannot be pickled: {problem}"


def _find_problem(value: Any) -> str:
    try:
        dump(replace_pending(value, lambda _pending: None))
    except Exception as error:  # noqa: BLE001 - whatever a class of the user's raises
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
