"""Reads and writes results in a FileStorage, and makes the keys that tell whether a result is valid."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.api.functionfuse import FileStorage
from fftasks.api.node import Node, NodeInput, name_inputs
from fftasks.api.workflow_graph import Workflow
from fftasks.errors import StoreError
from fftasks.records import digest_json
from fftasks.runner.artifact import digest_artifact, read_artifact, write_artifact


class SavedResult(NamedTuple):
    """A result on disk.

    Attributes:
        path: The artifact.
        digest: Digest of the artifact.
    """

    path: Path
    digest: str


def read_task(storage: FileStorage, workflow_name: str, task_name: str) -> Any:
    """Return the result of a node that has one.

    Args:
        storage: Where the result is stored.
        workflow_name: Name of the workflow.
        task_name: Name of the node.

    Raises:
        StoreError: The file has changed since it was saved. Loading it could execute code.
    """
    path = storage._artifact_path(workflow_name, task_name)
    try:
        label = json.loads(storage._label_path(workflow_name, task_name).read_bytes())
    except (FileNotFoundError, ValueError):
        label = {}
    if label.get("digest") != digest_artifact(path):
        raise StoreError(
            f"{path} has changed since it was saved",
            tip="remove it with remove_task(), and compute the result again",
        )
    return read_artifact(path)


def save_value(storage: FileStorage, workflow_name: str, task_name: str, value: Any) -> None:
    """Store a value without a key, so that it is never used as the result of the node itself.

    Args:
        storage: Where the value is stored.
        workflow_name: Name of the workflow.
        task_name: Name of the node.
        value: Any value that can be pickled.
    """
    path = storage._artifact_path(workflow_name, task_name)
    temporary = path.with_suffix(".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = SavedResult(temporary, write_artifact(temporary, value))
    store_saved_result(storage, workflow_name, task_name, "", saved)


def find_result(
    storage: FileStorage, workflow_name: str, task_name: str, key: str
) -> SavedResult | None:
    """Return the result of a node if it was stored with the same key and is intact, else None.

    Args:
        storage: Where to look.
        workflow_name: Name of the workflow.
        task_name: Name of the node.
        key: Fingerprint of the node; "" matches no result.
    """
    path = storage._artifact_path(workflow_name, task_name)
    try:
        label = json.loads(storage._label_path(workflow_name, task_name).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    is_valid = (
        key and label["key"] == key and path.exists() and digest_artifact(path) == label["digest"]
    )
    return SavedResult(path, label["digest"]) if is_valid else None


def store_saved_result(
    storage: FileStorage, workflow_name: str, task_name: str, key: str, saved: SavedResult
) -> SavedResult:
    """Move an artifact into the storage.

    Args:
        storage: Where the result is stored.
        workflow_name: Name of the workflow.
        task_name: Name of the node.
        key: Fingerprint of the node, "" if the result must not be used again.
        saved: The artifact.

    Returns:
        The artifact at its new path.
    """
    path = storage._artifact_path(workflow_name, task_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    label = storage._label_path(workflow_name, task_name)
    # The old label goes first: after a crash it must not describe the new artifact.
    label.unlink(missing_ok=True)
    temporary = path.with_suffix(".tmp")
    shutil.move(saved.path, temporary)
    temporary.replace(path)
    content = {"name": task_name, "key": key, "digest": saved.digest, "size": path.stat().st_size}
    temporary.write_text(json.dumps(content))
    temporary.replace(label)
    return SavedResult(path, saved.digest)


def make_key_function(
    workflow: Workflow, values: Mapping[str, Any]
) -> Callable[[Node, Mapping[NodeInput, SavedResult]], str]:
    """Return a function that computes the fingerprint of a node of a workflow.

    Args:
        workflow: The workflow.
        values: Values of its run parameters by name.

    Returns:
        Function of a node and the results upstream of it. It returns the digest of the node's code,
        constants, run parameters and the results, or "" if a constant is not the same in every process.
    """
    from fftasks.cache.fingerprint import name_function
    from fftasks.graph.importer import describe_graph_node
    from fftasks.graph.node_code import CodeDigester

    # The code digest covers the script and the modules beside it. The file of a notebook does not exist.
    folder, path = Path.cwd().resolve(), Path(workflow.site.file).resolve()
    if path.is_file() and not path.is_relative_to(folder):
        folder = path.parent
    entry = path.relative_to(folder).as_posix() if path.is_file() else None
    code_digester = CodeDigester(folder, entry)
    ids = {node: node.name for node in workflow.nodes}

    def make_key(node: Node, saved: Mapping[NodeInput, SavedResult]) -> str:
        described = describe_graph_node(node, ids, code_digester)
        if not all(argument.get("stable", True) for argument in described["arguments"]):
            return ""
        constants = [[a["name"], a["digest"]] for a in described["arguments"]]
        upstream = [[name, saved[i].digest] for name, i in name_inputs(node).items()]
        names = {parameter["name"] for parameter in described["parameters"].values()}
        chosen = [[name, values[name]] for name in sorted(names)]
        return digest_json(
            [name_function(described), described["code"], constants, upstream, *chosen]
        )

    return make_key
