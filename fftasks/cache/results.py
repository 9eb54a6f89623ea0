"""Load results of `doit run` in notebooks and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fftasks.api.names import make_slug
from fftasks.api.workflow_graph import collecting_workflows
from fftasks.cache.store import Store
from fftasks.errors import StoreError, WorkflowError, suggest_or_list
from fftasks.records import Record, read_record
from fftasks.runner.artifact import read_artifact
from fftasks.runner.source import add_import_paths
from fftasks.state_folder import STATE_FOLDER, check_folders


def load(name: str, folder: str | Path = ".") -> Any:
    """Return the result of a node of the last `doit run`.

    Large arrays are memory-mapped.

    Args:
        name: Name of the node as `doit run` shows it, or "<workflow>/<name>".
        folder: Folder of the project, or a folder below it.

    Raises:
        WorkflowError: The node does not exist.
        StoreError: The node never ran, or its artifact is missing or damaged.
    """
    root = find_project_root(Path(folder))
    graph, slug = find_graph_node(root, name)
    path = find_result_file(Store(root / STATE_FOLDER), name, slug)
    add_import_paths(root, graph["file"])
    with collecting_workflows():  # unpickling may import a file that runs a workflow
        return read_artifact(path)


def find_project_root(folder: Path) -> Path:
    """Return the folder with `.fftasks`, at or above a folder.

    Raises:
        StoreError: There is none, or it is not usable.
    """
    for candidate in (folder.resolve(), *folder.resolve().parents):
        if (candidate / STATE_FOLDER).is_dir():
            check_folders(candidate / STATE_FOLDER)
            return candidate
    raise StoreError(f"no {STATE_FOLDER} in {folder.resolve()} or above", tip="`doit run` makes it")


def find_graph_node(root: Path, name: str) -> tuple[Record, str]:
    """Return the graph record that contains a node, and the node's slug.

    Args:
        root: Folder of the project.
        name: Name of the node, or "<workflow>/<name>".

    Raises:
        WorkflowError: The node does not exist. The message suggests the nearest name.
    """
    records = [read_record(path) for path in sorted((root / STATE_FOLDER / "graph").glob("*.json"))]
    graphs = [record for record in records if record is not None]
    identities = [(graph, identity) for graph in graphs for identity in graph["nodes"]]
    for graph, identity in identities:
        owners = [w for w, content in graph["workflows"].items() if identity in content["nodes"]]
        if name in (identity, *(f"{owner}/{identity}" for owner in owners)):
            return graph, make_slug(name)
    hint = suggest_or_list(name, [identity for _, identity in identities], "nodes")
    raise WorkflowError(f"there is no node {name!r}", found=[hint])


def find_result_file(store: Store, name: str, slug: str) -> Path:
    """Return the file with a node's result.

    Args:
        store: Store of the project.
        name: Name of the node, for messages.
        slug: Slug of the node.

    Raises:
        StoreError: The node has no result, or its artifact is missing or damaged.
    """
    record = read_record(store.node_path(slug))
    if record is None:
        raise StoreError(f"{name!r} has no result yet", tip=f"doit run:{name}")
    if not store.has_artifact(record["output"]):
        raise StoreError(f"the result of {name!r} is gone or damaged", tip=f"doit run:{name}")
    return store.artifact_path(record["output"])
