"""The fingerprints that an image was made for: a file in it, which the entry point looks at.

A task may run an older image than its neighbours: the one in which its nodes last changed. Should the two
ever be mixed up, the task must not start: its result would be filed under what it is not.

PROTOCOL counts changes of the entry point's arguments that an older image would not understand.

Look through the nodes of a file as a pod would find them, without running any.

Try in a new image what each pod will do first: import the files that build workflows, and find the nodes.

Standard library only: it runs in the image. What was found goes to standard output, as one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, replace_pending
from fftasks.errors import WorkflowError
from fftasks.runner.artifact import dump
from fftasks.runner.source import import_workflows
from fftasks.state_folder import STATE_FOLDER

PROTOCOL = 2
FILE = (
    f"{STATE_FOLDER}/fingerprints.json"  # in the image beside the code; no context has this folder
)


def combine(fingerprints: Sequence[str]) -> str:
    """Return one fingerprint for the nodes of a task: of a single node its own; "" if one has none."""
    if not all(fingerprints):
        return ""
    if len(fingerprints) == 1:
        return fingerprints[0]
    text = json.dumps(list(fingerprints), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def format_manifest(workflows: Mapping[str, Mapping[str, str]]) -> bytes:
    """Return the content of FILE: workflow -> name of a node -> its fingerprint, "" if it has none."""
    return json.dumps(workflows, sort_keys=True, indent=0, ensure_ascii=True).encode() + b"\n"


def check_manifest(root: Path, workflow: str, nodes: Sequence[str], expected: str) -> None:
    """Compare what a task was given with what the image was made for.

    root: the folder with the code; expected: as `combine` gives it
    Raises WorkflowError if it is not the same, or if the image does not say.
    """
    try:
        known = json.loads((root / FILE).read_bytes()).get(workflow, {})
    except FileNotFoundError:
        known = {}
    found = [known.get(node, "") for node in nodes]
    if combine(found) == expected:
        return
    names = ", ".join(nodes)
    has = [f"{node}: {digest or 'none'}" for node, digest in zip(nodes, found, strict=True)]
    raise WorkflowError(
        f"{names}: this image was made for another version of workflow {workflow!r}",
        found=[f"the task was made for {expected}", *(f"the image has {line}" for line in has)],
        tip="run `doit submit` again; a pipeline and its images belong together",
    )


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


def try_workflows(root: Path, files: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is wrong, as JSON: "file", "error", and of a module that is missing "module" and "where".

    root: the folder with the code; files: those that build workflows
    """
    found: dict[str, set[str]] = {}
    problems = []
    for file in files:
        try:
            for workflow in import_workflows(root, file):
                found.setdefault(workflow.name, set()).update(n.name for n in workflow.nodes)
        except WorkflowError as error:  # noqa: PERF203 - each file is tried
            problems.append({"file": file, "error": str(error), **_describe(root, error.__cause__)})
    return problems or list(_compare(root, found))


def _describe(root: Path, cause: BaseException | None) -> dict[str, str]:
    if not isinstance(cause, ModuleNotFoundError) or not cause.name:
        return {}
    frames = traceback.extract_tb(cause.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    if not ours:
        return {"module": cause.name}
    place = Path(ours[-1].filename).relative_to(root).as_posix()
    return {"module": cause.name, "where": f"{place}:{ours[-1].lineno}"}


def _compare(root: Path, found: dict[str, set[str]]) -> Iterator[dict[str, str]]:
    path = root / FILE
    wanted = json.loads(path.read_bytes()) if path.exists() else {}
    for workflow, nodes in wanted.items():
        missing = sorted(set(nodes) - found.get(workflow, set()))
        if missing:
            error = f"workflow {workflow!r} is built without {', '.join(missing[:5])}"
            yield {"file": "", "error": error}
