"""Open, write and remove regular files of the state folder, without following links.

A symbolic link, a FIFO, a socket, a device or a folder may have the name of a state file. It is never read
and never followed: a reader treats the file as missing, and a writer replaces it. `.fftasks` itself may be a
symbolic link to a larger disk. A folder inside it may not be a link, because files would be written outside
of the state folder.
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
        FileNotFoundError: There is no readable regular file.
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
    """Return whether a path is a regular file, without following a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: _Path) -> bool:
    """Return whether a path is a folder, without following a link."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def open_in_place(path: _Path, flags: int) -> int:
    """Open a file to append to it, to lock it or to rewrite it; create it if it does not exist.

    Anything else than a regular file is replaced by an empty file. So is a file with several hard links,
    because a copy of the project that consists of hard links must not change with it.

    Args:
        path: The file. Its folder is created if it does not exist.
        flags: Flags of os.open() such as O_WRONLY | O_APPEND, but not O_TRUNC, which would empty a file that
            must not change. Use os.ftruncate().

    Returns:
        A descriptor.

    Raises:
        OSError: The file cannot be opened or replaced.
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
    """Open a file in place to rewrite it; see open_in_place."""
    descriptor = open_in_place(path, os.O_WRONLY | os.O_APPEND)
    os.ftruncate(descriptor, 0)
    return descriptor


def open_new(path: _Path) -> int:
    """Create a file with a temporary name and open it for writing.

    An existing file with this name is removed first. A killed process with the same number may have left it,
    or another user may have guessed the name.

    Raises:
        OSError: The file cannot be created; FileNotFoundError if its folder does not exist.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        remove(path)
        return os.open(path, flags, 0o666)


def move(source: _Path, target: _Path) -> None:
    """Rename a file, and replace whatever has the new name."""
    try:
        os.replace(source, target)  # noqa: PTH105
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        remove(target)
        os.replace(source, target)  # noqa: PTH105


def remove(path: _Path) -> None:
    """Remove a file, a folder with its content, or a link without its target, if it exists."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
    except OSError:
        if not is_folder(path):
            raise
        import shutil

        shutil.rmtree(path)


def write_output(path: _Path, content: bytes) -> None:
    """Write a file that the user asked for, such as a report or a picture.

    A file inside a state folder is replaced, whatever is in its place. Anywhere else the user has chosen the
    place: a link is followed, and a pipe or a device is written to.

    Args:
        path: The file. Its folder is made if it is missing.
        content: The content.

    Raises:
        StoreError: if a folder of the state folder is a symbolic link.
        OSError: if the file cannot be written, also if it is a FIFO that no process reads.
    """
    full = os.path.abspath(path)  # noqa: PTH100 - without following links
    folder, name = os.path.split(full)
    if f"/{STATE_FOLDER}/" in f"{folder}/":
        make_folder(folder)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}")  # noqa: PTH118
        try:
            _write_all(open_new(temporary), content)
            move(temporary, full)
        except BaseException:
            remove(temporary)
            raise
        return
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    try:
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(
                errno.ENXIO, "it is a FIFO or socket that no process reads", path
            ) from error
        raise
    os.set_blocking(descriptor, True)
    _write_all(descriptor, content)


def _write_all(descriptor: int, content: bytes) -> None:
    """Write a content and close the descriptor."""
    with open(descriptor, "wb") as file:
        file.write(content)


def make_folder(folder: _Path) -> None:
    """Create a folder in the state folder, and its parents.

    Raises:
        StoreError: The folder, or a parent of it in the state folder, is a symbolic link to a folder.
        OSError: The folder cannot be created.
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
    """Call make_folder once for each folder in this process, because most calls repeat."""
    if folder not in _checked:
        make_folder(folder)
        _checked.add(folder)


def check_parents(path: _Path) -> None:
    """Check that no folder between the state folder and a path in it is a symbolic link.

    Raises:
        StoreError: if one is. A missing folder is not an error.
    """
    folder = os.path.dirname(os.fspath(path))  # noqa: PTH120
    while folder and os.path.basename(folder) != STATE_FOLDER:  # noqa: PTH119
        if os.path.islink(folder):  # noqa: PTH114
            raise refuse_link(folder)
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return
        folder = above


def check_folders(folder: _Path) -> None:
    """Remove files and links that have the name of a folder of the state folder.

    Each command calls this first, so that nothing is read through a link.

    Raises:
        StoreError: A folder is a symbolic link to a folder, or the state folder is not a folder.
    """
    try:
        with os.scandir(folder) as entries:
            names = [one for one in entries if one.name in _FOLDERS]
            odd = sorted(one.path for one in names if not one.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        if not os.path.islink(folder):  # noqa: PTH114
            return
        raise StoreError(
            f"cannot use {_shorten(os.fspath(folder))}: it is a broken symbolic link",
            found=[f"it leads to {os.path.realpath(folder)!r}"],
            tip="create that folder, or remove the link",
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
    """Return a folder and its parents inside the state folder, outermost first.

    The state folder itself is created. For a folder outside of a state folder, the parents are created, and
    only the folder itself is returned.
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
    except FileExistsError:  # another process has just created it
        if not is_folder(path):
            raise


def _shorten(path: str) -> str:
    """Return a path for display, which begins at the state folder."""
    _, name, rest = path.rpartition(STATE_FOLDER)
    return f"{name}{rest}" if name else path


def _make_absent(path: _Path) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no readable regular file", os.fspath(path))
