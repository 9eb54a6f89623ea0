"""The state folder `.fftasks`: results, traces, records of nodes, garbage collection and flushing to disk.

    artifacts/<64 hex>         a node's result; read-only, written once
    traces/<64 hex>.json       fingerprint -> digests of the results, previews, seconds
    nodes/<slug>.json          the record of a node's last run
    logs/<slug>.txt            output of the node; the process that runs the node locks this file
    codes/<64 hex>.json        pieces of a node's code and data, for explanations
    *.signatures               stat caches of artifacts and records, so that they need not be read
    files.seen                 files of the project that nodes have read and written

The folder can be deleted at any time, and copied to another machine. Each file contains its own identity:
the name of an artifact is its digest, a trace contains its fingerprint, and a record its path (see
records.name_state_file). A file that was renamed, or that replaced another one, is treated as absent; so is a
file of another format (see records.STATE_FORMAT).

Nothing waits for the disk, which takes 25 ms each time: after a power cut, an incomplete artifact is detected
by its digest. DiskFlusher starts `sync` in the background, so that a power cut costs only seconds of work.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fftasks.cache.stat_cache import StatCache
from fftasks.errors import StoreError
from fftasks.records import (
    FORMAT_KEY,
    STATE_FORMAT,
    Record,
    digest_bytes,
    format_record,
    has_state_format,
    identify_state,
    read_record,
    read_state_file,
    write_atomically,
    write_state_file,
)
from fftasks.runner.artifact import digest_artifact
from fftasks.runner.display_files import DISPLAY_FILE_NAMES
from fftasks.state_folder import (
    check_folders,
    is_folder,
    is_regular,
    make_folder,
    move,
    open_in_place,
    read_bytes,
    read_text,
    remove,
)

_PAGES_RECORD = ".pages.json"
# Slugs and digests come from state files, which may have been edited, and become parts of paths.
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True)
class Trace:
    """The result of a fingerprint.

    Attributes:
        outputs: Digest of the artifact of each output, by the name of the output.
        previews: Short texts that display items, by the path of the item; "" is the whole result.
        seconds: Duration of the function.
        tries: Number of attempts in this run; not stored.
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
    """Return a valid slug; raise FileNotFoundError for anything else."""
    if _SLUG.fullmatch(slug) is None:
        raise FileNotFoundError(errno.ENOENT, "not the slug of a node", slug)
    return slug


