"""Results on disk: artifacts by their digest, and traces, which say what a fingerprint led to.

    artifacts/<64 hex>         a node's result; read-only, written once
    traces/<64 hex>.json       fingerprint -> digests of the results, a preview, seconds
    nodes/<slug>.json          the record of a node's last run
    logs/<slug>.txt            what the node printed; whoever runs it has a lock on it
    codes/<64 hex>.json        what a node's code and data consisted of, for explanations
    *.signatures               what artifacts and records hold, so that they need not be read
    files.seen                 files of the project that nodes were seen to read and to write

All of it can be deleted at any time, and copied to another machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fftasks.record import Record, format_record, put_text, write_text
from fftasks.runtime.artifact import digest_artifact
from fftasks.runtime.show import list_files
from fftasks.store.signature import Signatures


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
        return Signatures(self.folder / "artifacts.signatures", digest_artifact)

    @cached_property
    def _records(self) -> Signatures:
        return Signatures(self.folder / "nodes.signatures")

    def artifact_path(self, digest: str) -> Path:
        """Return where the artifact with a digest is, if it is."""
        return Path(self.spell_artifact(digest))

    def spell_artifact(self, digest: str) -> str:
        """Return the same as text: paths cost more than a trivial node can bear."""
        return f"{self._root}/artifacts/{digest.removeprefix('sha256:')}"

    def node_path(self, slug: str) -> Path:
        """Return where a node's record is."""
        return Path(self.spell_node(slug))

    def spell_node(self, slug: str) -> str:
        """Return the same as text."""
        return f"{self._root}/nodes/{slug}.json"

    def log_path(self, slug: str) -> Path:
        """Return the file that takes what a node prints."""
        return self.folder / "logs" / f"{slug}.txt"

    def has_artifact(self, digest: str) -> bool:
        """Tell whether an artifact is there and has the content that its name says.

        It is read only if its stat signature is not the recorded one; a damaged one is removed.
        """
        path = self.spell_artifact(digest)
        try:
            found = self._signatures.digest(path)
        except FileNotFoundError:
            return False
        if found != digest:
            Path(path).unlink(missing_ok=True)
        return found == digest

    def adopt_artifact(self, path: str, digest: str) -> None:
        """Move a freshly written artifact to its place."""
        target = self.spell_artifact(digest)
        os.chmod(path, 0o444)  # noqa: PTH101
        os.replace(path, target)  # noqa: PTH105
        self._signatures.note(target, digest, os.stat(target), is_own=True)  # noqa: PTH116

    def new_path(self, slug: str, output: str) -> str:
        """Return a name for an artifact that is being written on behalf of this process only."""
        return f"{self._new_artifacts}/.{slug}.{output}.{os.getpid()}"

    def new_log(self, slug: str) -> str:
        """Return the file that takes what a node prints; its folder is there."""
        return f"{self._logs}/{slug}.txt"

    def list_pages(self, slug: str, digest: str) -> list[Path]:
        """Return the files in which a node's result is shown; most have none."""
        return list_files(self.folder / "shown" / slug / name_pages(digest))

    def new_pages(self, slug: str) -> str:
        """Return a name for a folder that is being written, by this process only."""
        return f"{self._root}/shown/{slug}/.{os.getpid()}"

    def adopt_pages(self, slug: str, digest: str) -> None:
        """Move what a run has written to be shown to its place, instead of what was there."""
        new = Path(self.new_pages(slug))
        target = new.with_name(name_pages(digest))
        if target.exists():
            shutil.rmtree(target)
        new.replace(target)

    def drop_pages(self, slug: str) -> None:
        """Remove what a run has written to be shown and nobody took."""
        shutil.rmtree(self.new_pages(slug), ignore_errors=True)

    @cached_property
    def _new_artifacts(self) -> Path:
        folder = _need(self.folder / "artifacts")
        remove_leftovers(folder)
        return folder

    @cached_property
    def _logs(self) -> Path:
        return _need(self.folder / "logs")

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
        inode = put_text(path, format_record(record))
        stat = os.stat(path)  # noqa: PTH116
        if stat.st_ino == inode:  # else another run has just put its own there
            known = _format_outputs(fingerprint, record["outputs"])
            self._records.note(path, known, stat, is_own=True)

    def read_trace(self, fingerprint: str) -> Trace | None:
        """Return what is known of a fingerprint, if all of its artifacts are there and whole."""
        try:
            with open(self._trace_path(fingerprint), "rb", buffering=0) as file:  # noqa: PTH123
                trace = Trace(**json.loads(file.read()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return (
            trace if all(self.has_artifact(digest) for digest in trace.outputs.values()) else None
        )

    def write_trace(self, fingerprint: str, trace: Trace) -> None:
        """Record what came of a fingerprint."""
        content: dict[str, Any] = {
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
            pieces = json.loads(self._code_path(digest).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return pieces if isinstance(pieces, dict) else None

    def write_code(self, digest: str, pieces: Mapping[str, str]) -> None:
        """Keep the pieces of a node's code, so that a change of it can be explained."""
        path = self._code_path(digest)
        if digest not in self._kept_codes and not path.exists():
            write_text(path, json.dumps(dict(pieces), indent=1, sort_keys=True) + "\n")
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
            with (_need(self.folder) / "files.seen").open("ab", buffering=0) as file:
                file.write(data)

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
        descriptor = os.open(self.new_log(slug), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _read_seen(self) -> set[str]:
        try:
            text = (self.folder / "files.seen").read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return set()
        return {line for line in text.splitlines() if line.startswith(("r ", "w "))}

    def _code_path(self, digest: str) -> Path:
        return self.folder / "codes" / f"{digest.removeprefix('sha256:')}.json"

    def _trace_path(self, fingerprint: str) -> str:
        return f"{self._root}/traces/{fingerprint.removeprefix('sha256:')}.json"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed."""
    for path in folder.glob(".*.*[0-9]"):
        pid = path.suffix.removeprefix(".")
        if pid.isdigit() and not is_alive(int(pid)):
            path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Tell whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _format_outputs(fingerprint: str, outputs: Mapping[str, str]) -> str:
    return ",".join([fingerprint, *(f"{name}={digest}" for name, digest in outputs.items())])


def _parse_outputs(known: str) -> tuple[str, dict[str, str]]:
    fingerprint, *outputs = known.split(",")
    return fingerprint, dict(one.split("=", 1) for one in outputs)


def _need(folder: Path) -> Path:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
    return folder
