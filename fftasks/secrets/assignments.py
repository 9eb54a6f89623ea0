"""Find literal passwords and keys by their names, in settings, programs and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fftasks.secrets.placeholders import (
    LITERAL_STRICTNESS,
    PROGRAM_STRICTNESS,
    SETTING_STRICTNESS,
    Strictness,
    decode_base64,
    is_password,
    is_random_key,
)
from fftasks.secrets.rules import FileClass, SecretMatch, find_words
from fftasks.secrets.secret_names import classify_secret_name
from fftasks.secrets.tokens import NEAR_BYTES

LONGEST_KEY = 512

_ANCHORS = (b"pass", b"pwd", b"secret")
_ASSIGNMENT = re.compile(
    rb"""(?ix)
    (?P<word> pass(?:w(?:or)?d|phrase|wort)? | pwd | secret ) (?P<tail> [\w.-]{0,30} )
    (?:
        (?P<is> \\?["'`]? \]? [ \t]{0,8}
            (?: :[ \t]*[\w\[\]|.]{1,24}[ \t]*= | [:=]=? | => | <- ) [ \t]{0,8}
            (?:ConvertTo-SecureString [ ]+ (?:-String[ ]+)?)?
            (?: (?:\w{1,20}\.)? (?:SecretStr|SecretBytes|Secret|Str|Bytes|String|Field|Option|Input)
                \( \s{0,20} (?:(?:default|value)[ ]?=[ ]?)? (?=[rbu]?["']) )?
            (?: [\w.()\[\]]{1,40} (?:["'][\w.-]{1,40}["'] [\])]{1,2})? [ ] (?:or|\|\||\?\?) [ ]
                (?=[rbu]?["']) )? )
      | (?P<comma> \\?["'`] [ \t]* , [ \t]*
            (?: (?: \w{1,16} [ ]?=[ ]? [^,"'\r\n]{1,30} , \s{0,20} ){0,4} default [ ]?=[ ]? )? (?=[\\"'`]) )
      | (?P<tag> > | </\w+>\s{0,40}<value> )
      | (?P<pair> \\?["']? (?: \s{0,2}</\w+> | [ \t]*, )? \s{1,40} ["']? value \\?["']? [ \t]* [:=] [ \t]* )
      | (?P<space> [ \t]+ )
    )
    (?:
        [rbu]? \\?(?P<quote>["'`]) (?P<quoted> (?:(?!(?P=quote))[^\\\r\n]){4,200} ) \\?(?P=quote)
      | (?P<block> [|>][+-]?\d?[ \t]*\r?\n[ \t]+ )? (?P<bare> [^\s"'`<>\\]{4,200} ) (?P<after> [^\r\n]{0,40} )
    )"""
)
_TAIL = re.compile(
    rb"""(?ix) (?: \d{0,2} | [_.-]? (?: key | value | token | text | string | plain | raw | base64 | b64
    | prod | production | dev | staging | main | default | admin | root | user | key[_.-]?base
    | access[_.-]?key ) \d? )"""
)
_VALUE = re.compile(
    rb"""(?ix) value ["']? [ \t]{0,8} [:=] [ \t]{0,8}
    (?: (?P<quote>["']) (?P<quoted> [^\r\n"']{4,400} ) (?P=quote) | (?P<bare> [^\s"'{}\[\],]{4,400} ) )"""
)
_NAME_BEFORE = re.compile(
    rb"""(?ix) \b (?:name|key) ["']? [ \t]{0,8} [:=] [ \t]{0,8} ["']? (?P<name> [\w.-]{3,60} ) ["']?
    [ \t]{0,8} ,? \s{0,40} ["']? $"""
)
_NAME_BEHIND = re.compile(
    rb"""(?ix) [ \t]{0,8} ,? \s{0,40} ["']? (?:name|key) ["']? [ \t]{0,8} [:=] [ \t]{0,8}
    ["']? (?P<name> [\w.-]{3,60} )"""
)
_PAIR_BYTES = 160
_BLOCK = re.compile(rb"(?P<line>[^\n]*[:=])[ \t]*[|>][+-]?\d?[ \t]*\r?\n[ \t]+$")
_LINE_END = re.compile(rb"[\"']|[ \t]*(?:[,;)}\]]|#|//|\\[nr]|\r?$|[\w.]+=|&)")
_CONNECTION = re.compile(
    rb"(?i)(?:^|[;?&\s\"'])(?:user(?:\s?id|name)?|uid|host|server|dbname|database|data source|account)\s?="
)
_KEY_NAME = re.compile(
    rb"""(?x) (?<!page)(?<!page_)(?<!next_)(?<!sync_)(?<!csrf)(?<!csrf_)(?<!public_)(?<!resume_)(?<!hashed_)
    (?<!::) (?<!(?:next|page|sync|lock)[_-]) (?<!request)(?<!request[_-])(?<!action)(?<!action[_-])(?<!next)
    (?<!continuation)(?<!continuation[_-])(?<!paging)(?<!paging[_-])(?<!idempotency)(?<!idempotency[_-])
    (?<!starting)(?<!starting[_-])(?<!encrypted)(?<!encrypted[_-])
    (?: token | secret | passwd | password | passphrase | pwd | _pass | pat | cookie | salt | credentials?
      | (?:api|access|auth|private|encryption|signing|secret|fernet|master|shared|account|license|storage
         |service|subscription|server|write|ingest|app|application|admin|deploy|session|hmac|jwt|token
         |client)[_.\- ]?key
      | bearer | (?:authorization|auth)["']?\s?[:,]\s?["']?basic | _auth | webhook[_-]?(?:url|key) )
    [\w.]{0,12} \\?["'`\])]{0,3} [ \t]{0,4}
    (?: :[^=\n]{1,20}= | [:=]= | => | <- | [:=,(>] | [ \t] ) [ \t]{0,4}
    (?: (?:bearer|basic|token) [ ] )? [rbu]? \\?["'`]? $"""
)
# the name of a type, or of what is not secret any more
_ORDINARY_BEFORE = (b"::", b"encrypted", b"encrypted_", b"encrypted-")
_CLIENT_TOKEN = re.compile(rb"client[_-]?token[\"']?\s{0,4}[:=]\s{0,4}[\"']?$")
_UUID = re.compile(rb"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COMMAND = re.compile(
    rb"""(?x) \b (?: curl | wget | http | mysql\w* | mariadb\w* | mongo\w* | sshpass | sqlcmd | ldapsearch
      | az | (?:docker|podman|buildah|skopeo|oras|helm[ ]registry) [ ]+ login ) \b [^\n]{0,300}? [ ]
    (?: (?:-u|--user)[ =]?["']?[^\s:"'$]{1,60}: | -p[ ]? | --password[ =] | --token[ =] )
    ["']? (?P<value> [^\s"'`]{6,200} )"""
)
_LOGIN_CALL = re.compile(
    rb"""(?x) (?: login | auth\s?=\s? | BasicAuth ) \( \s* ["'][^"'\n]{1,80}["'] \s*,\s*
    ["'] (?P<value> [^"'\n]{6,200} ) ["']"""
)
_IDENTIFIED = re.compile(
    rb"(?i)identified\s+(?:with\s+\w+\s+)?by\s+(?:password\s+)?'(?P<value>[^'\n]{6,200})'"
)
_VARIABLE = re.compile(
    rb"""(?imx) ^ [ \t]* (?:export[ \t]+|-[ \t]+)? (?P<name> [A-Za-z_][\w.]* ) [ \t]* [=:] [ \t]*
    (?: (?P<quote>["']) (?P<quoted> [^\r\n]{1,400}? ) (?P=quote) | (?P<bare> [^\s"'#][^\s"']* ) )
    [ \t]* (?:\#|\r?$)"""
)
_ORDINARY_NAME = re.compile(
    rb"(?i)(?:id|ids|sha\d*|hash|digest|version|rev|revision|commit|uuid|ur[li]|host|image|tag|bucket|path)$"
)
_QUOTE = re.compile(rb"[\"'`]$|(?:bearer|basic|token) $")
_PLAIN_KEY = re.compile(rb"[\w+/=-]{16,}")
_LONG_PROGRAM = PROGRAM_STRICTNESS._replace(length=12)
_TEXT_WORDS = "pass pwd psw pw secret token key auth bearer cred cookie jwt pat sas".split()
# what _TEXT_VALUE may match, in a text in small letters: a search that ignores case takes four times as long,
# and so does one that has the words in a group
_TEXT_ANCHOR = re.compile(
    "|".join(rf"{word}[\w.-]{{0,40}}\\?[\"'`]?\s{{0,3}}[:=]" for word in _TEXT_WORDS).encode()
    + rb"|bearer |--[a-z]| -p|-u "
)
_LONGEST_NAME = 40
_LONGEST_COMMAND = 4096
_NAME_BYTES = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
# NAME=value, NAME: value, --name value, Authorization: Bearer value
_TEXT_VALUE = re.compile(
    rb"""(?xi)
    (?: (?P<name> [\w.-]{2,80} ) (?P<is> \\?["'`]? \s{0,3} (?: [:=] | => ) \s{0,3} )
      | (?P<option> --[\w-]{2,40} | bearer ) [ ]{1,3} )
    \\?(?P<quote>["'`])? (?: (?P<scheme> bearer | basic | token | apikey ) [ ]{1,3} )?
    (?: (?(quote) (?P<quoted> (?:(?!(?P=quote))[^\\\r\n]){5,512} ) \\?(?P=quote) | (?!) )
      | (?P<bare> [^\s"'`;&<>(\\]{5,512} ) )"""
)
_USER_OPTION = re.compile(
    rb"""(?x) (?<!\S) (?: -u | --user ) (?: [ ]{1,3} | = )
    ["']? [^\s:"'$]{1,60} : (?P<value> [^\s"'`]{6,200} )"""
)


def is_secret_literal(name: str, value: bytes, least: Strictness) -> bool:
    """Return whether the name of a literal value makes it a secret.

    Args:
        name: Name of the variable, argument, key or option that has the value.
        value: The value.
        least: Minimum length and number of character classes of a password.
    """
    if len(value) > LONGEST_KEY or not (kind := classify_secret_name(name)):
        return False
    if kind == "password":
        return is_password(value, least)
    return is_random_key(value) or (kind == "secret" and is_password(value, _LONG_PROGRAM))


def find_named_secrets(data: bytes) -> Iterator[SecretMatch]:
    """Yield the secrets that a name says in any text: in headers, options and connection strings."""
    line_end = 0
    for anchor in _TEXT_ANCHOR.finditer(data.lower()):
        begin = at = anchor.start()
        while begin > max(0, at - _LONGEST_NAME) and data[begin - 1] in _NAME_BYTES:
            begin -= 1
        if (match := _TEXT_VALUE.match(data, begin)) and (span := _find_in_pair(data, match)):
            yield SecretMatch("secret-by-name", *span)
        if at >= line_end and b"-" in anchor[0][:2]:
            line_begin = data.rfind(b"\n", max(0, at - LONGEST_KEY), at) + 1
            line_end = data.find(b"\n", at, at + _LONGEST_COMMAND)
            line_end = min(at + _LONGEST_COMMAND, len(data)) if line_end < 0 else line_end
            yield from _find_in_command(data, line_begin, line_end)


def find_assignments(data: bytes, begin: int, end: int, place: FileClass) -> Iterator[SecretMatch]:
    """Yield literal values of variables that are named like a password, and passwords in commands and calls.

    Args:
        data: The text, with some context before and after the range.
        begin: Where the range begins.
        end: Where it ends.
        place: Class of the file.
    """
    rule = _name_rule("password", place)
    lower = data.lower()
    first = until = 0  # of the last value found; the words in it name nothing
    for at in find_words(lower, _ANCHORS, begin, end):
        if first <= at < until:
            continue
        match = _ASSIGNMENT.match(data, at)
        if (
            match is not None
            and _is_name(lower, match)
            and (span := _find_value(data, match, place))
        ):
            first, until = span
            yield SecretMatch(rule, *span)
    if place.kind == "config":
        yield from _find_pairs(data, lower, begin, end)
    yield from _find_in_commands(data, lower, begin, end, place)


def _find_in_commands(
    data: bytes, lower: bytes, begin: int, end: int, place: FileClass
) -> Iterator[SecretMatch]:
    """Yield the passwords in commands, SQL and calls that log in."""
    rule = _name_rule("password", place)
    if place.kind == "shell":
        for pattern, name in ((_COMMAND, "password-in-command"), (_IDENTIFIED, rule)):
            for found in pattern.finditer(data, begin):
                if found.start() < end and is_password(found["value"], SETTING_STRICTNESS):
                    yield SecretMatch(name, *found.span("value"))
    if place.kind == "code":
        for at in find_words(lower, (b"login(", b"auth=(", b"basicauth("), begin, end):
            call = _LOGIN_CALL.search(data, max(0, at - 5), at + 300)
            if call and is_password(call["value"], PROGRAM_STRICTNESS):
                yield SecretMatch(rule, *call.span("value"))


def find_variables(data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    """Yield the variables of a .env file that are named like a secret, or have a random value."""
    for match in _VARIABLE.finditer(data, begin):
        if match.start() >= end:
            return
        group = "quoted" if match["quoted"] else "bare"
        name, value = match["name"], match[group]
        if kind := classify_secret_name(name.decode()):
            is_secret = is_password(
                value, LITERAL_STRICTNESS if kind == "password" else SETTING_STRICTNESS
            )
        else:
            is_secret = bool(_PLAIN_KEY.fullmatch(value)) and not _ORDINARY_NAME.search(name)
            is_secret = is_secret and is_random_key(value)
        if is_secret:
            yield SecretMatch("dotenv", *match.span(group))


def find_named_key(data: bytes, begin: int, end: int, place: FileClass) -> Iterator[SecretMatch]:
    """Yield a word if it looks random and the text before it names it a key or a token."""
    while begin < end and data[begin] in b"+-./":
        begin += 1
    before = data[max(0, begin - NEAR_BYTES) : begin].lower()
    line = before.rpartition(b"\n")[2]
    if place.kind == "config" and not line.strip() and (block := _BLOCK.search(before)):
        line = block["line"] + b" "  # a text in the lines below its name
    if place.kind == "code" and not _QUOTE.search(line):
        return  # an identifier
    if is_random_key(data[begin:end].rstrip(b".")) and _KEY_NAME.search(line):
        if _CLIENT_TOKEN.search(line) and _UUID.fullmatch(data, begin, end):
            return  # what AWS tells a repeated request by
        while data[end : end + 1] == b"=":
            end += 1
        yield SecretMatch(_name_rule("key", place), begin, end)


def _find_in_command(data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    """Yield the passwords in the options of a command in any text."""
    for pattern, least in (
        (_USER_OPTION, SETTING_STRICTNESS._replace(length=8)),
        (_COMMAND, SETTING_STRICTNESS),
    ):
        for match in pattern.finditer(data, begin, end):
            if is_password(match["value"], least):
                yield SecretMatch("password-in-command", *match.span("value"))


def _find_in_pair(data: bytes, match: re.Match[bytes]) -> tuple[int, int] | None:
    """Return where the value of a name is in a text, if it is a secret."""
    group = "bare" if match["quoted"] is None else "quoted"
    value = match[group] if group == "quoted" else match[group].rstrip(b",.)}]")
    if data[match.end() : match.end() + 1] == b"(":
        return None  # a call
    name = (match["name"] or match["option"]).decode("latin-1")
    has_scheme = match["scheme"] or name.lower() == "bearer"
    is_setting = (
        name.startswith("--")
        or (name.isupper() and match["is"] == b"=")
        or b";" in data[max(0, match.start() - 1) : match.end() + 1]
    )
    is_secret = is_secret_literal(
        name, value, SETTING_STRICTNESS if is_setting else PROGRAM_STRICTNESS
    )
    if is_secret or (has_scheme and (is_random_key(value) or b":" in decode_base64(value))):
        return match.start(group), match.start(group) + len(value)
    return None


def _find_pairs(data: bytes, lower: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    """Yield the values of lists that have names and values, in either order, as for a container's env."""
    for at in find_words(lower, (b"value",), begin, end):
        match = _VALUE.match(data, at)
        if match is None:
            continue
        name = _NAME_BEFORE.search(data[max(0, at - _PAIR_BYTES) : at])
        name = name or _NAME_BEHIND.match(data, match.end())
        if name is None:
            continue
        group = "quoted" if match["quoted"] else "bare"
        text = name["name"].decode("latin-1")
        if is_secret_literal(text, match[group], SETTING_STRICTNESS):
            what = "password" if classify_secret_name(text) == "password" else "key"
            yield SecretMatch(f"{what}-in-config", *match.span(group))


def _name_rule(what: str, place: FileClass) -> str:
    return f"{what}-in-{'config' if place.kind == 'config' else 'code'}"


def _is_name(lower: bytes, match: re.Match[bytes]) -> bool:
    """Return whether the match is a whole name, and the name of a secret."""
    at, word = match.start(), match["word"].lower()
    before = lower[max(0, at - 1) : at]
    if (
        before in {b"$", b"%"}
        or lower[max(0, at - 2) : at] == b"${"
        or not _TAIL.fullmatch(match["tail"])
    ):
        return False
    if lower[max(0, at - 10) : at].endswith(_ORDINARY_BEFORE):
        return False
    if word == b"pass" and before.isalpha():  # "bypass", but "dbPass" and "requirepass" of Redis
        return match["word"][:1].isupper() or lower[:at].endswith(b"require")
    return True


def _find_value(data: bytes, match: re.Match[bytes], place: FileClass) -> tuple[int, int] | None:
    """Return the begin and end of an assignment's value if it is a secret, else None."""
    group = "bare" if match["quoted"] is None else "quoted"
    line = data[max(0, match.start() - 200) : match.start()].rpartition(b"\n")[2]
    value: bytes | None = match[group]
    if match["space"] and not _takes_space(line, group, place):
        return None
    if group == "bare":
        value = _cut_value(data, match, line, place)
    if value is None:
        return None
    tail = match["tail"].lower()
    if match["word"].lower() == b"secret" or b"key" in tail or b"token" in tail:
        is_secret = is_random_key(value) or is_password(
            value, PROGRAM_STRICTNESS._replace(length=12)
        )
    elif place.kind == "config":
        is_secret = is_password(
            value, LITERAL_STRICTNESS if place.is_secret_file else SETTING_STRICTNESS
        )
    else:
        is_secret = is_password(
            value, PROGRAM_STRICTNESS if place.kind == "code" else SETTING_STRICTNESS
        )
    return match.span(group) if is_secret else None


def _cut_value(data: bytes, match: re.Match[bytes], line: bytes, place: FileClass) -> bytes | None:
    """Return the value of an assignment without quotes; None if it is not a value."""
    value = match["bare"]
    if match["tag"]:
        return value if data[match.end("bare") :][:1] == b"<" else None
    if match["block"]:
        return value
    if b"=" in match[0][: match.start("bare") - match.start()] and _CONNECTION.search(line):
        return re.split(rb"[;&]", value)[0]  # in a connection string
    if place.kind == "code" or not _LINE_END.match(match["after"]):
        return None
    return value.rstrip(b",;)}]")


def _takes_space(line: bytes, group: str, place: FileClass) -> bool:
    """Return whether a space may separate name and value, as in commands, SQL and some settings."""
    if place.kind == "shell":
        return group == "quoted" or line.rstrip(b"-").endswith(b" ") or b"ENV " in line.upper()
    return place.kind == "config" and line.strip(b" \t-").lower() in {b"", b"require"}
