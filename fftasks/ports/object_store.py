"""Port object store: what runs on the cluster have left there, found and brought here.

Through fsspec, which speaks to S3, MinIO, Google's store and folders alike, with everybody's ways to prove
who they are; s3fs and gcsfs below it are extras, for only those need them who bring results here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError, ToolError
from fftasks.ports.credentials import is_google, parse_address, parse_origin

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
    if kind == "gs":
        endpoint = _check_endpoint(settings.endpoint)
        if not endpoint:  # gcsfs takes it from this variable then, and sends the token there
            is_emulated = os.environ.get("STORAGE_EMULATOR_HOST", "default") not in ("", "default")
            return {"token": "anon"} if is_emulated else {}
        origin = parse_origin(endpoint)
        is_for_google = origin.scheme == "https" and is_google(origin.host)
        return {"endpoint_url": endpoint} | ({} if is_for_google else {"token": "anon"})
    return {}


def _check_endpoint(endpoint: str) -> str:
    """Return object_store.endpoint as every HTTP client understands it, "" for none."""
    if not endpoint:
        return ""
    try:
        return parse_address(endpoint).url
    except ValueError as error:
        shown = "" if "@" in endpoint else f" {endpoint!r}"
        raise SettingsError(
            f"object_store.endpoint{shown} is invalid: {error}",
            tip="write http://HOST:PORT or https://HOST; credentials belong into object_store.access_key"
            " and object_store.secret_key",
        ) from None


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
