"""Layers of images: reproducible archives, their cache, and the division of files among layers.

The same files always produce the same bytes. The cache has compressed layers by the digest of their inputs,
so an edit creates only the layers that it is in; the cache may be deleted at any time. The files of a project
are divided among layers, so that an edit does not send unchanged files again:

    files                           layers
    files of 256 KiB and more       at the bottom: data, models
    all other files but Python      above them
    Python files, and fingerprints  on top: what is edited most, and what changes with it

Each kind has one layer per 4 MiB, rounded up to a power of two, at most eight. The layer of a file depends
only on its path, so it does not change when other files are added or removed.
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
from fftasks.runner.image_check import FINGERPRINTS_FILE
from fftasks.state_folder import is_regular, make_folder, move, read_bytes, remove

# 1980-01-01, the earliest time that zip archives, and so wheels, support
LAYER_TIME = 315_532_800


@dataclass(frozen=True)
class LayerEntry:
    """A file, a link or a folder in an image.

    Attributes:
        path: Path below the root folder of the layer.
        content: The bytes, or the file that contains them; None for a link or a folder.
        size: Size of a file in bytes.
        digest: Expected digest of the content.
        executable: Whether a file is a program.
        to: Target of a link; "" for a file or a folder.
    """

    path: str
    content: bytes | Path | None = None
    size: int = 0
    digest: str = ""
    executable: bool = False
    to: str = ""


def make_file_entry(path: str, content: bytes) -> LayerEntry:
    """Return the entry of a file whose content is in memory."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return LayerEntry(path, content, len(content), digest)


def write_layer(
    entries: Iterable[LayerEntry], out: IO[bytes], *, root: str, beside: Iterable[str] = ()
) -> None:
    """Write a layer as a tar archive that is sorted by path, with fixed owners, times and modes.

    All parent folders are entries too, because a builder would create them with the current time.

    Args:
        entries: The files, links and folders.
        out: Receives the archive.
        root: The folder of the image that contains the entries.
        beside: Other folders of the image to create.

    Raises:
        StoreError: The size or digest of a file differs from its entry.
    """
    rows = {f"{root}/{entry.path}": entry for entry in entries}
    for path in (root, *beside, *list_parents([f"{root}/", *rows])):
        rows.setdefault(path, LayerEntry(path))
    # the GNU format supports all bytes in names, and has no fields that depend on the machine
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
            is_valid = not plain.read(1) and file.digest == entry.digest
        except FileNotFoundError:
            is_valid = False
        except OSError:
            # tarfile raises OSError for a file that got shorter; other errors concern the disk
            if not isinstance(content, Path) or content.stat().st_size >= entry.size:
                raise
            is_valid = False
    if not is_valid:
        raise StoreError(
            f"image: the copy of {entry.path!r} differs from the record of the context",
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

    Attributes:
        diff_id: Digest of the archive, which the configuration of an image contains.
        digest: Digest of the compressed archive, which manifests contain.
        size: Size of the compressed archive in bytes.
    """

    diff_id: str
    digest: str
    size: int


class LayerCache:
    """A folder with layers and other blobs of images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def pushed(self) -> Path:
        """The record of the last push."""
        return self.folder / "pushed.json"

    def path(self, digest: str) -> Path:
        """Return the path of a blob, which need not exist."""
        return self.folder / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Return whether a blob exists."""
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
        """Store a blob, and return its digest."""
        digest = digest_bytes(content)
        with self._open_new() as (file, name):
            file.write(content)
            file.close()
            move(name, self.path(digest))
        return digest

    def find(self, key: str) -> Blob | None:
        """Return the layer with a key; None if there is none."""
        try:
            blob = Blob(**(read_state_file(self._key_path(key)) or {}))
            if explain_unsafe_name(blob.digest):
                return None
            found = self.path(blob.digest).lstat()
        except (OSError, TypeError, AttributeError):
            return None
        return blob if stat.S_ISREG(found.st_mode) and found.st_size == blob.size else None

    def make(self, key: str, write: Callable[[IO[bytes]], None]) -> Blob:
        """Return the layer with a key, and create it if there is none.

        Args:
            key: Digest of the inputs of the layer.
            write: Writes the archive. If it raises an exception, nothing is stored.

        Raises:
            OSError: The layer cannot be written.
        """
        found = self.find(key)
        if found is not None:
            return found
        with self._open_new() as (file, name):
            compressed = _HashingWriter(file)
            # without name and time, so that the same zlib produces the same bytes
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
        """Return the layer of some entries; see write_layer().

        Args:
            entries: The files, links and folders.
            root: The folder of the image that contains them.
            beside: Other folders of the image to create.
            key: Digest of the inputs; "" to derive it from the entries.
        """
        rows = sorted([e.path, e.digest, e.executable, e.to] for e in entries)
        key = key or digest_json([LAYER_VERSION, root, list(beside), rows])
        return self.make(key, lambda out: write_layer(entries, out, root=root, beside=beside))

    def remove_others(self, digests: Iterable[str]) -> None:
        """Remove all other blobs, and temporary files of interrupted builds."""
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
_MAX_LAYERS = 8


def split_into_layers(entries: Iterable[LayerEntry]) -> list[tuple[LayerEntry, ...]]:
    """Divide entries among layers, the lowest first; there is at least one, which may be empty."""
    kinds: tuple[list[LayerEntry], ...] = ([], [], [])
    for entry in entries:
        kinds[_find_kind(entry)].append(entry)
    return [layer for kind in kinds for layer in _divide(kind)] or [()]


def _find_kind(entry: LayerEntry) -> int:
    if entry.size >= _BIG_BYTES:
        return 0
    return 2 if entry.path.endswith(".py") or entry.path == FINGERPRINTS_FILE else 1


def _divide(entries: list[LayerEntry]) -> list[tuple[LayerEntry, ...]]:
    count, size = 1, sum(entry.size for entry in entries)
    while count < _MAX_LAYERS and count * _LAYER_BYTES < size:
        count *= 2
    layers: list[list[LayerEntry]] = [[] for _ in range(count)]
    for entry in entries:
        layers[_hash(entry.path) % count].append(entry)
    return [tuple(layer) for layer in layers if layer]


def _hash(path: str) -> int:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[0]
