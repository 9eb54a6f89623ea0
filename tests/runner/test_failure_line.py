"""The failure line at the end of a pod's log can be written and found again."""

import pytest

from fftasks.runner.pod import PodFailure, find_failure, format_failure

FAILURES = [
    PodFailure("train", "ValueError: bad value"),
    PodFailure(
        "train", "was killed by SIGKILL (out of memory? memory limit 256 MiB)", ("load", "split")
    ),
    PodFailure("größe", 'KeyError: \'{"a": "-- failed: {}"}\''),
    PodFailure("lone \ud800", "UnicodeError: \ud800"),
    PodFailure("", ""),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(
    "log", ["{}", "{}\n", "{}\r\n", "first\n  second\n{}\nI1130 launcher.go] exit status 1\n"]
)
def test_line_is_found_again_in_a_log(failure, log):
    assert find_failure(log.replace("{}", format_failure(failure))) == failure


@pytest.mark.parametrize("failure", FAILURES)
def test_line_is_one_line_of_ascii(failure):
    line = format_failure(failure)
    assert line.startswith("-- failed: {")
    assert line.isascii()
    assert line.splitlines() == [line]


@pytest.mark.parametrize("reason", ["a\nb", "a\r\n  b", "a\n\n\tb\n", "a\x85b", "a\u2028b"])
def test_reason_of_several_lines_becomes_one_line(reason):
    assert find_failure(format_failure(PodFailure("n", reason))) == PodFailure("n", "a b")


def test_last_line_wins():
    first, second = PodFailure("a", "first"), PodFailure("b", "second")
    assert find_failure(f"{format_failure(first)}\n{format_failure(second)}\nrest") == second


@pytest.mark.parametrize(
    "line",
    [
        "-- failed: ",
        "-- failed: {",
        "-- failed: []",
        '-- failed: {"node":"n"}',
        '-- failed: {"node":1,"reason":"r"}',
        '-- failed: {"node":"n","reason":null}',
        '-- failed: {"node":"n","reason":"r","finished":"a"}',
        '-- failed: {"node":"n","reason":"r","finished":[1]}',
        '-- failed: {"node":"n","reason":"r"} and more',
        '-- failed: {"node":"n","reason":"r',
        '  -- failed: {"node":"n","reason":"r"}',
        'said -- failed: {"node":"n","reason":"r"}',
        "-- failed: " + "[" * 100_000,
    ],
)
def test_line_that_only_looks_alike_is_skipped(line):
    failure = PodFailure("n", "the real one")
    assert find_failure(line) is None
    assert find_failure(f"{format_failure(failure)}\n{line}\n") == failure


@pytest.mark.parametrize("log", ["", "\n", "all went well\n"])
def test_log_without_the_line_has_no_failure(log):
    assert find_failure(log) is None
