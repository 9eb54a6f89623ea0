"""What of the project's folder gets into the image: .dockerignore, and what never does.

Never in, at any depth: `.git` and `.fftasks`. Out unless asked for: what Python's tools leave
(`CACHES`, `*.pyc`, and virtual environments, which are known by their pyvenv.cfg). An exception that
spells such a name out (`!**/__pycache__`, `!tools/venv`) takes it in, and below it only the
project's own lines count; `!src` alone does not bring `src/__pycache__` back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fftasks.errors import FFTasksError
from fftasks.stages.dockerignore import Ignore, Pattern, Verdict, parse

NEVER = frozenset({".git", ".fftasks"})
CACHES = frozenset(
    {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
_ENVIRONMENT = "pyvenv.cfg"
_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


class ContextError(FFTasksError):
    """Look at a file in the project's folder."""


@dataclass
class Listing:
    """Paths relative to the folder, with "/"; bytes that are not utf-8 are surrogates, as in os.

    files: path -> what stat() said when it was listed
    links: path -> what it points to, relative to where it is
    folders: those that nothing is taken from, in order; the others follow from what they hold
    left_out: what no image can hold -> "pipe", "socket" or "device"
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Folder:
    path: str = ""
    verdict: Verdict | None = None
    asked_for: bool = False  # in or below a cache that an exception spells out


def read_ignore(folder: Path, extra: tuple[str, ...] = ()) -> Ignore:
    """Return the patterns of the folder's .dockerignore, if it has one, and the extra ones.

    Raises SettingsError, with the line, for one that is not a pattern.
    """
    path = folder / ".dockerignore"
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        lines = []
    except OSError as exc:
        raise refuse(".dockerignore", exc) from exc
    return Ignore([*parse(lines, ".dockerignore"), *parse(extra, "setting context.ignore")])


def list_folder(folder: Path, ignore: Ignore, state: Path | None = None) -> Listing:
    """Return what of a folder gets in, sorted by path; sockets, pipes and devices do not.

    state: the state folder; if it is a link to a folder inside this one, that folder is left out as well

    Raises ContextError for a folder that cannot be read, and for a link that leaves the folder.
    """
    root = folder.resolve()
    hidden = os.path.realpath(state) if state else ""
    found = Listing()
    waiting = [_Folder()]
    while waiting:
        waiting += _list_one(root, waiting.pop(), ignore, found, hidden)
    holding = list_parents([*found.files, *found.links, *found.folders])
    return Listing(
        {path: found.files[path] for path in sorted(found.files)},
        {path: found.links[path] for path in sorted(found.links)},
        sorted(set(found.folders) - holding),
        dict(sorted(found.left_out.items())),
    )


def refuse(path: str, exc: OSError) -> ContextError:
    """Return the error for something in the folder that cannot be read."""
    return ContextError(
        f"context: {path!r} cannot be read",
        found=[exc.strerror or str(exc)],
        tip="make it readable, or name it in .dockerignore",
    )


def _list_one(
    root: Path, folder: _Folder, ignore: Ignore, found: Listing, hidden: str
) -> list[_Folder]:
    """Note what of a folder gets in; return the folders in it to look into."""
    try:
        with os.scandir(root / folder.path) as entries:
            kept = [entry for entry in entries if entry.name not in NEVER and entry.path != hidden]
        if folder.path:
            if not folder.asked_for and any(entry.name == _ENVIRONMENT for entry in kept):
                if not _is_asked_for(folder.path, ignore):
                    return []
                folder = replace(folder, asked_for=True)
            if folder.verdict is None or not folder.verdict.ignored:
                found.folders.append(folder.path)
        return [
            inner for entry in kept if (inner := _list_entry(root, folder, entry, ignore, found))
        ]
    except OSError as exc:
        if folder.path and isinstance(exc, FileNotFoundError):
            return []  # it went away since it was listed
        raise refuse(folder.path or str(root), exc) from exc


def _list_entry(
    root: Path, above: _Folder, entry: os.DirEntry[str], ignore: Ignore, found: Listing
) -> _Folder | None:
    """Note an entry that gets in; return it if it is a folder to look into."""
    name = entry.name
    path = f"{above.path}/{name}" if above.path else name
    verdict = ignore.check(path, above.verdict) if ignore.patterns else None
    asked_for = above.asked_for
    if not asked_for and (name.endswith(".pyc") or name in CACHES):
        if not _is_asked_for(path, ignore):
            return None
        asked_for = True
    ignored = verdict is not None and verdict.ignored
    if entry.is_dir(follow_symlinks=False):
        return _Folder(path, verdict, asked_for) if not ignored or ignore.reopens(path) else None
    if not ignored:
        with suppress(FileNotFoundError):  # it went away since, and what stands beside it did not
            _note(root, path, entry, found)
    return None


def _note(root: Path, path: str, entry: os.DirEntry[str], found: Listing) -> None:
    """Note what is no folder and not ignored."""
    if entry.is_symlink():
        found.links[path] = _read_link(root, path)
        return
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        found.files[path] = status
    else:
        found.left_out[path] = _KINDS.get(stat.S_IFMT(status.st_mode), "device")


def _is_asked_for(path: str, ignore: Ignore) -> bool:
    return any(_spells_out(exception, path) for exception in ignore.exceptions)


def _spells_out(exception: Pattern, path: str) -> bool:
    """Return whether an exception has the last name of a path in words, or one below the path."""
    text = exception.text.removesuffix("/**")
    if f"{text}/".startswith(f"{path}/"):
        return True
    name, last = path.rpartition("/")[2], text.rpartition("/")[2]
    return last in (name, "*.pyc") and exception.matches(path)


def _read_link(root: Path, path: str) -> str:
    """Return where a link points, relative to where it is; what it points to need not exist."""
    link = root / path
    try:
        target = os.readlink(link)  # noqa: PTH115  (a Path would tidy it up)
    except OSError as exc:
        raise refuse(path, exc) from exc
    inside = Path(os.path.realpath(link))
    if not inside.is_relative_to(root):
        raise ContextError(
            f"context: the link {path!r} leaves the project's folder",
            found=[f"it points to {target}"],
            tip="put a copy in its place, or name the link in .dockerignore",
        )
    # a way round through the outside is there on this machine, but not in the image
    lexical = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    if os.path.isabs(target) or lexical.split("/")[0] == "..":  # noqa: PTH117
        return os.path.relpath(inside, link.parent)
    return target


def list_parents(paths: Iterable[str]) -> set[str]:
    """Return all folders that paths lie in."""
    parents: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in parents:
            parents.add(parent)
            parent = parent.rpartition("/")[0]
    return parents
