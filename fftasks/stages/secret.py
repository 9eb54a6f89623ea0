"""Find what should stay private in a file or a text: keys, tokens and passwords, by line and rule.

token_table.py and tokens.py know the formats of tokens, secret_rules.py everything else. The value of a secret
never leaves this module.
"""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fftasks.record import digest_bytes
from fftasks.stages import secret_rules as rules
from fftasks.stages import token_table, tokens

HIDDEN = "•••"
_OVERLAP_BYTES = 1 << 13  # no rule looks further ahead
_BEHIND_BYTES = 512  # nor further back
_MOST = 20  # findings per file
_HEAD_BYTES = 1 << 13  # where a NUL says that a file is no text, as git has it
_DOCUMENT_BYTES = 1 << 20  # a larger manifest is not parsed
_BINARY_BYTES = 1 << 26  # beyond this, a binary file is not searched


@dataclass(frozen=True)
class Finding:
    """A line of a file, counted from 1 (0 in a binary file), and the rule that found a secret there."""

    line: int
    rule: str


class Token(NamedTuple):
    """A secret in a text: its kind, and where it begins and ends (in characters)."""

    kind: str
    begin: int
    end: int


class _Hit(NamedTuple):
    rule: str
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
    found: list[Token] = []
    for hit in _find_in_text(data):
        begin = len(data[: hit.begin].decode("utf-8", "surrogatepass"))
        end = begin + len(data[hit.begin : hit.end].decode("utf-8", "surrogatepass"))
        found.append(Token(hit.rule, begin, end))
    return found


def hide_tokens(text: str) -> str:
    """Return a text in which "•••" stands for every token, key and password.

    Args:
        text: Any text that is shown to people, such as a docstring or a line of a log.

    Returns:
        The text with what find_tokens() finds replaced.
    """
    data = text.encode("utf-8", "surrogatepass")
    hits = _find_in_text(data)
    for hit in reversed(hits):
        data = data[: hit.begin] + HIDDEN.encode() + data[hit.end :]
    return data.decode("utf-8", "surrogatepass") if hits else text


def _find_in_text(data: bytes) -> list[_Hit]:
    """Return what is secret in any text, whole and without overlaps."""
    hits = [*_find_tokens(data, 0, len(data), _ANYWHERE), *_find_structures(data, 0, len(data), _ANYWHERE)]
    chosen: list[_Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.begin, -hit.end)):
        if not chosen or hit.begin >= chosen[-1].end:
            chosen.append(hit)
    return chosen


class Search:
    """A search through one file, piece by piece."""

    def __init__(self, path: str) -> None:
        """Begin; path is the file's, relative to the folder, with "/"."""
        self._place = rules.classify(path)
        self._hint = path.rpartition("/")[2].lower().encode("utf-8", "surrogateescape")
        self._data = b""
        self._begin = -1  # where in the data to go on
        self._line = 1
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_binary = False
        self._document = b""
        self._found: dict[int, str] = {}  # line -> rule; the first that finds something counts

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """Look through the next piece."""
        if self._begin < 0:
            self._start(piece)
        self._size += len(piece)
        if self._decoder is not None:
            piece = self._decoder.decode(piece, is_last).encode("utf-8", "replace")
        if self._is_binary and self._size > _BINARY_BYTES:
            return
        data = self._data + piece if self._data else piece
        end = len(data) if is_last else max(self._begin, len(data) - _OVERLAP_BYTES)
        for hit in self._find(data, self._begin, end):
            if len(self._found) > _MOST:
                break
            if rules.ALLOWED_LINE.search(data[hit.begin : hit.begin + 400].partition(b"\n")[0]):
                continue
            line = 0 if self._is_binary else self._line + data.count(b"\n", 0, hit.begin)
            self._found.setdefault(line, hit.rule)
        if not self._is_binary and len(self._document) <= _DOCUMENT_BYTES:
            self._document += piece
        if is_last:
            self._find_in_document()
        kept = max(0, end - _BEHIND_BYTES)
        self._line += data.count(b"\n", 0, kept)
        self._data, self._begin = data[kept:], end - kept

    def list_findings(self) -> list[Finding]:
        """Return what was found, in order, one a line; at most 20."""
        return [Finding(line, self._found[line]) for line in sorted(self._found)][:_MOST]

    def _start(self, piece: bytes) -> None:
        self._begin = 0
        encoding = _guess_encoding(piece[:_HEAD_BYTES])
        if encoding:
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        else:
            self._is_binary = b"\0" in piece[:_HEAD_BYTES]
        if self._place.is_store and piece and not self._place.is_test:
            self._found[1] = "key-store"

    def _find(self, data: bytes, begin: int, end: int) -> Iterator[_Hit]:
        if self._is_binary:
            yield from _find_tokens(data, begin, end, _BINARY)
            yield from _find_keys(data, data, begin, end)
            return
        yield from _find_tokens(data, begin, end, self._place, self._hint)
        yield from _find_structures(data, begin, end, self._place)
        if self._place.is_dotenv and not self._place.is_quiet:
            yield from _find_variables(data, begin, end)
        if self._place.is_login and not self._place.is_test:
            for match in rules.LOGIN_LINE.finditer(data, begin, end):
                group = "value" if match["value"] else "other"
                if not rules.is_placeholder(match[group]):
                    yield _Hit("login-file", *match.span(group))
        if self._place.has_assignments:
            yield from _find_assignments(data, begin, end, self._place)

    def _find_in_document(self) -> None:
        data, place = self._document, self._place
        if len(data) > _DOCUMENT_BYTES or place.is_test:
            return
        if place.is_own:
            for at in rules.list_own(data):
                self._note(data, at, "plain-setting")
        if place.is_state and rules.STATE.search(data):
            self._note(data, 0, "terraform-state")
        if place.kind in {"config", "other"} and (
            place.is_kube or (b"kind" in data and rules.KUBERNETES.search(data))
        ):
            for line, rule in _find_in_manifests(data, is_config=place.is_kube):
                if self._found.get(line) in {"password-in-config", "key-in-config"}:
                    del self._found[line]  # the manifest says what it is, and whether it is one
                if rule:
                    self._found.setdefault(line, rule)

    def _note(self, data: bytes, at: int, rule: str) -> None:
        self._found[1 + data.count(b"\n", 0, at)] = rule


