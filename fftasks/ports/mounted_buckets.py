"""Read artifacts from buckets that are mounted as folders, and reject paths outside and special files.

Anyone with write access to a bucket can put symbolic links, named pipes and devices there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from fftasks.errors import ToolError
from fftasks.ports.artifact_uri import ArtifactURI

# O_PATH needs no permission to list the folder, like any path lookup; macOS does not have it
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
BLOCK = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_TIP = (
    "find out who put it into the bucket, and remove it; to compute the result again, set cache: false for"
    " the node and run `doit submit`"
)
_MOUNT_TIP = "set object_store.mount to the folder in which the buckets themselves are"


class TooLargeError(ToolError):
    """An artifact that is larger than what is wanted of it."""


def explain_size(uri: ArtifactURI, most: int) -> TooLargeError:
    """Return the error for an artifact that is not one file of a limited size."""
    found = f"it is larger than {most // 1_000_000} MB, or a folder"
    return TooLargeError(f"{uri} was not downloaded to be shown", found=[found])


def copy_limited(uri: ArtifactURI, source: IO[bytes], target: IO[bytes], most: int) -> None:
    """Copy a file; raise TooLargeError as soon as it has more than `most` bytes, 0 for any number."""
    size = 0
    while piece := source.read(BLOCK):
        size += len(piece)
        if most and size > most:
            raise explain_size(uri, most)
        target.write(piece)


class MountedBuckets:
    """The folder that contains the mounted buckets.

    The folder itself may be a symbolic link. All files that are read must be below its target.
    """

    def __init__(self, folder: str) -> None:
        """Store the settings. The folder is not read until first use.

        Args:
            folder: The setting object_store.mount.
        """
        self._folder = Path(folder).expanduser()

    def list_names(self, uri: ArtifactURI) -> list[str]:
        """Return the names of the entries of a folder, the newest last; raise as list_files does."""
        found = [(_find_time(path), path.name) for path in self._resolve(uri).iterdir()]
        return [name for _, name in sorted(found)]

    def has(self, uri: ArtifactURI) -> bool:
        """Return whether an artifact exists; raise ToolError if a link leads out of the mounted folder."""
        try:
            self._resolve(uri)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def list_files(self, uri: ArtifactURI) -> list[str]:
        """Return the files of an artifact.

        Returns:
            Their paths relative to the artifact; [""] if the artifact is a file.

        Raises:
            ToolError: A symbolic link leads out of the mounted folder or to a folder, or an entry is neither
                a file nor a folder.
            FileNotFoundError: The artifact does not exist.
        """
        top = self._resolve(uri)
        if not top.is_dir():
            return [""]
        return sorted(self._walk(top))

    def measure(self, uri: ArtifactURI) -> int:
        """Return the size of an artifact that is a file, in bytes."""
        return self._resolve(uri).stat().st_size

    def copy(self, uri: ArtifactURI, name: str, target: Path, most: int = 0) -> None:
        """Copy one of the files that list_files returned to an existing empty file.

        Args:
            uri: The artifact.
            name: The name of the file below it.
            target: The existing file.
            most: Number of bytes that the file may have; 0 for any number.

        Raises:
            TooLargeError: It has more.
        """
        path = self._resolve(uri) / name
        with os.fdopen(self._open(path), "rb") as source, target.open("wb") as file:
            copy_limited(uri, source, file, most)

    def _walk(self, top: Path) -> Iterator[str]:
        folders = [""]
        while folders:
            above = folders.pop()
            with os.scandir(top / above) as entries:
                for entry in entries:
                    name = f"{above}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/")
                    elif self._resolve_path(top / name).is_file():
                        yield name
                    else:
                        problem = f"{entry.path!r} is neither a file nor a folder"
                        raise _refuse(problem)

    def _resolve(self, uri: ArtifactURI) -> Path:
        return self._resolve_path(self._folder.joinpath(uri.bucket, *uri.names))

    def _resolve_path(self, path: Path) -> Path:
        """Return a path without symbolic links; raise ToolError if they lead out of the mounted folder."""
        try:
            root, real = self._folder.resolve(strict=True), path.resolve(strict=True)
        except RuntimeError as error:  # up to Python 3.12, for a link to itself
            raise _refuse(f"{str(path)!r} is a symbolic link to itself") from error
        if not real.is_relative_to(root):
            problem = f"{str(path)!r} leads to {str(real)!r}, outside of {str(root)!r}"
            bucket = self._folder / path.relative_to(self._folder).parts[0]
            is_bucket = not bucket.resolve().is_relative_to(root)
            raise _refuse(problem, _MOUNT_TIP if is_bucket else _TIP)
        return real

    def _open(self, path: Path) -> int:
        """Open a file without following a link, and without blocking if a pipe has replaced it meanwhile."""
        real = self._resolve_path(path)
        root = self._folder.resolve()
        names = real.relative_to(root).parts
        at = os.open(root, _FOLDER)
        for number, name in enumerate(names, 1):
            above = at
            try:
                at = os.open(name, _FILE if number == len(names) else _FOLDER, dir_fd=above)
            finally:
                os.close(above)
        if not stat.S_ISREG(os.fstat(at).st_mode):
            os.close(at)
            raise _refuse(f"{str(path)!r} is not a file")
        return at


def _refuse(problem: str, tip: str = _TIP) -> ToolError:
    return ToolError("object_store.mount: an artifact is not read", found=[problem], tip=tip)


def _find_time(path: Path) -> float:
    """Return when the newest file below a path was written; 0 if the time is not known."""
    inside = () if path.is_symlink() else os.walk(path)
    paths = (Path(folder, name) for folder, _, files in inside for name in (".", *files))
    newest = 0.0
    for one in (path, *paths):
        with suppress(OSError):
            newest = max(newest, one.lstat().st_mtime)
    return newest
