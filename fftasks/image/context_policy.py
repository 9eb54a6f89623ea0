"""Policies of the context: its maximum size, and no secrets unless context.allow permits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from fftasks.config.ignore import IgnoreMatch, IgnoreRules, escape_path, parse_patterns
from fftasks.config.sizes import parse_size
from fftasks.errors import FFTasksError
from fftasks.secrets.scanner import SecretFinding
from fftasks.secrets.token_formats import FORMATS

_LARGEST_SHOWN = 10
_MOST_PATTERNS = 5
_CODE = ".py"
_ANYWHERE = "**/"


class ContextSizeError(FFTasksError):
    """The context is too large: exclude files, or raise the limit."""


def format_size(size_bytes: int) -> str:
    """Format a number of bytes, such as "20.3 MB"."""
    size, units = float(size_bytes), iter(("bytes", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":  # noqa: PLR2004
        size, unit = size / 1000, next(units)
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def list_largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the ten largest files, the largest first."""
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LARGEST_SHOWN]


def check_size(sizes: Mapping[str, int], max_size: str) -> None:
    """Check the total size of files.

    Args:
        sizes: Path -> size in bytes.
        max_size: Setting context.max_size.

    Raises:
        ContextSizeError: The total is larger; the error suggests patterns for .dockerignore.
        SettingsError: max_size is invalid.
    """
    limit, total = parse_size(max_size, "context.max_size"), sum(sizes.values())
    if not limit or total <= limit:
        return
    largest = [f"{format_size(size):>10}  {path}" for path, size in list_largest(sizes)]
    patterns = [
        f"{format_size(size):>10}  {pattern}  ({count} {'file' if count == 1 else 'files'})"
        for pattern, size, count in suggest_patterns(sizes, total - limit)
    ]
    raise ContextSizeError(
        f"context: {len(sizes)} files have {format_size(total)}, more than the {max_size} "
        "of context.max_size",
        found=["the largest:", *largest, "lines for .dockerignore that would help:", *patterns],
        tip="exclude data that nodes can read from a storage, "
        "or raise context.max_size in config/default.yaml",
    )


def suggest_patterns(sizes: Mapping[str, int], excess: int) -> Iterator[tuple[str, int, int]]:
    """Yield at most five patterns that together exclude at least `excess` bytes, if possible.

    A pattern is a folder without code, a suffix, or a single file. Each is the one that excludes the most of
    the remaining bytes; if several are equal, a folder or file is preferred, and the longest pattern.

    Args:
        sizes: Path -> size in bytes.
        excess: Number of bytes to exclude.

    Yields:
        The pattern, and the number of bytes and files that it excludes.
    """
    left = {path: size for path, size in sizes.items() if size}
    for _ in range(_MOST_PATTERNS):
        if excess <= 0 or not left:
            return
        groups = _group(left, sizes)
        pattern = max(
            groups,
            key=lambda name: (
                sum(left[path] for path in groups[name]),
                not name.startswith(_ANYWHERE),
                len(name),
            ),
        )
        out = groups[pattern]
        size = sum(left.pop(path) for path in out)
        yield pattern, size, len(out)
        excess -= size


def _group(left: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the paths that each pattern would exclude."""
    coded = {str(parent) for path in sizes if path.endswith(_CODE) for parent in _parents(path)}
    groups: dict[str, list[str]] = {}
    for path in left:
        suffix = PurePosixPath(path).suffix
        names = [escape_path(str(parent)) for parent in _parents(path) if str(parent) not in coded]
        names += [f"{_ANYWHERE}*{escape_path(suffix)}"] if suffix not in ("", _CODE) else []
        for name in (*names, escape_path(path)):
            groups.setdefault(name, []).append(path)
    return groups


def _parents(path: str) -> list[PurePosixPath]:
    return list(PurePosixPath(path).parents)[:-1]


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

AllowedRow = list[str | int]  # [path, line (0 in a binary file), rule], as in the record


class SecretError(FFTasksError):
    """A file of the context contains a secret: exclude it, or allow it."""


def check_secret_policy(
    found: Mapping[str, Sequence[SecretFinding]], allow: Iterable[str] = ()
) -> list[AllowedRow]:
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
    patterns = IgnoreRules(parse_patterns(tuple(allow), "setting context.allow"))
    allowed: list[AllowedRow] = []
    refused: list[AllowedRow] = []
    for path, findings in found.items():
        rows: list[AllowedRow] = [[path, one.line, one.rule] for one in findings]
        (allowed if _matches(patterns, path) else refused).extend(rows)
    if refused:
        raise _make_secret_error(refused)
    return allowed


def _matches(patterns: IgnoreRules, path: str) -> bool:
    verdict: IgnoreMatch | None = None
    for end in (index for index, sign in enumerate(f"{path}/") if sign == "/"):
        verdict = patterns.check(path[:end], verdict)
    return verdict is not None and verdict.ignored


def _make_secret_error(rows: list[AllowedRow]) -> SecretError:
    lines = [_format(*row) for row in rows[:_SHOWN]]
    paths = list(dict.fromkeys(str(path) for path, *_ in rows))
    if len(rows) > _SHOWN:
        lines.append(f"and {len(rows) - _SHOWN} more, in {len(paths)} files altogether")
    what = "a secret" if len(rows) == 1 else f"{len(rows)} secrets"
    line = escape_path(paths[0])
    return SecretError(
        f"context: {what} would get into the image",
        found=lines,
        tip="\n".join(_list_tips({str(rule) for *_, rule in rows}, line)),
    )


def _list_tips(rules: set[str], line: str) -> list[str]:
    """Return suggested fixes for findings of some rules; `line` is the pattern of a file."""
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
    # a name may contain line breaks, or bytes that are not text
    return path if path.isprintable() else ascii(path)
