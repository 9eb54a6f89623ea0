"""A layer of an image as a tar archive: the same files always give the same bytes.

Layers that have been made, compressed, each under the name of what decides its content.

They are kept from one image to the next, so that an edit makes the layers anew that it is in. All of
it can be deleted at any time.

Divide the files of a project among layers, so that an edit does not send again what it did not touch.

    files                           layers
    files of 256 KiB and more       at the bottom: data, models
    all other files but Python      above them
    Python files, and fingerprints  on top: what is edited most, and what changes with it

Each kind has one layer for every 4 MiB that it holds, rounded up to a power of two, at most eight; a
file's place among them is decided by its path alone. So it stays there when other files come and go.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fftasks.config.ignore import list_parents
from fftasks.errors import StoreError
from fftasks.path_validation import explain_unsafe_name
from fftasks.records import (
    digest_bytes,
    digest_file,
    digest_json,
    read_state_file,
    write_state_file,
)
from fftasks.runner.image_check import FILE
from fftasks.state_folder import is_regular, make_folder, move, read_bytes, remove

# 1980-01-01: zip archives, and so wheels, cannot say anything earlier
LAYER_TIME = 315_532_800


@dataclass(frozen=True)
class LayerEntry:
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


def make_file_entry(path: str, content: bytes) -> LayerEntry:
    """Return the entry of a file that is in memory."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return LayerEntry(path, content, len(content), digest)


def write_layer(
    entries: Iterable[LayerEntry], out: IO[bytes], *, root: str, beside: Iterable[str] = ()
) -> None:
    """Write entries as a tar archive of what is in the folder `root` of the image.

    beside: other folders of the image that must be there. All folders above a file are in it too:
    else they would be there with the time of day. Ordered by path; owners, times and modes are
    fixed. Raises StoreError if a file is not what its entry says.
    """
    rows = {f"{root}/{entry.path}": entry for entry in entries}
    for path in (root, *beside, *list_parents([f"{root}/", *rows])):
        rows.setdefault(path, LayerEntry(path))
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


def _add(archive: tarfile.TarFile, path: str, entry: LayerEntry) -> None:
    info = tarfile.TarInfo(path)
    info.mtime = LAYER_TIME
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
    archive: tarfile.TarFile, info: tarfile.TarInfo, entry: LayerEntry, content: bytes | Path
) -> None:
    with ExitStack() as stack:
        try:
            plain: IO[bytes] = (
                io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            )
            file = _HashingReader(stack.enter_context(plain))
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


class _HashingReader:
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


LAYER_VERSION = 2

_LEVEL = 4  # a third faster than 6, and three per cent larger


@dataclass(frozen=True)
class Blob:
    """A layer.

    diff_id: digest of the archive, by which images name it
    digest, size: of its compressed form, by which registries name it; size in bytes
    """

    diff_id: str
    digest: str
    size: int


