"""The rules of the secret check: which files they apply to, and how they find structured secrets.

Structured secrets are private keys, passwords in URLs, logins, settings of fftasks, and values in
Kubernetes manifests. Every rule requires a literal value that is very unlikely to be anything else than a
secret. Rules for the names of settings and variables also depend on the class of the file, because users
disable a check that has many false positives.

    rule                  where             what it finds
    <issuer>-token        any file          a token of token_formats.py; those that only a word nearby
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
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fftasks.config.tree import SECTIONS
from fftasks.config.tree import SETTING_SPECS as SETTINGS
from fftasks.secrets.placeholders import (
    LITERAL_STRICTNESS,
    PROGRAM_STRICTNESS,
    SETTING_STRICTNESS,
    count_classes,
    decode_base64,
    is_password,
    is_placeholder,
)
from fftasks.secrets.secret_names import is_secret_name

_CONFIG = re.compile(
    r"""\.(?:ya?ml|toml|ini|cfg|cnf|conf|config|json|json5|jsonc|jsonl|ndjson|properties|xml|tf|tfvars|hcl|service
      |plist|inc|env|local|rc|cred|creds|gradle|kts)$
    |(?:^|/)\.[^/]+$|(?:^|/)(?:config|credentials|secrets?|env\.[\w-]+)$""",
    re.IGNORECASE | re.VERBOSE,
)
_SHELL = re.compile(
    r"""\.(?:sh|bash|zsh|fish|ksh|ps1|psm1|bat|cmd|mk|make|dockerfile|containerfile|sql)$
    |(?:^|/)(?:Dockerfile|Containerfile|Makefile|Justfile|Procfile|Vagrantfile|Jenkinsfile)[^/]*$
    |(?:^|/)\.(?:bash|zsh|psql|mysql|python)_history$|(?:^|/)\.(?:bashrc|zshrc|profile|bash_profile)$""",
    re.IGNORECASE | re.VERBOSE,
)
_CODE = re.compile(
    r"""\.(?:py|pyi|pyx|ipynb|js|jsx|mjs|cjs|ts|tsx|vue|svelte|go|java|kt|scala|groovy|rb|rs|php|cs|fs|vb
      |c|cc|cpp|h|hpp|m|swift|dart|r|rmd|qmd|jl|lua|pl|ex|exs|erl|clj)$""",
    re.IGNORECASE | re.VERBOSE,
)
_DOCS = re.compile(
    r"""\.(?:md|mdx|markdown|rst|adoc|asciidoc|tex|1|man)$
    |(?:^|/)(?:docs?|documentation|site|man)/(?:.*/)?[^/]*\.(?:txt|html?|ipynb|rmd|qmd|js|css|json)$
    |(?:^|/)(?:README|CHANGELOG|CHANGES|HISTORY|NEWS|LICENSE|NOTICE)[^/]*$""",
    re.IGNORECASE | re.VERBOSE,
)
_DATA = re.compile(
    r"""\.(?:csv|tsv|geojson|parquet|lock|svg|map|sum|po|pot|css|scss|woff2?|snap|ambr|baseline)$
    |(?:^|/)(?:package-lock\.json|pnpm-lock\.yaml|npm-shrinkwrap\.json|poetry\.lock)$|[.-](?:min|bundle)\.js$""",
    re.IGNORECASE | re.VERBOSE,
)
_TESTS = re.compile(
    r"""^(?:(?!(?:data|config)/)[^/]+/)*(?:tests?|testing|test[_-]?data|fixtures|__tests__)/
    |(?:^|/)conftest\.py$
    |[_.-](?:tests?|spec)\.(?:go|js|jsx|ts|tsx|java|kt|rb|rs|cs|php|scala)$""",
    re.IGNORECASE | re.VERBOSE,
)
_COPY = re.compile(r"(?:~|\.(?:bak|backup|old|orig|save|j2|log))+$", re.IGNORECASE)
_SAMPLE = re.compile(
    r"(?:^|[/._-])(?:example|sample|dummy|mock)s?(?:\.[^/]*)?$|[._-](?:template|tmpl|tpl)s?(?:\.[^/]*)?$"
    r"|\.(?:dist|default)$",
    re.IGNORECASE,
)
_DOTENV = re.compile(
    r"(?:^|/)(?:\.env(?:rc)?(?:[._-][^/]+)?|[^/]+\.env|env\.[\w-]+|\.(?:flask|django)env)$",
    re.IGNORECASE,
)
_SECRET_FILE = re.compile(r"(?:secrets?|credentials?|passwords?)[^/]*$|\.tfvars", re.IGNORECASE)
_FFTASKS_CONFIG = re.compile(r"(?:^|/)config/[^/]+\.ya?ml$")
_LOGIN = re.compile(r"(?:^|/)(?:\.netrc|_netrc|\.pypirc|\.databrickscfg)$", re.IGNORECASE)
_KUBE = re.compile(r"(?:^|/)(?:\.kube/|[^/]*kubeconfig)", re.IGNORECASE)
_STATE = re.compile(r"\.tfstate(?:\.backup)?$", re.IGNORECASE)
_STORE = re.compile(
    r"""\.(?:p12|pfx|jks|keystore|kdbx|bks)$
    |(?:^|/)(?:application_default_credentials\.json|access_tokens\.db|msal_token_cache\.(?:json|bin))$
    |(?:^|/)(?:\.git-credentials|\.pgpass|\.vault-token|\.htpasswd|\.streamlit/secrets\.toml)$
    |(?:^|/)gcloud/(?:credentials\.db|legacy_credentials/.+)$""",
    re.IGNORECASE | re.VERBOSE,
)


class FileClass(NamedTuple):
    """The class of a file, derived from its path.

    Attributes:
        kind: "config", "shell", "code", "docs", "data" or "other".
        is_test: Whether it belongs to tests.
        is_sample: Whether it is an example or a template.
        is_dotenv: Whether it contains environment variables, such as .env.
        is_secret_file: Whether its name says that it contains secrets.
        is_fftasks_config: Whether it is a settings file of fftasks.
        is_login: Whether it contains logins, such as .netrc.
        is_state: Whether it is a Terraform state.
        is_kube: Whether its name is that of a kubeconfig.
        is_key_store: Whether it is a key store or a credentials file.
    """

    kind: str
    is_test: bool
    is_sample: bool
    is_dotenv: bool
    is_secret_file: bool
    is_fftasks_config: bool
    is_login: bool
    is_state: bool
    is_kube: bool
    is_key_store: bool

    @property
    def is_lenient(self) -> bool:
        """Whether to report only certain secrets, because documentation and tests contain examples."""
        return self.is_test or self.is_sample or self.kind == "docs"

    @property
    def has_assignments(self) -> bool:
        """Whether the names of settings and variables indicate secrets in this file."""
        return self.kind in {"config", "shell", "code"} and not self.is_lenient


def classify_path(path: str) -> FileClass:
    """Classify a file by its path, which is relative to the project and contains "/"."""
    path = _COPY.sub("", path)  # a copy or a template counts as the file that it was made from
    kinds = (
        ("data", _DATA),
        ("docs", _DOCS),
        ("shell", _SHELL),
        ("code", _CODE),
        ("config", _CONFIG),
    )
    found = (kind for kind, pattern in kinds if pattern.search(path))
    rest = (_TESTS, _SAMPLE, _DOTENV, _SECRET_FILE, _FFTASKS_CONFIG, _LOGIN, _STATE, _KUBE, _STORE)
    return FileClass(next(found, "other"), *(pattern.search(path) is not None for pattern in rest))


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
_TERRAFORM_STATE = re.compile(rb"\"resources\"\s*:\s*\[\s*\{|\"outputs\"\s*:\s*\{\s*\"")
_SIGNATURE = re.compile(rb"[?&](?:amp;)?sig=(?P<value>[A-Za-z0-9%+/]{40,60}(?:%3[Dd]|=))")
_EXPIRY = re.compile(rb"[?&;]se=(\d{4})-(\d\d)-(\d\d)")
_STRUCTURE = re.compile(
    rb"://|-----BEGIN |PuTTY-User-Key-File-|\"kty\"|\"auths\"|client-key-data|sig="
)


class SecretMatch(NamedTuple):
    """A secret in a text: the rule that found it, and the begin and end of the value."""

    rule: str
    begin: int
    end: int


def find_words(data: bytes, words: Iterable[bytes], begin: int, end: int) -> Iterator[int]:
    """Yield the positions of some words in a range; this is many times faster than a regular expression."""
    for word in words:
        at = data.find(word, begin, end + len(word))
        while 0 <= at < end:
            yield at
            at = data.find(word, at + 1, end + len(word))


def find_private_keys(data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    """Yield the private keys in a text, with their begin and end."""
    for mark, pattern in _compile_keys():
        until = 0
        for at in find_words(data, (mark,), begin, end):
            if at >= until and (match := pattern.match(data, at)):
                until = match.end()
                yield SecretMatch("private-key", *match.span())
    if b'"kty"' in data:
        for match in re.finditer(_JWK, data[:end]):
            if match.start() >= begin:
                yield SecretMatch("private-key", *match.span("value"))


def find_structures(data: bytes, begin: int, end: int, place: FileClass) -> Iterator[SecretMatch]:
    """Yield private keys, passwords in URLs, and credentials for registries and clusters."""
    if place.is_test:
        if place.is_dotenv and not place.is_sample:
            yield from _find_in_urls(data, begin, end)
        return
    yield from find_private_keys(data, begin, end)
    if not place.is_lenient:
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


def is_terraform_state(data: bytes) -> bool:
    """Return whether a Terraform state contains resources or outputs."""
    return _TERRAFORM_STATE.search(data) is not None


def has_url_password(data: bytes) -> bool:
    """Return whether a text contains a URL with a password."""
    return next(_find_in_urls(data, 0, len(data)), None) is not None


def _find_logins(data: bytes, begin: int, end: int, place: FileClass) -> Iterator[SecretMatch]:
    if b'"auths"' in data or (place.kind == "config" and b'"auth"' in data):
        for match in _REGISTRY.finditer(data, begin):
            if match.start() < end and not is_placeholder(match["value"]):
                yield SecretMatch("registry-login", *match.span("value"))
    for at in find_words(data, (b"client-key-data",), begin, end):
        if key := _CLIENT_KEY.match(data, at):
            yield SecretMatch("kubernetes-login", *key.span("value"))
    if place.is_login:
        for match in _LOGIN_LINE.finditer(data, begin, end):
            group = "value" if match["value"] else "other"
            if not is_placeholder(match[group]):
                yield SecretMatch("login-file", *match.span(group))


def _find_in_urls(data: bytes, begin: int, end: int) -> Iterator[SecretMatch]:
    for at in find_words(data, (b"://",), begin, end):
        match = _URL.match(data, at)
        if match and _is_url_password(match):
            yield SecretMatch("password-in-url", *match.span("value"))
    for at in find_words(data, (b"sig=",), begin, end):
        match = _SIGNATURE.search(data, max(0, at - len(b"&amp;")), at + 100)
        if match and _is_valid_signed_url(data[max(0, at - 400) : at + 300]):
            yield SecretMatch("azure-token", *match.span("value"))


def _is_url_password(match: re.Match[bytes]) -> bool:
    """Return whether a password is neither a service's default password nor for a host on this machine."""
    user, value, host = match["user"], match["value"], match["host"]
    if _LOCAL_HOST.match(host) or is_placeholder(value) or value == user:
        return False
    if b"." not in host:  # a service of a compose file
        return is_password(value, SETTING_STRICTNESS._replace(length=8))
    return count_classes(value) >= SETTING_STRICTNESS.classes or len(value) >= _LONG_PASSWORD


