r"""What should stay private in a file, as rules: what to look for, and in which files.

Only what can hardly be anything else counts: a token with its issuer's prefix, a key between its marks,
a password in a file that is made for passwords. Entropy is not looked at, and source code may call
a variable `password`: what stops somebody wrongly is soon switched off.

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

# secret/key, as in secret_env of a node's settings: where a secret is, and not what it is
_NO_REFERENCE = (
    rb"(?!(?-i:[a-z0-9][a-z0-9.-]*/(?:[a-z0-9._-]+|[A-Z0-9_]+))[\"']?[ \t\r]*(?:[,}#]|$))"
)
_CONFIG = (
    r"\.(?:ya?ml|toml|ini|cfg|cnf|conf|json|properties)$|(?:^|/)\.(?:npmrc|yarnrc|s3cfg|boto)$"
)
_KEY = rb"(?im)(?:^|[{,])[ \t]*(?:-[ \t]+|export[ \t]+|//[^\s=]+:)?[\"']?[\w.-]*"
_IS = rb"[\"']?[ \t]*[:=][ \t]*[\"']?"
# in a text of a program or of JSON a line ends in "\n", and quotes may stand between
_BREAK = rb"(?:\s|\\[nr]|[\"'(),]|\+(?=\s))"
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
    rest: of the secret, behind what the pattern finds of it: to be hidden as well where a text is shown
    Compiled when they are first needed: where nothing changed, nothing is searched.
    """

    name: str
    keywords: tuple[bytes, ...]
    source: bytes
    paths: str = ""
    rest: bytes = b""

    @functools.cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """What is looked for."""
        return re.compile(self.source)

    @functools.cached_property
    def whole(self) -> re.Pattern[bytes]:
        """What is hidden: a secret to its end."""
        return re.compile(self.source + self.rest)

    @functools.cached_property
    def names(self) -> re.Pattern[str]:
        """What a file must be called."""
        return re.compile(self.paths, re.IGNORECASE | re.VERBOSE)


def _rule(name: str, keywords: str, pattern: bytes, paths: str = "", rest: bytes = b"") -> Rule:
    return Rule(name, tuple(keywords.encode().split()), pattern, paths, rest)


RULES = (
    _rule(
        "private-key",
        "PRIVATE",
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[\"'+(),]){0,40}"
        rb"(?:[A-Z][\w-]{2,20}: [^\r\n\\]{1,100}(?:\s|\\[nr]){1,8}){0,5}[A-Za-z0-9+/=]{32}",
        rest=rb"[A-Za-z0-9+/=]*(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{24,})*"
        rb"(?:(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{0,80}){1,3}-----END [A-Z0-9 ]{1,40}-----)?",
    ),
    _rule(
        "private-key",
        "PuTTY-User-Key-File-",
        rb"PuTTY-User-Key-File-\d: ",
        rest=rb"(?:[\s\S]{0,8192}?Private-MAC: ?\w+|[^\r\n]*)",
    ),
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

DIGEST = digest_json([[r.name, repr(r.keywords), repr(r.source), r.paths] for r in RULES])

_PLACEHOLDER = rb"""(?ix) example | placeholder | dummy | changeme | change[_-]me | redacted | your[_-]
    | (.)\1{5} | 12345678 | abcdefgh | \.\.\.
    | ^ (?: [$%{<!*&] | .*\$ $ | ENC\[ | vault: | env: )
    | ^ (?: pass | password | passwd | passphrase | pwd | pw | secret | token | user | username
          | string | str | null | none | true | false | test | admin | root | x+ | \*+ ) $"""


def is_placeholder(value: bytes) -> bool:
    """Tell whether a value stands where a secret would, and is none: "changeme", "${TOKEN}", "***"."""
    return re.search(_PLACEHOLDER, value) is not None
