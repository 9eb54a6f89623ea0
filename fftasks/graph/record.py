"""Graph records: what a user's file builds, as data.

The file is imported in a child process, so that doit never imports the user's code. The record's inputs
are all that the file read while it was imported: modules and data of the project, environment variables
that the project's own lines asked for, and the Python that did it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fftasks.distribution import list_installed
from fftasks.errors import WorkflowError
from fftasks.graph.watch import list_importable, walk_code
from fftasks.record import Record, digest_json, read_record, write_record
from fftasks.runtime.regular import make_folder, open_empty, read_text
from fftasks.runtime.start import make_command
from fftasks.store.signature import Signatures
from fftasks.workflow.slug import make_slug

VERSION = 8
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")  # see workflow/slug.py
_TRIES = 3  # for somebody who saves a file again and again while it is imported


@dataclass(frozen=True)
class GraphFile:
    """A file that builds workflows, and the state folder that holds its graph record.

    root: the project's folder; file: relative to it; folder: `.fftasks`
    """

    root: Path
    file: str
    folder: Path

    @property
    def path(self) -> Path:
        """Where the record is."""
        return self.folder / "graph" / f"{make_slug(self.file)}.json"


def load_graph(source: GraphFile) -> Record:
    """Return the graph record of a file, made anew if anything that it depends on has changed.

    Raises WorkflowError with the user's traceback if the file cannot be imported.
    """
    record = read_record(source.path)
    if not _is_whole(record) or record["file"] != source.file:
        return _keep(source, _make(source))
    inputs = read_inputs(source, list(record["inputs"]))
    if inputs == record["inputs"]:
        return record
    from fftasks.graph.retouch import retouch  # reading code takes a while to import

    return _keep(source, retouch(source, record, inputs) or _make(source))


def _keep(source: GraphFile, record: Record) -> Record:
    write_record(source.path, record)
    return record


def name_function(node: Mapping[str, Any]) -> str:
    """Return the name of what a node of a graph record calls: "features.py: clean()".

    It counts beside the code: two functions whose code is counted by whole files have the same code, and
    so have two methods of a class.
    """
    function = node["function"]
    return f"{function['file'] or function['module']}: {function['qualname']}()"


def _is_whole(record: Record | None) -> TypeGuard[Record]:
    return (
        record is not None
        and record.get("version") == VERSION
        and {"inputs", "workflows", "nodes", "codes", "warnings", "skeleton", "secrets"}
        <= record.keys()
        and all(w["slug"] == make_slug(name) for name, w in record["workflows"].items())
        and all(_SLUG.fullmatch(node["slug"]) for node in record["nodes"].values())
    )


def read_inputs(source: GraphFile, names: list[str]) -> dict[str, str | None]:
    """Return what the named inputs of a graph record are now; None for what is not there.

    name             value
    file:sums.py     digest of the file, relative to the project's folder
    text:sums.py     the same of a file of code that the user's own code reads
    folder:data      digest of the names in it
    modules:.        digest of the names of the modules and packages in a folder
    tree:.           digest of the names of all files of code in a folder, to any depth
    there:data       whether it is a file or a folder
    env:ALPHA        digest of the variable's value; a value itself may be a secret
    installed        digest of the names of all installed distributions, with their versions
    python           version of the interpreter and of this module
    """
    signatures = Signatures(source.folder / "graph" / "files.signatures")
    return {name: _read_input(source.root, name, signatures) for name in names}


def _read_input(root: Path, name: str, signatures: Signatures) -> str | None:
    kind, _, rest = name.partition(":")
    if kind == "installed":
        return digest_json(list_installed())
    if kind == "python":
        return _PYTHON
    try:
        if kind in ("file", "text"):
            return signatures.digest(root / rest)
        return digest_json(os.environ[rest]) if kind == "env" else _LOOKS[kind](root / rest)
    except (OSError, KeyError):
        return None


def _digest_names(folder: Path) -> str:
    return digest_json(sorted(path.name for path in folder.iterdir()))


def _digest_importable(folder: Path) -> str:
    return digest_json(list_importable(folder))


def _digest_tree(folder: Path) -> str:
    return digest_json(sorted(os.path.relpath(path, folder) for path in walk_code(folder)))


def _tell_kind(path: Path) -> str:
    return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"


_PYTHON = f"{sys.version.split()[0]} {VERSION}"
_LOOKS = {
    "folder": _digest_names,
    "modules": _digest_importable,
    "tree": _digest_tree,
    "there": _tell_kind,
}


def _make(source: GraphFile) -> Record:
    """Return the record, made again if a file was edited meanwhile: it may be of what that was before."""
    started = time.time_ns()
    record = _make_in_child(source)
    for _ in range(_TRIES):
        if not any(_is_newer(source.root, name, started) for name in record["inputs"]):
            break
        started, before = time.time_ns(), record
        record = _make_in_child(source)
        if record["inputs"] == before["inputs"]:  # the file itself writes what it reads
            break
    return record


def _is_newer(root: Path, name: str, time_ns: int) -> bool:
    kind, _, rest = name.partition(":")
    try:
        return kind in ("file", "text") and (root / rest).stat().st_ctime_ns > time_ns
    except OSError:
        return False


def _make_in_child(source: GraphFile) -> Record:
    log = source.folder / "logs" / f"{source.path.stem}.graph.txt"
    make_folder(log.parent)
    read_end, write_end = os.pipe()
    command = [
        *make_command("fftasks.stages.describe"),
        str(source.root),
        source.file,
        str(write_end),
    ]
    with open(open_empty(log), "wb") as output, os.fdopen(read_end, "rb") as answers:  # noqa: PTH123
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[write_end],
            env={**os.environ, "FFTASKS_FOLDER": str(source.folder)},
        )  # fmt: skip
        os.close(write_end)
        content = answers.read()
        code = child.wait()
    return _complete(source, content, code, log)


def _complete(source: GraphFile, content: bytes, code: int, log: Path) -> Record:
    answer: dict[str, Any] = json.loads(content) if content else {}
    if "error" in answer:
        attempted, found, tip = answer["error"]
        raise WorkflowError(attempted, found=found, tip=tip)
    if code or not answer:
        tail = read_text(log).splitlines()[-20:]
        raise WorkflowError(
            f"{source.file}: the process that imports it ended with {code}", found=tail
        )
    names = answer.pop("input_names")
    return {
        "stage": "graph",
        "version": VERSION,
        "inputs": read_inputs(source, names),
        "output": digest_json([answer["workflows"], answer["nodes"]]),
        "file": source.file,
        **answer,
    }
