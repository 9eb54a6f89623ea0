r"""The rules of the secret check, and those for structured secrets: keys, URLs, logins, settings of fftasks.

Every rule requires a literal value that is very unlikely to be anything else than a secret. Rules for the
names of settings and variables also depend on the kind of file, because users switch a check off if it has
many false positives.

    rule                  where             what it finds
    <issuer>-token        any file          a token of token_table.py; those that only a word nearby
                                            distinguishes not in documentation, samples and tests
    json-web-token        not docs, tests   eyJ….eyJ….…, unless it has expired
    private-key           not tests         "-----BEGIN … PRIVATE KEY" and a key; PuTTY's keys; JWKs
    password-in-url       not docs, tests   scheme://name:password@host
    registry-login        not tests         "auth" below "auths", as `docker login` writes it
    kubernetes-login      not tests         a key, token or password of a user in a kubeconfig
    kubernetes-secret     not tests         data or stringData of a Secret
    terraform-state       *.tfstate         any state with resources or outputs: it holds their passwords
    plain-setting         config/*.yaml     a secret setting of fftasks as a literal, not as ${NAME}
    dotenv                .env, .envrc, …   a variable that is named like a secret, or has a random value
    login-file            .netrc, .pypirc   a password
    key-store             by name           *.p12, .git-credentials, gcloud's files, …
    password-in-config    YAML, INI, JSON…  a key that ends in "password" or "secret"
    key-in-config         the same          a random value named token, api_key, secret, …
    password-in-code      programs, shell   the same two for string literals and assignments; the value
    key-in-code                             must look drawn at random or have several kinds of characters
    password-in-command   shell             curl -u name:password, mysql -p, docker login -p, …

A binary file is searched for tokens and private keys only. Values that never count are references
(${NAME}, $(command), {{ template }}, <placeholder>, %NAME%), examples, and the default passwords of
services (postgres, minioadmin, changeme, admin123). A line with "pragma: allowlist secret" or
"gitleaks:allow" does not count either.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fftasks.settings.tree import RULES as SETTINGS
from fftasks.settings.tree import SECTIONS
from fftasks.stages.secret_places import Place
from fftasks.stages.secret_values import SETTING, count_classes, is_password, is_placeholder

ALLOWED_LINE = re.compile(rb"pragma: allowlist secret|gitleaks:allow")

# in programs and in JSON, a line break may be written as "\n", with quotes around it
_BREAK = rb"(?:\s|\\[nr]|[\"'(),]|\+(?=\s))"
_PRIVATE_KEY = (
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[\"'+(),]){0,40}"
    rb"(?:[A-Z][\w-]{2,20}: [^\r\n\\]{1,100}(?:\s|\\[nr]){1,8}){0,5}[A-Za-z0-9+/=]{32}"
    rb"[A-Za-z0-9+/=]*(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{24,})*"
    rb"(?:(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{0,80}){1,3}-----END [A-Z0-9 ]{1,40}-----)?"
)
_PUTTY_KEY = (
    rb"PuTTY-User-Key-File-\d: (?:(?:(?!PuTTY-User-Key-File-)[\s\S]){0,8192}?Private-MAC: ?\w+"
    rb"|[^\r\n]{0,200})"
)
_JWK = rb"\"d\"\s{0,4}:\s{0,4}\"(?P<value>[\w-]{40,})\""
_URL = re.compile(
    rb"://(?P<user>[^\s/:@\"'`<>{}\[\]()$%*\\]{0,64}):(?P<value>[^\s/:@\"'`<>{}\[\]()$\\]{3,256})@"
    rb"(?P<host>[\w.-]+|\[|\$?\{|%[s(]|\$\w|<\w)"
)
_LOCAL_HOST = re.compile(
    rb"(?i)localhost$|127\.|\[$|0\.0\.0\.0|host\.docker\.internal"
    rb"|(?:.*\.)?(?:example|invalid|test)(?:\.(?:com|org|net))?$"
)
_LONG_PASSWORD = 10
_REGISTRY = re.compile(
    rb"\"(?:auth|identitytoken|registrytoken)\"\s{0,4}:\s{0,4}\"(?P<value>[^\"\s$]{8,})\""
)
_CLIENT_KEY = re.compile(rb"client-key-data[\"']?:[ \t]*[\"']?(?P<value>[\w+/=]{40,})")
_LOGIN_LINE = re.compile(
    rb"(?m)(?:^|\s)password\s{1,4}(?:[=:]\s{0,4})?(?P<value>\S+)|^[ \t]*password[=:](?P<other>\S+)"
)
_STATE = re.compile(rb"\"resources\"\s*:\s*\[\s*\{|\"outputs\"\s*:\s*\{\s*\"")
_SIGNATURE = re.compile(rb"[?&](?:amp;)?sig=(?P<value>[A-Za-z0-9%+/]{40,60}(?:%3[Dd]|=))")
_EXPIRY = re.compile(rb"[?&;]se=(\d{4})-(\d\d)-(\d\d)")
_STRUCTURE = re.compile(
    rb"://|-----BEGIN |PuTTY-User-Key-File-|\"kty\"|\"auths\"|client-key-data|sig="
)


class Hit(NamedTuple):
    """A secret in a text: the rule that found it, and the begin and end of the value."""

    rule: str
    begin: int
    end: int


def list_places(data: bytes, words: Iterable[bytes], begin: int, end: int) -> Iterator[int]:
    """Yield the positions of some words in a range; this is many times faster than a regular expression."""
    for word in words:
        at = data.find(word, begin, end + len(word))
        while 0 <= at < end:
            yield at
            at = data.find(word, at + 1, end + len(word))


def find_private_keys(data: bytes, begin: int, end: int) -> Iterator[Hit]:
    """Yield the private keys in a text, with their begin and end."""
    for mark, pattern in _compile_keys():
        until = 0
        for at in list_places(data, (mark,), begin, end):
            if at >= until and (match := pattern.match(data, at)):
                until = match.end()
                yield Hit("private-key", *match.span())
    if b'"kty"' in data:
        for match in re.finditer(_JWK, data[:end]):
            if match.start() >= begin:
                yield Hit("private-key", *match.span("value"))


def find_structures(data: bytes, begin: int, end: int, place: Place) -> Iterator[Hit]:
    """Yield private keys, passwords in URLs, and credentials for registries and clusters."""
    if place.is_test:
        if place.is_dotenv and not place.is_sample:
            yield from _find_in_urls(data, begin, end)
        return
    yield from find_private_keys(data, begin, end)
    if not place.is_quiet:
        yield from _find_in_urls(data, begin, end)
    yield from _find_logins(data, begin, end, place)


def has_structure(data: bytes) -> bool:
    """Return quickly whether find_structures() can find something in a text that is not a file."""
    return _STRUCTURE.search(data) is not None


def find_in_settings(data: bytes) -> Iterator[int]:
    """Yield the secret settings of fftasks that are literals in a settings file."""
    sections, settings = _compile_settings()
    if sections.search(data):
        yield from (match.start("plain") for match in settings.finditer(data))


def is_state(data: bytes) -> bool:
    """Return whether a Terraform state contains resources or outputs."""
    return _STATE.search(data) is not None


def has_url_password(data: bytes) -> bool:
    """Return whether a text contains a URL with a password."""
    return next(_find_in_urls(data, 0, len(data)), None) is not None


def _find_logins(data: bytes, begin: int, end: int, place: Place) -> Iterator[Hit]:
    if b'"auths"' in data or (place.kind == "config" and b'"auth"' in data):
        for match in _REGISTRY.finditer(data, begin):
            if match.start() < end and not is_placeholder(match["value"]):
                yield Hit("registry-login", *match.span("value"))
    for at in list_places(data, (b"client-key-data",), begin, end):
        if key := _CLIENT_KEY.match(data, at):
            yield Hit("kubernetes-login", *key.span("value"))
    if place.is_login:
        for match in _LOGIN_LINE.finditer(data, begin, end):
            group = "value" if match["value"] else "other"
            if not is_placeholder(match[group]):
                yield Hit("login-file", *match.span(group))


def _find_in_urls(data: bytes, begin: int, end: int) -> Iterator[Hit]:
    for at in list_places(data, (b"://",), begin, end):
        match = _URL.match(data, at)
        if match and _is_url_password(match):
            yield Hit("password-in-url", *match.span("value"))
    for at in list_places(data, (b"sig=",), begin, end):
        match = _SIGNATURE.search(data, max(0, at - len(b"&amp;")), at + 100)
        if match and _is_live(data[max(0, at - 400) : at + 300]):
            yield Hit("azure-token", *match.span("value"))


def _is_url_password(match: re.Match[bytes]) -> bool:
    """Return whether a password is neither a service's default password nor for a host on this machine."""
    user, value, host = match["user"], match["value"], match["host"]
    if _LOCAL_HOST.match(host) or is_placeholder(value) or value == user:
        return False
    if b"." not in host:  # a service of a compose file
        return is_password(value, SETTING._replace(length=8))
    return count_classes(value) >= SETTING.classes or len(value) >= _LONG_PASSWORD


