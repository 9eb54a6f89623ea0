r"""The patterns of .dockerignore: read, and matched against paths, as Docker's own client does.

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

import posixpath
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fftasks.errors import SettingsError
from fftasks.record import digest_json

# Go's filepath.Match refuses anything else, and with it Docker refuses the file
_ELEMENT = r"(?:\\.|[^\\\-\]])"
_SYNTAX = re.compile(rf"(?:\\.|\[\^?(?:{_ELEMENT}(?:-{_ELEMENT})?)+\]|[^\\\[])*", re.DOTALL)

_SPECIAL = re.compile(r"\*\*|[*?\[\]\\]")
_MARKS = re.compile(r"\*\*/?|\\.?|.", re.DOTALL)
_EXPRESSIONS = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Pattern:
    """One line of the file."""

    text: str
    exception: bool
    matches: Callable[[str], bool]


@dataclass(frozen=True)
class Verdict:
    """Whether a path stays out, and which patterns said so (its children inherit that)."""

    ignored: bool
    matched: tuple[bool, ...]


class Ignore:
    """An ordered list of patterns, asked from the top of a folder downwards."""

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        self.patterns = tuple(patterns)
        self.exceptions = tuple(pattern for pattern in self.patterns if pattern.exception)
        self._nothing = Verdict(ignored=False, matched=(False,) * len(self.patterns))

    @property
    def digest(self) -> str:
        """The digest of what the patterns say; comments and spaces do not count."""
        return digest_json([[pattern.text, pattern.exception] for pattern in self.patterns])

    def check(self, path: str, above: Verdict | None) -> Verdict:
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
        return Verdict(ignored, tuple(matched)) if True in matched else self._nothing

    def reopens(self, folder: str) -> bool:
        """Return whether an exception spells out this ignored folder or something below it."""
        prefix = f"{folder}/"
        return any(f"{pattern.text}/".startswith(prefix) for pattern in self.exceptions)


def parse(lines: Sequence[str], source: str) -> list[Pattern]:
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


def quote(path: str) -> str:
    """Return a line that matches a path and what is below it, and nothing else."""
    line = re.sub(r"([\\*?\[\]])", r"\\\1", path)
    return f"\\{line}" if line[:1] in ("#", "!") else line


def _parse_line(text: str) -> Pattern:
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
    if not _SYNTAX.fullmatch(cleaned):
        raise ValueError('a "[" without its "]", an empty set, or a "\\" at the end')
    if "[[:" in cleaned:
        raise ValueError("named sets such as [[:alpha:]] are not supported here")
    return Pattern(cleaned, exception, _make_matcher(cleaned))


def _clean(path: str) -> str:
    # POSIX keeps two leading slashes apart from one; Docker does not
    return re.sub(r"^//", "/", posixpath.normpath(path))


def _make_matcher(text: str) -> Callable[[str], bool]:
    marks = _SPECIAL.findall(text)
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
    for match in _MARKS.finditer(text):
        mark = match.group()
        if mark.startswith("**"):
            out.append(".*" if match.end() == len(text) else "(?:.*/)?")
        elif mark in _EXPRESSIONS:
            out.append(_EXPRESSIONS[mark])
        else:
            out.append(f"\\{mark}" if mark in ".+()|{}$" else mark)
    return "".join(out)
