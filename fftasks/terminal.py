"""Print untrusted text safely: escape all control sequences except colours.

Names, errors, logs and answers of servers are untrusted. An escape sequence in them could change the title of
the terminal, hide lines or type text. Commands print through Terminal, which escapes such characters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from fftasks.errors import escape_controls

# A sequence passes if all of its codes are among these: reset, bold, faint, underline and their ends, and the
# colours of text except black. Everything else could hide text: conceal, black, backgrounds, chosen colours.
_CODES = frozenset(map(str, (0, 1, 2, 4, 22, 24, *range(31, 38), 39, *range(91, 98)))) | {
    "",
    "00",
    "01",
    "04",
}
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,40}m)")
_RESET = "\x1b[0m"


class Terminal:
    """A text stream that escapes control characters except colours, tabs and line ends.

    Attributes:
        raw: The wrapped stream, for a progress bar that moves the cursor.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write text; return its length."""
        self.raw.write(escape_all_but_colours(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def escape_all_but_colours(text: str) -> str:
    """Return text with its control characters escaped, except colours."""
    if "\x1b" not in text:
        return escape_controls(text)
    text = text.replace("\r\n", "\n")
    pieces = _COLOUR.split(text)
    colours = [piece for piece in pieces[1::2] if _is_harmless(piece)]
    shown = "".join(
        piece if number % 2 and _is_harmless(piece) else escape_controls(piece)
        for number, piece in enumerate(pieces)
    )
    # later output must not have the last colour of this text
    return shown + (_RESET if colours and colours[-1] not in (_RESET, "\x1b[m") else "")


def _is_harmless(colour: str) -> bool:
    return _CODES.issuperset(colour[2:-1].split(";"))


@contextmanager
def guarded_output() -> Iterator[None]:
    """Replace standard output and standard error by Terminals in a with block, also if they are files."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_guard, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unwrap_stream(stream: TextIO) -> TextIO:
    """Return the stream that a Terminal wraps, or the stream itself if it is not wrapped."""
    return stream.raw if isinstance(stream, Terminal) else stream


def _guard(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, Terminal) else cast("TextIO", Terminal(stream))


_MINUTE, _HOUR = 60, 3600


def format_elapsed_time(seconds: float) -> str:
    """Return 7 s, 3 min 20 s, 2 h 5 min."""
    whole = max(round(seconds), 0)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
