"""Find the settings and environment variables whose values are secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fftasks.errors import SettingsError
from fftasks.settings.tree import RULES, Settings

_SHORTEST = 8  # characters; any text may contain a shorter value
# words, separated by underscores, in the names of variables that contain secrets
_WORDS = re.compile(
    r"(?i)(?:^|_)(?:\w*PASSWORDS?|PASSWD|PASSPHRASE|TOKEN|SECRETS?|CREDENTIALS?|COOKIES?"
    r"|(?:API|ACCESS|AUTH|PRIVATE|SECRET|SIGNING|ENCRYPTION)_?KEY|\w+_PWD|PAT)(?:_|\d*$)"
)
# last words in the names of variables that describe a secret and do not contain it
_ABOUT = re.compile(
    r"(?i)_(?:FILE|PATH|DIR|FOLDER|URL|URI|HOST|ENDPOINT|NAME|ID|TYPE|LENGTH|SIZE|COUNT|LIMIT|TTL"
    r"|TIMEOUT|EXPIRY|ARN|REF|MODE|ENABLED|POLICY)$"
)


def is_secret_name(name: str) -> bool:
    """Return whether the name of an environment variable indicates that its value is a secret.

    API_TOKEN, DB_PASSWORD and AWS_SECRET_ACCESS_KEY do; TOKENIZERS_PARALLELISM, TOKEN_FILE and
    SECRET_NAME do not.
    """
    return bool(_WORDS.search(name)) and not _ABOUT.search(name)


def list_secret_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that are secrets.

    Args:
        environ: Environment variables.

    Returns:
        Name -> value, without values of less than eight characters and without paths of files.
    """
    return {
        name: value
        for name, value in environ.items()
        if len(value) >= _SHORTEST and is_secret_name(name) and not value.startswith("/")
    }


def list_secret_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each secret setting that has a value.

    A mapping yields each of its values, and a URL yields its password.
    """
    for key, rule in RULES.items():
        if not rule.secret:
            continue
        section, _, name = key.partition(".")
        try:
            value = getattr(getattr(settings, section), name)
        except SettingsError:  # ${NAME} names a variable that is not set
            continue
        for text in value.values() if isinstance(value, dict) else (value,):
            hidden = re.findall(r"://[^/@\s]*:([^/@\s]+)@", text) if "://" in text else [text]
            yield from ((key, secret) for secret in hidden if secret)
