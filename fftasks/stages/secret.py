r"""Find what should stay private in a file: keys, tokens and passwords, by line and rule.

Only what can hardly be anything else counts: a token with its issuer's prefix, a key between its marks,
a password in a file that is made for passwords. Entropy is not looked at, and source code may call
a variable `password`: what stops somebody wrongly is soon switched off. A file that is no text (it
has a NUL near its beginning) is known by its name only. The value never leaves this module.

    rule                  found in     what it finds
    private-key           any file     "-----BEGIN … PRIVATE KEY" with a key behind it; PuTTY's keys
    <issuer>-token        any file     tokens that begin as the issuer's do (GitHub, AWS, Slack, …)
    json-web-token        any file     eyJ….eyJ….…, as Kubernetes and Kubeflow hand out
    password-in-url       any file     scheme://name:password@host
    registry-login        any file     "auth" below "auths", as `docker login` writes it
    kubernetes-login      any file     client-key-data; a token or password of a user in a kubeconfig
    plain-setting         config/*.yaml  password, token or cookies of this project, not as ${NAME}
    password-in-config    *.yaml, *.json, …  a key that ends in "password", with a literal value
    key-in-config         the same     api_key, client_secret, …, with a long value that has a digit
    dotenv, login-file, key-store  by name  .env, .netrc, .pypirc, gcloud's files, *.p12, …
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from fftasks.record import digest_json

HIDDEN = "•••"
_OVERLAP_BYTES = 1 << 13  # no rule looks further ahead
_BEHIND_BYTES = 64  # nor further back
_MOST = 20  # findings per file
_HEAD_BYTES = 1 << 13  # where a NUL says that a file is no text, as git has it

# secret/key, as in secret_env of a node's settings: where a secret is, and not what it is
_NO_REFERENCE = (
    rb"(?!(?-i:[a-z0-9][a-z0-9.-]*/(?:[a-z0-9._-]+|[A-Z0-9_]+))[\"']?[ \t\r]*(?:[,}#]|$))"
)
_CONFIG = (
    r"\.(?:ya?ml|toml|ini|cfg|cnf|conf|json|properties)$|(?:^|/)\.(?:npmrc|yarnrc|s3cfg|boto)$"
)
_KEY = rb"(?im)(?:^|[{,])[ \t]*(?:-[ \t]+|export[ \t]+|//[^\s=]+:)?[\"']?[\w.-]*"
_IS = rb"[\"']?[ \t]*[:=][ \t]*[\"']?"
_LOGIN = r"(?:^|/)(?:\.netrc|_netrc|\.pypirc|\.databrickscfg)$"
_STORES = r"""\.(?:p12|pfx|jks|keystore|kdbx)$
    |(?:^|/)(?:application_default_credentials\.json|access_tokens\.db|msal_token_cache\.(?:json|bin))$
    |(?:^|/)(?:\.git-credentials|\.pgpass|\.vault-token|\.htpasswd|\.streamlit/secrets\.toml)$
    |(?:^|/)gcloud/(?:credentials\.db|legacy_credentials/.+)$"""


@dataclass(frozen=True)
class Rule:
    """What to look for; `paths` limits it to files that are called so.

    keywords: no file without one of them can match; none: any file can
    source: of the pattern; its group "value", if it has one, must be no placeholder
    Compiled when they are first needed: where nothing changed, nothing is searched.
    """

    name: str
    keywords: tuple[bytes, ...]
    source: bytes
    paths: str = ""

    @functools.cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """What is looked for."""
        return re.compile(self.source)

    @functools.cached_property
    def names(self) -> re.Pattern[str]:
        """What a file must be called."""
        return re.compile(self.paths, re.IGNORECASE | re.VERBOSE)


@dataclass(frozen=True)
class Finding:
    """A line of a file, counted from 1, and the rule that it meets."""

    line: int
    rule: str


def _rule(name: str, keywords: str, pattern: bytes, paths: str = "") -> Rule:
    return Rule(name, tuple(keywords.encode().split()), pattern, paths)


_RULES = (
    _rule(
        "private-key",
        "PRIVATE",
        # in a text of a program or of JSON a line ends in "\n", and quotes may stand between
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[\"'+(),]){0,40}"
        rb"(?:[A-Z][\w-]{2,20}: [^\r\n\\]{1,100}(?:\s|\\[nr]){1,8}){0,5}[A-Za-z0-9+/=]{32}",
    ),
    _rule("private-key", "PuTTY-User-Key-File-", rb"PuTTY-User-Key-File-\d: "),
    _rule("aws-token", "AKIA ASIA", rb"\b(?P<value>(?:AKIA|ASIA)[A-Z0-9]{16})\b"),
    _rule(
        "aws-token",
        "ecret ECRET",
        rb"(?i)aws_?secret_?access_?key[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?P<value>[\w/+]{40})(?![\w/+=])",
    ),
    _rule("azure-token", "AccountKey=", rb"AccountKey=(?P<value>[\w+/]{86}==)"),
    _rule("azure-token", "Q~", rb"(?<![\w~.-])(?P<value>[\w~.]{3}\dQ~[\w~.-]{31,34})(?![\w~.-])"),
    _rule("google-token", "AIza", rb"\b(?P<value>AIza[\w-]{35})(?![\w-])"),
    _rule("google-token", "GOCSPX-", rb"\b(?P<value>GOCSPX-[\w-]{28})(?![\w-])"),
    _rule("google-token", "ya29.", rb"\b(?P<value>ya29\.[\w-]{30,})"),
    _rule("google-token", '"1//0', rb"\"(?P<value>1//0[\w-]{30,})\""),
    _rule(
        "github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rb"\b(?P<value>gh[pousr]_[A-Za-z0-9]{36,255})\b"
    ),
    _rule("github-token", "github_pat_", rb"\b(?P<value>github_pat_\w{60,255})\b"),
    _rule("gitlab-token", "glpat- gldt- glrt-", rb"\b(?P<value>gl(?:pat|dt|rt)-[\w-]{20,})"),
    _rule("slack-token", "xox", rb"\b(?P<value>xox[abeprs]-(?:\d+-)[\w-]{20,})"),
    _rule(
        "slack-token",
        "hooks.slack.com",
        rb"hooks\.slack\.com/services/(?P<value>T\w{8,}/B\w{8,}/\w{20,})",
    ),
    _rule("huggingface-token", "hf_", rb"\b(?P<value>hf_[A-Za-z0-9]{34})\b"),
    _rule("openai-token", "T3BlbkFJ", rb"\b(?P<value>sk-[\w-]{20,}T3BlbkFJ[\w-]{20,})"),
    _rule("anthropic-token", "sk-ant-", rb"\b(?P<value>sk-ant-[a-z0-9]+-[\w-]{80,})"),
    _rule(
        "wandb-token", "andb ANDB", rb"(?i)wandb[\w.]*[^\w\r\n].{0,30}?(?P<value>\b[0-9a-f]{40}\b)"
    ),
    _rule(
        "kaggle-token",
        '"username"',
        rb"\"key\"\s{0,4}:\s{0,4}\"(?P<value>[0-9a-f]{32})\"",
        "kaggle",
    ),
    _rule("pypi-token", "pypi-AgE", rb"\b(?P<value>pypi-AgE[\w-]{50,})"),
    _rule("npm-token", "npm_", rb"\b(?P<value>npm_[A-Za-z0-9]{36})\b"),
    _rule("stripe-token", "k_live_", rb"\b(?P<value>[rs]k_live_[A-Za-z0-9]{20,})"),
    _rule("sendgrid-token", "SG.", rb"\b(?P<value>SG\.[\w-]{22}\.[\w-]{43})"),
    _rule("databricks-token", "dapi", rb"\b(?P<value>dapi[a-f0-9]{32}(?:-\d)?)\b"),
    _rule("docker-token", "dckr_", rb"\b(?P<value>dckr_[po]at_[\w-]{20,})"),
    _rule("vault-token", "hvs.", rb"\b(?P<value>hvs\.[\w-]{24,})"),
    _rule(
        "json-web-token",
        "eyJ",
        rb"\b(?P<value>eyJ[\w-]{15,}\.eyJ[\w-]{15,}\.[\w-]{20,})",
    ),
    _rule(
        "password-in-url",
        "://",
        rb"://[^\s/:@\"'`<>{}\[\]()$%*\\]{0,64}:(?P<value>[^\s/:@\"'`<>{}\[\]()$\\]{3,256})@"
        rb"(?!localhost|127\.|\[|(?:[\w-]+\.)*(?:example|invalid|test)\b)[\w-]",
    ),
    _rule(
        "registry-login",
        '"auths"',
        rb"\"(?:auth|identitytoken|registrytoken)\"\s{0,4}:\s{0,4}\"(?P<value>[^\"\s$]{8,})\"",
    ),
    _rule(
        "kubernetes-login",
        "client-key-data",
        rb"client-key-data[\"']?:[ \t]*[\"']?(?P<value>[\w+/=]{40,})",
    ),
    _rule(
        "kubernetes-login",
        "users:",
        rb"(?m)^[ \t]+(?:token|password):[ \t]*[\"']?(?P<value>[^\s\"'#${<]{8,})",
        r"(?:^|/)(?:\.kube/|[^/]*kubeconfig)",
    ),
    _rule(
        "plain-setting",
        "password token cookies",
        rb"(?m)(?:^[ \t]*(?:\#[ \t]*)?|[{,][ \t]*)[\"']?(?:password|token|cookies)[\"']?[ \t]*:[ \t]+"
        rb"(?!(?:null|~)[ \t]*$)(?![^\r\n]*(?<!\$)\$\{)[\"']?(?P<plain>[^\s\"'#,}])",
        r"(?:^|/)config/[^/]+\.ya?ml$",
    ),
    _rule(
        "password-in-config",
        "assw ASSW assphrase ASSPHRASE",
        _KEY
        + rb"(?:password|passwd|passphrase)"
        + _IS
        + _NO_REFERENCE
        + rb"(?P<value>[^\s\"'#,{}\[\]]{4,})",
        _CONFIG,
    ),
    _rule(
        "key-in-config",
        "ecret ECRET pi_ PI_ piK oken OKEN ccess",
        _KEY
        + rb"(?:api_?key|client_?secret|secret_?key|secret_?access_?key|(?:auth|access|refresh)_?token)"
        + _IS
        + _NO_REFERENCE
        + rb"(?P<value>(?=[\w./+=~-]*\d)[\w./+=~-]{16,})",
        _CONFIG,
    ),
    _rule(
        "dotenv",
        "=",
        rb"(?m)\A(?:.*\n)*?[ \t]*(?:export[ \t]+)?[A-Za-z_]\w*[ \t]*=[ \t]*[\"']?([^\s\"'#])",
        r"(?:^|/)(?:\.env(?:\.(?!example|sample|template|dist|default)[^/]+)?|[^/]+\.env)$",
    ),
    _rule(
        "login-file", "password", rb"(?m)(?:^|\s)password\s{1,4}(?:=\s{0,4})?(?P<value>\S+)", _LOGIN
    ),
    _rule("login-file", "password=", rb"(?m)^\s*password=(?P<value>\S+)", _LOGIN),
    _rule("key-store", "", rb"(?s)\A.", _STORES),
)

DIGEST = digest_json([[r.name, repr(r.keywords), repr(r.source), r.paths] for r in _RULES])

_PLACEHOLDER = rb"""(?ix) example | placeholder | dummy | changeme | change[_-]me | redacted | your[_-]
    | (.)\1{5} | 12345678 | abcdefgh | \.\.\.
    | ^ (?: [$%{<!*&] | .*\$ $ | ENC\[ | vault: | env: )
    | ^ (?: pass | password | passwd | passphrase | pwd | pw | secret | token | user | username
          | string | str | null | none | true | false | test | admin | root | x+ | \*+ ) $"""


def hide_tokens(text: str) -> str:
    """Return a text with what is a token, a key or a password in any file taken out of it."""
    data = text.encode("utf-8", "surrogatepass")
    if not _compile_keywords().search(data):
        return text
    for rule in _ANYWHERE:
        if _may_match(rule, data):
            data = rule.pattern.sub(_hide, data)
    return data.decode("utf-8", "surrogatepass")


def _hide(match: re.Match[bytes]) -> bytes:
    if "value" not in match.re.groupindex:
        return HIDDEN.encode()
    if _is_placeholder(match["value"]):
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
            if "value" not in rule.pattern.groupindex or not _is_placeholder(match["value"]):
                line = self._line + data.count(b"\n", 0, match.start(rule.pattern.groups))
                self._found.setdefault(line, rule.name)


def _may_match(rule: Rule, data: bytes) -> bool:
    # a search for a word is many times faster than one for a pattern
    for word in rule.keywords:
        if word in data:  # any() would take as long as the search itself
            return True
    return not rule.keywords


def _is_placeholder(value: bytes) -> bool:
    return re.search(_PLACEHOLDER, value) is not None


@functools.cache
def _compile_keywords() -> re.Pattern[bytes]:
    return re.compile(b"|".join(re.escape(word) for rule in _ANYWHERE for word in rule.keywords))


@functools.cache
def _compile_names() -> re.Pattern[str]:
    """Return what finds the files that any of the rules for some files is for."""
    return re.compile("|".join(f"(?:{r.paths})" for r in _NAMED), re.IGNORECASE | re.VERBOSE)


_ANYWHERE = tuple(rule for rule in _RULES if not rule.paths)
_NAMED = tuple(rule for rule in _RULES if rule.paths)
