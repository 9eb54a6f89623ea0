r"""The rules of the secret gate that are not about the format of a token: files, names and values.

Every rule wants a literal value that can hardly be anything else. What depends on the name of a setting or a
variable depends on the kind of file too, because a gate that stops people wrongly is soon switched off.

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
    dotenv                .env, .envrc, …   a variable that is named like a secret
    login-file            .netrc, .pypirc   a password
    key-store             by name           *.p12, .git-credentials, gcloud's files, …
    password-in-config    YAML, INI, JSON…  a key that ends in "password" or "secret"
    key-in-config         the same          a random value named token, api_key, secret, …
    password-in-code      programs, shell   the same two for string literals and assignments; the value
    key-in-code                             must look drawn at random or have several kinds of characters
    password-in-command   shell             curl -u name:password, mysql -p, docker login -p, …

Values that never count: references (${NAME}, $(command), {{ template }}, <placeholder>, %NAME%), examples,
and the default passwords of services (postgres, minioadmin, changeme, admin123).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
import re
import time
from typing import NamedTuple

from fftasks.settings.tree import RULES as SETTINGS
from fftasks.settings.tree import SECTIONS
from fftasks.stages.tokens import is_random

# kinds of files

_CONFIG = re.compile(
    r"""\.(?:ya?ml|toml|ini|cfg|cnf|conf|config|json|json5|jsonc|properties|xml|tf|tfvars|hcl|service
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
    r"""\.(?:csv|tsv|jsonl|ndjson|geojson|parquet|lock|svg|map|sum|po|pot|css|scss|woff2?|snap|ambr|baseline)$
    |(?:^|/)(?:package-lock\.json|pnpm-lock\.yaml|npm-shrinkwrap\.json|poetry\.lock)$|[.-](?:min|bundle)\.js$""",
    re.IGNORECASE | re.VERBOSE,
)
_TESTS = re.compile(
    r"""(?:^|/)(?:tests?|testing|[\w-]+[_-]tests|test[_-]?(?:data|files|resources|utils|suite|fixtures|cases)
      |fixtures?|__(?:tests|mocks|fixtures|snapshots)__|mocks?|specs?|e2e)/
    |(?:^|/)(?:test_[^/]*|conftest)\.py$
    |[_.-](?:tests?|spec|mock)\.(?:py|go|js|jsx|ts|tsx|java|kt|rb|rs|cs|php|scala)$""",
    re.IGNORECASE | re.VERBOSE,
)
_SAMPLE = re.compile(
    r"(?:^|[/._-])(?:example|sample|dummy|mock)s?(?:\.[^/]*)?$|[._-](?:template|tmpl|tpl|j2)s?(?:\.[^/]*)?$"
    r"|\.(?:dist|default)$",
    re.IGNORECASE,
)
_DOTENV = re.compile(
    r"(?:^|/)(?:\.env(?:rc)?(?:[._-][^/]+)?|[^/]+\.env|env\.[\w-]+|\.(?:flask|django)env)$",
    re.IGNORECASE,
)
_SECRET_FILE = re.compile(r"(?:secrets?|credentials?|passwords?)[^/]*$|\.tfvars", re.IGNORECASE)
_OWN = re.compile(r"(?:^|/)config/[^/]+\.ya?ml$")
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


class Place(NamedTuple):
    """What the path of a file says about its content.

    kind: "config", "shell", "code", "docs", "data" or "other"
    """

    kind: str
    is_test: bool
    is_sample: bool
    is_dotenv: bool
    is_secret_file: bool
    is_own: bool
    is_login: bool
    is_state: bool
    is_kube: bool
    is_store: bool

    @property
    def is_quiet(self) -> bool:
        """Only what certainly is a secret counts: documentation, samples and tests are full of examples."""
        return self.is_test or self.is_sample or self.kind == "docs"

    @property
    def has_assignments(self) -> bool:
        """Names of settings and variables mean something here."""
        return self.kind in {"config", "shell", "code"} and not self.is_quiet


def classify(path: str) -> Place:
    """Return what a path, relative to the project and with "/", says about a file."""
    kinds = (("data", _DATA), ("docs", _DOCS), ("shell", _SHELL), ("code", _CODE), ("config", _CONFIG))
    found = (kind for kind, pattern in kinds if pattern.search(path))
    rest = (_TESTS, _SAMPLE, _DOTENV, _SECRET_FILE, _OWN, _LOGIN, _STATE, _KUBE, _STORE)
    return Place(next(found, "other"), *(pattern.search(path) is not None for pattern in rest))


