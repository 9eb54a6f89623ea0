"""Find the settings and environment variables whose values are secrets."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from fftasks.config.tree import SETTING_SPECS, Settings
from fftasks.errors import SettingsError

_SHORTEST = 8  # characters; a shorter value may be part of any text
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
# what may follow the word that names a secret: which one of several it is, or how it is written
_WHICH = (
    r"(?:_(?:[0-9]+|prod|production|dev|staging|main|default|admin|root|user|old|new|value|text"
    r"|base64|b64))*$"
)
# words of a name in small letters with "_" between them
_SECRET = re.compile(
    r"(?:^|_)(?:"
    # long words are certain, also glued to another word: pgpassword, clientsecret
    r"[a-z]*(?:password|passwd|passphrase|passcode|passwort|secret|credential)s?(?:_|$)"
    r"|(?:[a-z]*(?:auth|access|api|bearer|refresh|bot))?token(?:_|$)|cookies?(?:_|$)"
    r"|(?:auth|access|api|bearer|refresh|bot)_?tokens(?:_|$)"
    r"|[a-z]*(?:api|access|auth|private|secret|signing|encryption)_?keys?(?:_|$)"
    r"|(?:fernet|master|shared|account|storage|subscription|license|hmac|jwt|deploy|webhook)_?key(?:_|$)"
    # short ones are words of their own at the end: db_pass, and not pass_through or bypass
    r"|(?:(?:db|pg|sql|mysql|ftp|smtp|ldap|root|user|admin|require)?(?:pass|pwd|psw|pswd|pw)"
    r"|pat|sas|jwt|auth|authorization|bearer|creds?)" + _WHICH + r")"
)
# names that describe a secret without containing it, and other uses of the same words
_ABOUT = re.compile(
    r"_(?:file|path|dir|folder|url|uri|host|endpoint|name|id|ids|type|kind|length|len|size|count|limit|rate|ttl"
    r"|timeout|expiry|age|days|arn|ref|mode|enabled|required|policy|rules|field|column|label|hint|prompt"
    r"|regex|pattern|format|encoding|algorithm|version|issuer|audience|scopes?|header|prefix|suffix|provider"
    r"|backend|method|store|server|service|port|region|embeddings?|dim|dims)$"
    r"|^(?:use|uses|require|requires|enable|disable|no|skip|has|is|allow|needs?|with|num|max|min)_"
    r"|(?:^|_)(?:first|second|third|last|one|two|three|single|double|multi|all|high|low|band|forward|backward"
    r"|dry|each|per|boarding|by)_pass"
    + _WHICH
    + r"|(?:^|_)(?:bos|eos|pad|unk|cls|sep|mask|special|stop|start|end|next|page|sync|csrf|xsrf"
    r"|continuation|resume|public)_(?:page_)?(?:token|key)s?$"
)
_PASSWORD = re.compile(
    r"pass(?:w|phrase|code|$|_)|pwd|pswd|psw|(?:^|_)pw(?:_|$)|(?:^|_)creds?(?:_|$)"
)
_KEY_END = re.compile(r"(?:key|token)s?" + _WHICH)
_METHOD = re.compile(r"[A-Za-z]+(?:[-_ ][A-Za-z]+)*")  # AUTH=kerberos
_URL_PASSWORD = re.compile(r"://([^/@\s:]*):([^/@\s]+)@")
_FIELD = re.compile(
    r"(?i)(?:^|[;\s])(?:password|passwd|pwd|accountkey|sharedaccesskey|sharedaccesssignature)\s*=\s*([^;\s]+)"
)


@functools.lru_cache(maxsize=4096)
def classify_secret_name(name: str) -> str:
    """Return which kind of secret a name indicates.

    Short forms such as PASS, PWD and AUTH count only as words of their own at the end of a name: DB_PASS
    and dbPass, but neither PASS_THROUGH nor BYPASS.

    Args:
        name: The name, in any usual spelling: DB_PASSWORD, dbPassword, db-password.

    Returns:
        "password" for what people may have chosen, "key" for what is drawn at random, such as a token,
        "secret" for either, and "" for a name that is not that of a secret, such as TOKEN_FILE.
    """
    words = "_".join(_PART.findall(name)).lower()
    if not _SECRET.search(words) or _ABOUT.search(words):
        return ""
    if _KEY_END.search(words):
        return "key"
    return "password" if _PASSWORD.search(words) else "secret"


def is_secret_name(name: str) -> bool:
    """Return whether a name indicates a secret; see classify_secret_name."""
    return bool(classify_secret_name(name))


def list_secret_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets in an environment by the names of their variables.

    Args:
        environ: Environment variables.

    Returns:
        Name -> value of each variable that is named like a secret, or the password in the value of
        another variable that is a URL or opens a connection. Values of less than eight characters,
        paths of files and names of methods (AUTH=kerberos) are left out.
    """
    found = {name: _find_secret(name, value) for name, value in environ.items()}
    return {name: secret for name, secret in found.items() if len(secret) >= _SHORTEST}


def _find_secret(name: str, value: str) -> str:
    """Return the secret in the value of a variable, "" if there is none."""
    if is_secret_name(name):
        is_method = name.lower().endswith("auth") and _METHOD.fullmatch(value)
        return "" if value.startswith("/") or is_method else value
    if "://" not in value and "=" not in value:
        return ""
    url, field = _URL_PASSWORD.search(value), _FIELD.search(value)
    secret = unquote(url[2]) if url else field[1] if field else ""
    # postgres:postgres is a default password, and a part of ordinary texts
    is_default = (url is not None and secret == url[1]) or _METHOD.fullmatch(secret)
    is_default = is_default or secret[:1] in tuple("${<%")  # a reference
    return "" if is_default else secret


def list_secret_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the key and the value of each secret setting that has a value.

    A mapping yields each of its values, and a URL yields its password.
    """
    for key, rule in SETTING_SPECS.items():
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
