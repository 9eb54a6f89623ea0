"""Find the tokens whose formats token_formats.py defines.

Searching a text for 250 prefixes one after the other would take longer than copying the file. Instead, one
pass finds the few long words of the text, and a word is a candidate only if it begins with a known prefix.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from fftasks.secrets.token_formats import ALPHABETS, FORMATS, TokenFormat

SHORTEST_WORD = 20
NEAR_BYTES = 100  # maximum distance between the name of the issuer and the token

_WORD = b"+-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_INSIDE = bytes(97 if code in _WORD else 32 for code in range(256))
_RUN = b"a" * SHORTEST_WORD
_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONG_MARK, _LONGEST_BEGINNING = 20, 60
_CHECKSUM_LENGTH = 6
_PUNCTUATION = b"+-./"
_PART = re.compile(rf"({'|'.join(ALPHABETS)})(\d+)(?:-(\d+)|(\+))?")
_UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_LONGEST = 1024
_CHANGE = re.compile(rb"[a-z](?=[A-Z0-9])|[A-Z](?=[0-9])|[0-9](?=[A-Za-z])")
_DIGIT = re.compile(rb"\d")
_NAMED = re.compile(rb"(?:key|token|secret)[\"']?\s{0,3}[:=]\s{0,3}[\"']?$")
_LEAST_CHANGES, _CHANGE_EVERY = 3, 5
_MARK = re.compile(rb"[_.-]")
_GLUED_KEY = 3  # bytes
_LONG_PREFIX = 5
_PLAIN = re.compile(rb"[a-z_.-]*|[A-Z_.-]*")


class TokenMatch(NamedTuple):
    """A token in a text: its format, and where it begins and ends in the text."""

    format: TokenFormat
    begin: int
    end: int


class _Candidate:
    """A format, whose pattern is compiled when a text first needs it."""

    def __init__(self, form: TokenFormat) -> None:
        self.format = form

    @functools.cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Pattern for the whole token."""
        prefixes = "|".join(re.escape(prefix) for prefix in self.format.prefixes)
        parts = [f"(?:{prefixes})", *(_compile_part(part) for part in self.format.rest)]
        return re.compile(f"{''.join(parts)}{_compile_end(self.format.rest[-1])}".encode())

    @functools.cached_property
    def near(self) -> re.Pattern[bytes]:
        """Pattern for the words; one of them must precede the token."""
        return _compile_words(self.format.near)

    def find(self, data: bytes, at: int, before: bytes | None = None) -> TokenMatch | None:
        """Return the token that begins at a position.

        Args:
            data: The text.
            at: Position of the token in the text.
            before: Text before the token, in which words nearby are searched; None for the text before the
                position on the same line.

        Returns:
            The token; None if there is none.
        """
        match = self.pattern.match(data, at)
        if match is None or not _is_token(self.format, match[0]):
            return None
        before = _get_line(data, at) if before is None else before
        if self.format.near and not self.near.search(before):
            return None
        return TokenMatch(self.format, at, match.end())


class _Matcher(NamedTuple):
    """The formats, grouped by how they are found: prefixes, marks in words, other marks, words nearby."""

    by_prefix: dict[bytes, list[_Candidate]]  # the first 4, 3 or 2 bytes of a word
    beginnings: frozenset[bytes]  # the first 2 bytes
    inside: list[_Candidate]
    by_mark: list[tuple[bytes, _Candidate]]
    near: list[_Candidate]
    near_words: re.Pattern[bytes]
    glued: dict[bytes, list[_Candidate]]  # the last three bytes of a prefix, which end in a mark


