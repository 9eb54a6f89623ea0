"""Refuse to copy files with secrets into the image, unless the setting context.allow names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fftasks.errors import FFTasksError
from fftasks.stages.dockerignore import Ignore, Verdict, parse, quote
from fftasks.stages.secret import Finding
from fftasks.stages.token_table import FORMATS

_SHOWN = 20
_REASONS = {
    "json-web-token": "a signed token that has not expired",
    "private-key": "a private key",
    "password-in-url": "a URL with a password; remove the user name and the password from the URL",
    "registry-login": "credentials for a registry, as `docker login` stores them",
    "kubernetes-login": "credentials for a cluster",
    "kubernetes-secret": "a value of a Secret; Base64 is not encryption",
    "terraform-state": "the state of Terraform contains all values, including passwords",
    "plain-setting": "write ${NAME} instead, and set NAME in the environment",
    "dotenv": "a variable that is named like a secret and has a value",
    "login-file": "a password in a file that stores logins",
    "key-store": "files with this name contain keys or logins",
    "password-in-config": "a literal value of a key that is named like a password",
    "key-in-config": "a random value of a key that is named like a token",
    "password-in-code": "a literal value that is named like a password",
    "key-in-code": "a random value that is named like a token",
    "password-in-command": "a command with a password in its arguments",
}
_ISSUERS = {form.kind: form.issuer for form in FORMATS}

Row = list[str | int]  # [path, line (0 in a binary file), rule], as in the record


class SecretError(FFTasksError):
    """Keep a private file out of the image, or allow it."""


def check(found: Mapping[str, Sequence[Finding]], allow: Iterable[str] = ()) -> list[Row]:
    """Return the findings that are allowed.

    Args:
        found: Findings of each file, by path. The message lists them in this order.
        allow: Paths and patterns in the syntax of .dockerignore.

    Returns:
        The findings in files that a pattern allows, as rows of the record.

    Raises:
        SecretError: There are other findings; the error names all of them, but no value.
        SettingsError: A pattern is invalid.
    """
    patterns = Ignore(parse(tuple(allow), "setting context.allow"))
    allowed: list[Row] = []
    refused: list[Row] = []
    for path, findings in found.items():
        rows: list[Row] = [[path, one.line, one.rule] for one in findings]
        (allowed if _matches(patterns, path) else refused).extend(rows)
    if refused:
        raise _refuse(refused)
    return allowed


def _matches(patterns: Ignore, path: str) -> bool:
    verdict: Verdict | None = None
    for end in (index for index, sign in enumerate(f"{path}/") if sign == "/"):
        verdict = patterns.check(path[:end], verdict)
    return verdict is not None and verdict.ignored


def _refuse(rows: list[Row]) -> SecretError:
    lines = [_format(*row) for row in rows[:_SHOWN]]
    paths = list(dict.fromkeys(str(path) for path, *_ in rows))
    if len(rows) > _SHOWN:
        lines.append(f"and {len(rows) - _SHOWN} more, in {len(paths)} files altogether")
    what = "a secret" if len(rows) == 1 else f"{len(rows)} secrets"
    line = quote(paths[0])
    return SecretError(
        f"context: {what} would get into the image",
        found=lines,
        tip="\n".join(_list_tips({str(rule) for *_, rule in rows}, line)),
    )


def _list_tips(rules: set[str], line: str) -> list[str]:
    """Return what to do about findings of some rules, one idea each; line: the pattern of a file."""
    tips = []
    if "plain-setting" in rules:
        tips.append("write ${NAME} in place of the value, and set NAME in the environment")
    if rules != {"plain-setting"}:
        tips += [
            f"to keep a file out, add a line such as {line!r} to .dockerignore",
            "if a node needs the secret, use secret_env or secret_files",
        ]
    return [*tips, f"if it is a false positive, set context.allow: [{line!r}]"]


def _format(path: str | int, line: str | int, rule: str | int) -> str:
    name, kind = _show(str(path)), str(rule)
    reason = _REASONS.get(kind) or f"the format of {_ISSUERS.get(kind, 'a token')}'s tokens"
    place = f"{name}:{line}" if line else f"{name} (binary)"
    return f"{place}: {kind} ({reason})"


def _show(path: str) -> str:
    # a name may hold a line break, or bytes that are no text
    return path if path.isprintable() else ascii(path)