_ANYWHERE = rules.classify("text.txt")
_BINARY = _ANYWHERE._replace(kind="data")


def _guess_encoding(head: bytes) -> str:
    """Return the encoding of a text in UTF-16, with or without a mark at its beginning; else ""."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[0::2], head[1::2]
    if len(head) >= 8 and odd.count(0) > 0.7 * len(odd) and not even.count(0):
        return "utf-16-le"
    if len(head) >= 8 and even.count(0) > 0.7 * len(even) and not odd.count(0):
        return "utf-16-be"
    return ""


def _find_tokens(
    data: bytes, begin: int, end: int, place: rules.Place, hint: bytes = b""
) -> Iterator[_Hit]:
    """Yield the tokens of the table, and random values that are named like a key."""
    near = not place.is_quiet and place.kind != "data"
    for first, until in tokens.list_words(data, begin, end):
        found = tokens.find_in_word(data, first, until, near=near, hint=hint)
        if found is None and place is _BINARY:
            found = tokens.find_in_binary(data, first, until)
        if found is not None:
            if _is_reported(data, found, place):
                yield _Hit(found.format.kind, found.begin, found.end)
        elif place.has_assignments and until - first <= 512:
            yield from _find_named_key(data, first, until, place)
        if data.startswith(rules.ENCODED_PEM, first) and not place.is_test:
            if b"PRIVATE KEY-----" in rules.decode(data[first:until].split(b".")[0]):
                yield _Hit("private-key", first, until)
    for found in tokens.find_marked(data, begin, end):
        if _is_reported(data, found, place):
            yield _Hit(found.format.kind, found.begin, found.end)


def _is_reported(data: bytes, found: tokens.Found, place: rules.Place) -> bool:
    token = data[found.begin : found.end]
    if rules.is_placeholder(token) or (b"AAAAAA" in token and found.format.issuer != "Azure"):
        return False  # in Base64, zeros are an "A" each
    if found.format.kind == "json-web-token":
        return place is _ANYWHERE or (not place.is_quiet and rules.is_live(token))
    if found.format.issuer == "AWS" and data[max(0, found.begin - 40) : found.begin].endswith(
        (b"X-Amz-Credential=", b"AWSAccessKeyId=", b"Credential=")
    ):
        return False  # the name of a key in a signed URL is not the key
    if place.is_test and found.format.has_checksum:
        return tokens.has_valid_checksum(token)
    return True


def _find_named_key(data: bytes, begin: int, end: int, place: rules.Place) -> Iterator[_Hit]:
    while begin < end and data[begin] in b"+-./":
        begin += 1
    value = data[begin:end].rstrip(b".")
    while data[end : end + 1] == b"=":
        end += 1
    if not rules.is_key(value):
        return
    line = data[max(0, begin - tokens.NEAR_BYTES) : begin].rpartition(b"\n")[2].lower()
    if place.kind == "code" and not line.endswith((b'"', b"'", b"`", b" ")):
        return  # an identifier
    if rules.KEY_NAME.search(line):
        yield _Hit(f"key-in-{'config' if place.kind == 'config' else 'code'}", begin, end)


def _list_places(data: bytes, words: Iterable[bytes], begin: int, end: int) -> Iterator[int]:
    for word in words:
        at = data.find(word, begin, end + len(word))
        while 0 <= at < end:
            yield at
            at = data.find(word, at + 1, end + len(word))


def _find_keys(data: bytes, lower: bytes, begin: int, end: int) -> Iterator[_Hit]:
    whole, putty = _compile_keys()
    for at in _list_places(data, (b"-----BEGIN ",), begin, end):
        if match := whole.match(data, at):
            yield _Hit("private-key", *match.span())
    for at in _list_places(data, (b"PuTTY-User-Key-File-",), begin, end):
        if match := putty.match(data, at):
            yield _Hit("private-key", *match.span())


@functools.cache
def _compile_keys() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    return (
        re.compile(rules.PRIVATE_KEY + rules.PRIVATE_KEY_REST),
        re.compile(rules.PUTTY_KEY + rules.PUTTY_KEY_REST),
    )


def _find_structures(data: bytes, begin: int, end: int, place: rules.Place) -> Iterator[_Hit]:
    """Yield private keys, passwords in URLs, and what logs in to a registry or a cluster."""
    if place.is_test:
        return
    yield from _find_keys(data, data, begin, end)
    if not place.is_quiet:
        for at in _list_places(data, (b"://",), begin, end):
            match = rules.URL.match(data, at)
            if match and rules.is_url_password(match):
                yield _Hit("password-in-url", *match.span("value"))
        for at in _list_places(data, (b"sig=",), begin, end):
            match = rules.SAS.match(data, at - 1) or rules.SAS.match(data, max(0, at - 5))
            if match and rules.is_live_sas(data, match):
                yield _Hit("azure-token", *match.span("value"))
    if b'"auths"' in data or b'.dkr.' in data or (place.kind == "config" and b'"auth"' in data):
        for match in rules.REGISTRY.finditer(data, begin):
            if match.start() < end and not rules.is_placeholder(match["value"]):
                yield _Hit("registry-login", *match.span("value"))
    for at in _list_places(data, (b"client-key-data",), begin, end):
        if match := rules.CLIENT_KEY.match(data, at):
            yield _Hit("kubernetes-login", *match.span("value"))


def _find_variables(data: bytes, begin: int, end: int) -> Iterator[_Hit]:
    """Yield the variables of a .env file that are named like a secret and have a literal value."""
    for match in rules.DOTENV.finditer(data, begin):
        if match.start() >= end:
            return
        group = "quoted" if match["quoted"] else "bare"
        name, value = match["name"], match[group]
        if rules.SECRET_NAME.fullmatch(name):
            is_secret = rules.is_password(value, 0 if rules.PASSWORD_NAME.search(name) else 1)
        else:
            is_secret = (
                rules.PLAIN_KEY.fullmatch(value) is not None
                and rules.is_key(value)
                and not rules.ORDINARY_NAME.search(name)
            )
        if is_secret:
            yield _Hit("dotenv", *match.span(group))


def _find_assignments(data: bytes, begin: int, end: int, place: rules.Place) -> Iterator[_Hit]:
    """Yield the literal values that are named like a password, and passwords in commands and calls."""
    rule = f"password-in-{'config' if place.kind == 'config' else 'code'}"
    lower = data.lower()
    for at in _list_places(lower, rules.ANCHORS, begin, end):
        match = rules.ASSIGNMENT.match(data, at)
        if match is not None and (span := _judge(data, lower, match, place)):
            yield _Hit(rule, *span)
    if place.kind == "shell":
        patterns = ((b" ", rules.COMMAND, "password-in-command"), (b"dentified", rules.IDENTIFIED, rule))
        for _, pattern, name in patterns:
            for found in pattern.finditer(data, begin):
                if found.start() < end and rules.is_password(found["value"], 1):
                    yield _Hit(name, *found.span("value"))
    if place.kind == "code":
        for at in _list_places(lower, (b"login(", b"auth=(", b"basicauth("), begin, end):
            call = rules.LOGIN_CALL.search(data, max(0, at - 5), at + 300)
            if call and rules.is_password(call["value"], 2):
                yield _Hit(rule, *call.span("value"))


def _judge(
    data: bytes, lower: bytes, match: re.Match[bytes], place: rules.Place
) -> tuple[int, int] | None:
    """Return where the value of an assignment is, if it is a secret."""
    at, word = match.start(), match["word"].lower()
    before = data[at - 1 : at]
    if before in (b"$", b"%") or data[at - 2 : at] == b"${":
        return None  # a variable
    if word == b"pass" and before.isalpha() and lower[max(0, at - 7) : at] != b"require":
        if not (data[at : at + 1].isupper() and before.islower()):
            return None  # "bypass"
    if not rules.TAIL.fullmatch(match["tail"]):
        return None
    group = "quoted" if match["quoted"] is not None else "bare"
    value = match[group]
    begin, end = match.span(group)
    line = data[max(0, at - 200) : at].rpartition(b"\n")[2]
    if group == "bare":
        value = value.rstrip(b",;)}]") if not match["block"] else value
        if match["tag"]:
            if data[end : end + 1] != b"<":
                return None
        elif place.kind == "code":
            value = re.split(rb"[;&]", value)[0]
            if not rules.CONNECTION.search(line) and not line.rstrip().endswith((b"Password=", b"export")):
                return None
        elif b"=" in match[0][: begin - at] and rules.CONNECTION.search(line):
            value = re.split(rb"[;&]", value)[0]
        elif not match["block"] and not rules.LINE_END.match(match["after"]):
            return None
    if match["space"] and not _takes_space(line, group, place):
        return None
    is_key = word == b"secret" or b"key" in match["tail"].lower() or b"token" in match["tail"].lower()
    level = 2 if place.kind == "code" else 1
    if is_key:
        if not (rules.is_key(value) or (len(value) >= 12 and rules.is_password(value, 2))):
            return None
    elif not rules.is_password(value, 0 if place.is_secret_file and place.kind == "config" else level):
        return None
    return begin, end


def _takes_space(line: bytes, group: str, place: rules.Place) -> bool:
    """Tell whether a value may follow a name after a space: in commands, SQL and some settings."""
    if place.kind == "shell":
        return group == "quoted" or line.rstrip(b"-").endswith(b" ") or b"ENV " in line.upper()
    return place.kind == "config" and line.strip(b" \t-").lower() in {b"", b"require"}


def _find_in_manifests(data: bytes, *, is_config: bool) -> Iterator[tuple[int, str]]:
    """Yield line and rule of what is in Kubernetes' Secrets and kubeconfigs; no rule for what is no secret."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for root in yaml.compose_all(data, loader):
            yield from _find_in_manifest(root, is_config=is_config)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return  # a template, or no YAML at all