class LayerCache:
    """A folder of layers, and of other blobs of images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def pushed(self) -> Path:
        """Where it is noted what was sent last."""
        return self.folder / "pushed.json"

    def path(self, digest: str) -> Path:
        """Return where a blob is, if it is."""
        return self.folder / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        return is_regular(self.path(digest))

    def read(self, digest: str) -> bytes:
        """Return a small blob; raise FileNotFoundError if it is missing or its digest does not match."""
        content = read_bytes(self.path(digest))
        if digest_bytes(content) != digest:
            remove(self.path(digest))
            raise FileNotFoundError(errno.ENOENT, "damaged", str(self.path(digest)))
        return content

    def is_whole(self, digest: str) -> bool:
        """Return whether a blob exists and matches its digest; remove it if it does not match."""
        if not self.has(digest):
            return False
        if digest_file(self.path(digest)) == digest:
            return True
        remove(self.path(digest))
        return False

    def put(self, content: bytes) -> str:
        """Keep a blob that is in memory, and return its digest."""
        digest = digest_bytes(content)
        with self._open_new() as (file, name):
            file.write(content)
            file.close()
            move(name, self.path(digest))
        return digest

    def find(self, key: str) -> Blob | None:
        """Return the layer that was made under a key, if it is there."""
        try:
            blob = Blob(**(read_state_file(self._key_path(key)) or {}))
            if explain_unsafe_name(blob.digest):
                return None
            found = self.path(blob.digest).lstat()
        except (OSError, TypeError, AttributeError):
            return None
        return blob if stat.S_ISREG(found.st_mode) and found.st_size == blob.size else None

    def make(self, key: str, write: Callable[[IO[bytes]], None]) -> Blob:
        """Return the layer of a key; have its archive written if it is not there.

        Raises OSError, and what write raises; then nothing is left of it.
        """
        found = self.find(key)
        if found is not None:
            return found
        with self._open_new() as (file, name):
            compressed = _HashingWriter(file)
            # without a name and a time in it; the same zlib gives the same bytes
            with gzip.GzipFile("", "wb", _LEVEL, compressed, mtime=0) as packed:
                archive = _HashingWriter(packed)
                write(archive)  # type: ignore[arg-type]
            file.close()
            blob = Blob(archive.digest, compressed.digest, compressed.size)
            move(name, self.path(blob.digest))
        write_state_file(self._key_path(key), asdict(blob))
        return blob

    def make_layer(
        self, entries: Sequence[LayerEntry], *, root: str, beside: Sequence[str] = (), key: str = ""
    ) -> Blob:
        """Return the layer of some entries; see write_layer(). key: if they are not what decides."""
        rows = sorted([e.path, e.digest, e.executable, e.to] for e in entries)
        key = key or digest_json([LAYER_VERSION, root, list(beside), rows])
        return self.make(key, lambda out: write_layer(entries, out, root=root, beside=beside))

    def remove_others(self, digests: Iterable[str]) -> None:
        """Remove all blobs but these, and what unfinished work has left."""
        wanted = {digest.removeprefix("sha256:") for digest in digests}
        for path in self.folder.iterdir():
            if path.suffix == ".layer":
                blob = self.find(path.stem)
                is_wanted = blob is not None and blob.digest.removeprefix("sha256:") in wanted
            else:
                is_wanted = path.name in wanted or path == self.pushed
            if not is_wanted:
                remove(path)

    def _key_path(self, key: str) -> Path:
        return self.folder / f"{key.removeprefix('sha256:')}.layer"

    @contextmanager
    def _open_new(self) -> Iterator[tuple[IO[bytes], Path]]:
        make_folder(self.folder)
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


class _HashingWriter:
    """A file that is hashed while it is written."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._hasher.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()


SPLIT_VERSION = 1

_BIG_BYTES = 256 * 1024
_LAYER_BYTES = 4 * 1024 * 1024
_MOST = 8


def split_into_layers(entries: Iterable[LayerEntry]) -> list[tuple[LayerEntry, ...]]:
    """Return the entries of each layer, the lowest first; each entry is in one of them.

    There is at least one layer, and none of them is empty unless there are no entries.
    """
    kinds: tuple[list[LayerEntry], ...] = ([], [], [])
    for entry in entries:
        kinds[_find_kind(entry)].append(entry)
    return [layer for kind in kinds for layer in _divide(kind)] or [()]


def _find_kind(entry: LayerEntry) -> int:
    if entry.size >= _BIG_BYTES:
        return 0
    return 2 if entry.path.endswith(".py") or entry.path == FILE else 1


def _divide(entries: list[LayerEntry]) -> list[tuple[LayerEntry, ...]]:
    count, size = 1, sum(entry.size for entry in entries)
    while count < _MOST and count * _LAYER_BYTES < size:
        count *= 2
    layers: list[list[LayerEntry]] = [[] for _ in range(count)]
    for entry in entries:
        layers[_hash(entry.path) % count].append(entry)
    return [tuple(layer) for layer in layers if layer]


def _hash(path: str) -> int:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[0]
