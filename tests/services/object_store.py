"""The bucket of a cluster, as a folder on this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_LOCAL = {"minio://": "minio/", "s3://": "s3/", "gs://": "gcs/"}


@dataclass(frozen=True)
class ObjectStore:
    """Artifacts by uri (minio://bucket/key, s3://…, gs://…): files or folders below one folder."""

    folder: Path

    def get_path(self, uri: str) -> Path:
        """Return where an artifact is kept, whether it is there or not."""
        return self.folder / get_local_path(uri).relative_to("/")

    def upload(self, source: Path, uri: str) -> bool:
        """Keep a copy of a file or folder; return False if there is none at source."""
        return _copy(source, self.get_path(uri))

    def download(self, uri: str, target: Path) -> bool:
        """Make a copy of an artifact at target; return False if there is none."""
        return _copy(self.get_path(uri), target)


def get_local_path(uri: str) -> Path:
    """Return where the launcher puts an artifact in a pod; ValueError for an unknown scheme.

    minio://bucket/key   /minio/bucket/key
    s3://bucket/key      /s3/bucket/key
    gs://bucket/key      /gcs/bucket/key
    """
    for scheme, root in _LOCAL.items():
        if uri.startswith(scheme):
            return Path("/" + root + uri.removeprefix(scheme))
    raise ValueError(f"failed to generate local path for URI {uri}: unsupported storage scheme")


def _copy(source: Path, target: Path) -> bool:
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
    return True