def _is_valid_signed_url(url: bytes) -> bool:
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


_KIND = re.compile(rb"[\"']?kind[\"']?\s*:\s*[\"']?(?:Secret|SealedSecret|Config|List)\b")
_LOGINS = {"token", "password", "client-key-data", "client-secret", "refresh-token", "id-token"}
_SHORTEST_VALUE = 8  # characters of a value in a Secret
_LONGEST_VALUE = 200  # a longer value is a file

HasSecret = Callable[[str, bytes], bool]


def is_manifest(data: bytes) -> bool:
    """Return whether a file may contain a Secret or a kubeconfig."""
    return b"kind" in data and _KIND.search(data) is not None


def find_in_manifests(
    data: bytes, *, is_kubeconfig: bool, check: HasSecret
) -> Iterator[tuple[int, str]]:
    """Find the secrets in YAML or JSON documents of Kubernetes.

    Args:
        data: The documents. Text after a syntax error is not searched.
        is_kubeconfig: Whether the name of the file is that of a kubeconfig.
        check: Function that returns whether a file of some name contains a secret; a Secret may contain
            files.

    Yields:
        The line of each value of a Secret and each credential of a kubeconfig, and the rule. The rule is ""
        if the value is not a secret although its name suggests it.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for root in yaml.compose_all(data, loader):
            yield from _find_in_manifest(root, is_kubeconfig=is_kubeconfig, check=check)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return  # a template, or invalid YAML


def _find_in_manifest(
    root: Any, *, is_kubeconfig: bool, check: HasSecret
) -> Iterator[tuple[int, str]]:
    fields = _list_fields(root)
    kind = getattr(fields.get("kind"), "value", "")
    if kind == "List":
        for item in _list_items(fields.get("items")):
            yield from _find_in_manifest(item, is_kubeconfig=False, check=check)
    if kind == "Secret":
        for section in ("data", "stringData"):
            for name, node in _list_fields(fields.get(section)).items():
                text = node.value.encode() if isinstance(node.value, str) else b""
                value = decode_base64(text) if section == "data" else text
                is_secret = _is_secret(name, value.strip(), check)
                yield node.start_mark.line + 1, "kubernetes-secret" if is_secret else ""
    if kind == "SealedSecret":  # encrypted, so that it may be public
        for _, node in _walk(_list_fields(fields.get("spec")).get("encryptedData")):
            yield node.start_mark.line + 1, ""
    if kind == "Config" or is_kubeconfig:
        yield from _find_kubeconfig_logins(fields)


def _find_kubeconfig_logins(fields: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for entry in _list_items(fields.get("users")):
        for name, node in _walk(_list_fields(entry).get("user")):
            if name in _LOGINS and is_password(node.value.encode(), LITERAL_STRICTNESS):
                yield node.start_mark.line + 1, "kubernetes-login"


def _is_secret(name: str, value: bytes, check: HasSecret) -> bool:
    if b"\n" in value or value.startswith(b"{") or len(value) > _LONGEST_VALUE:
        return check(".dockerconfigjson" if "docker" in name else "secret.conf", value)
    if b"://" in value:
        return has_url_password(value)
    strictness = SETTING_STRICTNESS if is_secret_name(name) else PROGRAM_STRICTNESS
    return is_password(value, strictness._replace(length=_SHORTEST_VALUE))


def _list_fields(node: Any) -> dict[str, Any]:
    if type(node).__name__ != "MappingNode":
        return {}
    return {str(key.value): value for key, value in node.value}


def _list_items(node: Any) -> list[Any]:
    return node.value if type(node).__name__ == "SequenceNode" else []


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the YAML node of each string in a mapping and in nested mappings."""
    for name, value in _list_fields(node).items():
        if isinstance(value.value, str):
            yield name, value
        yield from _walk(value)
