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

# colours and how bright they are; no blinking, and nothing that hides text
_NUMBERS = (
    r"(?:0?[0-4]|2[1-4]|3\d|4\d|9[0-7]|10[0-7]|[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3})"
)
_COLOUR = re.compile(rf"(\x1b\[(?:{_NUMBERS}(?:;{_NUMBERS})*)?m)")
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
    pieces = _COLOUR.split(text)  # every second one is a colour
    pieces[::2] = map(escape_controls, pieces[::2])
    colours = pieces[1::2]
    # what is printed next shall not have the last colour
    end = _RESET if colours and colours[-1] not in (_RESET, "\x1b[m") else ""
    return "".join(pieces) + end


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
