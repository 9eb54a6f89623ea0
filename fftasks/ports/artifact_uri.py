"""Parse artifact URIs of Kubeflow Pipelines.

    minio://<bucket>/<key>?<query>     also s3:// and gs://

A query describes how the cluster reaches the bucket. It is ignored, because this machine may use another way.
Source: ParseBucketConfig in backend/src/v2/objectstore/config.go of kubeflow/pipelines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fftasks.errors import ToolError
from fftasks.paths import check_name, split_path

SCHEMES = {"minio": "s3", "s3": "s3", "gs": "gs"}  # scheme -> API of the store

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,221}")


@dataclass(frozen=True)
class ArtifactURI:
    """A location in an object store: an artifact, or a prefix of artifacts.

    Attributes:
        scheme: One of SCHEMES.
        bucket: The name of the bucket.
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
                return cls(scheme, bucket, split_path(key) if slash else ())
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
        """Return the location of a child; raise ToolError for a name that cannot be a part of a key."""
        checked = (check_name(name, f"name below {self}") for name in names)
        return ArtifactURI(self.scheme, self.bucket, (*self.names, *checked))

    def is_below(self, root: ArtifactURI) -> bool:
        """Return whether this location is below another one, compared part by part."""
        place = (self.scheme, self.bucket) == (root.scheme, root.bucket)
        depth = len(root.names)
        return place and len(self.names) > depth and self.names[:depth] == root.names