def _find_in_manifest(root: Any, *, is_config: bool) -> Iterator[tuple[int, str]]:
    fields = _list_fields(root)
    kind = getattr(fields.get("kind"), "value", "")
    if kind == "List" and hasattr(fields.get("items"), "value"):
        for item in fields["items"].value:
            yield from _find_in_manifest(item, is_config=is_config)
    if kind == "Secret":
        for section in ("data", "stringData"):
            for name, node in _list_fields(fields.get(section)).items():
                value = node.value.encode() if isinstance(node.value, str) else b""
                value = rules.decode(value) if section == "data" else value
                is_secret = _is_in_secret(name.encode(), value.strip())
                yield node.start_mark.line + 1, "kubernetes-secret" if is_secret else ""
    if (kind == "Config" or is_config) and "users" in fields and isinstance(fields["users"].value, list):
        for entry in fields["users"].value:
            for name, node in _walk(_list_fields(entry).get("user")):
                private = re.fullmatch(r"token|password|client-key-data|client-secret|refresh-token|id-token", name)
                if private and rules.is_password(node.value.encode(), 0):
                    yield node.start_mark.line + 1, "kubernetes-login"


def _is_in_secret(name: bytes, value: bytes) -> bool:
    if b"\n" in value or value.startswith(b"{") or len(value) > 200:  # a file
        found = Search(".dockerconfigjson" if b"docker" in name else "secret.conf")
        found.feed(value, is_last=True)
        return bool(found.list_findings())
    if b"://" in value:
        match = rules.URL.search(value)
        return match is not None and rules.is_url_password(match)
    level = 1 if rules.SECRET_NAME.fullmatch(name) else 2
    return len(value) >= 8 and rules.is_password(value, level)


def _list_fields(node: Any) -> dict[str, Any]:
    if type(node).__name__ != "MappingNode":
        return {}
    return {str(key.value): value for key, value in node.value}


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    for name, value in _list_fields(node).items():
        if isinstance(value.value, str):
            yield name, value
        yield from _walk(value)


def _digest() -> str:
    modules = (__file__, rules.__file__, tokens.__file__, token_table.__file__)
    return digest_bytes(b"\0".join(Path(module).read_bytes() for module in modules))


DIGEST = _digest()  # another digest means that files have to be searched again
