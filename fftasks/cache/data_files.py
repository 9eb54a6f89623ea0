"""Data files: what of a project nodes may read besides code.

All of them count for every node, unless `@workflow(reads=[...])` says which; being coarse is allowed, being
stale never. Left out are settings, what pip reads, and what nodes were seen to write and none to read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fftasks.cache.stat_cache import StatCache
from fftasks.config.ignore import list_folder, read_ignore
from fftasks.config.tree import Settings
from fftasks.records import digest_json

_CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".ipynb")


class ProjectDataFiles:
    """The data files of a project as they are now; each is read at most once, and only if stat() differs.

    made: paths that nodes were seen to write and none to read
    """

    def __init__(
        self, root: Path, settings: Settings, folder: Path, only_written: Iterable[str]
    ) -> None:
        self._root = root
        self._settings = settings
        self._folder = folder
        self._signatures = StatCache(folder / "data.signatures")
        self._not_data = frozenset(only_written) | {".dockerignore", settings.image.requirements}
        self._listed: dict[str, str] | None = None
        self._requirements: str | None = None

    def list_all(self) -> dict[str, str]:
        """Return the digests of all data files by their paths, relative to the project's folder."""
        if self._listed is None:
            context = self._settings.context
            folder = (self._root / context.folder).resolve()
            listing = list_folder(folder, read_ignore(folder, context.ignore), self._folder)
            paths = [path for path in listing.files if self.counts(path)]
            self._listed = {path: self._signatures.digest(folder / path) for path in paths}
        return self._listed

    def list_matching(self, reads: Iterable[str]) -> dict[str, str | None]:
        """Return the digests of the files that a node says it reads; None for what is not there."""
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
        """Return the digest of what requirements.txt asks for, without comments; "" if there is none."""
        if self._requirements is None:
            self._requirements = _digest_requirement_lines(
                self._root / self._settings.image.requirements
            )
        return self._requirements

    def counts(self, path: str) -> bool:
        """Tell whether a file of the context is data: not code, settings, or what nodes write."""
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
