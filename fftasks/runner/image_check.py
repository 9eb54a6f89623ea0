"""Check an image or a workflow file without running nodes: fingerprints, imports, and constants.

An image contains a file with the fingerprints of the nodes that it was built for. A task may run an older
image than other tasks of its pipeline: the one in which its nodes last changed. If a task got the wrong
image, its result would be stored under a wrong fingerprint, so the entry point compares fingerprints first.

The other checks are those of a new image (import the workflow files and find the nodes, as each pod does
first), and of a file's nodes before a submission.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, replace_unresolved
from fftasks.errors import WorkflowError
from fftasks.runner.artifact import serialize
from fftasks.runner.source import import_workflows
from fftasks.state_folder import STATE_FOLDER

# Version of the entry point's arguments; increased by changes that an older image would not understand.
IMAGE_CHECK_PROTOCOL = 2
# In the image beside the code; the context excludes this folder.
FINGERPRINTS_FILE = f"{STATE_FOLDER}/fingerprints.json"


def combine_fingerprints(fingerprints: Sequence[str]) -> str:
    """Return one fingerprint for all nodes of a task; "" if a node has none.

    A single fingerprint is returned unchanged.
    """
    if not all(fingerprints):
        return ""
    if len(fingerprints) == 1:
        return fingerprints[0]
    text = json.dumps(list(fingerprints), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def format_manifest(workflows: Mapping[str, Mapping[str, str]]) -> bytes:
    """Return the content of FILE.

    Args:
        workflows: Workflow -> node -> fingerprint; "" for a node without a fingerprint.
    """
    return json.dumps(workflows, sort_keys=True, indent=0, ensure_ascii=True).encode() + b"\n"


def check_manifest(root: Path, workflow: str, nodes: Sequence[str], expected: str) -> None:
    """Check that the image was built for the fingerprint of a task.

    Args:
        root: Folder with the code.
        workflow: Name of the workflow.
        nodes: The nodes of the task.
        expected: Fingerprint of the task, as `combine` returns it.

    Raises:
        WorkflowError: The image was built for another fingerprint, or contains none for a node.
    """
    try:
        known = json.loads((root / FINGERPRINTS_FILE).read_bytes()).get(workflow, {})
    except FileNotFoundError:
        known = {}
    found = [known.get(node, "") for node in nodes]
    if combine_fingerprints(found) == expected:
        return
    names = ", ".join(nodes)
    has = [f"{node}: {digest or 'none'}" for node, digest in zip(nodes, found, strict=True)]
    raise WorkflowError(
        f"{names}: this image was made for another version of workflow {workflow!r}",
        found=[f"the task was made for {expected}", *(f"the image has {line}" for line in has)],
        tip="run `doit submit` again; a pipeline and its images belong together",
    )


def check_file(root: Path, file: str) -> dict[str, Any]:
    """Check the constants in the nodes of a file.

    Args:
        root: The project's folder.
        file: The file, relative to it.

    Returns:
        {"nodes": number of nodes, "problems": one message for each constant that cannot be pickled}.

    Raises:
        WorkflowError: The file cannot be imported.
    """
    nodes = {id(node): node for w in import_workflows(root, file) for node in w.nodes}.values()
    return {"nodes": len(nodes), "problems": [p for node in nodes for p in _check_constants(node)]}


def _check_constants(node: Node) -> Iterator[str]:
    """Yield a message for each constant of a node that cannot be pickled."""
    for name, value in node.arguments.items():
        try:
            serialize(replace_unresolved(value, lambda _pending: None))
        except Exception as error:  # noqa: BLE001, PERF203 - any error of a class of the user's
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            yield f"constant {name} of {node.name} cannot be pickled: {problem}"


def find_import_errors(root: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """Import the workflow files of an image, and find the nodes that it was built for.

    Args:
        root: Folder with the code.
        files: The files that build workflows, relative to it.

    Returns:
        One JSON object for each problem: "file", "error", and for a missing module "module" and "where".
    """
    found: dict[str, set[str]] = {}
    problems = []
    for file in files:
        try:
            for workflow in import_workflows(root, file):
                found.setdefault(workflow.name, set()).update(n.name for n in workflow.nodes)
        except WorkflowError as error:  # noqa: PERF203 - the other files are checked too
            problems.append(
                {"file": file, "error": str(error), **_locate_import(root, error.__cause__)}
            )
    return problems or list(_find_missing_nodes(root, found))


def _locate_import(root: Path, cause: BaseException | None) -> dict[str, str]:
    """Return the missing module, and the line of the user's code that imports it."""
    if not isinstance(cause, ModuleNotFoundError) or not cause.name:
        return {}
    frames = traceback.extract_tb(cause.__traceback__)
    users = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    if not users:
        return {"module": cause.name}
    file = Path(users[-1].filename).relative_to(root).as_posix()
    return {"module": cause.name, "where": f"{file}:{users[-1].lineno}"}


def _find_missing_nodes(root: Path, found: dict[str, set[str]]) -> Iterator[dict[str, str]]:
    path = root / FINGERPRINTS_FILE
    expected = json.loads(path.read_bytes()) if path.exists() else {}
    for workflow, nodes in expected.items():
        missing = sorted(set(nodes) - found.get(workflow, set()))
        if missing:
            error = f"workflow {workflow!r} is built without {', '.join(missing[:5])}"
            yield {"file": "", "error": error}
