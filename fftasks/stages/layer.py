"""A layer of an image as a tar archive: the same files always give the same bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fftasks.errors import StoreError
from fftasks.stages.listing import list_parents

# 1980-01-01: zip archives, and so wheels, cannot say anything earlier
TIME = 315_532_800


@dataclass(frozen=True)
class Entry:
    """A file, a link or a folder in an image.

    path: where, in the folder that the layer fills; content: the bytes, or the file that holds them
    size: of a file, in bytes; digest: what its content must turn out to have; to: what a link points to
    Neither content nor `to`: a folder.
    """

    path: str
    content: bytes | Path | None = None
    size: int = 0
    digest: str = ""
    executable: bool = False
    to: str = ""


def make_entry(path: str, content: bytes) -> Entry:
    """Return the entry of a file that is in memory."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Entry(path, content, len(content), digest)


def write_layer(
    entries: Iterable[Entry], out: IO[bytes], *, root: str, beside: Iterable[str] = ()
) -> None:
    """Write entries as a tar archive of what is in the folder `root` of the image.

    beside: other folders of the image that must be there. All folders above a file are in it too:
    else they would be there with the time of day. Ordered by path; owners, times and modes are
    fixed. Raises StoreError if a file is not what its entry says.
    """
    rows = {f"{root}/{entry.path}": entry for entry in entries}
    for path in (root, *beside, *list_parents([f"{root}/", *rows])):
        rows.setdefault(path, Entry(path))
    # GNU's format carries any bytes in a name, and has no field that would depend on the machine
    with tarfile.open(
        fileobj=out,
        mode="w",
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        for path, entry in sorted(rows.items()):
            _add(archive, path, entry)


def _add(archive: tarfile.TarFile, path: str, entry: Entry) -> None:
    info = tarfile.TarInfo(path)
    info.mtime = TIME
    info.mode = 0o755 if entry.executable or entry.content is None else 0o644
    if entry.to:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.to, 0o777
    elif entry.content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = entry.size
        _add_file(archive, info, entry, entry.content)
        return
    archive.addfile(info)


def _add_file(
    archive: tarfile.TarFile, info: tarfile.TarInfo, entry: Entry, content: bytes | Path
) -> None:
    with ExitStack() as stack:
        try:
            plain: IO[bytes] = (
                io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            )
            file = _Hashing(stack.enter_context(plain))
            archive.addfile(info, file)
            whole = not plain.read(1) and file.digest == entry.digest
        except FileNotFoundError:
            whole = False
        except OSError:
            # tarfile says so of a file that is shorter than it was; anything else is the disk
            if not isinstance(content, Path) or content.stat().st_size >= entry.size:
                raise
            whole = False
    if not whole:
        raise StoreError(
            f"image: the copy of {entry.path!r} is not what the record of the context says",
            tip="run `doit context` again",
        )


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hasher = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hasher.update(data)
        return data
