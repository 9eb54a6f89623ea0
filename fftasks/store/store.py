"""Results on disk: artifacts by their digest, and traces, which say what a fingerprint led to.

    artifacts/<64 hex>         a node's result; read-only, written once
    traces/<64 hex>.json       fingerprint -> digests of the results, a preview, seconds
    nodes/<slug>.json          the record of a node's last run
    logs/<slug>.txt            what the node printed; whoever runs it has a lock on it
    codes/<64 hex>.json        what a node's code and data consisted of, for explanations
    *.signatures               what artifacts and records hold, so that they need not be read
    files.seen                 files of the project that nodes were seen to read and to write

All of it can be deleted at any time, and copied to another machine. Each file contains its own identity:
the name of an artifact is its digest, a trace contains its fingerprint, and a record its path
(record.name_place). A file that was renamed, or that replaced another one, is treated as absent.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fftasks.record import (
    PLACE,
    Record,
    digest_bytes,
    format_record,
    name_place,
    put_text,
    read_state,
    write_state,
)
from fftasks.runtime.artifact import digest_artifact
from fftasks.runtime.regular import (
    is_folder,
    is_regular,
    make_folder,
    move,
    open_in_place,
    read_bytes,
    read_text,
    remove,
)
from fftasks.runtime.show import NAMES
from fftasks.store.signature import Signatures

_PAGES_RECORD = ".pages.json"
# what may become a part of a path: slugs and digests come out of state files that anyone may have edited
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True)
class Trace:
    """What came of a node with a fingerprint.

    outputs: output name -> digest of its artifact
    previews: path of an item ("" for the whole result) -> a short text that shows it
    seconds: how long the function took
    tries: how often it had to be called in this run; not kept
    """

    outputs: dict[str, str]
    previews: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    tries: int = 1


def name_digest(digest: str) -> str:
    """Return the 64 hex digits of a digest; raise FileNotFoundError for anything else."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "not a digest", digest)
    return found[1]


def check_slug(slug: str) -> str:
    """Return a slug; raise FileNotFoundError for what is not one."""
    if _SLUG.fullmatch(slug) is None:
        raise FileNotFoundError(errno.ENOENT, "not the slug of a node", slug)
    return slug


