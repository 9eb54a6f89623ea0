r"""What of the project's folder gets into the image: .dockerignore, and what never does.

Never in, at any depth: `.git` and `.fftasks`. Out unless asked for: what Python's tools leave
(`CACHES`, `*.pyc`, and virtual environments, which are known by their pyvenv.cfg). An exception that
spells such a name out (`!**/__pycache__`, `!tools/venv`) takes it in, and below it only the
project's own lines count; `!src` alone does not bring `src/__pycache__` back.

The patterns of .dockerignore: read, and matched against paths, as Docker's own client does.

The rules are those of the client's classic `docker build` (github.com/moby/patternmatcher, and the
walk in moby's archive package); the tests hold this file against a real one.

    line          what it says
    # note        a comment, only with "#" in the first column
    *.log         "*" and "?" stop at "/"; every pattern is anchored at the top of the folder
    **/*.log      "**" is any number of folders, none included
    data          a folder takes all that is below it along
    !data/keep    an exception: the last line that matches a path decides
    /data, ./data the same as data
    [a-c], \\*     a set of characters; a character that means itself

An excluded folder is looked into only for an exception that spells it out (`data`, `!data/keep`):
`!**/keep` does not open it, because the classic builder does not either (BuildKit does).
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
    """Look at a file in the project's folder."""


@dataclass
class ContextFiles:
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
    verdict: IgnoreMatch | None = None
    is_reincluded: bool = False  # in or below a cache that an exception spells out


def read_ignore(folder: Path, extra: tuple[str, ...] = ()) -> IgnoreRules:
    """Return the patterns of the folder's .dockerignore, if it has one, and the extra ones.

    Raises SettingsError, with the line, for one that is not a pattern.
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
    """Return what of a folder gets in, sorted by path; sockets, pipes and devices do not.

    state: the state folder; if it is a link to a folder inside this one, that folder is left out as well

    Raises ContextError for a folder that cannot be read, and for a link that leaves the folder.
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
    """Return the error for something in the folder that cannot be read."""
    return ContextError(
        f"context: {path!r} cannot be read",
        found=[exc.strerror or str(exc)],
        tip="make it readable, or name it in .dockerignore",
    )


def _walk_folder(
    root: Path, folder: _Folder, ignore: IgnoreRules, found: ContextFiles, hidden: str
) -> list[_Folder]:
    """Note what of a folder gets in; return the folders in it to look into."""
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
            return []  # it went away since it was listed
        raise make_read_error(folder.path or str(root), exc) from exc


def _visit_entry(
    root: Path, above: _Folder, entry: os.DirEntry[str], ignore: IgnoreRules, found: ContextFiles
) -> _Folder | None:
    """Note an entry that gets in; return it if it is a folder to look into."""
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
        with suppress(FileNotFoundError):  # it went away since, and what stands beside it did not
            _add_file(root, path, entry, found)
    return None


def _add_file(root: Path, path: str, entry: os.DirEntry[str], found: ContextFiles) -> None:
    """Note what is no folder and not ignored."""
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
        raise make_read_error(path, exc) from exc
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


# Go's filepath.Match refuses anything else, and with it Docker refuses the file
_ELEMENT = r"(?:\\.|[^\\\-\]])"
_PATTERN_SYNTAX = re.compile(rf"(?:\\.|\[\^?(?:{_ELEMENT}(?:-{_ELEMENT})?)+\]|[^\\\[])*", re.DOTALL)

_WILDCARDS = re.compile(r"\*\*|[*?\[\]\\]")
_WILDCARD_TOKENS = re.compile(r"\*\*/?|\\.?|.", re.DOTALL)
_WILDCARD_REGEXES = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class IgnorePattern:
    """One line of the file."""

    text: str
    exception: bool
    matches: Callable[[str], bool]


@dataclass(frozen=True)
class IgnoreMatch:
    """Whether a path stays out, and which patterns said so (its children inherit that)."""

    ignored: bool
    matched: tuple[bool, ...]


class IgnoreRules:
    """An ordered list of patterns, asked from the top of a folder downwards."""

    def __init__(self, patterns: Iterable[IgnorePattern] = ()) -> None:
        self.patterns = tuple(patterns)
        self.exceptions = tuple(pattern for pattern in self.patterns if pattern.exception)
        self._nothing = IgnoreMatch(ignored=False, matched=(False,) * len(self.patterns))

    @property
    def digest(self) -> str:
        """The digest of what the patterns say; comments and spaces do not count."""
        return digest_json([[pattern.text, pattern.exception] for pattern in self.patterns])

    def check(self, path: str, above: IgnoreMatch | None) -> IgnoreMatch:
        """Return the verdict on a path ("a/b", no leading slash), given that on its folder.

        above: None for what lies at the top of the context.
        """
        ignored = False
        inherited = self._nothing.matched if above is None else above.matched
        matched = []
        for pattern, above_matched in zip(self.patterns, inherited, strict=True):
            match = above_matched
            # an exception is only asked while the path is out, and the others while it is in:
            # which of them the children inherit depends on this, so it is not only a short cut
            if not match and pattern.exception == ignored:
                match = pattern.matches(path)
            if match:
                ignored = not pattern.exception
            matched.append(match)
        # most paths meet none of them
        return IgnoreMatch(ignored, tuple(matched)) if True in matched else self._nothing

    def may_reinclude(self, folder: str) -> bool:
        """Return whether an exception spells out this ignored folder or something below it."""
        prefix = f"{folder}/"
        return any(f"{pattern.text}/".startswith(prefix) for pattern in self.exceptions)


def parse_patterns(lines: Sequence[str], source: str) -> list[IgnorePattern]:
    """Return the patterns that the lines of a file hold.

    source: what an error says the lines come from. Raises SettingsError with the line's number
    for a pattern that Docker would refuse as well.
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
                f"context: {source} line {number} is no pattern: {text.strip()!r}",
                found=[str(exc)],
                tip="see the table of patterns in Docker's reference of .dockerignore",
            ) from exc
    return patterns


def escape_path(path: str) -> str:
    """Return a line that matches a path and what is below it, and nothing else."""
    line = re.sub(r"([\\*?\[\]])", r"\\\1", path)
    return f"\\{line}" if line[:1] in ("#", "!") else line


def _parse_line(text: str) -> IgnorePattern:
    # Docker tidies up a line when it reads the file, and what comes of that once more
    # when it makes a pattern of it: "./!a" is an exception
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
    # POSIX keeps two leading slashes apart from one; Docker does not
    return re.sub(r"^//", "/", posixpath.normpath(path))


def _make_matcher(text: str) -> Callable[[str], bool]:
    marks = _WILDCARDS.findall(text)
    if not marks:
        return text.__eq__
    if marks == ["**"] and text.startswith("**"):
        # "**/a" and "**a": whatever ends in it, so "**a" also takes "ba" (as Docker does)
        ending, alone = text[2:], text[2:].removeprefix("/")
        return lambda path: path.endswith(ending) or path == alone
    if marks == ["**"] and text.endswith("**"):
        beginning = text[:-2]
        return lambda path: path.startswith(beginning)
    with warnings.catch_warnings():
        # a "[" inside of a set is a plain character to Go, and to Python with a warning
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
