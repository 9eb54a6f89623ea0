"""A tool's log: complete, and without secrets."""

from __future__ import annotations

import pytest

from fftasks.image.build_log import open_build_log


def write(path, *pieces, **secrets) -> str:
    with open_build_log(path, secrets) as log:
        for piece in pieces:
            log.write(piece)
    return path.read_text()


@pytest.mark.parametrize(
    ("value", "said", "shown"),
    [
        ("hunter2", "with hunter2!", "with <TOKEN>!"),
        ("https://me:hunter2@x/s", "at https://me:hunter2@x/s", "at <TOKEN>"),
        ("https://me:hunter2@x/s", "hunter2", "<TOKEN>"),
        ("https://hunter2@x/s", "hunter2", "<TOKEN>"),
        ("https://me:p%40ss%2F@x/s", "p@ss/ p%40ss%2F", "<TOKEN> <TOKEN>"),
        ("180", "after 180 s", "after 180 s"),
        ("http://[x", "http://[x", "<TOKEN>"),
    ],
)
def test_secret_is_shown_as_its_name(tmp_path, value, said, shown):
    assert write(tmp_path / "log", said, TOKEN=value) == f"{shown}\n"


def test_secret_in_two_pieces_is_not_shown(tmp_path):
    assert write(tmp_path / "log", "a hun", "ter2 b\n", TOKEN="hunter2") == "a <TOKEN> b\n"


def test_longest_secret_wins(tmp_path):
    assert write(tmp_path / "log", "abcdefgh", A="abcd", B="abcdefgh") == "<B>\n"


def test_log_is_written_anew(tmp_path):
    write(tmp_path / "logs/log", "first\n")

    assert write(tmp_path / "logs/log", "second\r\n", "third") == "second\nthird\n"


def test_log_is_there_after_a_failure(tmp_path):
    def fail():
        with open_build_log(tmp_path / "log", {}) as log:
            log.write("said\nhalf")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (tmp_path / "log").read_text() == "said\nhalf\n"


def test_tail_has_the_last_lines_that_say_something(tmp_path):
    with open_build_log(tmp_path / "log", {}) as log:
        log.write("a\nb\n\nc\n \n")

        assert log.tail(2) == ["b", "c"]
