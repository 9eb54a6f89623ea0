"""Distinguish real secrets from placeholders such as "changeme" and "${TOKEN}"."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from typing import NamedTuple

from fftasks.secrets.tokens import is_random

_SIGNS = (b"xxxx", b"123456", b"0123456", b"abcdefg", b"...", b"\xe2\x80\xa6")
_EXAMPLE_WORDS = (b"example", b"placeholder", b"dummy", b"redacted", b"fake", b"deadbeef", b"lorem")
_STARTS = (b"change", b"your", b"replace", b"insert", b"enter", b"put", b"fill", b"todo", b"not")
_REPEATED = re.compile(rb"([^A])\1{5}")
_EXAMPLE = re.compile(
    rb"""(?ix) (?<![a-z0-9]) (?:example|placeholder|dummy|redacted|fake|deadbeef|lorem) s? (?![a-z0-9])
    | (?-i:EXAMPLE(?:KEY)?)$"""
)
_PHRASE = re.compile(
    rb"""(?ix) change[_-]?(?:me|this|it|in)\b | changeme | (?:\b|[_-])your[_-]
    | replace[_-]?(?:me|with|this) | (?:insert|enter|put|fill)[_-] | (?:\b|_)todo\b
    | not[_-]?(?:a[_-]?)?(?:real|secret|used)"""
)
# a value without quotes ends at a space: "$(cat", "!vault" and "{{" are the beginnings of references
_REFERENCE = re.compile(
    rb"""(?ix) ^ (?: \$ \[ .* \] $ | \[ [a-z_.,\s*-]* \]? $ | [,+)] [\s+)]* [a-z_][\w.]* \(
      | %[a-z_]\w*%$ | %\([\w.]+\)[sdr]?$ | \{ [\w.-]* [:,}] | \#\{[^}]+\}$ | @[a-z][\w.]*@$ | __\w+__ $
      | <[a-z!/?][a-z_.:/-]*>? $ | [\#*]+ $ | ENC\[
      | (?:vault|env|file|op|ref|ssm|secret|sm|awssm|gcpsm|azkv|kms|arn|doppler|bws|keychain|sops)
        (?:\+[\w+]+)? : [\w./:\#@?=&%+~-]* $
      | (?:os|process|sys|env|var|vars|local|data|module|secrets|self|this|config|configs|settings|conf|args
        |opts|options|params|ctx|context|event|request|req|inputs|steps|needs|github|each|values)
        \.[a-z_][\w.]* (?: [!?]* $ | [\[(?!|] .* )
      | https?:// | ~/ | [A-Z]:\\ | !{1,2}[a-z][a-z:/.]*(?:_[a-z]+)*$
      | [A-Za-z_][\w.]* (?: \( [^()]* \) $ | \[ .* \] $ )
      | (?-i: [a-z_.]+ | (?:[a-z_.]* (?:md5|sha\d+|base64|b64) [a-z_]*) | [a-z]+(?:[A-Z][a-z]+)+ ) \($ )
    | \$\{ \s* [\w!.\#] | \{\{ | \$\( [\w./<{\[$"'-] | <[a-z][a-z_. /-]+> | \{[a-z_][\w.]+\}"""
)
_VARIABLE = re.compile(
    rb"\$+[A-Za-z_][\w-]*|[*&][a-z_]+(?:-[a-z_]+)*|\.{0,2}/[\w.@+ /:-]*"
)  # or an alias of YAML, or a path
_DEFAULTS = """
    pass password passwd passphrase passwort pwd pw secret secrets token tokens key keys api my your the
    our user users username usernames admin admins administrator root test tests testing tester demo
    default defaults dev devs develop development local localhost guest postgres postgresql pg mysql
    mariadb redis rabbit rabbitmq mongo mongodb minio airflow mlflow grafana prometheus keycloak kafka
    cassandra oracle clickhouse elastic elasticsearch sa db dbs database databases example examples
    sample samples foo bar baz qux hello world string str text null none true false value values change
    this it me here some placeholder super sooper strong very long random generated insecure unsafe not
    for prod production please set enter insert replace with real fake dummy mock x kubeflow feast
    prefect dagster store app application service services client clients server servers account
    accounts access private public id name names auth bearer basic jwt session sessions cookie cookies a
    an of to in is be must letmein qwerty welcome monkey only staging new old hidden internal shared
    master main login doe john jane alice bob required optional undefined encrypted hash hashed salt and
    or from signing encryption django
"""
_WORDS = re.compile(rf"(?i)(?:{'|'.join(_DEFAULTS.split())})*".encode())
# the location of a secret, not its value: SECRET/KEY, as in secret_env of a node's settings
_LOCATION = re.compile(rb"[a-z0-9][a-z0-9.-]*/(?:[a-z0-9._-]+|[A-Z0-9_]+)")
_TEXT = re.compile(rb"[ -~\s]+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}){2,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_LEET = bytes.maketrans(b"01345$@7", b"oieassat")
_NOT_LETTERS = re.compile(rb"[^A-Za-z]+")
# digests of example keys that their issuers publish; digests, so that no scanner stops at this file
_PUBLIC = frozenset(
    {
        "0011cc25eb432071",  # Azurite
        "aa6547439583c3a2",  # emulator of Cosmos DB
        "2cafc0970149a84f",  # Stripe
        "f2d6ca16515033e5",  # Stripe
    }
)
_DESCRIPTION = re.compile(
    rb"(?i)[a-z_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|credential)[a-z_.-]*"
)
_SHORTEST_KEY = 12
_LONGEST_PHRASE = 64
_LONGEST_ENCODED = 88  # a phrase in Base64
_STRUCTURES = (b"{", b"[", b"<")  # a document in Base64 is not a phrase
_LONG_LETTERS = 32
_LEAST_LARGE, _MOST_LARGE = 0.3, 0.7  # share of large letters in random text; names have fewer
_SMALL = re.compile(rb"[a-z]")
_LARGE = re.compile(rb"(?<!^)[A-Z]")
_CAPITALS = re.compile(rb"[A-Z]+")
_CASE_CHANGE = re.compile(rb"[a-z](?=[A-Z])")
_LEAST_CASE_CHANGES = 4
_NUMBER = re.compile(rb"[0-9]")
_SIGN = re.compile(rb"[^A-Za-z0-9_.\s/-]")
_NAME = re.compile(rb"[A-Za-z]+(?:[_./:-][A-Za-z]+)*[:!?]*")


def is_placeholder(value: bytes) -> bool:
    """Return whether a value is a placeholder for a secret: "changeme", "${TOKEN}", "admin123"."""
    if _REFERENCE.search(value) or _DESCRIPTION.fullmatch(value) or _is_example(value):
        return True
    if (_VARIABLE.fullmatch(value) or _LOCATION.fullmatch(value)) and not is_random(value):
        return True
    if (
        len(value) <= _LONGEST_ENCODED
        and _BASE64.fullmatch(value)
        and _TEXT.fullmatch(text := decode_base64(value))
        and not text.startswith(_STRUCTURES)
        and is_placeholder(text)
    ):
        return True
    plain = (_NOT_LETTERS.sub(b"", text) for text in (value, value.translate(_LEET)))
    if any(len(text) <= _LONGEST_PHRASE and _WORDS.fullmatch(text) for text in plain):
        return True
    return hashlib.sha256(value).hexdigest()[:16] in _PUBLIC


def _is_example(value: bytes) -> bool:
    """Return whether a value is marked as an example; in random text, only a separate word marks it."""
    lower = value.lower()
    if any(sign in lower for sign in _SIGNS) or _REPEATED.search(value):
        return True
    if any(word in lower for word in _EXAMPLE_WORDS) and (
        _EXAMPLE.search(value) is not None or not is_random(value)
    ):
        return True
    return any(word in lower for word in _STARTS) and _PHRASE.search(value) is not None


def count_classes(value: bytes) -> int:
    """Count the character classes in a value: lower case, upper case, digits and symbols."""
    return sum(bool(kind.search(value)) for kind in (_SMALL, _LARGE, _NUMBER, _SIGN))


class Strictness(NamedTuple):
    """Minimum length and number of character classes of a password."""

    length: int
    classes: int


LITERAL_STRICTNESS = Strictness(5, 0)  # every literal counts as a secret, as in .env
SETTING_STRICTNESS = Strictness(6, 2)
PROGRAM_STRICTNESS = Strictness(8, 3)


def is_password(value: bytes, least: Strictness) -> bool:
    """Return whether the value of a variable that is named like a password is a password."""
    if len(value) < least.length or b" " in value or is_placeholder(value):
        return False
    is_name = least.classes > 0 and _NAME.fullmatch(value) is not None
    return is_random(value) or (count_classes(value) >= least.classes and not is_name)


def is_random_key(value: bytes) -> bool:
    """Return whether the value of a variable that is named like a token or a key is a secret."""
    if _NUMBER.search(value):
        looks_random = len(value) >= _SHORTEST_KEY and is_random(value)
    else:
        looks_random = _has_random_letters(value)
    return looks_random and not is_placeholder(value)


def _has_random_letters(value: bytes) -> bool:
    """Return whether a value looks like random letters: many, and about half of them upper case."""
    letters = _NOT_LETTERS.sub(b"", value)
    large = sum(map(len, _CAPITALS.findall(letters)))
    return (
        len(letters) >= _LONG_LETTERS
        and _LEAST_LARGE <= large / len(letters) <= _MOST_LARGE
        and len(_CASE_CHANGE.findall(letters)) >= _LEAST_CASE_CHANGES
    )


def is_valid_jwt(token: bytes) -> bool:
    """Return whether a JSON web token has not expired and is not a published example."""
    try:
        payload = token.split(b".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (ValueError, LookupError, binascii.Error):
        return True
    if not isinstance(claims, dict):
        return True
    if claims.get("sub") == "1234567890" or claims.get("role") == "anon":
        return False
    expires = claims.get("exp")
    return not isinstance(expires, (int, float)) or expires > time.time()


def decode_base64(text: bytes) -> bytes:
    """Decode Base64; return b"" if the text is not Base64."""
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""
