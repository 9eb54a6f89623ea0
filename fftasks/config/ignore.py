r"""List the files of the project that become part of the image, by .dockerignore and fixed rules.

`.git` and `.fftasks` are never included. Caches of Python's tools (`CACHE_FOLDERS`, `*.pyc`) and virtual
environments (folders with a pyvenv.cfg) are excluded unless an exception names them (`!**/__pycache__`,
`!tools/venv`). Below such an exception only the lines of the project count. `!src` alone does not include
`src/__pycache__`.

Patterns are parsed and matched as Docker's client does for the classic `docker build`. Source:
github.com/moby/patternmatcher, and the walk in moby's archive package. Tests compare this module with a
real client.

    line          meaning
    # note        a comment, only with "#" in the first column
    *.log         "*" and "?" do not match "/"; patterns are relative to the top of the folder
    **/*.log      "**" matches any number of folders, also none
    data          a folder includes everything below it
    !data/keep    an exception; the last line that matches a path decides
    /data, ./data the same as data
    [a-c], \\*     a set of characters; an escaped character

An excluded folder is searched only for an exception that names it (`data`, `!data/keep`). `!**/keep` does
not include data/keep, as in the classic builder; BuildKit includes it.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fftasks.errors import FFTasksError, SettingsError
from fftasks.records import digest_json
from fftasks.state_folder import STATE_FOLDER

ALWAYS_EXCLUDED = frozenset({".git", STATE_FOLDER})
CACHE_FOLDERS = frozenset(
    {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
_VENV_MARKER = "pyvenv.cfg"
_FILE_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


class ContextError(FFTasksError):
    """Fix a file in the project's folder."""


@dataclass
class ContextFiles:
    """The included files of a folder.

    Paths are relative to the folder, with "/"; bytes that are not UTF-8 are surrogates.

    Attributes:
        files: Path -> result of stat() when the folder was listed.
        links: Path of a link -> its target, relative to the folder of the link.
        folders: Empty folders, in order; all other folders follow from the files.
        left_out: Path of a file that an image cannot contain -> "pipe", "socket" or "device".
    """

    files: dict[str, os.stat_result] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Folder:
    path: str = ""
    verdict: IgnoreMatch | None = None
    is_reincluded: bool = False  # in or below a cache that an exception names


def read_ignore(folder: Path, extra: tuple[str, ...] = ()) -> IgnoreRules:
    """Return the patterns of the folder's .dockerignore, if it has one, and the extra ones.

    Args:
        folder: The folder.
        extra: More patterns, from the setting context.ignore.

    Raises:
        SettingsError: A pattern is invalid; the message has the line.
    """
    path = folder / ".dockerignore"
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        lines = []
    except OSError as exc:
        raise make_read_error(".dockerignore", exc) from exc
    return IgnoreRules(
        [*parse_patterns(lines, ".dockerignore"), *parse_patterns(extra, "setting context.ignore")]
    )


def walk_context(folder: Path, ignore: IgnoreRules, state: Path | None = None) -> ContextFiles:
    """Return the included files of a folder, sorted by path; sockets, pipes and devices are left out.

    Args:
        folder: The folder.
        ignore: Patterns of excluded files.
        state: The state folder. If it is a link to a folder inside this one, that folder is excluded, too.

    Raises:
        ContextError: A folder cannot be read, or a link leads out of the folder.
    """
    root = folder.resolve()
    hidden = os.path.realpath(state) if state else ""
    found = ContextFiles()
    waiting = [_Folder()]
    while waiting:
        waiting += _walk_folder(root, waiting.pop(), ignore, found, hidden)
    holding = list_parents([*found.files, *found.links, *found.folders])
    return ContextFiles(
        {path: found.files[path] for path in sorted(found.files)},
        {path: found.links[path] for path in sorted(found.links)},
        sorted(set(found.folders) - holding),
        dict(sorted(found.left_out.items())),
    )


def make_read_error(path: str, exc: OSError) -> ContextError:
    """Return the error for a file or folder that cannot be read."""
    return ContextError(
        f"context: {path!r} cannot be read",
        found=[exc.strerror or str(exc)],
        tip="make it readable, or name it in .dockerignore",
    )


def _walk_folder(
    root: Path, folder: _Folder, ignore: IgnoreRules, found: ContextFiles, hidden: str
) -> list[_Folder]:
    """Add the included files of one folder; return the folders to visit."""
    try:
        with os.scandir(root / folder.path) as entries:
            kept = [
                entry
                for entry in entries
                if entry.name not in ALWAYS_EXCLUDED and entry.path != hidden
            ]
        if folder.path:
            if not folder.is_reincluded and any(entry.name == _VENV_MARKER for entry in kept):
                if not _is_reincluded(folder.path, ignore):
                    return []
                folder = replace(folder, is_reincluded=True)
            if folder.verdict is None or not folder.verdict.ignored:
                found.folders.append(folder.path)
        return [
            inner for entry in kept if (inner := _visit_entry(root, folder, entry, ignore, found))
        ]
    except OSError as exc:
        if folder.path and isinstance(exc, FileNotFoundError):
            return []  # it was removed after it was listed
        raise make_read_error(folder.path or str(root), exc) from exc