def name_pages(digest: str) -> str:
    """Return the name of the folder with what is shown of a result."""
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class Store:
    """The folder `.fftasks` of a project."""

    folder: Path

    @cached_property
    def _root(self) -> str:
        return str(self.folder)

    @cached_property
    def _signatures(self) -> Signatures:
        path = self.folder / "artifacts.signatures"
        return Signatures(path, digest_artifact, stat=os.lstat)

    @cached_property
    def _records(self) -> Signatures:
        return Signatures(self.folder / "nodes.signatures", stat=os.lstat)

    def artifact_path(self, digest: str) -> Path:
        """Return where the artifact with a digest is, if it is."""
        return Path(self.spell_artifact(digest))

    def spell_artifact(self, digest: str) -> str:
        """Return the same as text: paths cost more than a trivial node can bear."""
        return f"{self._root}/artifacts/{name_digest(digest)}"

    def node_path(self, slug: str) -> Path:
        """Return where a node's record is."""
        return Path(self.spell_node(slug))

    def spell_node(self, slug: str) -> str:
        """Return the same as text."""
        return f"{self._root}/nodes/{check_slug(slug)}.json"

    def log_path(self, slug: str) -> Path:
        """Return the file that takes what a node prints."""
        return self.folder / "logs" / f"{check_slug(slug)}.txt"

    def has_artifact(self, digest: str) -> bool:
        """Tell whether an artifact is there and has the content that its name says.

        It is read only if its stat signature is not the recorded one; a damaged one is removed.
        """
        try:
            path = self.spell_artifact(digest)
            found = self._signatures.digest(path)
        except FileNotFoundError:
            return False
        if found != digest:
            remove(path)
        return found == digest

    def adopt_artifact(self, path: str, digest: str) -> None:
        """Move a freshly written artifact to its place."""
        target = self.spell_artifact(digest)
        os.chmod(path, 0o444)  # noqa: PTH101
        move(path, target)
        self._signatures.note(target, digest, os.lstat(target), is_own=True)

    def new_path(self, slug: str, output: str) -> str:
        """Return a name for an artifact that is being written on behalf of this process only."""
        return f"{self._new_artifacts}/.{check_slug(slug)}.{output}.{os.getpid()}"

    def new_log(self, slug: str) -> str:
        """Return the file that takes what a node prints; its folder is there."""
        return f"{self._logs}/{check_slug(slug)}.txt"

    def list_pages(self, slug: str, digest: str) -> list[Path]:
        """Return the files that display a node's result; most results have none.

        The folder has a record with the digest of each file. A file that was not written for this result of
        this node is ignored.
        """
        if not _SLUG.fullmatch(slug) or not _DIGEST.fullmatch(digest):
            return []
        folder = self.folder / "shown" / slug / name_pages(digest)
        if not is_folder(folder) or not is_folder(folder.parent):
            return []
        record = read_state(folder / _PAGES_RECORD) or {}
        if (record.get("node"), record.get("result")) != (slug, digest):
            return []
        files = record.get("files")
        if not isinstance(files, dict):
            return []
        paths = [
            folder / name for name in sorted(NAMES & files.keys()) if is_regular(folder / name)
        ]
        return [path for path in paths if digest_bytes(read_bytes(path)) == files[path.name]]

    def new_pages(self, slug: str) -> str:
        """Return a name for a folder that is being written, by this process only."""
        return f"{self._root}/shown/{check_slug(slug)}/.{os.getpid()}"

    def adopt_pages(self, slug: str, digest: str) -> None:
        """Move what a run has written to be shown to its place, instead of what was there."""
        new = Path(self.new_pages(slug))
        target = new.with_name(name_pages(digest))
        files = {path.name: digest_bytes(read_bytes(path)) for path in new.iterdir()}
        remove(target)
        new.replace(target)
        content = {"node": slug, "result": digest, "files": files}
        write_state(target / _PAGES_RECORD, content)

    def drop_pages(self, slug: str) -> None:
        """Remove what a run has written to be shown and nobody took."""
        remove(self.new_pages(slug))

    @cached_property
    def _new_artifacts(self) -> Path:
        folder = self.folder / "artifacts"
        make_folder(folder)
        remove_leftovers(folder)
        return folder

    @cached_property
    def _logs(self) -> Path:
        folder = self.folder / "logs"
        make_folder(folder)
        return folder

    def recall_outputs(self, slug: str, fingerprint: str) -> dict[str, str] | None:
        """Return what a node's record gives for a fingerprint, {} if there is none.

        None if the record must be read to know.
        """
        try:
            known = self._records.recall(self.spell_node(slug))
        except FileNotFoundError:
            return {}
        noted, outputs = _parse_outputs(known or "")
        return outputs if noted == fingerprint else None

    def recall_last_outputs(self, path: str) -> dict[str, str] | None:
        """Return what the record of a node at a path gives; None if it must be read.

        Raises OSError if there is no such file.
        """
        known = self._records.recall(path)
        return _parse_outputs(known)[1] if known else None

    def note_outputs(
        self, slug: str, fingerprint: str, outputs: Mapping[str, str], stat: os.stat_result
    ) -> None:
        """Note what a node's record gives; stat: what stat() said of the file before it was read."""
        self._records.note(self.spell_node(slug), _format_outputs(fingerprint, outputs), stat)

    def write_node(self, slug: str, fingerprint: str, record: Record) -> None:
        """Put a node's record on disk, and note what it gives."""
        path = self.spell_node(slug)
        inode = put_text(path, format_record({**record, PLACE: name_place(path)}))
        stat = os.lstat(path)
        if stat.st_ino == inode:  # else another run has just put its own there
            known = _format_outputs(fingerprint, record["outputs"])
            self._records.note(path, known, stat, is_own=True)

    def read_trace(self, fingerprint: str) -> Trace | None:
        """Return the trace of a fingerprint, if all of its artifacts are intact.

        A trace that contains no fingerprint, or another one, is ignored.
        """
        try:
            content = json.loads(read_bytes(self._trace_path(fingerprint)))
            if content.pop("fingerprint", None) != fingerprint:
                return None
            trace = Trace(**content)
            is_whole = all(self.has_artifact(digest) for digest in trace.outputs.values())
        except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return trace if is_whole else None

    def write_trace(self, fingerprint: str, trace: Trace) -> None:
        """Record what came of a fingerprint."""
        content: dict[str, Any] = {
            "fingerprint": fingerprint,
            "outputs": trace.outputs,
            "previews": trace.previews,
            "seconds": round(trace.seconds, 6),
        }
        put_text(self._trace_path(fingerprint), json.dumps(content) + "\n")

    def touch_trace(self, fingerprint: str) -> None:
        """Note that a trace has been used now; the least recently used results go first."""
        os.utime(self._trace_path(fingerprint))

    def read_code(self, digest: str) -> dict[str, str] | None:
        """Return the pieces of a node's code, if a node ran with it."""
        try:
            pieces = (read_state(self._code_path(digest)) or {}).get("pieces")
        except FileNotFoundError:
            return None
        return pieces if isinstance(pieces, dict) else None

    def write_code(self, digest: str, pieces: Mapping[str, str]) -> None:
        """Keep the pieces of a node's code, so that a change of it can be explained."""
        path = self._code_path(digest)
        if digest not in self._kept_codes and self.read_code(digest) is None:
            write_state(path, {"pieces": dict(pieces)})
        self._kept_codes.add(digest)  # that of a function with a thousand nodes is asked for once

    @cached_property
    def _kept_codes(self) -> set[str]:
        return set()

    def note_files(self, read: Iterable[str], written: Iterable[str]) -> None:
        """Remember which files of the project nodes were seen to read and to write."""
        seen = {*(f"r {path}" for path in read), *(f"w {path}" for path in written)}
        new = seen and sorted(line for line in seen - self._read_seen() if "\n" not in line)
        if new:
            data = "".join(f"{line}\n" for line in new).encode("utf-8", "surrogateescape")
            path = self.folder / "files.seen"
            descriptor = open_in_place(path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

    def list_made(self) -> set[str]:
        """Return the files of the project that nodes were seen to write, and none to read."""
        seen = self._read_seen()
        return {line[2:] for line in seen if line[0] == "w" and f"r {line[2:]}" not in seen}

    @contextmanager
    def lock(self, slug: str) -> Iterator[None]:
        """Keep other runs on this project from running the same node at the same time."""
        descriptor = self.take_lock(slug)
        try:
            yield
        finally:
            os.close(descriptor)

    def take_lock(self, slug: str, *, wait: bool = True) -> int:
        """Return a descriptor that keeps other runs from a node until it is closed.

        What is locked is the node's log: a file of its own would take longer to make than to lock.
        Raises BlockingIOError if one of them has it, and wait is false.
        """
        descriptor = open_in_place(self.new_log(slug), os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _read_seen(self) -> set[str]:
        try:
            text = read_text(self.folder / "files.seen", "surrogateescape")
        except FileNotFoundError:
            return set()
        return {line for line in text.splitlines() if line.startswith(("r ", "w "))}

    def _code_path(self, digest: str) -> Path:
        return self.folder / "codes" / f"{name_digest(digest)}.json"

    def _trace_path(self, fingerprint: str) -> str:
        return f"{self._root}/traces/{name_digest(fingerprint)}.json"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    for path in folder.glob(".*.*[0-9]"):
        pid = path.suffix.removeprefix(".")
        if pid.isdecimal() and not is_alive(int(pid)):
            remove(path)


def is_alive(pid: int) -> bool:
    """Tell whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _format_outputs(fingerprint: str, outputs: Mapping[str, str]) -> str:
    return ",".join([fingerprint, *(f"{name}={digest}" for name, digest in outputs.items())])


def _parse_outputs(known: str) -> tuple[str, dict[str, str]]:
    fingerprint, *outputs = known.split(",")
    return fingerprint, dict(one.split("=", 1) for one in outputs)
