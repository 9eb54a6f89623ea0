"""Log files for the output of tools, written while they run, without the secrets that the tools got."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

from fftasks.errors import StoreError, ToolError
from fftasks.state_folder import make_folder, open_empty

_SHORTEST = 4  # shorter values are not secret, and replacing them would make the text unreadable
_MAX_LINES = 2000  # in memory; the file has all lines


@contextmanager
def open_build_log(path: Path, secrets: Mapping[str, str]) -> Iterator[BuildLog]:
    """Open an empty log.

    Args:
        path: The file.
        secrets: Name -> value. A value, and the password in it if it is a URL, is written as <name>.
    """
    make_folder(path.parent)
    with open(  # noqa: PTH123 - a descriptor
        open_empty(path), "w", encoding="utf-8", errors="backslashreplace"
    ) as file:
        log = BuildLog(path, file, list_log_secrets(secrets))
        try:
            yield log
        finally:
            log.finish()


@contextmanager
def add_log_to_errors(log: BuildLog) -> Iterator[None]:
    """Add the path of the log to a ToolError, and remove secrets from it."""
    try:
        yield
    except ToolError as exc:
        found = [log.hide(line) for line in (*exc.found, f"full log: {log.path}")]
        raise ToolError(log.hide(exc.attempted), found=found, tip=exc.tip) from exc


@contextmanager
def wrap_disk_errors() -> Iterator[None]:
    """Turn an OSError while an image is built into a StoreError."""
    try:
        yield
    except OSError as exc:
        raise StoreError(
            "image: the layers cannot be written", found=[str(exc)], tip="is the disk full?"
        ) from exc


class BuildLog:
    """An open log file.

    Attributes:
        path: The file.
        lines: The last lines, without secrets.
    """

    def __init__(self, path: Path, file: TextIO, secrets: Sequence[tuple[str, str]] = ()) -> None:
        """Create it; `secrets` are pairs of value and name."""
        self.path = path
        self.lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._file = file
        self._secrets = secrets
        self._rest = ""

    def write(self, text: str) -> None:
        """Add text. A line is written when it is complete, because a secret may arrive in two parts."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = self.hide(line.rstrip("\r"))
            self.lines.append(shown)
            self._file.write(f"{shown}\n")
        self._file.flush()

    def finish(self) -> None:
        """Write the last line if it has no end."""
        if self._rest:
            self.write("\n")

    def hide(self, text: str) -> str:
        """Return a text in which each secret is replaced by its name."""
        for value, name in self._secrets:
            text = text.replace(value, f"<{name}>")
        return text

    def tail(self, count: int) -> list[str]:
        """Return the last lines that are not empty."""
        return [line for line in self.lines if line.strip()][-count:]


def list_log_secrets(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of secret and name, the longest secret first."""
    pairs = {}
    for name, value in values.items():
        password = _find_password(value)
        for part in (value, password, unquote(password)):
            if len(part) >= _SHORTEST:
                pairs[part] = name
    return sorted(pairs.items(), key=lambda pair: (-len(pair[0]), pair))


def _find_password(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return parts.password or parts.username or ""
