"""Find and download artifacts of Kubeflow Pipelines in the object store of the cluster.

An artifact URI has the form `minio://<bucket>/<key>?<query>`, also with s3:// and gs://. A query describes
how the cluster reaches the bucket. It is ignored, because this machine may use another way.
Source: ParseBucketConfig in backend/src/v2/objectstore/config.go of kubeflow/pipelines.

fsspec connects to S3, MinIO and Google Cloud Storage, and supports their authentication methods. s3fs and
gcsfs are extras, which only users who download results need. Buckets can also be mounted as a folder.

Anyone with write access to a bucket chooses the keys below an artifact, and can put symbolic links, named
pipes and devices into a mounted bucket. So this module lists and checks the keys, writes each file to a
path of its own, and never uses a recursive download of fsspec.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.http.origin import is_google, parse_origin, parse_url
from fftasks.path_validation import check_path_name, explain_unsafe_name, split_untrusted_path
from fftasks.state_folder import make_folder, remove

if TYPE_CHECKING:
    from fftasks.config.tree import ObjectStoreSettings

SCHEMES = {"minio": "s3", "s3": "s3", "gs": "gs"}  # scheme -> API of the store

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,221}")
# O_PATH needs no permission to list the folder, like any path lookup; macOS does not have it
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
BLOCK = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_LINK_TIP = (
    "find out who put it into the bucket, and remove it; to compute the result again, set cache: false for"
    " the node and run `doit submit`"
)
_MOUNT_TIP = "set object_store.mount to the folder in which the buckets themselves are"
_EXTRAS = {"s3": "s3", "gs": "gcs"}
_STORE_TIP = "check object_store.endpoint, object_store.access_key and object_store.secret_key"
_MAX_FILES = 100_000  # files of one artifact


@dataclass(frozen=True)
class ArtifactURI:
    """A location in an object store: an artifact, or a prefix of artifacts.

    Attributes:
        scheme: One of the keys of SCHEMES.
        bucket: Name of the bucket.
        names: Parts of the key, split at "/"; () for the whole bucket.
    """

    scheme: str
    bucket: str
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ArtifactURI:
        """Parse a URI.

        Raises:
            ToolError: The text is a local path, has an unknown scheme, or is not a valid URI.
        """
        scheme, separator, rest = text.partition("://")
        bucket, slash, key = rest.partition("?")[0].partition("/")
        known = ", ".join(f"{name}://" for name in SCHEMES)
        if not separator or scheme not in SCHEMES:
            problem = f"it does not begin with one of {known}"
        elif not _BUCKET.fullmatch(bucket):
            problem = f"{bucket!r} is not a valid name of a bucket"
        elif "#" in key:
            problem = "it has a fragment"
        else:
            try:
                return cls(scheme, bucket, split_untrusted_path(key) if slash else ())
            except ValueError as error:
                problem = str(error)
        raise ToolError(f"invalid artifact URI {text!r}: {problem}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    @property
    def path(self) -> str:
        """The bucket and the key, with "/" between them."""
        return "/".join((self.bucket, *self.names))

    def join(self, *names: str) -> ArtifactURI:
        """Return the location of a child; raise ToolError for a name that cannot be part of a key."""
        checked = (check_path_name(name, f"name below {self}") for name in names)
        return ArtifactURI(self.scheme, self.bucket, (*self.names, *checked))

    def is_below(self, root: ArtifactURI) -> bool:
        """Return whether this location is below another one, compared part by part."""
        place = (self.scheme, self.bucket) == (root.scheme, root.bucket)
        depth = len(root.names)
        return place and len(self.names) > depth and self.names[:depth] == root.names


class UnreachableError(ToolError):
    """The object store does not answer, or rejects the request."""


class TooLargeError(ToolError):
    """An artifact exceeds the size limit of the caller, or is a folder where a file is expected."""


def explain_size(uri: ArtifactURI, most: int) -> TooLargeError:
    """Return the error for an artifact that is a folder or a file of more than `most` bytes."""
    found = f"it is larger than {most // 1_000_000} MB, or a folder"
    return TooLargeError(f"{uri} was not downloaded for display", found=[found])


def copy_limited(uri: ArtifactURI, source: IO[bytes], target: IO[bytes], most: int) -> None:
    """Copy an open file.

    Args:
        uri: The artifact, for the error.
        source: File to read.
        target: File to write.
        most: Maximum number of bytes; 0 for no limit.

    Raises:
        TooLargeError: The file has more than `most` bytes.
    """
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
        """Return the names of the entries of a folder, the newest last; see list_files for errors."""
        found = [(_find_mounted_time(path), path.name) for path in self._resolve(uri).iterdir()]
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
            ToolError: A symbolic link leads out of the mounted folder or to a folder, or an entry is
                neither a file nor a folder.
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
            name: Path of the file relative to the artifact.
            target: The existing empty file.
            most: Maximum number of bytes; 0 for no limit.

        Raises:
            TooLargeError: The file has more than `most` bytes.
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
                        raise _explain_unsafe(problem)

    def _resolve(self, uri: ArtifactURI) -> Path:
        return self._resolve_path(self._folder.joinpath(uri.bucket, *uri.names))

    def _resolve_path(self, path: Path) -> Path:
        """Return a path without symbolic links; raise ToolError if they lead out of the mounted folder."""
        try:
            root, real = self._folder.resolve(strict=True), path.resolve(strict=True)
        except RuntimeError as error:  # raised up to Python 3.12 for a link to itself
            raise _explain_unsafe(f"{str(path)!r} is a symbolic link to itself") from error
        if not real.is_relative_to(root):
            problem = f"{str(path)!r} leads to {str(real)!r}, outside of {str(root)!r}"
            bucket = self._folder / path.relative_to(self._folder).parts[0]
            is_bucket = not bucket.resolve().is_relative_to(root)
            raise _explain_unsafe(problem, _MOUNT_TIP if is_bucket else _LINK_TIP)
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
            raise _explain_unsafe(f"{str(path)!r} is not a file")
        return at


def _explain_unsafe(problem: str, tip: str = _LINK_TIP) -> ToolError:
    """Return the error for an unsafe entry of a mounted bucket."""
    return ToolError("object_store.mount: artifact not read", found=[problem], tip=tip)


def _find_mounted_time(path: Path) -> float:
    """Return when the newest file below a path was written; 0 if the time is not known."""
    inside = () if path.is_symlink() else os.walk(path)
    paths = (Path(folder, name) for folder, _, files in inside for name in (".", *files))
    newest = 0.0
    for one in (path, *paths):
        with suppress(OSError):
            newest = max(newest, one.lstat().st_mtime)
    return newest


class _Buckets(Protocol):
    """Interface to read buckets; see MountedBuckets."""

    def list_names(self, uri: ArtifactURI) -> list[str]: ...
    def has(self, uri: ArtifactURI) -> bool: ...
    def list_files(self, uri: ArtifactURI) -> list[str]: ...
    def measure(self, uri: ArtifactURI) -> int: ...
    def copy(self, uri: ArtifactURI, name: str, target: Path, most: int = 0) -> None: ...


class ObjectStore:
    """The object store of the cluster, at the address in the settings."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        """Store the settings. No connection is made until first use."""
        self._settings = settings
        self._buckets: dict[str, _Buckets] = {}

    def list_folders(self, uri: ArtifactURI) -> list[ArtifactURI]:
        """Return the locations directly below a location, the newest last; [] if there are none.

        Names that cannot be parts of a path are ignored; Kubeflow Pipelines never creates them.

        Raises:
            ToolError: The store cannot be read.
        """
        with _map_errors(f"cannot list results at {uri}"):
            try:
                names = self._find(uri).list_names(uri)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [uri.join(name) for name in names if not explain_unsafe_name(name)]

    def has(self, uri: ArtifactURI) -> bool:
        """Return whether an artifact exists; raise ToolError if the store cannot be read."""
        with _map_errors(f"cannot find {uri}"):
            return self._find(uri).has(uri)

    def fetch(self, uri: ArtifactURI, target: Path, most: int = 0) -> None:
        """Download an artifact, which is a file or a folder, completely or not at all.

        Args:
            uri: Location of the artifact.
            target: Local path of the file or folder to write. An existing one is replaced.
            most: Maximum number of bytes of an artifact that must be a single file; 0 for any artifact. The
                size that the store reports is checked first, and the received bytes are counted.

        Raises:
            TooLargeError: The artifact is larger, or a folder.
            ToolError: The artifact does not exist, the store cannot be reached, or a key of the artifact is
                unsafe as a path below `target`.
        """
        attempted, buckets = f"cannot download {uri}", self._find(uri)
        part = target.with_name(f".{target.name}.part")
        with _map_errors(attempted):
            files = buckets.list_files(uri)
            paths = _check_files(attempted, files)
            if most and (files != [""] or buckets.measure(uri) > most):
                raise explain_size(uri, most)
        make_folder(target.parent)
        remove(part)
        try:
            with _map_errors(attempted):
                if files != [""]:
                    part.mkdir()
                for name, path in zip(files, paths, strict=True):
                    _make_empty(attempted, part, path)
                    buckets.copy(uri, name, part.joinpath(*path), most)
            remove(target)
            part.rename(target)
        finally:
            remove(part)

    def _find(self, uri: ArtifactURI) -> _Buckets:
        """Return the reader for the buckets of a URI scheme."""
        kind = SCHEMES[uri.scheme]
        if kind not in self._buckets:
            mount = self._settings.mount
            self._buckets[kind] = (
                MountedBuckets(_check_mount(mount))
                if mount
                else _RemoteBuckets(_connect(self._settings, kind))
            )
        return self._buckets[kind]


class _RemoteBuckets:
    """Buckets that are read with fsspec, without its functions that expand glob patterns."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def list_names(self, uri: ArtifactURI) -> list[str]:
        rows = [row["name"].rstrip("/") for row in self._system.ls(uri.path, detail=True)]
        names = [name.rpartition("/")[2] for name in rows if name != uri.path]
        names = sorted(name for name in names if not explain_unsafe_name(name))
        if len(names) > 1:
            names.sort(key=lambda name: _find_remote_time(self._system, f"{uri.path}/{name}"))
        return names

    def has(self, uri: ArtifactURI) -> bool:
        return bool(self._system.exists(uri.path))

    def list_files(self, uri: ArtifactURI) -> list[str]:
        found = self._system.find(uri.path, detail=True)
        found = {name: one for name, one in found.items() if one.get("type") != "directory"}
        if not found:
            raise FileNotFoundError(uri.path)
        if set(found) == {uri.path}:
            return [""]
        if uri.path in found or self._is_file(uri.path):
            raise ToolError(
                f"cannot download {uri}",
                found=["it is both an object and a folder of other objects"],
                tip="remove the object or folder that the run did not write",
            )
        outside = [name for name in found if not name.startswith(f"{uri.path}/")]
        if outside:
            raise ToolError(
                f"cannot download {uri}",
                found=[f"the store lists a key outside of it: {outside[0]!r}"],
            )
        # the consoles of several stores represent a folder by an empty object whose key ends in "/"
        return sorted(
            name[len(uri.path) + 1 :]
            for name, one in found.items()
            if one.get("size") or not name.endswith("/")
        )

    def measure(self, uri: ArtifactURI) -> int:
        size = self._system.info(uri.path).get("size")
        return size if isinstance(size, int) else 0

    def copy(self, uri: ArtifactURI, name: str, target: Path, most: int = 0) -> None:
        path = f"{uri.path}/{name}" if name else uri.path
        if not most:
            self._system.get_file(path, str(target))
            return
        with self._system.open(path, "rb", block_size=BLOCK) as source, target.open("wb") as file:
            copy_limited(uri, source, file, most)

    def _is_file(self, path: str) -> bool:
        try:
            return bool(self._system.info(path).get("type") == "file")
        except FileNotFoundError:
            return False