def _visit_entry(
    root: Path, above: _Folder, entry: os.DirEntry[str], ignore: IgnoreRules, found: ContextFiles
) -> _Folder | None:
    """Add an included entry; return it if it is a folder to visit."""
    name = entry.name
    path = f"{above.path}/{name}" if above.path else name
    verdict = ignore.check(path, above.verdict) if ignore.patterns else None
    is_reincluded = above.is_reincluded
    if not is_reincluded and (name.endswith(".pyc") or name in CACHE_FOLDERS):
        if not _is_reincluded(path, ignore):
            return None
        is_reincluded = True
    ignored = verdict is not None and verdict.ignored
    if entry.is_dir(follow_symlinks=False):
        return (
            _Folder(path, verdict, is_reincluded)
            if not ignored or ignore.may_reinclude(path)
            else None
        )
    if not ignored:
        with suppress(FileNotFoundError):  # the file was removed after it was listed
            _add_file(root, path, entry, found)
    return None


def _add_file(root: Path, path: str, entry: os.DirEntry[str], found: ContextFiles) -> None:
    """Add a file or link."""
    if entry.is_symlink():
        found.links[path] = _read_link(root, path)
        return
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        found.files[path] = status
    else:
        found.left_out[path] = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), "device")


def _is_reincluded(path: str, ignore: IgnoreRules) -> bool:
    return any(_names_explicitly(exception, path) for exception in ignore.exceptions)


def _names_explicitly(exception: IgnorePattern, path: str) -> bool:
    """Return whether an exception names the last part of a path literally, or a path below it."""
    text = exception.text.removesuffix("/**")
    if f"{text}/".startswith(f"{path}/"):
        return True
    name, last = path.rpartition("/")[2], text.rpartition("/")[2]
    return last in (name, "*.pyc") and exception.matches(path)


def _read_link(root: Path, path: str) -> str:
    """Return the target of a link, relative to its folder; the target need not exist."""
    link = root / path
    try:
        target = os.readlink(link)  # noqa: PTH115  (Path would normalize it)
    except OSError as exc:
        raise make_read_error(path, exc) from exc
    inside = Path(os.path.realpath(link))
    if not inside.is_relative_to(root):
        raise ContextError(
            f"context: the link {path!r} leaves the project's folder",
            found=[f"it points to {target}"],
            tip="put a copy in its place, or name the link in .dockerignore",
        )
    # a path through a folder outside exists on this machine, but not in the image
    lexical = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    if os.path.isabs(target) or lexical.split("/")[0] == "..":  # noqa: PTH117
        return os.path.relpath(inside, link.parent)
    return target


def list_parents(paths: Iterable[str]) -> set[str]:
    """Return all parent folders of some paths."""
    parents: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in parents:
            parents.add(parent)
            parent = parent.rpartition("/")[0]
    return parents


# Docker rejects a file with any other pattern, because filepath.Match of Go does
_ELEMENT = r"(?:\\.|[^\\\-\]])"
_PATTERN_SYNTAX = re.compile(rf"(?:\\.|\[\^?(?:{_ELEMENT}(?:-{_ELEMENT})?)+\]|[^\\\[])*", re.DOTALL)

_WILDCARDS = re.compile(r"\*\*|[*?\[\]\\]")
_WILDCARD_TOKENS = re.compile(r"\*\*/?|\\.?|.", re.DOTALL)
_WILDCARD_REGEXES = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class IgnorePattern:
    """One line of .dockerignore."""

    text: str
    exception: bool
    matches: Callable[[str], bool]


@dataclass(frozen=True)
class IgnoreMatch:
    """Result of matching a path: whether it is excluded, and which patterns matched it."""

    ignored: bool
    matched: tuple[bool, ...]


