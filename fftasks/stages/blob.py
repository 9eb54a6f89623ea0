"""Layers that have been made, compressed, each under the name of what decides its content.

They are kept from one image to the next, so that an edit makes the layers anew that it is in. All of
it can be deleted at any time.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fftasks.paths import explain_name
from fftasks.record import digest_bytes, digest_file, digest_json, read_state, write_state
from fftasks.runtime.regular import is_regular, make_folder, move, read_bytes, remove
from fftasks.stages.layer import Entry, write_layer

VERSION = 2

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


class Blobs:
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
            blob = Blob(**(read_state(self._key_path(key)) or {}))
            if explain_name(blob.digest):
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
            compressed = _Hashing(file)
            # without a name and a time in it; the same zlib gives the same bytes
            with gzip.GzipFile("", "wb", _LEVEL, compressed, mtime=0) as packed:
                archive = _Hashing(packed)
                write(archive)  # type: ignore[arg-type]
            file.close()
            blob = Blob(archive.digest, compressed.digest, compressed.size)
            move(name, self.path(blob.digest))
        write_state(self._key_path(key), asdict(blob))
        return blob

    def make_layer(
        self, entries: Sequence[Entry], *, root: str, beside: Sequence[str] = (), key: str = ""
    ) -> Blob:
        """Return the layer of some entries; see write_layer(). key: if they are not what decides."""
        rows = sorted([e.path, e.digest, e.executable, e.to] for e in entries)
        key = key or digest_json([VERSION, root, list(beside), rows])
        return self.make(key, lambda out: write_layer(entries, out, root=root, beside=beside))

    def keep(self, digests: Iterable[str]) -> None:
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


class _Hashing:
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
