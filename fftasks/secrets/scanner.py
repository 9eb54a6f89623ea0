"""Find secrets in files and texts: private keys, tokens and passwords.

Findings in a file are lines and rules; rules.py lists the rules. Findings never contain the value of a
secret.
"""

from __future__ import annotations

import bisect
import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fftasks.records import digest_bytes
from fftasks.secrets.assignments import (
    LONGEST_KEY,
    find_assignments,
    find_named_key,
    find_named_secrets,
    find_variables,
)
from fftasks.secrets.placeholders import decode_base64, is_placeholder, is_valid_jwt
from fftasks.secrets.rules import (
    ALLOWED_LINE,
    FileClass,
    SecretMatch,
    classify_path,
    find_in_manifests,
    find_in_settings,
    find_private_keys,
    find_structures,
    has_structure,
    is_manifest,
    is_terraform_state,
)
from fftasks.secrets.tokens import (
    TokenMatch,
    find_token_in_binary,
    find_token_in_word,
    find_tokens_by_mark,
    has_valid_checksum,
    list_words,
)

HIDDEN = "•••"
_OVERLAP_BYTES = 1 << 13  # no rule reads further ahead
_BEHIND_BYTES = 512  # no rule reads further back
_MAX_FINDINGS = 20  # findings per file
_HEAD_BYTES = 1 << 13  # a NUL in these bytes means that a file is binary, as in git
_DOCUMENT_BYTES = 1 << 20  # a larger manifest is not parsed
_BINARY_BYTES = 1 << 26  # the rest of a larger binary file is not searched
_UTF16_NUL_SHARE = 0.35  # minimum share of NULs in a UTF-16 file without a byte order mark
_ENCODED_PEM = b"LS0tLS1CRUdJTi"  # "-----BEGIN" in Base64
_KEY_NAMES = (b"X-Amz-Credential=", b"AWSAccessKeyId=", b"Credential=")


@dataclass(frozen=True)
class SecretFinding:
    """A line of a file, counted from 1 (0 in a binary file), and the rule that found a secret there."""

    line: int
    rule: str


class SecretSpan(NamedTuple):
    """A secret in a text: its kind, and its begin and end in characters."""

    kind: str
    begin: int
    end: int


def find_tokens(text: str) -> list[SecretSpan]:
    """Find the tokens, keys and passwords in a text, in the order in which they begin.

    A message about a token may name its kind and its place, never the text itself.

    Args:
        text: Any text, such as the argument of a node or a line of a log.

    Returns:
        The tokens, which do not overlap; an empty list if the text has none.
    """
    data = text.encode("utf-8", "surrogatepass")
    found: list[SecretSpan] = []
    behind = at = 0  # the end of the last token, in bytes and in characters
    for hit in _find_in_text(data):
        begin = at + len(data[behind : hit.begin].decode("utf-8", "surrogatepass"))
        at = begin + len(data[hit.begin : hit.end].decode("utf-8", "surrogatepass"))
        behind = hit.end
        found.append(SecretSpan(hit.rule, begin, at))
    return found


def hide_tokens(text: str) -> str:
    """Replace every token, key and password in a text by "•••".

    Args:
        text: Any text that is shown to people, such as a docstring or a line of a log.

    Returns:
        The text without the secrets that find_tokens() finds.
    """
    data = text.encode("utf-8", "surrogatepass")
    hits = _find_in_text(data)
    ends = [0, *(hit.end for hit in hits)]
    begins = [*(hit.begin for hit in hits), len(data)]
    parts = [data[end:begin] for end, begin in zip(ends, begins, strict=True)]
    return HIDDEN.encode().join(parts).decode("utf-8", "surrogatepass") if hits else text


def _find_in_text(data: bytes) -> list[SecretMatch]:
    """Return the secrets in a text, ordered and without overlaps."""
    hits = [*_find_tokens(data, 0, len(data), _ANYWHERE), *find_named_secrets(data)]
    if has_structure(data):
        hits += find_structures(data, 0, len(data), _ANYWHERE)
    chosen: list[SecretMatch] = []
    for hit in sorted(hits, key=lambda hit: (hit.begin, -hit.end)):
        if not chosen or hit.begin >= chosen[-1].end:
            chosen.append(hit)
    return chosen


