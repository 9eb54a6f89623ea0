"""What may reach a terminal: text, and colours, but no other control sequence of somebody else's.

Names, errors, logs and answers come from anywhere. On a terminal, an escape sequence in them could change its
title, hide lines or type text. Commands print through Terminal, which shows such characters as text.
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
    """A text stream that shows control characters as text; colours, tabs and ends of lines pass.

    raw: the stream itself, for a progress bar that moves the cursor
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write text; return how much of it was taken: all."""
        self.raw.write(escape_all_but_colours(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def escape_all_but_colours(text: str) -> str:
    """Return text as a terminal may have it: control characters spelled out, colours as they are."""
    if "\x1b" not in text:
        return escape_controls(text)
    text = text.replace("\r\n", "\n")
    pieces = _COLOUR.split(text)
    colours = [piece for piece in pieces[1::2] if _is_harmless(piece)]
    shown = "".join(
        piece if number % 2 and _is_harmless(piece) else escape_controls(piece)
        for number, piece in enumerate(pieces)
    )
    # what is printed next shall not have the last colour
    return shown + (_RESET if colours and colours[-1] not in (_RESET, "\x1b[m") else "")


def _is_harmless(colour: str) -> bool:
    return _CODES.issuperset(colour[2:-1].split(";"))


@contextmanager
def guarded_output() -> Iterator[None]:
    """Let standard output and standard error be Terminals for a while, also where they lead to a file."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_guard, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def find_raw(stream: TextIO) -> TextIO:
    """Return the stream behind a Terminal, or a stream that is none."""
    return stream.raw if isinstance(stream, Terminal) else stream


def _guard(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, Terminal) else cast("TextIO", Terminal(stream))
