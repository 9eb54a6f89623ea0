"""Let nothing that should stay private into the copy, unless the project's owner says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fftasks.errors import FFTasksError
from fftasks.stages.dockerignore import Ignore, Verdict, parse, quote
from fftasks.stages.secret import Finding

_SHOWN = 20
_ADVICE = {
    "plain-setting": "write ${NAME} in its place, and set NAME in the environment",
    "password-in-url": "take the name and the password out of the URL",
    "dotenv": "a file of environment variables",
}

Row = list[str | int]  # [path, line, rule], as in the record


class SecretError(FFTasksError):
    """Keep a private file out of the image, or allow it."""


def check(found: Mapping[str, Sequence[Finding]], allow: Iterable[str] = ()) -> list[Row]:
    """Return the findings that are allowed; raise SecretError with all others at once.

    found: by path, in order; allow: paths and patterns, in the syntax of .dockerignore.
    Raises SettingsError for one that is none.
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
        tip=f"to keep a file out, add a line such as {line!r} to .dockerignore; "
        f"if it is no secret, name it in the setting context.allow: [{line!r}]",
    )


def _format(path: str | int, line: str | int, rule: str | int) -> str:
    advice = _ADVICE.get(str(rule))
    return f"{_show(str(path))}:{line}: {rule}" + (f" ({advice})" if advice else "")


def _show(path: str) -> str:
    # a name may hold a line break, or bytes that are no text
    return path if path.isprintable() else ascii(path)
