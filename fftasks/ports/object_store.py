"""Port object store: what runs on the cluster have left there, found and brought here.

Through fsspec, which speaks to S3, MinIO, Google's store and folders alike, with everybody's ways to prove
who they are; s3fs and gcsfs below it are extras, for only those need them who bring results here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError

if TYPE_CHECKING:
    from fftasks.settings.tree import ObjectStoreSettings

_KINDS = {"minio": "s3", "s3": "s3", "gs": "gs"}
_EXTRAS = {"s3": "s3", "gs": "gcs"}
_TIP = "look at object_store.endpoint, object_store.access_key and object_store.secret_key"


class ObjectStore:
    """Artifacts by uri: minio://bucket/key, s3://bucket/key, gs://bucket/key, /a/path."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._settings = settings
        self._systems: dict[str, Any] = {}

    def list_folders(self, uri: str) -> list[str]:
        """Return the uris of what lies directly below one, the newest last; [] if there is nothing."""
        system, path = self._find(uri)
        with _explain(f"cannot look for results at {uri}"):
            try:
                rows = system.ls(path, detail=True)
            except FileNotFoundError:
                return []
            names = [row["name"].rstrip("/") for row in rows]
            names = sorted(name for name in names if name != path.rstrip("/"))
            if len(names) > 1:
                names.sort(key=lambda name: _find_time(system, name))
        return [f"{uri.rstrip('/')}/{name.rpartition('/')[2]}" for name in names]

    def has(self, uri: str) -> bool:
        """Tell whether there is an artifact."""
        system, path = self._find(uri)
        with _explain(f"cannot look for {uri}"):
            return bool(system.exists(path))

    def fetch(self, uri: str, target: Path) -> None:
        """Bring an artifact, a file or a folder, to target, whole or not at all."""
        system, path = self._find(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        _remove(part)
        try:
            with _explain(f"cannot bring {uri} here"):
                system.get(path, str(part), recursive=bool(system.isdir(path)))
            _remove(target)
            part.rename(target)
        finally:
            _remove(part)

    def _find(self, uri: str) -> tuple[Any, str]:
        """Return the file system that has an artifact, and the path there."""
        scheme, separator, rest = uri.partition("://")
        if not separator:
            return self._open("file"), uri
        if scheme not in _KINDS:
            known = ", ".join(f"{name}://" for name in _KINDS)
            raise ToolError(f"cannot bring {uri} here", found=[f"known are {known} and folders"])
        # a query says how the cluster reaches the bucket, which is not how it is reached from here
        rest = rest.partition("?")[0]
        if self._settings.mount:
            return self._open("file"), str(Path(self._settings.mount).expanduser() / rest)
        return self._open(_KINDS[scheme]), rest

    def _open(self, kind: str) -> Any:
        if kind not in self._systems:
            import fsspec

            options = _make_options(self._settings, kind)
            try:
                self._systems[kind] = fsspec.filesystem(kind, skip_instance_cache=True, **options)
            except ImportError as error:
                extra = _EXTRAS[kind]
                raise SettingsError(
                    f"results are in {kind}://, and the package for it is not installed",
                    found=[str(error)],
                    tip=f"pip install 'fftasks[{extra}]', or set object_store.mount to a folder",
                ) from error
        return self._systems[kind]


def _make_options(settings: ObjectStoreSettings, kind: str) -> dict[str, Any]:
    if kind == "s3":
        options: dict[str, Any] = {"use_listings_cache": False}
        keys = {"key": settings.access_key, "secret": settings.secret_key}
        keys |= {"endpoint_url": settings.endpoint}
        options |= {name: value for name, value in keys.items() if value}
        return options if settings.verify_ssl else {**options, "client_kwargs": {"verify": False}}
    if kind == "gs":
        return {"endpoint_url": settings.endpoint} if settings.endpoint else {}
    return {}


@contextmanager
def _explain(attempted: str) -> Iterator[None]:
    """Let whatever a store raises be an error that says which setting to look at."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(attempted, found=["there is nothing"], tip=_TIP) from error
    except ToolError:
        raise
    except Exception as error:  # each store has its own kinds, and wraps those of three libraries
        found = [f"{type(error).__name__}: {error}".splitlines()[0]]
        raise ToolError(attempted, found=found, tip=_TIP) from error


def _find_time(system: Any, path: str) -> tuple[float, str]:
    """Return when the newest file below a path was written; 0 where a store does not say."""
    files = system.find(path, detail=True) if system.isdir(path) else {path: system.info(path)}
    times = [
        info.get(key) for info in files.values() for key in ("LastModified", "mtime", "updated")
    ]
    seconds = [time.timestamp() if hasattr(time, "timestamp") else time for time in times if time]
    return max((s for s in seconds if isinstance(s, int | float)), default=0.0), path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