def _is_live(url: bytes) -> bool:
    """Return whether a signed URL of Azure's storage has not expired."""
    expiry = _EXPIRY.search(url.replace(b"amp;", b""))
    today = time.strftime("%Y%m%d", time.gmtime()).encode()
    return expiry is not None and b"".join(expiry.groups()) >= today


@functools.cache
def _compile_keys() -> tuple[tuple[bytes, re.Pattern[bytes]], ...]:
    return (
        (b"-----BEGIN ", re.compile(_PRIVATE_KEY)),
        (b"PuTTY-User-Key-File-", re.compile(_PUTTY_KEY)),
    )


@functools.cache
def _compile_settings() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of a settings file of fftasks, and of the literals of its secret settings."""
    secret = [key for key, rule in SETTINGS.items() if rule.secret]
    names = {key.rpartition(".")[2] for key in secret if isinstance(SETTINGS[key].default, str)}
    sections = rf"(?m)^[\"']?(?:workflows|nodes|{'|'.join(SECTIONS)})[\"']?[ \t]*:"
    literal = (
        rf"(?m)(?:^[ \t]*(?:\#[ \t]*)?|[{{,][ \t]*)[\"']?(?:{'|'.join(sorted(names))})[\"']?[ \t]*:[ \t]+"
        r"(?!(?:null|~)[ \t]*$)(?![^\r\n]{0,400}(?<!\$)\$\{)[\"']?(?P<plain>[^\s\"'#,}])"
    )
    return re.compile(sections.encode()), re.compile(literal.encode())
