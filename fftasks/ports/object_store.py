"""Find and download artifacts in the object store of the cluster.

fsspec connects to S3, MinIO and Google's store, and supports their authentication methods. s3fs and gcsfs are
extras, which only users who download results need. mounted_buckets.py reads a mounted store.

Anyone with write access to the bucket chooses the keys below an artifact. So this module lists and checks the
keys, and writes each file to a path of its own, and never uses a recursive download of fsspec.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.paths import explain_name, split_path
from fftasks.ports.artifact_uri import SCHEMES, ArtifactURI
from fftasks.ports.credentials import is_google, parse_address, parse_origin
from fftasks.ports.mounted_buckets import BLOCK, MountedBuckets, copy_limited, explain_size
from fftasks.runtime.regular import make_folder, remove

if TYPE_CHECKING:
    from fftasks.settings.tree import ObjectStoreSettings

_EXTRAS = {"s3": "s3", "gs": "gcs"}
_TIP = "look at object_store.endpoint, object_store.access_key and object_store.secret_key"
_MOST_FILES = 100_000  # files of one artifact


class UnreachableError(ToolError):
    """The store does not answer, or refuses everything."""


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
        """Return the places directly below a place, the newest last; [] if there are none.

        Names that cannot be parts of a path are ignored: Kubeflow Pipelines never creates them.
        """
        with _explain(f"cannot look for results at {uri}"):
            try:
                names = self._find(uri).list_names(uri)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [uri.join(name) for name in names if not explain_name(name)]

    def has(self, uri: ArtifactURI) -> bool:
        """Tell whether there is an artifact."""
        with _explain(f"cannot look for {uri}"):
            return self._find(uri).has(uri)

    def fetch(self, uri: ArtifactURI, target: Path, most: int = 0) -> None:
        """Download an artifact, which is a file or a folder, to target; completely or not at all.

        Args:
            uri: Where the artifact is.
            target: Where to write it.
            most: Number of bytes that it may have, as one file; 0 for any artifact. The store says the size
                before, and what arrives is counted.

        Raises:
            TooLargeError: The artifact is larger, or a folder.
            ToolError: The artifact does not exist, the store cannot be reached, or a key of the artifact is
                unsafe as a path below target.
        """
        attempted, buckets = f"cannot bring {uri} here", self._find(uri)
        part = target.with_name(f".{target.name}.part")
        with _explain(attempted):
            files = buckets.list_files(uri)
            paths = _check_files(attempted, files)
            if most and (files != [""] or buckets.measure(uri) > most):
                raise explain_size(uri, most)
        make_folder(target.parent)
        remove(part)
        try:
            with _explain(attempted):
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
    """Buckets that fsspec reads; glob patterns, which some of its functions expand, are not used."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def list_names(self, uri: ArtifactURI) -> list[str]:
        rows = [row["name"].rstrip("/") for row in self._system.ls(uri.path, detail=True)]
        names = [name.rpartition("/")[2] for name in rows if name != uri.path]
        names = sorted(name for name in names if not explain_name(name))
        if len(names) > 1:
            names.sort(key=lambda name: _find_time(self._system, f"{uri.path}/{name}"))
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
                f"cannot bring {uri} here",
                found=["it is both an object and a folder of others"],
                tip="remove the one that the run did not write",
            )
        outside = [name for name in found if not name.startswith(f"{uri.path}/")]
        if outside:
            raise ToolError(
                f"cannot bring {uri} here",
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
    if len(files) > _MOST_FILES:
        raise ToolError(
            attempted,
            found=[f"it has {len(files)} files, and at most {_MOST_FILES} are downloaded"],
            tip="download it with a client of the object store",
        )
    return [()] if files == [""] else [_split_key(attempted, name) for name in files]


def _split_key(attempted: str, name: str) -> tuple[str, ...]:
    try:
        return split_path(name)
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
    """Return object_store.mount.

    Raises:
        SettingsError: There is no such folder.
    """
    path = Path(folder).expanduser()
    if path.is_dir():
        return folder
    problem = "is not a folder" if os.path.lexists(path) else "does not exist"
    raise SettingsError(
        f"object_store.mount: {folder} {problem}",
        tip="mount the buckets there, or set object_store.mount to the folder in which they are",
    )


def _connect(settings: ObjectStoreSettings, kind: str) -> Any:
    """Return the fsspec file system for a kind of store."""
    import fsspec

    options = _make_options(settings, kind)
    try:
        return fsspec.filesystem(kind, skip_instance_cache=True, **options)
    except ImportError as error:
        raise SettingsError(
            f"results are in {kind}://, and the package for it is not installed",
            found=[str(error)],
            tip=f"pip install 'fftasks[{_EXTRAS[kind]}]', or set object_store.mount to a folder",
        ) from error


def _make_options(settings: ObjectStoreSettings, kind: str) -> dict[str, Any]:
    """Return the options of the file system.

    An S3 endpoint may use plain HTTP, as MinIO often does inside a company: a request is signed, and the
    secret key is not part of it. Google's store takes the access token itself, which must only be sent to
    Google; any other endpoint, such as that of an emulator, is asked without credentials.
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
    if not endpoint:  # gcsfs would read the endpoint from this variable, and send the token there
        is_emulated = os.environ.get("STORAGE_EMULATOR_HOST", "default") not in ("", "default")
        return {"token": "anon"} if is_emulated else {}
    origin = parse_origin(endpoint)
    is_for_google = origin.scheme == "https" and is_google(origin.host)
    return {"endpoint_url": endpoint} | ({} if is_for_google else {"token": "anon"})


def _check_endpoint(endpoint: str) -> str:
    """Return object_store.endpoint in a form that every HTTP client parses in the same way, "" for none."""
    if not endpoint:
        return ""
    try:
        return parse_address(endpoint).url
    except ValueError as error:
        shown = "" if "@" in endpoint else f" {endpoint!r}"
        raise SettingsError(
            f"object_store.endpoint{shown} is invalid: {error}",
            tip="write http://HOST:PORT or https://HOST; set credentials in object_store.access_key"
            " and object_store.secret_key",
        ) from None


@contextmanager
def _explain(attempted: str) -> Iterator[None]:
    """Let whatever a store raises be an error that says which setting to look at."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(attempted, found=["there is nothing"], tip=_TIP) from error
    except FFTasksError:
        raise
    except Exception as error:  # each store has its own kinds, and wraps those of three libraries
        found = [f"{type(error).__name__}: {error}".splitlines()[0]]
        raise UnreachableError(attempted, found=found, tip=_TIP) from error


def _find_time(system: Any, path: str) -> tuple[float, str]:
    """Return when the newest file below a path was written; 0 where a store does not say."""
    files = system.find(path, detail=True) if system.isdir(path) else {path: system.info(path)}
    times = [
        info.get(key) for info in files.values() for key in ("LastModified", "mtime", "updated")
    ]
    seconds = [time.timestamp() if hasattr(time, "timestamp") else time for time in times if time]
    return max((s for s in seconds if isinstance(s, int | float)), default=0.0), path