class FileScanner:
    """Searches one file piece by piece, so that a large file need not be in memory."""

    def __init__(self, path: str) -> None:
        """Start the search.

        Args:
            path: Path of the file relative to the project folder, with "/".
        """
        self._place = classify_path(path)
        self._hint = path.rpartition("/")[2].lower().encode("utf-8", "replace")
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_binary = False
        self._size = 0
        self._data = b""
        self._begin = 0  # where in the data to go on
        self._line = 1
        self._document = b""
        self._found: dict[int, str] = {}  # line -> rule; the first that finds something counts

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """Search the next piece of the file.

        Args:
            piece: Bytes of the file.
            is_last: Whether the file ends after this piece.
        """
        if piece and not self._size:
            self._start(piece[:_HEAD_BYTES])
        self._size += len(piece)
        if self._is_binary and self._size > _BINARY_BYTES:
            return
        if self._decoder is not None:
            piece = self._decoder.decode(piece, is_last).encode("utf-8", "replace")
        data = self._data + piece if self._data else piece
        end = len(data) if is_last else max(self._begin, len(data) - _OVERLAP_BYTES)
        self._note_all(data, end)
        if not self._is_binary and len(self._document) <= _DOCUMENT_BYTES:
            self._document += piece
        if is_last and len(self._document) <= _DOCUMENT_BYTES:
            self._find_in_document(self._document)
        kept = max(0, end - _BEHIND_BYTES)
        self._line += data.count(b"\n", 0, kept)
        self._data, self._begin = data[kept:], end - kept

    def list_findings(self) -> list[SecretFinding]:
        """Return the first finding of each line, ordered by line; at most 20."""
        return [SecretFinding(line, self._found[line]) for line in sorted(self._found)][
            :_MAX_FINDINGS
        ]

    def _start(self, head: bytes) -> None:
        if encoding := _guess_encoding(head):
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        else:
            self._is_binary = b"\0" in head
        if self._place.is_key_store and not self._place.is_test:
            self._found[1] = "key-store"

    def _find(self, data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
        place = self._place
        if self._is_binary:
            yield from _find_tokens(data, begin, end, _BINARY)
            if not place.is_test:
                yield from find_private_keys(data, begin, end)
            return
        yield from _find_tokens(data, begin, end, place, self._hint)
        yield from find_structures(data, begin, end, place)
        if place.is_dotenv and not place.is_lenient:
            yield from find_variables(data, begin, end)
        if place.has_assignments:
            yield from find_assignments(data, begin, end, place)

    def _find_in_document(self, data: bytes) -> None:
        """Search for secrets that only the structure of the whole document identifies."""
        place = self._place
        if place.is_test:
            return
        if place.is_fftasks_config:
            line, behind = 1, 0
            for at in find_in_settings(data):
                line, behind = line + data.count(b"\n", behind, at), at
                self._found[line] = "plain-setting"
        if place.is_state and is_terraform_state(data):
            self._found.setdefault(1, "terraform-state")
        if place.kind in {"config", "other"} and (place.is_kube or is_manifest(data)):
            for line, rule in find_in_manifests(
                data, is_kubeconfig=place.is_kube, check=_has_secret
            ):
                if self._found.get(line) in {"password-in-config", "key-in-config"}:
                    del self._found[line]  # the rule for manifests is more precise
                if rule:
                    self._found.setdefault(line, rule)

    def _note_all(self, data: bytes, end: int) -> None:
        """Note the first finding of each line, unless the line says that it is allowed."""
        breaks: list[int] | None = None
        allowed: dict[int, int] = {}  # line -> up to where what stands on it is allowed
        for hit in self._find(data, self._begin, end):
            if len(self._found) > _MAX_FINDINGS:
                break
            if breaks is None:
                breaks = [] if self._is_binary else list(_list_breaks(data))
            line = 0 if self._is_binary else self._line + bisect.bisect_left(breaks, hit.begin)
            if line in self._found or hit.begin < allowed.get(line, 0):
                continue
            rest = data[hit.begin : hit.begin + _OVERLAP_BYTES].partition(b"\n")[0]
            if mark := ALLOWED_LINE.search(rest):
                allowed[line] = hit.begin + mark.start()
            else:
                self._found[line] = hit.rule


_ANYWHERE = classify_path("text.txt")
_BINARY = _ANYWHERE._replace(kind="data")


def _list_breaks(data: bytes) -> Iterator[int]:
    at = data.find(b"\n")
    while at >= 0:
        yield at
        at = data.find(b"\n", at + 1)


def _has_secret(path: str, data: bytes) -> bool:
    search = FileScanner(path)
    search.feed(data, is_last=True)
    return bool(search.list_findings())


def _guess_encoding(head: bytes) -> str:
    """Return the encoding of a text in UTF-16, with or without a byte order mark; "" for other texts."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[0::2], head[1::2]
    if odd.count(0) > _UTF16_NUL_SHARE * len(head) and not even.count(0):
        return "utf-16-le"
    if even.count(0) > _UTF16_NUL_SHARE * len(head) and not odd.count(0):
        return "utf-16-be"
    return ""


def _find_tokens(
    data: bytes, begin: int, end: int, place: FileClass, hint: bytes = b""
) -> Iterator[SecretMatch]:
    """Yield the tokens of the table, and random values of variables that are named like a key."""
    near = not place.is_lenient and place.kind != "data"
    for first, until in list_words(data, begin, end):
        found = find_token_in_word(data, first, until, near=near, hint=hint)
        if found is None and place is _BINARY:
            found = find_token_in_binary(data, first, until)
        if found is not None:
            if _is_reported(data, found, place):
                yield SecretMatch(found.format.kind, found.begin, found.end)
        elif place.has_assignments and until - first <= LONGEST_KEY:
            yield from find_named_key(data, first, until, place)
        if data.startswith(_ENCODED_PEM, first) and not place.is_test:
            yield from _find_encoded_key(data, first, until)
    for found in find_tokens_by_mark(data, begin, end):
        if _is_reported(data, found, place):
            yield SecretMatch(found.format.kind, found.begin, found.end)


def _find_encoded_key(data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    while data[end : end + 1] == b"=":
        end += 1
    if b"PRIVATE KEY-----" in decode_base64(data[begin:end]):
        yield SecretMatch("private-key", begin, end)


def _is_reported(data: bytes, found: TokenMatch, place: FileClass) -> bool:
    """Return whether a string in the format of a token may be valid: not an example, and not expired."""
    token, before = data[found.begin : found.end], data[max(0, found.begin - 40) : found.begin]
    if is_placeholder(token):
        return False
    if b"AAAAAA" in token and found.format.issuer != "Azure":
        return False  # zeros in Base64
    if found.format.kind == "json-web-token":
        return place is _ANYWHERE or (not place.is_lenient and is_valid_jwt(token))
    if found.format.issuer == "AWS" and before.endswith(_KEY_NAMES):
        return False  # the name of a key in a signed URL is not the key
    return not (place.is_test and found.format.has_checksum) or has_valid_checksum(token)


def _digest_rules() -> str:
    """Return a digest of all modules of this folder; if it changes, files must be searched again."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    return digest_bytes(b"\0".join(module.read_bytes() for module in modules))


SCANNER_DIGEST = _digest_rules()