def _check_files(attempted: str, files: list[str]) -> list[tuple[str, ...]]:
    """Return the parts of the relative path of each file of an artifact; () for the artifact itself.

    Raises:
        ToolError: There are too many files, or a file cannot be written below the artifact.
    """
    if len(files) > _MAX_FILES:
        raise ToolError(
            attempted,
            found=[f"it has {len(files)} files, and at most {_MAX_FILES} are downloaded"],
            tip="download it with a client of the object store",
        )
    return [()] if files == [""] else [_split_key(attempted, name) for name in files]


def _split_key(attempted: str, name: str) -> tuple[str, ...]:
    try:
        return split_untrusted_path(name)
    except ValueError as error:
        raise ToolError(
            attempted,
            found=[f"unsafe key {name!r} below it: {error}"],
            tip="anyone with write access to the bucket can create it; remove the object",
        ) from error


def _make_empty(attempted: str, folder: Path, names: tuple[str, ...]) -> None:
    """Create an empty file and its parent folders; raise ToolError if the name is already used.

    The file system decides which names are equal: some file systems ignore case.
    """
    path = folder.joinpath(*names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("xb").close()
    except (FileExistsError, NotADirectoryError) as error:
        found = [f"two of its keys have the same name here: {'/'.join(names)!r}"]
        raise ToolError(attempted, found=found) from error


def _check_mount(folder: str) -> str:
    """Return object_store.mount; raise SettingsError if it is not a folder."""
    path = Path(folder).expanduser()
    if path.is_dir():
        return folder
    problem = "is not a folder" if os.path.lexists(path) else "does not exist"
    raise SettingsError(
        f"object_store.mount: {folder} {problem}",
        tip="mount the buckets there, or set object_store.mount to the folder in which they are",
    )


def _connect(settings: ObjectStoreSettings, kind: str) -> Any:
    """Return the fsspec file system for a kind of store, "s3" or "gs".

    Raises:
        SettingsError: The package for the store is not installed, or a setting is invalid.
    """
    import fsspec

    options = _make_options(settings, kind)
    try:
        return fsspec.filesystem(kind, skip_instance_cache=True, **options)
    except ImportError as error:
        raise SettingsError(
            f"cannot read results in {kind}://: the package for it is not installed",
            found=[str(error)],
            tip=f"pip install 'fftasks[{_EXTRAS[kind]}]', or set object_store.mount to a folder",
        ) from error


def _make_options(settings: ObjectStoreSettings, kind: str) -> dict[str, Any]:
    """Return the options of an fsspec file system.

    An S3 endpoint may use plain HTTP, as MinIO often does inside a company, because requests are signed and
    do not contain the secret key. Requests to Google's store contain the access token itself, which must
    only be sent to Google; requests to any other endpoint, such as an emulator, have no credentials.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html

    Raises:
        SettingsError: The endpoint is invalid, or contains a password.
    """
    if kind == "s3":
        options: dict[str, Any] = {"use_listings_cache": False}
        keys = {"key": settings.access_key, "secret": settings.secret_key}
        keys |= {"endpoint_url": _check_endpoint(settings.endpoint)}
        options |= {name: value for name, value in keys.items() if value}
        return options if settings.verify_ssl else {**options, "client_kwargs": {"verify": False}}
    endpoint = _check_endpoint(settings.endpoint)
    if not endpoint:  # gcsfs would read the endpoint from this variable and send the token to it
        is_emulated = os.environ.get("STORAGE_EMULATOR_HOST", "default") not in ("", "default")
        return {"token": "anon"} if is_emulated else {}
    origin = parse_origin(endpoint)
    is_for_google = origin.scheme == "https" and is_google(origin.host)
    return {"endpoint_url": endpoint} | ({} if is_for_google else {"token": "anon"})


def _check_endpoint(endpoint: str) -> str:
    """Return object_store.endpoint in a form that all HTTP clients parse in the same way; "" if not set."""
    if not endpoint:
        return ""
    try:
        return parse_url(endpoint).url
    except ValueError as error:
        shown = "" if "@" in endpoint else f" {endpoint!r}"
        raise SettingsError(
            f"object_store.endpoint{shown} is invalid: {error}",
            tip="write http://HOST:PORT or https://HOST; set credentials in object_store.access_key"
            " and object_store.secret_key",
        ) from None


@contextmanager
def _map_errors(attempted: str) -> Iterator[None]:
    """Convert the exceptions of all stores to ToolError; the one mapping for the object store.

    Args:
        attempted: What failed, as the first part of the message.

    Raises:
        UnreachableError: The store does not answer, or rejects the request.
        ToolError: The artifact does not exist.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(attempted, found=["not found"], tip=_STORE_TIP) from error
    except FFTasksError:
        raise
    except Exception as error:  # each store has its own exceptions and those of three libraries
        found = [f"{type(error).__name__}: {error}".splitlines()[0]]
        raise UnreachableError(attempted, found=found, tip=_STORE_TIP) from error


def _find_remote_time(system: Any, path: str) -> tuple[float, str]:
    """Return when the newest file below a path was written (0 if unknown), and the path."""
    files = system.find(path, detail=True) if system.isdir(path) else {path: system.info(path)}
    times = [
        info.get(key) for info in files.values() for key in ("LastModified", "mtime", "updated")
    ]
    seconds = [time.timestamp() if hasattr(time, "timestamp") else time for time in times if time]
    return max((s for s in seconds if isinstance(s, int | float)), default=0.0), path
