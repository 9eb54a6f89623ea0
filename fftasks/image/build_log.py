"""What a tool says, in a file as it comes, and without the secrets that it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

from fftasks.errors import StoreError, ToolError
from fftasks.state_folder import make_folder, open_empty

_SHORTEST = 4  # anything shorter is no secret, and replacing it would garble the text
_KEPT = 2000


@contextmanager
def open_build_log(path: Path, secrets: Mapping[str, str]) -> Iterator[BuildLog]:
    """Give a log that is written anew.

    secrets: name -> value; a value, and a password in it if it is a URL, is written as <name>.
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
    """Let a ToolError name the log, and show no secrets."""
    try:
        yield
    except ToolError as exc:
        found = [log.hide(line) for line in (*exc.found, f"full log: {log.path}")]
        raise ToolError(log.hide(exc.attempted), found=found, tip=exc.tip) from exc


@contextmanager
def wrap_disk_errors() -> Iterator[None]:
    """Turn an OSError of the disk, while an image is put together, into StoreError."""
    try:
        yield
    except OSError as exc:
        raise StoreError(
            "image: the layers cannot be put together", found=[str(exc)], tip="is the disk full?"
        ) from exc


class BuildLog:
    """A log file that is open."""

    def __init__(self, path: Path, file: TextIO, secrets: Sequence[tuple[str, str]] = ()) -> None:
        self.path = path
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self._file = file
        self._secrets = secrets
        self._rest = ""

    def write(self, text: str) -> None:
        """Add text; a line is written when it is complete, since a secret may come in two parts."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = self.hide(line.rstrip("\r"))
            self.lines.append(shown)
            self._file.write(f"{shown}\n")
        self._file.flush()

    def finish(self) -> None:
        """Write what has no end of line."""
        if self._rest:
            self.write("\n")

    def hide(self, text: str) -> str:
        """Return text with a name in the place of each secret."""
        for value, name in self._secrets:
            text = text.replace(value, f"<{name}>")
        return text

    def tail(self, count: int) -> list[str]:
        """Return the last lines that are not empty."""
        return [line for line in self.lines if line.strip()][-count:]


def list_log_secrets(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of what must not be shown and the name to show for it, the longest first."""
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
