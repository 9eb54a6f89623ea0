"""What nodes may read in the image besides code: files, links and empty folders of the context."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from fftasks.record import Record, digest_json


class Contents:
    """What a record of the context holds, as far as nodes may read it.

    counts: tells whether a path is data; code, settings and what nodes write are not
    find: gives the paths of files that a pattern names in the copy, links followed
    """

    def __init__(
        self, context: Record, counts: Callable[[str], bool], find: Callable[[str], Iterable[str]]
    ) -> None:
        self._context = context
        self._counts = counts
        self._find = find

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """The digests of all data files by their paths; one that can be executed says so."""
        return {path: digest for path, digest in self._digests.items() if self._counts(path)}

    def list_all(self) -> dict[str, str]:
        """Return the digests of all data files by their paths."""
        return self.files

    def digest_all(self) -> str:
        """Return the digest of all of it, "" if there is nothing."""
        return self._all

    def digest_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of the files that patterns name, by path; None for what is not there.

        A file that .dockerignore keeps out of the image is not there.
        """
        found: dict[str, str | None] = {}
        for pattern in reads:
            paths = list(self._find(pattern))
            found |= {path: self._digests.get(path) for path in paths} or {pattern: None}
        return found

    @functools.cached_property
    def _all(self) -> str:
        links = [[path, to] for path, to in self._context["links"]]
        everything = [self.files, links, self._context["folders"]]
        return digest_json(everything) if any(everything) else ""

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        return {
            path: f"{digest} executable" if executable else digest
            for path, _size, digest, executable in self._context["files"]
        }
