"""Values of the settings and of the environment that are secrets themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fftasks.errors import SettingsError
from fftasks.settings.tree import RULES, Settings

_SHORTEST = 8  # characters; a shorter value may be part of any text
# words, between underscores, of the name of a variable that holds a secret
_WORDS = re.compile(
    r"(?i)(?:^|_)(?:\w*PASSWORDS?|PASSWD|PASSPHRASE|TOKEN|SECRETS?|CREDENTIALS?|COOKIES?"
    r"|(?:API|ACCESS|AUTH|PRIVATE|SECRET|SIGNING|ENCRYPTION)_?KEY|\w+_PWD|PAT)(?:_|\d*$)"
)
# last words of the name of a variable that says something about a secret, and does not hold it
_ABOUT = re.compile(
    r"(?i)_(?:FILE|PATH|DIR|FOLDER|URL|URI|HOST|ENDPOINT|NAME|ID|TYPE|LENGTH|SIZE|COUNT|LIMIT|TTL"
    r"|TIMEOUT|EXPIRY|ARN|REF|MODE|ENABLED|POLICY)$"
)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable of the environment holds a secret, by its name.

    API_TOKEN, DB_PASSWORD and AWS_SECRET_ACCESS_KEY do; TOKENIZERS_PARALLELISM, TOKEN_FILE and
    SECRET_NAME do not.
    """
    return bool(_WORDS.search(name)) and not _ABOUT.search(name)


def list_secret_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the environment that are secrets by the names of their variables.

    Args:
        environ: An environment, or a part of one.

    Returns:
        Name -> value, without values of less than eight characters and paths of files.
    """
    return {
        name: value
        for name, value in environ.items()
        if len(value) >= _SHORTEST and is_secret_name(name) and not value.startswith("/")
    }


def list_secret_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each setting that is a secret, as far as it is set.

    Of a mapping, each value; of a URL, the password in it.
    """
    for key, rule in RULES.items():
        if not rule.secret:
            continue
        section, _, name = key.partition(".")
        try:
            value = getattr(getattr(settings, section), name)
        except SettingsError:  # it is taken from a variable that is not set
            continue
        for text in value.values() if isinstance(value, dict) else (value,):
            hidden = re.findall(r"://[^/@\s]*:([^/@\s]+)@", text) if "://" in text else [text]
            yield from ((key, secret) for secret in hidden if secret)