# values

_EXAMPLE = re.compile(
    rb"""(?ix) example | placeholder | dummy | change[_-]?(?:me|this|it|in)\b | changeme | redacted
    | (?:\b|[_-])your[_-] | replace[_-]?(?:me|with|this) | (?:insert|enter|put|fill)[_-] | (?:\b|_)todo\b
    | not[_-]?(?:a[_-]?)?(?:real|secret|used) | fake | xxxx | (?-i:([^A])\1{5}) | 123456 | abcdefg
    | 0123456 | \.\.\. | \xe2\x80\xa6 | deadbeef | lorem"""
)
_REFERENCE = re.compile(
    rb"""(?ix) ^ (?: \$ [({\[] | \[ | [,+)] | % [\w(] .* [%)]s? $ | [<{*&] | \#\{ | @[\w.]+@ $ | __\w+__ $ | \#+ $
      | ENC\[ | (?:vault|env|file|op|ref|ssm|secret|sm|awssm|gcpsm|azkv|kms|arn|doppler|bws|keychain|sops)[:+]
      | (?:os|process|sys|env|var|vars|local|data|module|secrets|self|this|config|configs|settings|conf|args
        |opts|options|params|ctx|context|event|request|req|inputs|steps|needs|github|each|values)\.
      | https?:// | ~/ | [A-Z]:\\ | !\w | [A-Za-z_][\w.]* (?: \( [^()]* \) $ | \( $ | \[ .* \] $ ) )
    | \$\{ | \{\{ | \$\( | <[\w. -]+> | \{[\w.]+\}"""
)
_VARIABLE = re.compile(rb"\$+[A-Za-z_]\w*|\.{0,2}/.*")  # or a path
_WORDS = re.compile(
    rb"""(?ix) (?: pass(?:word|wd|phrase|wort)? | pwd | pw | secrets? | tokens? | keys? | api | my | your | the | our
    | users? | usernames? | admins? | administrator | root | tests? | testing | tester | demo | defaults? | devs?
    | develop(?:ment)? | local(?:host)? | guest | postgres(?:ql)? | pg | mysql | mariadb | redis | rabbit(?:mq)?
    | mongo(?:db)? | minio | airflow | mlflow | grafana | prometheus | keycloak | kafka | cassandra | oracle
    | clickhouse | elastic(?:search)? | sa | dbs? | databases? | examples? | samples? | foo | bar | baz | qux | hello
    | world | string | str | text | null | none | true | false | values? | change | this | it | me | here | some
    | placeholder | super | strong | very | long | random | generated | insecure | unsafe | not | for | prod(?:uction)?
    | soo?per | please | set | enter | insert | replace | with | real | fake | dummy | mock | x | kubeflow | feast | prefect
    | dagster | store | app | application | services? | clients? | servers? | accounts? | access | private | public | id
    | names? | auth | bearer | basic | jwt | sessions? | cookies? | a | an | of | to | in | is | be | must | letmein
    | qwerty | welcome | monkey | only | staging | new | old | hidden | internal | shared | master | main | login | doe
    | john | jane | alice | bob | required | optional | undefined | encrypted | hash(?:ed)? | salt | and | or | from
    | signing | encryption | django )*"""
)
# as in secret_env of a node's settings, secret/key: where a secret is, and not what it is
_LOCATION = re.compile(rb"[a-z0-9][a-z0-9.-]*/(?:[a-z0-9._-]+|[A-Z0-9_]+)")
_TEXT = re.compile(rb"[ -~\s]+")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}){2,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_LEET = bytes.maketrans(b"01345$@7", b"oieassat")
_NOT_LETTERS = re.compile(rb"[^A-Za-z]+")
_PUBLIC = frozenset({  # keys that an issuer publishes for an emulator or in its documentation
    "0011cc25eb432071",  # Azurite
    "aa6547439583c3a2",  # emulator of Cosmos DB
    "2cafc0970149a84f",  # Stripe
    "f2d6ca16515033e5",  # Stripe
})
_DESCRIPTION = re.compile(
    rb"(?i)[a-z_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|credential)[a-z_.-]*"
)
_SMALL = re.compile(rb"[a-z]")
_LARGE = re.compile(rb"(?<!^)[A-Z]")
_NUMBER = re.compile(rb"[0-9]")
_SIGN = re.compile(rb"[^A-Za-z0-9_.\s/-]")
_NAME = re.compile(rb"[A-Za-z]+(?:[_./:-][A-Za-z]+)*[:!?]*")


def is_placeholder(value: bytes) -> bool:
    """Tell whether a value stands where a secret would, and is none: "changeme", "${TOKEN}", "admin123"."""
    if _EXAMPLE.search(value) or _REFERENCE.search(value):
        return True
    if _DESCRIPTION.fullmatch(value):
        return True
    if (_VARIABLE.fullmatch(value) or _LOCATION.fullmatch(value)) and not is_random(value):
        return True
    if _BASE64.fullmatch(value) and _TEXT.fullmatch(text := decode(value)) and is_placeholder(text):
        return True
    plain = (_NOT_LETTERS.sub(b"", text) for text in (value, value.translate(_LEET)))
    return any(len(text) <= 64 and _WORDS.fullmatch(text) for text in plain) or hash_value(value) in _PUBLIC


def hash_value(value: bytes) -> str:
    """Return what stands for a published key in this file, so that no scanner stops at it."""
    return hashlib.sha256(value).hexdigest()[:16]


def count_classes(value: bytes) -> int:
    """Return how many kinds of characters a value has: small and large letters, digits, signs."""
    return sum(bool(kind.search(value)) for kind in (_SMALL, _LARGE, _NUMBER, _SIGN))


def is_password(value: bytes, level: int) -> bool:
    """Tell whether a value that is named like a password is one.

    Args:
        value: The literal.
        level: 0 where every literal is meant seriously (.env), 1 in configuration, 2 in programs.
    """
    if is_placeholder(value) or b" " in value:
        return False
    if level == 0:
        return len(value) >= 5
    classes = count_classes(value)
    if level == 1:
        return len(value) >= 6 and classes >= 2 and (is_random(value) or not _NAME.fullmatch(value))
    return len(value) >= 8 and (classes >= 3 or is_random(value))


def is_key(value: bytes) -> bool:
    """Tell whether a value that is named like a token or a key is one."""
    return (
        len(value) >= 12
        and _NUMBER.search(value) is not None
        and is_random(value)
        and not is_placeholder(value)
    )


def is_live(token: bytes) -> bool:
    """Tell whether a JSON web token may still be accepted: it has not expired, and is no published example."""
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


# assignments

ANCHORS = (b"pass", b"pwd", b"secret")
ASSIGNMENT = re.compile(
    rb"""(?ix)
    (?P<word> pass(?:w(?:or)?d|phrase|wort)? | pwd | secret ) (?P<tail> [\w.-]{0,30} )
    (?:
        (?P<is> \\?["'`]? \]? [ \t]{0,8}
            (?: :[ \t]*[\w\[\]|.]{1,24}[ \t]*= | [:=]=? | => | <- ) [ \t]{0,8}
            (?:ConvertTo-SecureString [ ]+ (?:-String[ ]+)?)? )
      | (?P<comma> \\?["'`] [ \t]* , [ \t]* (?=[\\"'`]) )
      | (?P<tag> > )
      | (?P<pair> \\?["']? (?: \s{0,2}</\w+> | [ \t]*, )? \s{1,40} ["'<]? value \\?["']? [ \t]* [:=>] [ \t]* )
      | (?P<space> [ \t]+ )
    )
    (?:
        [rbu]? \\?(?P<quote>["'`]) (?P<quoted> (?:(?!(?P=quote))[^\\\r\n]){4,200} ) \\?(?P=quote)
      | (?P<block> [|>][+-]?\d?[ \t]*\r?\n[ \t]+ )? (?P<bare> [^\s"'`<>\\]{4,200} )
        (?P<after> [^\r\n]{0,40} )
    )"""
)
TAIL = re.compile(
    rb"""(?ix) (?: \d{0,2} | [_.-]? (?: key | value | token | text | string | plain | raw | base64 | b64 | prod
    | production | dev | staging | main | default | admin | root | user | key[_.-]?base | access[_.-]?key ) \d? )"""
)
LINE_END = re.compile(rb"[\"']|[ \t]*(?:[,;)}\]]|#|//|\\[nr]|\r?$|[\w.]+=|&)")
CONNECTION = re.compile(
    rb"(?i)(?:^|[;?&\s\"'])(?:user(?:\s?id|name)?|uid|host|server|dbname|database|data source|account)\s?="
)
KEY_NAME = re.compile(
    rb"""(?x) (?<!page)(?<!page_)(?<!next_)(?<!sync_)(?<!csrf)(?<!csrf_)(?<!public_)(?<!resume_)
    (?<!hashed_) (?: token | secret | passwd | password | passphrase | pwd | _pass | pat | cookie | salt | credentials?
      | (?:api|access|auth|private|encryption|signing|secret|fernet|master|shared|account|license|storage|service
         |subscription|server|write|ingest|app|application|admin|deploy|session|hmac|jwt|token|client)[_.\- ]?key
      | bearer | (?:authorization|auth)["']?\s?[:,]\s?["']?basic | _auth | webhook[_-]?(?:url|key) )
    [\w.]{0,12} \\?["'`\])]{0,3} [ \t]{0,4}
    (?: :[^=\n]{1,20}= | [:=]= | => | <- | [:=,(>] | [ \t] ) [ \t]{0,4}
    (?: (?:bearer|basic|token) [ ] )? [rbu]? \\?["'`]? $"""
)
COMMAND = re.compile(
    rb"""(?x) \b (?: curl | wget | http | mysql\w* | mariadb\w* | mongo\w* | sshpass | sqlcmd | ldapsearch | az
      | (?:docker|podman|buildah|skopeo|oras|helm[ ]registry) [ ]+ login ) \b [^\n]{0,300}? [ ]
    (?: (?:-u|--user)[ =]?["']?[^\s:"'$]{1,60}: | -p[ ]? | --password[ =] | --token[ =] )
    ["']? (?P<value> [^\s"'`]{6,200} )"""
)
LOGIN_CALL = re.compile(
    rb"""(?x) (?: login | auth\s?=\s? | BasicAuth ) \( \s* ["'][^"'\n]{1,80}["'] \s*,\s*
    ["'] (?P<value> [^"'\n]{6,200} ) ["']"""
)
IDENTIFIED = re.compile(rb"(?i)identified\s+(?:with\s+\w+\s+)?by\s+(?:password\s+)?'(?P<value>[^'\n]{6,200})'")
DOTENV = re.compile(
    rb"""(?imx) ^ [ \t]* (?:export[ \t]+|-[ \t]+)? (?P<name> [A-Za-z_][\w.]* ) [ \t]* [=:] [ \t]*
    (?: (?P<quote>["']) (?P<quoted> [^\r\n]{1,400}? ) (?P=quote) | (?P<bare> [^\s"'#][^\s"']* ) ) [ \t]* (?:\#|\r?$)"""
)
SECRET_NAME = re.compile(
    rb"""(?ix) .* (?: passw(?:or)?d | passphrase | pwd | (?:^|_)pass | (?:^|_)pw | secret | token | (?:api|access|private|secret
    |encryption|signing|auth|master|account|shared|service|fernet|license)_?key | credentials? | salt | cookie | _key | _sas
    | _dsn | _pat ) (?: _?(?:base|value|prod|dev|staging|b64|base64|\d+) )? $"""
)
ALLOWED_LINE = re.compile(rb"pragma: allowlist secret|gitleaks:allow")
ORDINARY_NAME = re.compile(
    rb"(?i)(?:id|ids|sha\d*|hash|digest|version|rev|revision|commit|uuid|url|uri|host|image|tag|dsn|bucket|path)$"
)
PLAIN_KEY = re.compile(rb"[\w+/=-]{16,}")
PASSWORD_NAME = re.compile(rb"(?i)passw|passphrase|pwd|(?:^|_)pass(?:_|$)")

# our own settings


@functools.cache
def _compile_own() -> re.Pattern[bytes]:
    leaves = {key.rpartition(".")[2] for key, rule in SETTINGS.items() if rule.secret}
    leaves -= {key.rpartition(".")[2] for key, rule in SETTINGS.items() if isinstance(rule.default, dict)}
    names = "|".join(sorted(leaves, key=len, reverse=True))
    return re.compile(
        rb"(?m)(?:^[ \t]*(?:\#[ \t]*)?|[{,][ \t]*)[\"']?(?P<key>" + names.encode() + rb")[\"']?[ \t]*:[ \t]+"
        rb"(?!(?:null|~)[ \t]*$)(?![^\r\n]*(?<!\$)\$\{)[\"']?(?P<plain>[^\s\"'#,}])"
    )


@functools.cache
def _compile_sections() -> re.Pattern[bytes]:
    return re.compile(rf"(?m)^[\"']?(?:workflows|nodes|{'|'.join(SECTIONS)})[\"']?[ \t]*:".encode())


def list_own(data: bytes) -> list[int]:
    """Return where secret settings of fftasks are written out in a settings file."""
    if not _compile_sections().search(data):
        return []
    return [match.start("plain") for match in _compile_own().finditer(data)]


# structures that a text of any kind may have

# in a program or in JSON a line ends in "\n", and quotes may stand between
_BREAK = rb"(?:\s|\\[nr]|[\"'(),]|\+(?=\s))"
PRIVATE_KEY = (
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[\"'+(),]){0,40}"
    rb"(?:[A-Z][\w-]{2,20}: [^\r\n\\]{1,100}(?:\s|\\[nr]){1,8}){0,5}[A-Za-z0-9+/=]{32}"
)
PRIVATE_KEY_REST = (
    rb"[A-Za-z0-9+/=]*(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{24,})*"
    rb"(?:(?:" + _BREAK + rb"{1,40}[A-Za-z0-9+/=]{0,80}){1,3}-----END [A-Z0-9 ]{1,40}-----)?"
)
PUTTY_KEY = rb"PuTTY-User-Key-File-\d: "
PUTTY_KEY_REST = rb"(?:[\s\S]{0,8192}?Private-MAC: ?\w+|[^\r\n]*)"
URL = re.compile(
    rb"://(?P<user>[^\s/:@\"'`<>{}\[\]()$%*\\]{0,64}):(?P<value>[^\s/:@\"'`<>{}\[\]()$\\]{3,256})@"
    rb"(?P<host>[\w.-]+|\[)"
)
LOCAL_HOST = re.compile(
    rb"(?i)localhost$|127\.|\[$|0\.0\.0\.0|host\.docker\.internal|(?:.*\.)?(?:example|invalid|test)(?:\.(?:com|org|net))?$"
)
REGISTRY = re.compile(
    rb"\"(?:auth|identitytoken|registrytoken)\"\s{0,4}:\s{0,4}\"(?P<value>[^\"\s$]{8,})\""
)
CLIENT_KEY = re.compile(rb"client-key-data[\"']?:[ \t]*[\"']?(?P<value>[\w+/=]{40,})")
LOGIN_LINE = re.compile(
    rb"(?m)(?:^|\s)password\s{1,4}(?:[=:]\s{0,4})?(?P<value>\S+)|^\s*password[=:](?P<other>\S+)"
)
STATE = re.compile(rb"\"resources\"\s*:\s*\[\s*\{|\"outputs\"\s*:\s*\{\s*\"")
ENCODED_PEM = b"LS0tLS1CRUdJTi"
KUBERNETES = re.compile(rb"[\"']?kind[\"']?\s*:\s*[\"']?(?:Secret|Config|List)\b")
SAS = re.compile(rb"[?&](?:amp;)?sig=(?P<value>[A-Za-z0-9%+/]{40,60}(?:%3[Dd]|=))")
SAS_EXPIRY = re.compile(rb"[?&;]se=(\d{4})-(\d\d)-(\d\d)")


def is_url_password(match: re.Match[bytes]) -> bool:
    """Tell whether a URL has a password that is neither a default of the service nor for this machine."""
    user, value, host = match["user"], match["value"], match["host"]
    if LOCAL_HOST.match(host) or is_placeholder(value) or value == user:
        return False
    if b"." in host:
        return count_classes(value) >= 2 or len(value) >= 10
    return len(value) >= 8 and count_classes(value) >= 2  # a service of a compose file


def is_live_sas(data: bytes, match: re.Match[bytes]) -> bool:
    """Tell whether a signed URL of Azure's storage has not expired."""
    around = data[max(0, match.start() - 400) : match.end() + 300]
    expiry = SAS_EXPIRY.search(around.replace(b"amp;", b""))
    today = time.strftime("%Y%m%d", time.gmtime()).encode()
    return expiry is not None and b"".join(expiry.groups()) >= today


def decode(text: bytes) -> bytes:
    """Return what Base64 stands for; b"" if the text is none."""
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return b""
