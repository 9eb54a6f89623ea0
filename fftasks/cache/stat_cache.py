"""Remember facts about files, mostly digests, together with the result of stat() at the time of reading.

A file whose size, times and inode did not change keeps its digest; any other file is read again. Times only
save work and never decide that two files are equal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from fftasks.records import STATE_FORMAT, digest_file
from fftasks.state_folder import LARGEST_BYTES, need_folder, open_in_place, open_regular, remove

# Clocks of file systems tick every 1 to 10 ms on Linux; the margin leaves room for a loaded machine.
RACY_MARGIN_NS = 100_000_000
# Some file systems store whole seconds, FAT even two.
_COARSE_MARGIN_NS = 2_100_000_000


def format_signature(stat: os.stat_result) -> str:
    """Return the size, the times and the inode of a file as one text to compare.

    ctime is included because tar, rsync and some editors set mtime back. The text begins with STATE_FORMAT,
    so that facts which another version has noted match no file.
    """
    return f"{STATE_FORMAT} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def find_settling_time(stat: os.stat_result) -> int:
    """Return the time from which on every change of a file shows in its signature.

    A file that was written a moment ago can change again within one tick of the file system's clock, without
    a difference in its signature (the "racy timestamp" problem of git and of build tools).

    Args:
        stat: The result of stat() from before the file was read.

    Returns:
        Nanoseconds since the epoch: the last change plus RACY_MARGIN_NS, or plus 2.1 s if the file system
        counts whole seconds.
    """
    is_coarse = stat.st_ctime_ns % 1_000_000_000 == 0
    margin_ns = _COARSE_MARGIN_NS if is_coarse else RACY_MARGIN_NS
    return max(stat.st_mtime_ns, stat.st_ctime_ns) + margin_ns


def is_settled(stat: os.stat_result) -> bool:
    """Return whether a signature may be trusted from now on; see find_settling_time."""
    return time.time_ns() > find_settling_time(stat)


class StatCache:
    r"""Facts about files by their signature, in an append-only text file.

    A line is "<path>\t<fact> <signature>"; the last line of a path counts. Each line is appended with one
    system call, so that several processes can share the file. An incomplete line matches no signature.
    """

    def __init__(
        self,
        path: Path,
        find_digest: Callable[[Path], str] = digest_file,
        *,
        stat: Callable[[Path | str], os.stat_result] = os.stat,
    ) -> None:
        """Read the cache.

        Args:
            path: File of the cache. It is created with the first fact.
            find_digest: Function that computes the digest of a file.
            stat: os.stat, or os.lstat for files of the state folder, where links are not followed.
        """
        self._path = path
        self._stat = stat
        self._find_digest = find_digest
        self._known: dict[str, str] = {}
        self._size_bytes = 0
        self._read_new_lines()
        self._drop_outdated_lines()

    def digest(self, file: Path | str) -> str:
        """Return the digest of a file; read the file only if its signature has changed.

        Raises:
            OSError: The file does not exist or cannot be read.
        """
        known = self.look_up(file)
        if known is not None:
            return known
        stat = self._stat(file)
        digest = self._find_digest(Path(file))
        self.note(file, digest, stat)
        return digest

    def look_up(self, file: Path | str) -> str | None:
        """Return the fact that was noted about a file, or None if there is none for its current signature.

        Raises:
            OSError: The file does not exist.
        """
        path, signature = str(file), f" {format_signature(self._stat(file))}"
        known = self._known.get(path, "")
        if not known.endswith(signature) and self._read_new_lines():
            known = self._known.get(path, "")
        return known[: -len(signature)] if known.endswith(signature) else None

    def note(
        self, file: Path | str, known: str, stat: os.stat_result, *, is_own: bool = False
    ) -> None:
        """Note a fact about a file, unless the file may still change without a new signature.

        Args:
            file: Path of the file.
            known: The fact, without blanks.
            stat: Result of stat() from before the file was read.
            is_own: Whether this process has written the file and every writer replaces it by renaming. Then
                no change can be missed, because a new file has another inode.
        """
        if not is_own and not is_settled(stat):
            return
        path, line = str(file), f"{known} {format_signature(stat)}"
        self._known[path] = line
        if not {"\n", "\t"} & set(path):
            self._append(f"{path}\t{line}\n")

    def _read_new_lines(self) -> bool:
        """Read the lines that other processes have appended; return whether the file has changed."""
        try:
            descriptor = open_regular(self._path)
        except FileNotFoundError:
            return False
        try:
            size_bytes = os.fstat(descriptor).st_size
            if size_bytes == self._size_bytes or size_bytes > LARGEST_BYTES:
                return False
            # A smaller file was replaced by _drop_outdated_lines in another process.
            begin = self._size_bytes if size_bytes > self._size_bytes else 0
            data = os.pread(descriptor, size_bytes - begin, begin)
        finally:
            os.close(descriptor)
        self._size_bytes = begin + len(data)
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        self._known.update(line.split("\t", 1) for line in lines if line.count("\t") == 1)  # type: ignore[misc]
        return True

    def _drop_outdated_lines(self) -> None:
        """Replace the file if more than half of it, and more than 128 KiB, is out of date."""
        lines = [f"{path}\t{line}\n" for path, line in self._known.items()]
        data = "".join(lines)
        if self._size_bytes > 2 * len(data) + (1 << 17):
            remove(self._path)
            self._append(data)

    def _append(self, lines: str) -> None:
        data = lines.encode("utf-8", "surrogateescape")
        need_folder(str(self._path.parent))
        descriptor = open_in_place(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
