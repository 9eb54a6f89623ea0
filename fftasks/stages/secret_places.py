"""Classify files by their paths, and decide which rules of the secret check apply to them."""

from __future__ import annotations

import re
from typing import NamedTuple

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
    """The class of a file, derived from its path.

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
        """Whether to report only certain secrets, because documentation and tests contain examples."""
        return self.is_test or self.is_sample or self.kind == "docs"

    @property
    def has_assignments(self) -> bool:
        """Whether the names of settings and variables indicate secrets in this file."""
        return self.kind in {"config", "shell", "code"} and not self.is_quiet


def classify(path: str) -> Place:
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
    rest = (_TESTS, _SAMPLE, _DOTENV, _SECRET_FILE, _OWN, _LOGIN, _STATE, _KUBE, _STORE)
    return Place(next(found, "other"), *(pattern.search(path) is not None for pattern in rest))