class IgnoreRules:
    """An ordered list of patterns; a folder is checked before the paths in it."""

    def __init__(self, patterns: Iterable[IgnorePattern] = ()) -> None:
        self.patterns = tuple(patterns)
        self.exceptions = tuple(pattern for pattern in self.patterns if pattern.exception)
        self._nothing = IgnoreMatch(ignored=False, matched=(False,) * len(self.patterns))

    @property
    def digest(self) -> str:
        """Digest of the patterns, without comments and spaces."""
        return digest_json([[pattern.text, pattern.exception] for pattern in self.patterns])

    def check(self, path: str, above: IgnoreMatch | None) -> IgnoreMatch:
        """Match a path.

        Args:
            path: The path, such as "a/b".
            above: Result for the parent folder; None at the top of the context.
        """
        ignored = False
        inherited = self._nothing.matched if above is None else above.matched
        matched = []
        for pattern, above_matched in zip(self.patterns, inherited, strict=True):
            match = above_matched
            # exceptions are matched only while the path is excluded, other patterns only while it is
            # included. This is not only faster: it decides which matches the paths below inherit.
            if not match and pattern.exception == ignored:
                match = pattern.matches(path)
            if match:
                ignored = not pattern.exception
            matched.append(match)
        # most paths match no pattern
        return IgnoreMatch(ignored, tuple(matched)) if True in matched else self._nothing

    def may_reinclude(self, folder: str) -> bool:
        """Return whether an exception names an excluded folder, or a path below it."""
        prefix = f"{folder}/"
        return any(f"{pattern.text}/".startswith(prefix) for pattern in self.exceptions)


def parse_patterns(lines: Sequence[str], source: str) -> list[IgnorePattern]:
    """Parse the lines of a file.

    Args:
        lines: The lines.
        source: Origin of the lines, for messages.

    Raises:
        SettingsError: Docker would reject a pattern, too; the message has the number of the line.
    """
    patterns = []
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix("\ufeff") if number == 1 else line
        if text.startswith("#") or not text.strip():
            continue
        try:
            patterns.append(_parse_line(text.strip()))
        except (ValueError, re.error) as exc:
            raise SettingsError(
                f"context: {source} line {number} is not a valid pattern: {text.strip()!r}",
                found=[str(exc)],
                tip="see the table of patterns in Docker's reference of .dockerignore",
            ) from exc
    return patterns


def escape_path(path: str) -> str:
    """Return a line that matches only a path and all paths below it."""
    line = re.sub(r"([\\*?\[\]])", r"\\\1", path)
    return f"\\{line}" if line[:1] in ("#", "!") else line


def _parse_line(text: str) -> IgnorePattern:
    # Docker normalizes a line when it reads the file, and again when it compiles the pattern, so "./!a"
    # is an exception
    mark = "!" if text.startswith("!") else ""
    cleaned = text.removeprefix(mark).strip()
    cleaned = _clean(cleaned) if cleaned else ""
    cleaned = cleaned[1:] if len(cleaned) > 1 and cleaned[0] == "/" else cleaned
    cleaned = _clean(f"{mark}{cleaned}".strip())
    exception = cleaned.startswith("!")
    cleaned = cleaned.removeprefix("!") if exception else cleaned
    if exception and not cleaned:
        raise ValueError('"!" with nothing to bring back')
    if not _PATTERN_SYNTAX.fullmatch(cleaned):
        raise ValueError('a "[" without its "]", an empty set, or a "\\" at the end')
    if "[[:" in cleaned:
        raise ValueError("named sets such as [[:alpha:]] are not supported here")
    return IgnorePattern(cleaned, exception, _make_matcher(cleaned))


def _clean(path: str) -> str:
    # POSIX distinguishes two leading slashes from one; Docker does not
    return re.sub(r"^//", "/", posixpath.normpath(path))


def _make_matcher(text: str) -> Callable[[str], bool]:
    marks = _WILDCARDS.findall(text)
    if not marks:
        return text.__eq__
    if marks == ["**"] and text.startswith("**"):
        # "**/a" and "**a" match the end of a path, so "**a" also matches "ba", as in Docker
        ending, alone = text[2:], text[2:].removeprefix("/")
        return lambda path: path.endswith(ending) or path == alone
    if marks == ["**"] and text.endswith("**"):
        beginning = text[:-2]
        return lambda path: path.startswith(beginning)
    with warnings.catch_warnings():
        # a "[" inside a set is a literal in Go; Python warns about it
        warnings.simplefilter("ignore", FutureWarning)
        compiled = re.compile(_translate(text), re.ASCII)
    return lambda path: compiled.fullmatch(path) is not None


def _translate(text: str) -> str:
    """Return a pattern as a regular expression; see the table at the top."""
    out = []
    for match in _WILDCARD_TOKENS.finditer(text):
        mark = match.group()
        if mark.startswith("**"):
            out.append(".*" if match.end() == len(text) else "(?:.*/)?")
        elif mark in _WILDCARD_REGEXES:
            out.append(_WILDCARD_REGEXES[mark])
        else:
            out.append(f"\\{mark}" if mark in ".+()|{}$" else mark)
    return "".join(out)