def name_pages(digest: str) -> str:
    """Return the name of the folder with the files that display a result."""
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class Store:
    """The state folder of a project.

    Attributes:
        folder: Path of `.fftasks`.
    """

    folder: Path

    @cached_property
    def _root(self) -> str:
        return str(self.folder)

    @cached_property
    def _signatures(self) -> StatCache:
        path = self.folder / "artifacts.signatures"
        return StatCache(path, digest_artifact, stat=os.lstat)

    @cached_property
    def _records(self) -> StatCache:
        return StatCache(self.folder / "nodes.signatures", stat=os.lstat)

    def artifact_path(self, digest: str) -> Path:
        """Return the path of the artifact with a digest; it may not exist."""
        return Path(self.artifact_path_text(digest))

    def artifact_path_text(self, digest: str) -> str:
        """Return the path of an artifact as str, because Path objects are slow for trivial nodes."""
        return f"{self._root}/artifacts/{name_digest(digest)}"

    def node_path(self, slug: str) -> Path:
        """Return the path of a node's record."""
        return Path(self.node_path_text(slug))

    def node_path_text(self, slug: str) -> str:
        """Return the path of a node's record as str."""
        return f"{self._root}/nodes/{check_slug(slug)}.json"

    def log_path(self, slug: str) -> Path:
        """Return the path of a node's log."""
        return self.folder / "logs" / f"{check_slug(slug)}.txt"

    def has_artifact(self, digest: str) -> bool:
        """Return whether an artifact exists and has the digest of its name.

        It is only read if its stat signature has changed. A damaged artifact is removed.
        """
        try:
            path = self.artifact_path_text(digest)
            found = self._signatures.digest(path)
        except FileNotFoundError:
            return False
        if found != digest:
            remove(path)
        return found == digest

    def adopt_artifact(self, path: str, digest: str) -> None:
        """Move a freshly written artifact to its place."""
        target = self.artifact_path_text(digest)
        os.chmod(path, 0o444)  # noqa: PTH101
        move(path, target)
        self._signatures.note(target, digest, os.lstat(target), is_own=True)

    def new_path(self, slug: str, output: str) -> str:
        """Return a temporary path for an artifact that a child of this process writes."""
        return f"{self._new_artifacts}/.{check_slug(slug)}.{output}.{os.getpid()}"

    def new_log(self, slug: str) -> str:
        """Return the path of a node's log, and create its folder."""
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
        record = read_state_file(folder / _PAGES_RECORD) or {}
        if (record.get("node"), record.get("result")) != (slug, digest):
            return []
        files = record.get("files")
        if not isinstance(files, dict):
            return []
        paths = [
            folder / name
            for name in sorted(DISPLAY_FILE_NAMES & files.keys())
            if is_regular(folder / name)
        ]
        return [path for path in paths if digest_bytes(read_bytes(path)) == files[path.name]]

    def new_pages(self, slug: str) -> str:
        """Return a temporary path for the folder of files that display a result."""
        return f"{self._root}/shown/{check_slug(slug)}/.{os.getpid()}"

    def adopt_pages(self, slug: str, digest: str) -> None:
        """Move the files that display a result from their temporary folder to their final one."""
        new = Path(self.new_pages(slug))
        target = new.with_name(name_pages(digest))
        files = {path.name: digest_bytes(read_bytes(path)) for path in new.iterdir()}
        remove(target)
        new.replace(target)
        content = {"node": slug, "result": digest, "files": files}
        write_state_file(target / _PAGES_RECORD, content)

    def drop_pages(self, slug: str) -> None:
        """Remove the temporary folder of files that display a result."""
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

    def look_up_outputs(self, slug: str, fingerprint: str) -> dict[str, str] | None:
        """Return the outputs of a node's record from the stat cache, without reading the record.

        Args:
            slug: Slug of the node.
            fingerprint: Fingerprint that the record must have.

        Returns:
            Digests by output; {} if there is no record; None if the record must be read.
        """
        try:
            known = self._records.look_up(self.node_path_text(slug))
        except FileNotFoundError:
            return {}
        noted, outputs = _parse_outputs(known or "")
        return outputs if noted == fingerprint else None

    def look_up_last_outputs(self, path: str) -> dict[str, str] | None:
        """Return the outputs of the record at a path; None if the record must be read.

        Raises:
            OSError: The record does not exist.
        """
        known = self._records.look_up(path)
        return _parse_outputs(known)[1] if known else None

    def note_outputs(
        self, slug: str, fingerprint: str, outputs: Mapping[str, str], stat: os.stat_result
    ) -> None:
        """Note the outputs of a node's record in the stat cache.

        Args:
            slug: Slug of the node.
            fingerprint: Fingerprint of the record.
            outputs: Digests by output.
            stat: Result of stat() from before the record was read.
        """
        self._records.note(self.node_path_text(slug), _format_outputs(fingerprint, outputs), stat)

    def write_node(self, slug: str, fingerprint: str, record: Record) -> None:
        """Write a node's record, and note its outputs in the stat cache."""
        path = self.node_path_text(slug)
        inode = write_atomically(path, format_record(identify_state(path, record)))
        stat = os.lstat(path)
        if stat.st_ino == inode:  # else another run has just replaced the record
            known = _format_outputs(fingerprint, record["outputs"])
            self._records.note(path, known, stat, is_own=True)

    def read_trace(self, fingerprint: str) -> Trace | None:
        """Return the trace of a fingerprint, or None if it is missing or an artifact is not intact.

        A trace with another fingerprint or format is ignored.
        """
        try:
            content = json.loads(read_bytes(self._trace_path(fingerprint)))
            if content.pop("fingerprint", None) != fingerprint:
                return None
            if not has_state_format(content.pop(FORMAT_KEY, None)):
                return None
            trace = Trace(**content)
            is_whole = all(self.has_artifact(digest) for digest in trace.outputs.values())
        except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return trace if is_whole else None

    def write_trace(self, fingerprint: str, trace: Trace) -> None:
        """Write the trace of a fingerprint."""
        content: dict[str, Any] = {
            FORMAT_KEY: STATE_FORMAT,
            "fingerprint": fingerprint,
            "outputs": trace.outputs,
            "previews": trace.previews,
            "seconds": round(trace.seconds, 6),
        }
        write_atomically(self._trace_path(fingerprint), json.dumps(content) + "\n")

    def touch_trace(self, fingerprint: str) -> None:
        """Set the time of last use of a trace; gc removes the least recently used results first."""
        os.utime(self._trace_path(fingerprint))

    def read_code(self, digest: str) -> dict[str, str] | None:
        """Return the pieces of a node's code and data, or None if they are unknown."""
        try:
            pieces = (read_state_file(self._code_path(digest)) or {}).get("pieces")
        except FileNotFoundError:
            return None
        return pieces if isinstance(pieces, dict) else None

    def write_code(self, digest: str, pieces: Mapping[str, str]) -> None:
        """Store the pieces of a node's code and data, so that a change can be explained."""
        path = self._code_path(digest)
        if digest not in self._kept_codes and self.read_code(digest) is None:
            write_state_file(path, {"pieces": dict(pieces)})
        self._kept_codes.add(digest)  # asked once for a function with a thousand nodes

    @cached_property
    def _kept_codes(self) -> set[str]:
        return set()

    def note_files(self, read: Iterable[str], written: Iterable[str]) -> None:
        """Store which files of the project nodes have read and written."""
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

    def list_only_written(self) -> set[str]:
        """Return the files of the project that nodes have written and no node has read."""
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
        """Return a descriptor that locks a node against other runs until it is closed.

        The lock is on the node's log, because creating a separate file takes longer than locking it.

        Args:
            slug: Slug of the node.
            wait: Whether to wait for another run that holds the lock.

        Raises:
            BlockingIOError: Another run holds the lock, and wait is False.
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
    """Return whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def _format_outputs(fingerprint: str, outputs: Mapping[str, str]) -> str:
    return ",".join([fingerprint, *(f"{name}={digest}" for name, digest in outputs.items())])


