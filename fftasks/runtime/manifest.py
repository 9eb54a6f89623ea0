"""The fingerprints that an image was made for: a file in it, which the entry point looks at.

A task may run an older image than its neighbours: the one in which its nodes last changed. Should the two
ever be mixed up, the task must not start: its result would be filed under what it is not.

PROTOCOL counts changes of the entry point's arguments that an older image would not understand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fftasks.errors import WorkflowError

PROTOCOL = 2
FILE = ".fftasks/fingerprints.json"  # in the image beside the code; no context has this folder


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
