"""Find what should stay private in a file: keys, tokens and passwords, by line and rule.

What is looked for stands in secret_rules.py. A file that is no text (it has a NUL near its beginning) is
known by its name only. The value never leaves this module.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

from fftasks.stages.secret_rules import RULES, Rule, is_placeholder

HIDDEN = "•••"
_OVERLAP_BYTES = 1 << 13  # no rule looks further ahead
_BEHIND_BYTES = 64  # nor further back
_MOST = 20  # findings per file
_HEAD_BYTES = 1 << 13  # where a NUL says that a file is no text, as git has it
_ANYWHERE = tuple(rule for rule in RULES if not rule.paths)
_NAMED = tuple(rule for rule in RULES if rule.paths)


@dataclass(frozen=True)
class Finding:
    """A line of a file, counted from 1, and the rule that it meets."""

    line: int
    rule: str


class Token(NamedTuple):
    """A secret in a text: its kind, and where it begins and ends (in characters)."""

    kind: str
    begin: int
    end: int


def find_tokens(text: str) -> list[Token]:
    """Find the tokens, keys and passwords in a text, in the order in which they begin.

    A message about a token may name its kind and its place, never the text itself.

    Args:
        text: Any text, such as the argument of a node or a line of a log.

    Returns:
        The tokens, which do not overlap; an empty list if the text has none.
    """
    data = text.encode("utf-8", "surrogatepass")
    if not _compile_keywords().search(data):
        return []
    spans: list[tuple[int, int, str]] = []
    for rule in _ANYWHERE:
        if _may_match(rule, data):
            for match in rule.whole.finditer(data):
                group = "value" if "value" in match.re.groupindex else 0
                if not (group and is_placeholder(match[group])):
                    spans.append((*match.span(group), rule.name))
    tokens: list[Token] = []
    for begin, end, kind in sorted(spans):
        at = len(data[:begin].decode("utf-8", "surrogatepass"))
        if not tokens or at >= tokens[-1].end:
            length = len(data[begin:end].decode("utf-8", "surrogatepass"))
            tokens.append(Token(kind, at, at + length))
    return tokens


def hide_tokens(text: str) -> str:
    """Return a text with what is a token, a key or a password in any file taken out of it."""
    data = text.encode("utf-8", "surrogatepass")
    if not _compile_keywords().search(data):
        return text
    for rule in _ANYWHERE:
        if _may_match(rule, data):
            data = rule.whole.sub(_hide, data)
    return data.decode("utf-8", "surrogatepass")


def _hide(match: re.Match[bytes]) -> bytes:
    if "value" not in match.re.groupindex:
        return HIDDEN.encode()
    if is_placeholder(match["value"]):
        return match[0]
    begin, end = (at - match.start() for at in match.span("value"))
    return match[0][:begin] + HIDDEN.encode() + match[0][end:]


class Search:
    """A search through one file, piece by piece."""

    def __init__(self, path: str) -> None:
        """Begin; path is the file's, relative to the folder, with "/"."""
        self._rules: tuple[Rule, ...] = _ANYWHERE
        if _compile_names().search(path):
            self._rules += tuple(r for r in _NAMED if r.names.search(path))
        self._data = b""
        self._begin = -1  # where in the data to go on
        self._line = 1
        self._found: dict[int, str] = {}  # line -> rule; the first of the table counts

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """Look through the next piece."""
        if self._begin < 0:
            self._begin = 0
            if b"\0" in piece[:_HEAD_BYTES]:
                self._rules = tuple(rule for rule in self._rules if not rule.keywords)
        data = self._data + piece if self._data else piece
        end = len(data) if is_last else max(self._begin, len(data) - _OVERLAP_BYTES)
        for rule in self._rules:
            if _may_match(rule, data):
                self._note(rule, data, end)
        kept = max(0, end - _BEHIND_BYTES)
        self._line += data.count(b"\n", 0, kept)
        self._data, self._begin = data[kept:], end - kept

    def list_findings(self) -> list[Finding]:
        """Return what was found, in order, one a line; at most 20."""
        return [Finding(line, self._found[line]) for line in sorted(self._found)][:_MOST]

    def _note(self, rule: Rule, data: bytes, end: int) -> None:
        for match in rule.pattern.finditer(data, self._begin):
            if match.start() >= end or len(self._found) > _MOST:
                return
            if "value" not in rule.pattern.groupindex or not is_placeholder(match["value"]):
                line = self._line + data.count(b"\n", 0, match.start(rule.pattern.groups))
                self._found.setdefault(line, rule.name)


def _may_match(rule: Rule, data: bytes) -> bool:
    # a search for a word is many times faster than one for a pattern
    for word in rule.keywords:
        if word in data:  # any() would take as long as the search itself
            return True
    return not rule.keywords


@functools.cache
def _compile_keywords() -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(word) for rule in _ANYWHERE for word in rule.keywords))


@functools.cache
def _compile_names() -> re.Pattern[str]:
    """Return what finds the files that any of the rules for some files is for."""
    return re.compile("|".join(f"(?:{r.paths})" for r in _NAMED), re.IGNORECASE | re.VERBOSE)
