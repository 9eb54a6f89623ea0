"""A client of a registry that does not wait, and remembers what it said."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

from fftasks.registry.oci_registry import ImageManifest, Registry
from fftasks.registry.registry_auth import RegistryLogin

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


class Client(Registry):
    """A Registry; said: its sentences, waits: seconds that it would have waited."""

    def __init__(self, host: str, login: RegistryLogin | None = None, **options: Any) -> None:
        self.said: list[str] = []
        self.waits: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None
        super().__init__(host, login, say=self.said.append, pause=self._note, **options)

    def _note(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait()

    def push(self, repository: str, *blobs: bytes, tag: str = "1") -> list[int]:
        """Send an image with these layers; return the bytes that were sent for each blob."""
        *layers, config = (*blobs, b"{}")
        sent = [self.send_blob(repository, digest(blob), blob) for blob in (*layers, config)]
        self.write_manifest(repository, tag, make_manifest(*blobs))
        return sent


def digest(blob: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def make_blob(size: int = 1000) -> bytes:
    """Return a blob that no registry has seen."""
    return os.urandom(size)


def make_manifest(*layers: bytes) -> ImageManifest:
    """Return the manifest of an image of these layers, with the configuration {}."""
    content = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": {"mediaType": CONFIG, "digest": digest(b"{}"), "size": 2},
            "layers": [
                {"mediaType": LAYER, "digest": digest(blob), "size": len(blob)} for blob in layers
            ],
        }
    ).encode()
    return ImageManifest(IMAGE, content, digest(content))
