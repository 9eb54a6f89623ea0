"""Permission not to look: what stat() said of a file when its digest was taken.

Times may only save work: a file whose size, times and inode are the recorded ones keeps its digest, any
other is read again. ctime is among them, since tar, rsync and some editors set mtime back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from fftasks.records import digest_file
from fftasks.state_folder import LARGEST_BYTES, need_folder, open_in_place, open_regular, remove

_TOO_RECENT_NS = 50_000_000


class StatCache:
    r"""What is known of files by their stat signature, kept in an append-only file; mostly digests.

    A line is "<path>\t<what is known> <signature>"; the last one for a path holds. Lines are appended
    whole, so that several processes may do it; a line that is not whole fits no file's signature.
    """

    def __init__(
        self,
        path: Path,
        find_digest: Callable[[Path], str] = digest_file,
        *,
        stat: Callable[[Path | str], os.stat_result] = os.stat,
    ) -> None:
        self._path = path
        self._stat = (
            stat  # os.lstat for files of the state folder, because links in it are not followed
        )
        self._find_digest = find_digest
        self._known: dict[str, str] = {}
        self._size_bytes = 0
        self._refresh()
        self._tidy()

    def digest(self, file: Path | str) -> str:
        """Return the file's digest; read the file only if its signature is not the recorded one.

        Raises OSError if there is no such file.
        """
        known = self.look_up(file)
        if known is not None:
            return known
        stat = self._stat(file)
        digest = self._find_digest(Path(file))
        self.note(file, digest, stat)
        return digest

    def look_up(self, file: Path | str) -> str | None:
        """Return what was noted of a file, if its signature is the same; None if it is not.

        Raises OSError if there is no such file.
        """
        path, signature = str(file), _sign(self._stat(file))
        known = self._known.get(path, "")
        if not known.endswith(signature) and self._refresh():  # another process may know
            known = self._known.get(path, "")
        return known[: -len(signature)] if known.endswith(signature) else None

    def note(
        self, file: Path | str, known: str, stat: os.stat_result, *, is_own: bool = False
    ) -> None:
        """Record what is known of a file; known must have no blank in it.

        stat: what stat() said of it before it was read
        is_own: this process has written it, and nobody else writes it in place
        """
        # written a moment ago: it can change once more without a difference that stat() would show
        if not is_own and time.time_ns() - stat.st_mtime_ns < _TOO_RECENT_NS:
            return
        path, line = str(file), f"{known}{_sign(stat)}"
        self._known[path] = line
        if not {"\n", "\t"} & set(path):
            self._append(f"{path}\t{line}\n")

    def _refresh(self) -> bool:
        """Read what was appended since; return whether there was anything."""
        try:
            descriptor = open_regular(self._path)
        except FileNotFoundError:
            return False
        try:
            size_bytes = os.fstat(descriptor).st_size
            if size_bytes == self._size_bytes or size_bytes > LARGEST_BYTES:
                return False
            # it may have been tidied up, and begun anew
            begin = self._size_bytes if size_bytes > self._size_bytes else 0
            data = os.pread(descriptor, size_bytes - begin, begin)
        finally:
            os.close(descriptor)
        self._size_bytes = begin + len(data)
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        self._known.update(line.split("\t", 1) for line in lines if line.count("\t") == 1)  # type: ignore[misc]
        return True

    def _tidy(self) -> None:
        """Write the file anew if most of it is out of date."""
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


def _sign(stat: os.stat_result) -> str:
    return f" {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
