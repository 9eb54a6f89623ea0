"""Extract an archive that a container gave: only files and folders, below one folder, each written by us.

The extraction of Python's tarfile is not used: its filters are missing in older patch releases of Python 3.10
and 3.11, and each of them lets through something that no output of a task is.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from fftasks.errors import ToolError
from fftasks.paths import split_path

_STEP = 1 << 20
# bytes of a member: tarfile steps over what is claimed, also behind the end of the file
_LARGEST = 1 << 40
_DAMAGES = (tarfile.TarError, zlib.error, EOFError, OverflowError, ValueError)


class _Pieces:
    """Pieces of bytes as a file that is read from the beginning to the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def extract(pieces: Iterable[bytes], folder: Path, top: str) -> None:
    """Write the members of an uncompressed tar archive below a folder.

    Args:
        pieces: The content of the archive.
        folder: An existing folder; a file that is there already is never replaced.
        top: The name of the one folder below which all members are.

    Raises:
        ToolError: The archive is damaged, or a member is neither a file nor a folder, leads out of the top
            folder, or is there twice. What was written before stays.
    """
    written: dict[tuple[str, ...], Path] = {}
    source: Any = _Pieces(pieces)
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_STEP) as archive:
            for member in archive:
                _write_safely(archive, member, folder, top, written)
    except _DAMAGES as error:
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
    except _DAMAGES as error:
        raise ValueError(str(error)) from error


def split_member(name: str) -> tuple[str, ...]:
    """Return the parts of the name of a member of an archive, or of a hard link in it.

    Raises:
        ValueError: The name could lead out of the folder that the archive is extracted to; see split_path.
    """
    return split_path(name.removeprefix("./").removesuffix("/"))


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
        reason = "it is there twice" if isinstance(error, OSError) else str(error)
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
    if member.islnk():  # an engine gives a file of two names only once
        source = written.get(split_member(member.linkname))
        if source is None:
            raise ValueError(
                f"it is a hard link to {member.linkname!r}, which is no file before it"
            )
        path.open("xb").close()
        shutil.copyfile(source, path)
    elif member.isreg() and not member.issparse():
        content = archive.extractfile(member)
        with path.open("xb") as file:
            if content is not None:
                shutil.copyfileobj(content, file, _STEP)
            if file.tell() != member.size:
                raise ValueError("it is shorter than the archive says")
    else:
        raise ValueError("it is neither a file nor a folder")
    written[names] = path
