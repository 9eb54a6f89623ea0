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

Have what was written put on the disk, in the background: a power cut shall cost no more than seconds.

What was not there yet is found by its digest; so nothing waits for the disk, which takes 25 ms each time.

Remove results that nobody needs: the least recently used first, until what is left is small enough.
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
    PATH_KEY,
    Record,
    digest_bytes,
    format_record,
    name_state_file,
    read_record,
    read_state_file,
    write_atomically,
    write_state_file,
)
from fftasks.runner.artifact import digest_artifact
from fftasks.runner.display_files import NAMES
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
    def _signatures(self) -> StatCache:
        path = self.folder / "artifacts.signatures"
        return StatCache(path, digest_artifact, stat=os.lstat)

    @cached_property
    def _records(self) -> StatCache:
        return StatCache(self.folder / "nodes.signatures", stat=os.lstat)

    def artifact_path(self, digest: str) -> Path:
        """Return where the artifact with a digest is, if it is."""
        return Path(self.artifact_path_text(digest))

    def artifact_path_text(self, digest: str) -> str:
        """Return the same as text: paths cost more than a trivial node can bear."""
        return f"{self._root}/artifacts/{name_digest(digest)}"

    def node_path(self, slug: str) -> Path:
        """Return where a node's record is."""
        return Path(self.node_path_text(slug))

    def node_path_text(self, slug: str) -> str:
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
        record = read_state_file(folder / _PAGES_RECORD) or {}
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
        write_state_file(target / _PAGES_RECORD, content)

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

    def look_up_outputs(self, slug: str, fingerprint: str) -> dict[str, str] | None:
        """Return what a node's record gives for a fingerprint, {} if there is none.

        None if the record must be read to know.
        """
        try:
            known = self._records.look_up(self.node_path_text(slug))
        except FileNotFoundError:
            return {}
        noted, outputs = _parse_outputs(known or "")
        return outputs if noted == fingerprint else None

    def look_up_last_outputs(self, path: str) -> dict[str, str] | None:
        """Return what the record of a node at a path gives; None if it must be read.

        Raises OSError if there is no such file.
        """
        known = self._records.look_up(path)
        return _parse_outputs(known)[1] if known else None

    def note_outputs(
        self, slug: str, fingerprint: str, outputs: Mapping[str, str], stat: os.stat_result
    ) -> None:
        """Note what a node's record gives; stat: what stat() said of the file before it was read."""
        self._records.note(self.node_path_text(slug), _format_outputs(fingerprint, outputs), stat)

    def write_node(self, slug: str, fingerprint: str, record: Record) -> None:
        """Put a node's record on disk, and note what it gives."""
        path = self.node_path_text(slug)
        inode = write_atomically(path, format_record({**record, PATH_KEY: name_state_file(path)}))
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
        write_atomically(self._trace_path(fingerprint), json.dumps(content) + "\n")

    def touch_trace(self, fingerprint: str) -> None:
        """Note that a trace has been used now; the least recently used results go first."""
        os.utime(self._trace_path(fingerprint))

    def read_code(self, digest: str) -> dict[str, str] | None:
        """Return the pieces of a node's code, if a node ran with it."""
        try:
            pieces = (read_state_file(self._code_path(digest)) or {}).get("pieces")
        except FileNotFoundError:
            return None
        return pieces if isinstance(pieces, dict) else None

    def write_code(self, digest: str, pieces: Mapping[str, str]) -> None:
        """Keep the pieces of a node's code, so that a change of it can be explained."""
        path = self._code_path(digest)
        if digest not in self._kept_codes and self.read_code(digest) is None:
            write_state_file(path, {"pieces": dict(pieces)})
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

    def list_only_written(self) -> set[str]:
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


_PAUSE_S = 5.0


class DiskFlusher:
    """Starts `sync` for the file system of a folder, now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._next = time.monotonic() + _PAUSE_S
        self._has_news = False

    def note(self) -> None:
        """Note that something was written; start, if it is time to."""
        self._has_news = True
        if time.monotonic() > self._next:
            self.start()

    def start(self) -> None:
        """Start, if there is anything new, and the last one has ended; do not wait."""
        if not self._has_news or (self._process is not None and self._process.poll() is None):
            return
        with suppress(OSError):  # there is no such program: the system writes within half a minute
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
    """What was removed, and what is left: artifacts, and their size in bytes."""

    count: int
    size_bytes: int
    left_bytes: int

    def __str__(self) -> str:
        return (
            f"removed {self.count} results, {self.size_bytes:,} bytes; "
            f"{self.left_bytes:,} bytes are left"
        )


def remove_unused(folder: Path, keep_bytes: int) -> RemovedResults:
    """Remove artifacts until at most keep_bytes are left; what a node's record needs always stays.

    folder: `.fftasks`. Their traces go first, so that none ever names a result that is gone.
    Raises StoreError if there is no such folder.
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
    """Remove what is shown of results that are gone."""
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
    """Return the artifacts, the least recently used first; a trace is touched when it is used."""
    used = dict.fromkeys(names, 0)
    for path, outputs in traces.items():
        for name in outputs & names:
            used[name] = max(used[name], path.lstat().st_mtime_ns)
    return sorted(used, key=lambda name: (used[name], name))


def _read_traces(folder: Path) -> dict[Path, set[str]]:
    paths = (folder / "traces").glob("*.json")
    return {path: outputs for path in paths if (outputs := _read_trace_outputs(path)) is not None}


def _read_trace_outputs(path: Path) -> set[str] | None:
    """Return the names of the artifacts in a trace; None if it is damaged."""
    try:
        outputs = json.loads(read_bytes(path))["outputs"]
        return {digest.removeprefix("sha256:") for digest in outputs.values()}
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
        return None
