"""Tables in the terminal."""

import io
import json

import pytest

from fftasks.report.table import (
    Cell,
    Column,
    format_table,
    make_state_cell,
    print_json,
    print_table,
)
from fftasks.task_states import STATES

COLUMNS = (Column(), Column("NAME", wraps=True), Column("SECONDS", right=True))


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def draw(rows, columns=COLUMNS, width=None, *, colours=False):
    return list(format_table(columns, rows, width=width, colours=colours))


def test_columns_are_aligned_below_their_titles():
    rows = [("✓", "a", "1.5"), ("✗", "longer", "12.25")]

    assert draw(rows) == ["   NAME    SECONDS", "✓  a           1.5", "✗  longer    12.25"]


def test_no_row_is_no_table_and_no_title_is_no_line():
    assert draw([]) == []
    assert draw([("a", "b")], (Column(), Column())) == ["a  b"]


@pytest.mark.parametrize("width", [24, 30, 50])
def test_a_terminals_width_is_kept_and_no_word_is_lost(width):
    name = "a rather long name with onewordthatislongerthanacolumn in it"

    lines = draw([("✓", name, "1.5"), ("✓", "b", "2")], width=width)

    assert max(map(len, lines)) <= width
    shown = "".join(line[3 : width - 9].replace(" ", "") for line in lines[1:])
    assert shown == name.replace(" ", "") + "b"


def test_in_a_pipe_a_row_is_a_line():
    stream = io.StringIO()

    print_table(COLUMNS[1:], [("word " * 100, "1"), ("b", "2")], stream)

    assert len(stream.getvalue().splitlines()) == 3


def test_wide_characters_take_two_cells():
    assert draw([("日本", "a"), ("abcd", "b")], (Column(), Column())) == ["日本  a", "abcd  b"]


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[31m", r"a\x1b[31m"), ("a\nb", r"a\nb"), ("\u202ex", r"\u202ex")]
)
def test_what_would_control_the_terminal_is_spelled_out(text, shown):
    assert draw([(text,)], (Column(),)) == [shown]


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": ""}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch, stream, environ, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    out = stream()

    print_table((Column(),), [(Cell("failed", "31"),)], out)

    assert out.getvalue() == ("\x1b[31mfailed\x1b[0m\n" if coloured else "failed\n")


def test_colours_do_not_shift_what_stands_beside_them():
    rows = [(Cell("a", "31"), "x"), (Cell("abc", "32"), "y")]

    first, second = draw(rows, (Column(), Column()), colours=True)

    assert first.index("x") == second.index("y") == first.index("\x1b[0m") + len("\x1b[0m") + 4


def test_a_stream_that_cannot_have_a_sign_gets_a_letter():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    print_table((Column(), Column()), [(make_state_cell("failed", stream), "日")], stream)

    stream.seek(0)
    assert stream.read() == "!  \\u65e5\n"


def test_every_state_has_a_sign_of_its_own():
    for part in ("sign", "plain"):
        assert len({getattr(state, part) for state in STATES.values()}) == len(STATES)


def test_json_is_json():
    stream = io.StringIO()

    print_json({"a": ["ü"]}, stream)

    assert json.loads(stream.getvalue()) == {"a": ["ü"]}
