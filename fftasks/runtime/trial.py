"""Try in a new image what each pod will do first: import the files that build workflows, and find the nodes.

Standard library only: it runs in the image. What was found goes to standard output, as one line of JSON.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fftasks.errors import WorkflowError
from fftasks.runtime.manifest import FILE
from fftasks.runtime.source import import_workflows


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
