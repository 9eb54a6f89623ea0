"""Read, write and compare records, the JSON files of the state folder.

A record describes what a stage or a node was made from, and what it produced:
`{"stage": …, "inputs": {name: value}, "output": "sha256:…", …}`. It is canonical JSON without times and
absolute paths. Its inputs have names, so "why did it run" is the difference of two dictionaries.
Every JSON file of the state folder also stores its own path and the format number of the state folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fftasks.state_folder import (
    make_folder,
    move,
    need_folder,
    open_in_place,
    open_new,
    read_bytes,
    remove,
)

Record = dict[str, Any]
STATE_FORMAT = 1
"""Number of the format of the whole state folder.

Increase it with every change that makes an existing state file mean something else: its keys, or the program
that computes its content from the same inputs (the importer that writes graphs, the analysis of source files,
the inputs of a fingerprint). State with another number, or without one, counts as absent: it is not used, and
the file is replaced when its content is computed again. One number is enough because a rebuild only costs
time, while one number per kind of file is easily forgotten.

The `version` of a stage's record is not a format. It counts changes of what the stage produces from the same
inputs, and is compared like an input, so that only this stage runs again and says why.
"""
FORMAT_KEY = "format"  # key under which a state file stores STATE_FORMAT
PATH_KEY = "place"  # key under which a state file stores its own path; see name_state_file

# one encoder for all: json.dumps makes a new one for each call that is not a plain one
_format = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest_bytes(data: bytes) -> str:
    """Return "sha256:<64 hex>" of data."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return "sha256:<64 hex>" of a file's content, read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return "sha256:" + hasher.hexdigest()


def digest_json(value: Any) -> str:
    """Return the digest of a JSON value; the order of keys does not matter."""
    return digest_bytes(format_json(value).encode())


def format_json(value: Any) -> str:
    """Return value as canonical JSON: sorted keys, no spaces, no NaN."""
    return _format(value)


def read_record(path: Path | str) -> Record | None:
    """Return the record at path; None if there is no valid record.

    A record that was copied from another path belongs to another node and is ignored.
    """
    record = read_state_file(path)
    return record if record is not None and "output" in record else None


def write_record(path: Path, record: Record) -> bool:
    """Write a record unless it is unchanged; return whether it was written."""
    return write_if_changed(path, format_record(identify_state(path, record)))


def read_state_file(path: Path | str) -> Record | None:
    """Return the content of a JSON file of the state folder.

    Returns:
        The content without path and format. None if there is no regular file, if it is not a JSON object, if
        its format is not STATE_FORMAT, or if the stored path differs: then the file was copied or renamed.
    """
    try:
        content = json.loads(read_bytes(path))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.pop(PATH_KEY, None) != name_state_file(path):
        return None
    return content if has_state_format(content.pop(FORMAT_KEY, None)) else None


def write_state_file(path: Path, content: Mapping[str, Any]) -> bool:
    """Write a JSON file of the state folder unless it is unchanged; return whether it was written."""
    return write_if_changed(path, format_json(identify_state(path, content)) + "\n")


def identify_state(path: Path | str, content: Mapping[str, Any]) -> Record:
    """Return the content of a state file with its path and the format number."""
    return {**content, FORMAT_KEY: STATE_FORMAT, PATH_KEY: name_state_file(path)}


def has_state_format(number: object) -> bool:
    """Return whether a number that was read from a state file is STATE_FORMAT; True and 1.0 are not 1."""
    return type(number) is int and number == STATE_FORMAT


def name_state_file(path: Path | str) -> str:
    """Return the identity of a state file: the names of its folder and file, such as "pins/sums.json"."""
    folder, name = os.path.split(path)
    return f"{os.path.basename(folder)}/{name}"  # noqa: PTH119 - for each node


@contextmanager
def lock_record(path: Path) -> Iterator[None]:
    """Keep other processes from a record while it is looked at and made; wait until they have done so."""
    make_folder(path.parent)
    # not the record, which is replaced
    descriptor = open_in_place(path.with_suffix(".lock"), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def format_record(record: Record) -> str:
    """Return a record as JSON that can be read, and is written fast: a line for each of its items' items."""
    lines = (f" {_format(key)}: {_format_items(record[key])}" for key in sorted(record))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _format_items(value: Any) -> str:
    # json's own indentation is made in Python, and takes ten times as long
    if not isinstance(value, dict) or not value:
        return _format(value)
    lines = (f"  {_format(key)}: {_format(value[key])}" for key in sorted(value))
    return "{\n" + ",\n".join(lines) + "\n }"


def write_if_changed(path: Path, text: str) -> bool:
    """Put text at path by rename, only if it differs; return whether it did.

    A file with equal bytes keeps its times, so that nothing downstream is looked at again.
    """
    try:
        if read_bytes(path) == text.encode():
            return False
    except FileNotFoundError:
        pass
    write_atomically(path, text)
    return True


def write_atomically(path: Path | str, text: str) -> int:
    """Put text at path by rename, also if it is there already; return the inode that it has there."""
    # texts and descriptors, as each node has two: paths and file objects take longer than the system does
    folder, name = os.path.split(path)
    need_folder(folder)
    # the process id keeps two runs on one project from writing into the same temporary file
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")  # noqa: PTH118
    try:
        inode = _write_new(temporary, text.encode())
        move(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    return inode


def _write_new(path: str, data: bytes) -> int:
    try:
        descriptor = open_new(path)
    except (
        FileNotFoundError,
        NotADirectoryError,
    ):  # the folder was removed while this process runs
        make_folder(os.path.dirname(path))  # noqa: PTH120
        descriptor = open_new(path)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def explain_difference(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    hide: Callable[[Any], Any] = lambda value: value,
) -> Iterator[str]:
    """Yield one sentence per input that differs between two records' `inputs`; none if equal.

    Args:
        old: Inputs of the record; None if there is no record.
        new: Current inputs.
        hide: Function that returns a value without its secrets.
    """
    if old is None:
        yield "never ran"
        return
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone"
        elif old[name] != new[name]:
            yield f"{name}: {_shorten(hide(old[name]))} -> {_shorten(hide(new[name]))}"


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:19] if text.startswith("sha256:") else text[:60]