def list_words(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each long word of letters, digits and "+-./_" that begins in a range."""
    inside = data.translate(_INSIDE)
    at = begin
    if begin and inside[begin - 1] == _RUN[0]:
        at = inside.find(b" ", begin)  # skip the rest of a word that began before the range
    while 0 <= (at := inside.find(_RUN, at)) < end:
        until = inside.find(b" ", at + SHORTEST_WORD)
        until = len(data) if until < 0 else until
        yield at, until
        at = until


def find_token_in_word(
    data: bytes, begin: int, end: int, *, near: bool, hint: bytes = b""
) -> TokenMatch | None:
    """Return the token that a word is or begins with.

    Args:
        data: The text around the word.
        begin: Where the word begins, as list_words() says.
        end: Where it ends.
        near: Also look for the formats that only a word nearby distinguishes.
        hint: Words that count as nearby if the word before is "key" or "token": the file's name.
    """
    starts = _list_starts(data, begin, end)
    for at in starts:
        found = _find_prefixed(data, at)
        # in Base64 any prefix occurs by chance behind a "/"
        if found and not (
            at > begin + _CHECKSUM_LENGTH and is_random(data[max(begin, at - _LONGEST) : at])
        ):
            return found
    has_digit = _DIGIT.search(data, begin, end) is not None
    if has_digit and (found := _find_glued(data, begin, min(end, begin + _LONGEST))):
        return found
    at = starts[0]
    if not has_digit or not is_random(data[at : min(end, at + NEAR_BYTES)]):
        return None
    matcher = _compile()
    candidates, before = matcher.inside, _get_line(data, at)
    if hint and _NAMED.search(before):
        before = hint + before
    if near and matcher.near_words.search(before):
        candidates = candidates + matcher.near
    return next(filter(None, (one.find(data, at, before) for one in candidates)), None)


def find_token_in_binary(data: bytes, begin: int, end: int) -> TokenMatch | None:
    """Return the token in a word of a binary file, in which other text may directly precede the token."""
    for at in range(begin, end - SHORTEST_WORD + 1):
        # in the middle of other text, a prefix that consists of letters does not identify a token
        if data[at + 3 : at + 12].strip(_ALNUM) and (found := _find_prefixed(data, at)):
            return found
    return None


def _find_prefixed(data: bytes, at: int) -> TokenMatch | None:
    matcher = _compile()
    if data[at : at + 2] in matcher.beginnings:
        for length in (4, 3, 2):
            for candidate in matcher.by_prefix.get(data[at : at + length], ()):
                if found := candidate.find(data, at):
                    return found
    return None


def _find_glued(data: bytes, begin: int, end: int) -> TokenMatch | None:
    """Return the token behind other letters and digits in a word, if its format leaves no doubt.

    Either its checksum is right, or it looks random and follows a prefix that ends in "_", "-" or "." and is
    long, or is shorter and belongs to a format of exactly one length.
    """
    glued = _compile().glued
    for mark in _MARK.finditer(data, begin + 2, end):
        for candidate in glued.get(data[mark.end() - _GLUED_KEY : mark.end()], ()):
            for prefix in candidate.format.prefixes:
                at = mark.end() - len(prefix)
                if at > begin and data.startswith(prefix.encode(), at):
                    found = candidate.find(data, at)
                    if found and _is_certain(found.format, data[at : found.end], len(prefix)):
                        return found
    return None


def _is_certain(form: TokenFormat, token: bytes, prefix: int) -> bool:
    return has_valid_checksum(token) if form.has_checksum else is_random(token[prefix:])


def _may_be_glued(form: TokenFormat, prefix: str) -> bool:
    """Return whether a token counts although other characters precede its prefix in the same word."""
    if len(prefix) <= _GLUED_KEY or not _MARK.fullmatch(prefix[-1:].encode()) or form.near:
        return False
    parts = [match for part in form.rest if (match := _PART.fullmatch(part))]
    is_exact = not any(part[3] or part[4] for part in parts)
    return form.has_checksum or is_exact or len(prefix) >= _LONG_PREFIX


def find_tokens_by_mark(data: bytes, begin: int, end: int) -> Iterator[TokenMatch]:
    """Yield the tokens whose marks are not parts of words, such as ":AA" in tokens of Telegram."""
    for mark, candidate in _compile().by_mark:
        at = data.find(mark, begin)
        while 0 <= at < end:
            start = at
            while start > max(0, at - _LONGEST_BEGINNING) and data[start - 1] in b"~" + _WORD:
                start -= 1
            for first in range(start, at + 1):
                if found := candidate.find(data, first):
                    yield found
                    break
            at = data.find(mark, at + len(mark))


def is_random(value: bytes) -> bool:
    """Return whether a word looks random: letters of both cases and digits alternate often."""
    changes = len(_CHANGE.findall(value))
    return changes >= _LEAST_CHANGES and changes * _CHANGE_EVERY >= len(value)


def has_valid_checksum(token: bytes) -> bool:
    """Return whether the last six characters are the CRC-32, in base 62, of the preceding ones."""
    body = token.rpartition(b"_")[2]
    checksum, digits = binascii.crc32(body[:-_CHECKSUM_LENGTH]), bytearray()
    for _ in range(_CHECKSUM_LENGTH):
        checksum, digit = divmod(checksum, len(_ALNUM))
        digits.insert(0, _ALNUM[digit])
    return bytes(digits) == body[-_CHECKSUM_LENGTH:]


def _get_line(data: bytes, at: int) -> bytes:
    """Return the text that directly precedes a position on the same line, in lower case."""
    return data[max(0, at - NEAR_BYTES) : at].rpartition(b"\n")[2].lower()


def _list_starts(data: bytes, begin: int, end: int) -> list[int]:
    """Return the positions in a word where a token may begin: at its start and after each "/"."""
    at = begin
    if data[at - 1 : at] == b"\\" and data[at : at + 1] in {b"n", b"r", b"t"}:
        at += 1  # the word follows an escaped line break
    while at < end - 1 and data[at] in _PUNCTUATION:
        at += 1
    starts = [at]
    while (at := data.find(b"/", at, end - 8)) >= 0:
        at += 1
        starts.append(at)
    return starts


def _is_token(form: TokenFormat, token: bytes) -> bool:
    if not form.prefixes:
        return is_random(token) or form.rest[0] == "uuid"
    prefix = max((len(one) for one in form.prefixes if token.startswith(one.encode())), default=0)
    return not _PLAIN.fullmatch(token[prefix:])  # a plain word is an identifier or an example


def _compile_part(part: str) -> str:
    if part == "uuid":
        return _UUID
    match = _PART.fullmatch(part)
    if match is None:
        return re.escape(part)
    alphabet, least, most, open_end = match.groups()
    longest = _LONGEST if open_end else most or least
    return f"[{ALPHABETS[alphabet]}]{{{least},{longest}}}"


def _compile_end(part: str) -> str:
    """Return the pattern after a token: no character that could continue the token."""
    match = _PART.fullmatch(part)
    alphabet = match[1] if match else "alnum"
    if alphabet == "base64":
        return "={0,3}(?![0-9A-Za-z+/])"
    return f"(?![{ALPHABETS['word' if alphabet in {'word', 'text'} else 'alnum']}])"


def _compile_words(words: tuple[str, ...]) -> re.Pattern[bytes]:
    return re.compile("|".join(re.escape(word) for word in words).encode())


@functools.cache
def _compile() -> _Matcher:
    by_prefix: dict[bytes, list[_Candidate]] = {}
    inside, near = [], []
    by_mark: list[tuple[bytes, _Candidate]] = []
    glued: dict[bytes, list[_Candidate]] = {}
    for form in FORMATS:
        candidate = _Candidate(form)
        endings = {
            prefix[-_GLUED_KEY:].encode() for prefix in form.prefixes if _may_be_glued(form, prefix)
        }
        for ending in endings:
            glued.setdefault(ending, []).append(candidate)
        literals = [part for part in form.rest if not _PART.fullmatch(part) and part != "uuid"]
        marks = [
            text for text in (*form.prefixes, *literals) if not set(text.encode()) <= set(_WORD)
        ]
        if form.near and not form.prefixes:
            near.append(candidate)
        elif form.prefixes and not marks:
            for prefix in form.prefixes:
                by_prefix.setdefault(prefix[:4].encode(), []).append(candidate)
        elif literals and len(literals[0]) >= _LONG_MARK:
            by_mark.append((literals[0].encode(), candidate))
        elif marks and literals[:1] <= marks:
            by_mark += [(mark.encode(), candidate) for mark in marks]
        else:
            inside.append(candidate)
    words = tuple({word for candidate in near for word in candidate.format.near})
    beginnings = frozenset(prefix[:2] for prefix in by_prefix)
    return _Matcher(by_prefix, beginnings, inside, by_mark, near, _compile_words(words), glued)
