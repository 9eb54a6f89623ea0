"""Permission not to hash: what stat() said of a file when its digest was taken.

Times may only save work: a file whose size, times and inode are the recorded ones keeps its digest, any
other is read again. ctime is among them, since tar, rsync and some editors set mtime back.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from fftasks.record import digest_file

_RACY_NS = 50_000_000
_Stat = tuple[int, int, int, int]


class Signatures:
    """Digests of files by their stat signature, kept in an append-only file.

    Lines are appended whole, so that several processes may do it; the last one for a path holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[_Stat, str]] = {}
        self._read()

    def digest(self, file: Path) -> str:
        """Return the file's digest; read the file only if its signature is not the recorded one.

        Raises OSError if there is no such file.
        """
        signature = _sign(file.stat())
        known = self._known.get(str(file))
        if known and known[0] == signature:
            return known[1]
        digest = digest_file(file)
        # written a moment ago: it can change once more without a difference that stat() would show
        if time.time_ns() - signature[2] > _RACY_NS:
            self._append(str(file), signature, digest)
        return digest

    def note(self, file: Path, digest: str) -> None:
        """Record a digest that was taken while the file was written."""
        self._append(str(file), _sign(file.stat()), digest)

    def _read(self) -> None:
        try:
            lines = self._path.read_text("utf-8", "surrogateescape").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            fields = line.split(" ", 5)
            if len(fields) == 6 and all(field.isdigit() for field in fields[1:5]):  # noqa: PLR2004
                size, modified, changed, inode = map(int, fields[1:5])
                self._known[fields[5]] = (size, modified, changed, inode), fields[0]
        if len(lines) > 2 * len(self._known) + 1000:
            self._path.unlink(missing_ok=True)
            self._write(self._known)

    def _append(self, path: str, signature: _Stat, digest: str) -> None:
        self._known[path] = signature, digest
        if "\n" not in path:
            self._write({path: (signature, digest)})

    def _write(self, entries: dict[str, tuple[_Stat, str]]) -> None:
        lines = (
            f"{digest} {' '.join(map(str, sign))} {path}\n"
            for path, (sign, digest) in entries.items()
        )
        data = "".join(lines).encode("utf-8", "surrogateescape")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


def _sign(stat: os.stat_result) -> _Stat:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
