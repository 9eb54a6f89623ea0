"""Print tables and JSON.

On a terminal, tables fit its width, long cells are wrapped, and there are colours unless NO_COLOR is set. In
a pipe, each row is one complete line without colours. Line breaks and other control characters in cells are
escaped, because names may come from anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from fftasks.secrets.scanner import hide_tokens
from fftasks.task_states import STATES

_GAP = "  "
_MIN_WRAPPED_WIDTH = 12  # cells of a column that wraps


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Heading; "" for none.
        right: Align the cells to the right.
        wraps: Cells may be wrapped.
    """

    title: str = ""
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Cell:
    """A text with a colour.

    Attributes:
        text: The text.
        style: Parameter of the SGR control sequence, such as "31" for red; "" for none.
    """

    text: str
    style: str = ""


Row = Sequence["str | Cell"]


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    stream: TextIO | None = None,
    *,
    indent: int = 0,
) -> None:
    """Print rows with the titles of the columns. Without rows, nothing is printed.

    Args:
        columns: The columns.
        rows: Cells of each row.
        stream: Output stream (default: sys.stdout).
        indent: Number of spaces before each line.
    """
    stream = stream or sys.stdout
    width = shutil.get_terminal_size().columns - indent if stream.isatty() else None
    for line in format_table(columns, rows, width=width, colours=has_colours(stream)):
        stream.write(" " * indent + _encode(line, stream) + "\n")


def format_table(
    columns: Sequence[Column], rows: Iterable[Row], *, width: int | None, colours: bool
) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        columns: The columns.
        rows: Cells of each row.
        width: Maximum width of a line in terminal cells; None for no limit.
        colours: Emit colours.
    """
    cells = [[_sanitize_cell(cell) for cell in row] for row in rows]
    if cells and any(column.title for column in columns):
        cells.insert(0, [Cell(column.title, "1") for column in columns])
    widths = _fit_columns(columns, cells, width)
    for row in cells:
        blocks = [_wrap_text(cell.text, size) for cell, size in zip(row, widths, strict=True)]
        for number in range(max(map(len, blocks))):
            parts = [
                _pad_cell(block[number] if number < len(block) else "", size, column, cell, colours)
                for block, size, column, cell in zip(blocks, widths, columns, row, strict=True)
            ]
            yield _GAP.join(parts).rstrip()


def print_json(value: Any, stream: TextIO | None = None) -> None:
    """Print a value as JSON, for the option --json."""
    (stream or sys.stdout).write(json.dumps(value, indent=1) + "\n")


def make_state_cell(word: str, stream: TextIO | None = None) -> Cell:
    """Return a cell with the character of a state.

    Args:
        word: Key of task_states.STATES.
        stream: Stream on which it is printed (default: sys.stdout); it may not support the character.
    """
    state = STATES[word]
    return Cell(_choose_sign(state.sign, state.plain, stream or sys.stdout), state.ansi)


def has_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal and colours are not disabled; see no-color.org."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


def _choose_sign(sign: str, plain: str, stream: TextIO) -> str:
    try:
        sign.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return sign


def _encode(line: str, stream: TextIO) -> str:
    encoding = stream.encoding or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)


def _sanitize_cell(cell: str | Cell) -> Cell:
    """Hide tokens, and escape control characters and marks of text direction."""
    cell = Cell(cell) if isinstance(cell, str) else cell
    cell = Cell(hide_tokens(cell.text), cell.style)
    if cell.text.isprintable():
        return cell
    shown = (c if c.isprintable() else ascii(c)[1:-1] for c in cell.text)
    return Cell("".join(shown), cell.style)


def _fit_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> list[int]:
    """Return the width of each column. Columns that may wrap become narrower if the line is too long."""
    widths = [
        max((_count_cells(row[n].text) for row in rows), default=0) for n in range(len(columns))
    ]
    over = 0 if width is None else sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while over > 0:
        loose = [
            n for n, column in enumerate(columns) if column.wraps and widths[n] > _MIN_WRAPPED_WIDTH
        ]
        if not loose:
            break
        widest, *others = sorted(loose, key=lambda n: -widths[n])
        least = widths[others[0]] - 1 if others else _MIN_WRAPPED_WIDTH
        cut = min(over, widths[widest] - max(_MIN_WRAPPED_WIDTH, least))
        widths[widest] -= cut
        over -= cut
    return widths


def _wrap_text(text: str, size: int) -> list[str]:
    """Wrap a text at blanks, and within a word only if it is longer than a line."""
    if _count_cells(text) <= size:
        return [text]
    from rich.cells import chop_cells

    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if _count_cells(longer) <= size:
            lines[-1] = longer
        else:
            lines += chop_cells(word, size)
    return lines if lines[0] else lines[1:]


def _pad_cell(text: str, size: int, column: Column, cell: Cell, colours: bool) -> str:  # noqa: FBT001
    space = " " * (size - _count_cells(text))
    shown = f"\x1b[{cell.style}m{text}\x1b[0m" if colours and cell.style and text else text
    return space + shown if column.right else shown + space


def _count_cells(text: str) -> int:
    """Return the number of terminal cells of a text: two for a Chinese character, none for an accent."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
