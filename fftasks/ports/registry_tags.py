"""Many tags of one repository: looked up and added, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fftasks.ports.registry import Registry

T = TypeVar("T")

_WORKERS = 8
_FEW = 16  # so many are looked up one by one, where a list of all tags may have thousands


class Tags:
    """The tags of a repository; `find` is a stages.pins.FindTags, `add` a stages.pins.AddTags.

    open_registry: gives the registry of a host; a connection is for one thread
    Both raise ToolError if the registry does not do it.
    """

    def __init__(self, open_registry: Callable[[str], Registry]) -> None:
        self._open = open_registry

    def find(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return the digest of each tag that is there."""
        host, _, path = repository.partition("/")
        if len(tags) > _FEW:
            there = set(self._open(host).list_tags(path))
            tags = [tag for tag in tags if tag in there]
        digests = self._map(host, lambda registry, tag: registry.find_digest(path, tag), tags)
        return {tag: digest for tag, digest in zip(tags, digests, strict=True) if digest}

    def add(self, repository: str, digest: str, tags: Sequence[str]) -> None:
        """Give an image more tags."""
        host, _, path = repository.partition("/")
        manifest = self._open(host).read_manifest(path, digest)
        self._map(host, lambda registry, tag: registry.write_manifest(path, tag, manifest), tags)

    def _map(self, host: str, act: Callable[[Registry, str], T], tags: Sequence[str]) -> list[T]:
        mine = threading.local()

        def do(tag: str) -> T:
            if not hasattr(mine, "registry"):
                mine.registry = self._open(host)
            return act(mine.registry, tag)

        if len(tags) <= 1:
            return [do(tag) for tag in tags]
        with ThreadPoolExecutor(min(_WORKERS, len(tags))) as pool:
            return list(pool.map(do, tags))
