"""List the data files of a project, which nodes may read besides code, with their digests.

All data files count for every node, unless `@workflow(reads=[...])` restricts them: a node may run too
often, but never return a stale result. Settings, requirements.txt, and files that nodes only write are not
data files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fftasks.cache.stat_cache import StatCache
from fftasks.config.ignore import read_ignore, walk_context
from fftasks.config.tree import Settings
from fftasks.records import digest_json

_CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".ipynb")


class ProjectDataFiles:
    """The current data files of a project. Each is read at most once, and only if its stat() has changed."""

    def __init__(
        self, root: Path, settings: Settings, folder: Path, only_written: Iterable[str]
    ) -> None:
        """Open the stat cache of data files.

        Args:
            root: Folder of the project.
            settings: Settings of the project.
            folder: State folder.
            only_written: Paths that nodes have written and no node has read.
        """
        self._root = root
        self._settings = settings
        self._folder = folder
        self._signatures = StatCache(folder / "data.signatures")
        self._not_data = frozenset(only_written) | {".dockerignore", settings.image.requirements}
        self._listed: dict[str, str] | None = None
        self._requirements: str | None = None

    def list_all(self) -> dict[str, str]:
        """Return the digests of all data files, by paths relative to the context folder."""
        if self._listed is None:
            context = self._settings.context
            folder = (self._root / context.folder).resolve()
            listing = walk_context(folder, read_ignore(folder, context.ignore), self._folder)
            paths = [path for path in listing.files if self.counts(path)]
            self._listed = {path: self._signatures.digest(folder / path) for path in paths}
        return self._listed

    def list_matching(self, reads: Iterable[str]) -> dict[str, str | None]:
        """Return the digests of the files that match patterns; None for a pattern without files.

        Args:
            reads: Glob patterns relative to the project's folder.
        """
        found: dict[str, str | None] = {}
        state = (f"{self._folder}/", f"{os.path.realpath(self._folder)}/")
        for pattern in reads:
            paths = [one for one in sorted(self._root.glob(pattern)) if one.is_file()]
            files = [path for path in paths if not str(path).startswith(state)]
            found |= {self._relate(path): self._signatures.digest(path) for path in files}
            if not files:
                found[pattern] = None
        return found

    def digest_requirements(self) -> str:
        """Return the digest of the lines of requirements.txt without comments; "" if there are none."""
        if self._requirements is None:
            self._requirements = _digest_requirement_lines(
                self._root / self._settings.image.requirements
            )
        return self._requirements

    def counts(self, path: str) -> bool:
        """Return whether a file of the context is a data file: not code, settings, or written by nodes."""
        return not (
            path.endswith(_CODE_SUFFIXES) or path in self._not_data or path.startswith("config/")
        )

    def _relate(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _digest_requirement_lines(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError):
        return ""
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    return digest_json(wanted) if wanted else ""