def _parse_outputs(known: str) -> tuple[str, dict[str, str]]:
    fingerprint, *outputs = known.split(",")
    return fingerprint, dict(one.split("=", 1) for one in outputs)


_PAUSE_S = 5.0


class DiskFlusher:
    """Starts `sync` for the file system of a folder at most every five seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._next = time.monotonic() + _PAUSE_S
        self._has_news = False

    def note(self) -> None:
        """Note that something was written; start `sync` if the interval has passed."""
        self._has_news = True
        if time.monotonic() > self._next:
            self.start()

    def start(self) -> None:
        """Start `sync` without waiting, unless nothing was written or the last one is still running."""
        if not self._has_news or (self._process is not None and self._process.poll() is None):
            return
        with suppress(OSError):  # `sync` is missing: the system writes within half a minute
            self._process = subprocess.Popen(
                ["sync", "-f", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,  # Ctrl-C is not for it
            )
        self._has_news = False
        self._next = time.monotonic() + _PAUSE_S


@dataclass(frozen=True)
class RemovedResults:
    """Result of a garbage collection.

    Attributes:
        count: Number of removed artifacts.
        size_bytes: Their size.
        left_bytes: Size of the remaining artifacts.
    """

    count: int
    size_bytes: int
    left_bytes: int

    def __str__(self) -> str:
        return (
            f"removed {self.count} results, {self.size_bytes:,} bytes; "
            f"{self.left_bytes:,} bytes are left"
        )


def remove_unused(folder: Path, keep_bytes: int) -> RemovedResults:
    """Remove artifacts, the least recently used first, until at most keep_bytes are left.

    An artifact that a node's record needs always stays. Traces are removed before their artifacts, so that no
    trace names a missing artifact.

    Args:
        folder: Path of `.fftasks`.
        keep_bytes: Size of the artifacts to keep.

    Raises:
        StoreError: The folder does not exist.
    """
    if not folder.is_dir():
        raise StoreError(f"gc: there is no {folder}", tip="call it in the project's folder")
    check_folders(folder)
    parts = [folder / part for part in ("artifacts", "codes", "graph", "nodes", "traces")]
    for part in (*parts, *folder.glob("closures/*")):
        remove_leftovers(part)
    sizes = {path.name: path.lstat().st_size for path in (folder / "artifacts").glob("[0-9a-f]*")}
    traces = _read_traces(folder)
    left, removed = sum(sizes.values()), []
    for name in _order_by_use(set(sizes) - _list_needed(folder), traces):
        if left <= keep_bytes:
            break
        for path in (path for path, outputs in traces.items() if name in outputs):
            remove(path)
        remove(folder / "artifacts" / name)
        left -= sizes[name]
        removed.append(sizes[name])
    _remove_pages(folder)
    return RemovedResults(len(removed), sum(removed), left)


def _remove_pages(folder: Path) -> None:
    """Remove the files that display removed results."""
    left = {name_pages(path.name) for path in (folder / "artifacts").glob("[0-9a-f]*")}
    for node in (folder / "shown").glob("*"):
        for pages in node.glob("[0-9a-f]*") if is_folder(node) else ():
            if pages.name not in left:
                remove(pages)


def _list_needed(folder: Path) -> set[str]:
    records = (read_record(path) for path in (folder / "nodes").glob("*.json"))
    return {
        digest.removeprefix("sha256:")
        for record in records
        if record is not None
        for digest in record.get("outputs", {}).values()
    }


def _order_by_use(names: set[str], traces: dict[Path, set[str]]) -> list[str]:
    """Return artifacts, the least recently used first, by the times of their traces."""
    used = dict.fromkeys(names, 0)
    for path, outputs in traces.items():
        for name in outputs & names:
            used[name] = max(used[name], path.lstat().st_mtime_ns)
    return sorted(used, key=lambda name: (used[name], name))


def _read_traces(folder: Path) -> dict[Path, set[str]]:
    paths = (folder / "traces").glob("*.json")
    return {path: outputs for path in paths if (outputs := _read_trace_outputs(path)) is not None}


def _read_trace_outputs(path: Path) -> set[str] | None:
    """Return the names of the artifacts in a trace; None if it is damaged or has another format."""
    try:
        content = json.loads(read_bytes(path))
        if not has_state_format(content[FORMAT_KEY]):
            return None
        outputs = content["outputs"]
        return {digest.removeprefix("sha256:") for digest in outputs.values()}
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
        return None
