"""Extract tar archives from containers safely.

Only regular files and folders below one folder are extracted. The extraction filters of Python's tarfile are
not used: older patch releases of Python 3.10 and 3.11 do not have them, and each filter accepts member types
that task outputs never contain.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from fftasks.errors import ToolError
from fftasks.path_validation import split_untrusted_path

_STEP = 1 << 20
# bytes of a member: tarfile would seek past a claimed size beyond the end of the file
_LARGEST = 1 << 40
_ARCHIVE_ERRORS = (tarfile.TarError, zlib.error, EOFError, OverflowError, ValueError)


class _ChunkReader:
    """A read-only, sequential file object for an iterable of bytes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def extract_archive(pieces: Iterable[bytes], folder: Path, top: str) -> None:
    """Write the members of an uncompressed tar archive below a folder.

    Args:
        pieces: The content of the archive.
        folder: An existing folder. Existing files are never replaced.
        top: Name of the folder that must contain all members.

    Raises:
        ToolError: The archive is damaged, or a member is neither a file nor a folder, is outside of the top
            folder, or occurs twice. Members that were written before are not removed.
    """
    written: dict[tuple[str, ...], Path] = {}
    source: Any = _ChunkReader(pieces)
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_STEP) as archive:
            for member in archive:
                _write_safely(archive, member, folder, top, written)
    except _ARCHIVE_ERRORS as error:
        attempted = "an archive from a container cannot be read"
        raise ToolError(attempted, found=[str(error)]) from error


def list_members(file: IO[bytes]) -> Iterator[str]:
    """Yield the names of the members of a tar archive, compressed or not; nothing is written.

    Raises:
        ValueError: The archive is damaged, or claims a member of more than 1 TiB.
    """
    try:
        with tarfile.open(fileobj=file, mode="r|*", bufsize=_STEP) as archive:
            for member in archive:
                _check_size(member)
                yield member.name
    except _ARCHIVE_ERRORS as error:
        raise ValueError(str(error)) from error


def split_member(name: str) -> tuple[str, ...]:
    """Return the parts of the name of a member of an archive, or of a hard link in it.

    Raises:
        ValueError: The name could lead out of the target folder; see split_untrusted_path.
    """
    return split_untrusted_path(name.removeprefix("./").removesuffix("/"))


def _write_safely(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    folder: Path,
    top: str,
    written: dict[tuple[str, ...], Path],
) -> None:
    try:
        _write(archive, member, folder, top, written)
    except (ValueError, FileExistsError, NotADirectoryError) as error:
        reason = "it occurs twice" if isinstance(error, OSError) else str(error)
        attempted = f"an archive from a container is not extracted: unsafe member {member.name!r}"
        raise ToolError(attempted, found=[reason]) from error


def _check_size(member: tarfile.TarInfo) -> None:
    if not 0 <= member.size <= _LARGEST:
        raise ValueError(f"{member.name!r} claims a size of {member.size} bytes")


def _write(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    folder: Path,
    top: str,
    written: dict[tuple[str, ...], Path],
) -> None:
    _check_size(member)
    names = split_member(member.name)
    path = folder.joinpath(*names)
    if names[0] != top or (len(names) == 1 and not member.isdir()):
        raise ValueError(f"it is not below {top!r}")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.islnk():  # container engines store a hard-linked file once
        source = written.get(split_member(member.linkname))
        if source is None:
            raise ValueError(
                f"it is a hard link to {member.linkname!r}, which is not a file earlier in the archive"
            )
        path.open("xb").close()
        shutil.copyfile(source, path)
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        with path.open("xb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _STEP)
            if file.tell() != member.size:
                raise ValueError("it is shorter than its header claims")
    else:
        raise ValueError("it is neither a file nor a folder")
    written[names] = path
