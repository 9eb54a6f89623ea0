"""Open, write and remove files of the state folder: regular files in real folders, and nothing else.

A symbolic link, a FIFO, a socket, a device or a folder may stand where a state file belongs. It is never
opened for its content and never followed: a reader sees no file, and a writer replaces it. `.fftasks` itself
may be a symbolic link to a larger disk; a folder inside it may not, because what is written there would
leave the state folder.
"""

from __future__ import annotations

import errno
import os
import stat

from fftasks.errors import StoreError

STATE_FOLDER = ".fftasks"
# O_NONBLOCK: opening a FIFO would wait for a process at its other end
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK
_UNUSABLE = frozenset(
    {
        errno.EACCES, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENODEV, errno.ENOTDIR,
        errno.ENXIO, errno.EOPNOTSUPP, errno.EPERM,
    }
)  # fmt: skip
# the folders of the state folder
_FOLDERS = frozenset(
    {
        "artifacts", "closures", "cluster", "codes", "components", "context", "graph", "groups", "layers",
        "logs", "nodes", "pins", "pipeline", "replay", "runs", "shown", "submit", "tasks", "traces",
    }
)  # fmt: skip
_PIECE_BYTES = 1 << 16
# A larger state file is treated as absent. The graph of 100,000 nodes has a few hundred megabytes.
LARGEST_BYTES = 1 << 30
_TRIES = 3

_Path = str | os.PathLike[str]
_checked: set[str] = set()


def open_regular(path: _Path) -> int:
    """Open a regular file for reading.

    Returns:
        Its descriptor.

    Raises:
        FileNotFoundError: if there is no file, or something else than a readable regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _SAFELY)
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise _make_absent(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _make_absent(path)
    return descriptor


def read_bytes(path: _Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: as open_regular does, and if the file is larger than LARGEST_BYTES; a sparse file
            of any size takes no space on the disk.
    """
    descriptor = open_regular(path)
    try:
        content = piece = os.read(descriptor, _PIECE_BYTES)
        pieces = [content]
        if len(piece) == _PIECE_BYTES and os.fstat(descriptor).st_size > LARGEST_BYTES:
            raise _make_absent(path)
        while len(piece) == _PIECE_BYTES:
            piece = os.read(descriptor, _PIECE_BYTES)
            pieces.append(piece)
    finally:
        os.close(descriptor)
    return content if len(pieces) == 1 else b"".join(pieces)


def read_text(path: _Path, errors: str = "replace") -> str:
    """Return the content of a regular file as text; raise FileNotFoundError as open_regular does."""
    return read_bytes(path).decode("utf-8", errors)


def is_regular(path: _Path) -> bool:
    """Tell whether a path is a regular file itself, without following a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: _Path) -> bool:
    """Tell whether a path is a folder itself, without following a link."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def open_in_place(path: _Path, flags: int) -> int:
    """Open a file to append to it, to lock it or to write it anew; make it if needed.

    Anything but a regular file is replaced by an empty one. So is a file with a second name (a hard link):
    a copy of the project that was made of hard links must not change with it.

    Args:
        path: The file. Its folder is made if it is missing.
        flags: Flags of os.open() such as O_WRONLY | O_APPEND; never O_TRUNC, which would already empty a
            file that has to be left alone. Use os.ftruncate().

    Returns:
        A descriptor.

    Raises:
        OSError: if the file cannot be opened or replaced.
    """
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, flags | os.O_CREAT | _SAFELY, 0o666)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                make_folder(os.path.dirname(path))  # noqa: PTH120
                continue
            if error.errno not in _UNUSABLE:
                raise
        else:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
                return descriptor
            os.close(descriptor)
        remove(path)
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | _SAFELY, 0o666)


def open_empty(path: _Path) -> int:
    """Open a file in place to write it anew; see open_in_place."""
    descriptor = open_in_place(path, os.O_WRONLY | os.O_APPEND)
    os.ftruncate(descriptor, 0)
    return descriptor


