"""Keep a copy of a folder up to date, and read only files that changed.

A file is not read again if the result of stat(), taken before it was read, is unchanged. These signatures are
stored for the source and for the copy. They only save work: digests decide.
"""

from __future__ import annotations

import functools
import hashlib
import marshal
import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.cache.stat_cache import find_settling_time, format_signature, is_settled
from fftasks.config.ignore import ContextFiles, list_parents, make_read_error
from fftasks.records import digest_bytes, read_state_file, write_if_changed, write_state_file
from fftasks.secrets.scanner import SCANNER_DIGEST as RULES_DIGEST
from fftasks.secrets.scanner import FileScanner, SecretFinding
from fftasks.state_folder import make_folder, move, open_new, read_text, remove

_PIECE_BYTES = 1 << 20

FileRow = list[Any]  # [path, size, sha256, executable], as in the record


class FileChangedError(Exception):
    """A file changed while it was read or copied; the message is its path."""


@dataclass
class _KnownFile:
    digest: str
    source: str  # signatures of source and copy; "" if there is none, or it is not reliable yet
    copy: str = ""
    findings: list[list[Any]] = field(default_factory=list)  # [[line, rule], ...]


class FolderSync:
    """The copies of a source folder's files in a target folder."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source.resolve()
        self._target = target
        self._signatures_file = target.with_name(f"{target.name}.signatures")
        self._stamp = target.with_name(f"{target.name}.stamp")
        self._has_new_signatures = False

    @functools.cached_property
    def _known(self) -> dict[str, _KnownFile]:
        return _read_signatures(self._signatures_file)

    def is_unchanged(self, listing: ContextFiles, inputs: str) -> bool:
        """Return whether all signatures are those of the last call of mark_unchanged().

        Args:
            listing: The files of the source.
            inputs: Digest of all other inputs of the copy.
        """
        try:
            return read_text(self._stamp) == self._sign_all(listing, inputs)
        except OSError:
            return False

    def mark_unchanged(self, listing: ContextFiles, inputs: str) -> None:
        """Record the signatures of a complete copy, unless a file is so new that it may change unseen."""
        settled = max((find_settling_time(found) for found in listing.files.values()), default=0)
        if time.time_ns() > settled:
            with suppress(OSError):  # the file only saves work
                write_if_changed(self._stamp, self._sign_all(listing, inputs))

    def measure(self, listing: ContextFiles) -> list[FileRow]:
        """Return a row for each listed file; files with a new signature are read, and scanned for secrets.

        Raises:
            FileChangedError: A file was removed.
            ContextError: A file cannot be read.
        """
        return [self._measure_file(path, found) for path, found in listing.files.items()]

    def find_secrets(self, rows: list[FileRow]) -> dict[str, list[SecretFinding]]:
        """Return the secrets that were found in measured files, by path."""
        known = ((path, self._known[path].findings) for path, *_ in rows)
        return {
            path: [SecretFinding(*one) for one in findings] for path, findings in known if findings
        }

    def find_outdated(self, rows: list[FileRow], listing: ContextFiles) -> list[str]:
        """Return the paths that are missing or different in the copy."""
        wrong = [path for path, _, _, executable in rows if not self._is_copied(path, executable)]
        wrong += [path for path, to in listing.links.items() if not _points(self._at(path), to)]
        return wrong + [path for path in listing.folders if not _is_folder(self._at(path))]

    def update(self, listing: ContextFiles, rows: list[FileRow]) -> None:
        """Update the copy.

        Args:
            listing: The files of the source.
            rows: The result of measure().

        Raises:
            ContextError: A file cannot be read.
            FileChangedError: A file changed after it was measured.
            OSError: The copy cannot be written.
        """
        make_folder(self._target)
        # first, because a file must not be written through an old link
        self._prune("", listing, list_parents([*listing.files, *listing.links, *listing.folders]))
        for row in rows:
            if not self._is_copied(row[0], row[3]):
                self._copy_file(row[0], row)
        for path, to in listing.links.items():
            if not _points(self._at(path), to):
                _make_parent(self._at(path))
                os.symlink(to, self._at(path))  # noqa: PTH211
        for path in listing.folders:
            Path(self._at(path)).mkdir(parents=True, exist_ok=True)

    def save_signatures(self, rows: list[FileRow]) -> None:
        """Store the signatures, digests and secrets of these files."""
        if self._has_new_signatures:
            kept = {path: self._known[path] for path, *_ in rows}
            files = {
                path: [one.digest, one.source, one.copy, one.findings] for path, one in kept.items()
            }
            value = {"rules": RULES_DIGEST, "files": files}
            write_state_file(self._signatures_file, value)

    def _at(self, path: str) -> str:
        return f"{self._target}/{path}"

    def _measure_file(self, path: str, found: os.stat_result) -> FileRow:
        signature = format_signature(found)
        known = self._known.get(path)
        if known is None or known.source != signature:
            digest, findings = self._read(path)
            copy = known.copy if known is not None and known.digest == digest else ""
            settled = signature if is_settled(found) else ""
            known = _KnownFile(digest, settled, copy, findings)
            self._known[path] = known
            self._has_new_signatures = True
        return [path, found.st_size, known.digest, bool(found.st_mode & stat.S_IXUSR)]

    def _read(self, path: str) -> tuple[str, list[list[Any]]]:
        try:
            digest, findings = scan_file(self._source / path, path)
        except FileNotFoundError:
            raise FileChangedError(path) from None
        except OSError as exc:
            raise make_read_error(path, exc) from exc
        return digest, [[one.line, one.rule] for one in findings]

    def _sign_all(self, listing: ContextFiles, inputs: str) -> str:
        """Return a digest of all signatures; raise OSError if a copy is missing."""
        at, lstat = f"{self._target}/", os.lstat
        signed = [
            (path, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
            for path, found in listing.files.items()
            for one in (found, lstat(at + path))
        ]
        links = [[path, to, os.readlink(at + path)] for path, to in listing.links.items()]  # noqa: PTH115
        folders = [[path, stat.S_IFMT(lstat(at + path).st_mode)] for path in listing.folders]
        # marshal is fast for the numbers of thousands of files; the output of version 0 is stable
        return digest_bytes(marshal.dumps([inputs, links, folders, signed], 0))

    def _is_copied(self, path: str, executable: bool) -> bool:  # noqa: FBT001
        try:
            found = os.lstat(self._at(path))
        except OSError:
            return False
        return (
            self._known[path].copy == format_signature(found)
            and bool(found.st_mode & stat.S_IXUSR) == executable
        )

    def _copy_file(self, path: str, row: FileRow) -> None:
        target, temporary = self._at(path), f"{self._target}.{os.getpid()}"
        try:
            if _copy(self._source / path, temporary, path) != (row[1], row[2]):
                raise FileChangedError(path)
            os.chmod(temporary, 0o755 if row[3] else 0o644)  # noqa: PTH101
            _make_parent(target)
            move(temporary, target)
        finally:
            remove(temporary)
        self._known[path].copy = format_signature(os.lstat(target))
        self._has_new_signatures = True

    def _prune(self, folder: str, listing: ContextFiles, parents: set[str]) -> None:
        with os.scandir(self._at(folder)) as entries:
            found = list(entries)
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if path in parents:
                    self._prune(path, listing, parents)
                elif path not in listing.folders or os.listdir(entry.path):  # noqa: PTH208
                    shutil.rmtree(entry.path)
            elif entry.is_symlink():
                if not _points(entry.path, listing.links.get(path, "")):
                    os.unlink(entry.path)  # noqa: PTH108
            elif path not in listing.files:
                os.unlink(entry.path)  # noqa: PTH108


def scan_file(file: Path, path: str) -> tuple[str, list[SecretFinding]]:
    """Read a file once; return its digest and the secrets in it.

    Args:
        file: The file.
        path: Its path in the project, which determines the rules.

    Raises:
        OSError: The file cannot be read.
    """
    hasher, search = hashlib.sha256(), FileScanner(path)
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            hasher.update(piece)
            search.feed(piece, is_last=len(piece) < _PIECE_BYTES)
    search.feed(b"", is_last=True)
    return f"sha256:{hasher.hexdigest()}", search.list_findings()


def _read_signatures(path: Path) -> dict[str, _KnownFile]:
    try:
        memory = read_state_file(path)
        if memory is None or memory["rules"] != RULES_DIGEST:
            return {}
        return {name: _KnownFile(*fields) for name, fields in memory["files"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}  # the file only saves work


def _copy(source: Path, target: str, path: str) -> tuple[int, str]:
    """Write a copy and return its size and digest."""
    try:
        file = source.open("rb")
    except FileNotFoundError:
        raise FileChangedError(path) from None
    except OSError as exc:
        raise make_read_error(path, exc) from exc
    hasher = hashlib.sha256()
    with file, open(open_new(target), "wb") as copy:  # noqa: PTH123
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
            copy.write(piece)
        return copy.tell(), f"sha256:{hasher.hexdigest()}"


def _points(link: str, to: str) -> bool:
    try:
        return os.readlink(link) == to  # noqa: PTH115
    except OSError:
        return False


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _make_parent(path: str) -> None:
    parent = path.rpartition("/")[0]
    if not os.path.isdir(parent):  # noqa: PTH112
        os.makedirs(parent)  # noqa: PTH103