def open_new(path: _Path) -> int:
    """Make a file with a temporary name and open it for writing.

    Whatever has this name is removed first: a process with the same number was killed, or the name was
    guessed.

    Raises:
        OSError: if the file cannot be made; FileNotFoundError if its folder is missing.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        remove(path)
        return os.open(path, flags, 0o666)


def move(source: _Path, target: _Path) -> None:
    """Rename a file to its place, also where something else than a file is there."""
    try:
        os.replace(source, target)  # noqa: PTH105
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        remove(target)
        os.replace(source, target)  # noqa: PTH105


def remove(path: _Path) -> None:
    """Remove whatever has a name, if there is anything: a folder with its content, a link by itself."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
    except OSError:
        if not is_folder(path):
            raise
        import shutil

        shutil.rmtree(path)


def make_folder(folder: _Path) -> None:
    """Make a folder of the state folder, and those above it.

    Raises:
        StoreError: if it, or one above it inside the state folder, is a symbolic link to a folder.
        OSError: if it cannot be made.
    """
    for path in _list_inside(os.fspath(folder) or "."):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            _make_one(path)
            continue
        if stat.S_ISLNK(mode) and os.path.isdir(path):  # noqa: PTH112
            raise refuse_link(path)
        if not stat.S_ISDIR(mode):
            remove(path)
            _make_one(path)


def need_folder(folder: str) -> None:
    """Do the same once for each folder in this process: what follows costs nothing."""
    if folder not in _checked:
        make_folder(folder)
        _checked.add(folder)


def check_folders(folder: _Path) -> None:
    """Remove what is in the place of a folder of the state folder.

    Each command calls this first, so that nothing is read through a link either.

    Raises:
        StoreError: if such a folder is a symbolic link to a folder, or the state folder is no folder.
    """
    try:
        with os.scandir(folder) as entries:
            names = [one for one in entries if one.name in _FOLDERS]
            odd = sorted(one.path for one in names if not one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        if not os.path.islink(folder):  # noqa: PTH114
            return
        raise StoreError(
            f"cannot use {_shorten(os.fspath(folder))}: it is a symbolic link to nothing",
            found=[f"it leads to {os.path.realpath(folder)!r}"],
            tip="make that folder, or remove the link",
        ) from None
    except NotADirectoryError:
        raise StoreError(
            f"cannot use {_shorten(os.fspath(folder))}: it is not a folder",
            tip=f"remove it; {STATE_FOLDER} is a folder, or a symbolic link to one",
        ) from None
    for path in odd:
        if os.path.isdir(path):  # noqa: PTH112
            raise refuse_link(path)
        remove(path)


def refuse_link(path: str) -> StoreError:
    """Return the error about a folder inside the state folder that is a symbolic link."""
    return StoreError(
        f"cannot use {_shorten(path)}: it is a symbolic link",
        found=[f"it leads to {os.path.realpath(path)!r}"],
        tip=f"remove the link; to keep results on another disk, make {STATE_FOLDER} itself the link",
    )


def _list_inside(folder: str) -> list[str]:
    """Return a folder and those above it that lie inside the state folder, outermost first.

    The state folder itself is made. Outside of a state folder, what is above is made, and only the folder
    itself is returned.
    """
    found = [folder]
    while os.path.basename(found[-1]) != STATE_FOLDER:  # noqa: PTH119
        above = os.path.dirname(found[-1])  # noqa: PTH120
        if above in ("", found[-1]):
            found = [folder, os.path.dirname(folder)]  # noqa: PTH120
            break
        found.append(above)
    os.makedirs(found.pop() or ".", exist_ok=True)  # noqa: PTH103
    return found[::-1]


def _make_one(path: str) -> None:
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:  # another process has just made it
        if not is_folder(path):
            raise


def _shorten(path: str) -> str:
    """Return a path as it is shown: from the state folder on."""
    _, name, rest = path.rpartition(STATE_FOLDER)
    return f"{name}{rest}" if name else path


def _make_absent(path: _Path) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no readable regular file", os.fspath(path))
