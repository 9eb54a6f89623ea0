"""What a record of the context says to people."""

from __future__ import annotations

import os

import pytest

from fftasks.image.context import (
    compare_contexts,
    describe_context,
    find_name_clashes,
    format_context_log,
)


def make_record(*paths: str, links=(), folders=(), allowed=(), left_out=(), mark: str = "1"):
    return {
        "output": f"sha256:{mark}",
        "size_bytes": len(paths),
        "files": [[path, 1, f"sha256:{mark}", False] for path in sorted(paths)],
        "links": [list(link) for link in links],
        "folders": list(folders),
        "allowed": [list(row) for row in allowed],
        "left_out": [list(row) for row in left_out],
    }


def show(record, previous=None) -> list[str]:
    return describe_context(record, format_context_log(record, previous))


def test_first_time_is_only_the_total():
    assert show(make_record("a", "b")) == ["2 files, 2 bytes"]


def test_difference_to_the_one_before():
    before = make_record("a", "b", links=[("l", "a")], folders=["empty"])
    now = make_record("a", "c", links=[("l", "c")], mark="1")

    assert show(now, before) == [
        "2 files, 2 bytes",
        "added since the last copy (1): c",
        "removed since the last copy (2): b, empty",
        "changed since the last copy (1): l",
    ]


def test_ten_paths_of_a_kind_are_shown():
    before, now = make_record(), make_record(*(f"f{number:02}" for number in range(25)))

    assert show(now, before)[1] == (
        "added since the last copy (25): "
        + ", ".join(f"f{number:02}" for number in range(10))
        + ", and 15 more"
    )


def test_log_has_the_ten_largest():
    record = make_record(*(f"f{number:02}" for number in range(25)))
    record["files"][7][1] = 5_000

    lines = format_context_log(record, None).splitlines()

    assert lines[0] == "25 files, 25 bytes, sha256:1"
    assert lines[1:3] == [" the largest:", "      5.0 kB  f07"]
    assert len(lines) == 12


@pytest.mark.parametrize(
    "text", ["", "\n\n", "2 files", "x" * 100, "2 files, 2 bytes, sha256:0\nold"]
)
def test_log_of_another_record_is_not_shown(text):
    assert describe_context(make_record("a", "b"), text) == ["2 files, 2 bytes"]


@pytest.mark.parametrize("damage", [{"files": [1]}, {"files": None}, {"links": 5}])
def test_damaged_record_before_is_none(damage):
    now = make_record("a")

    assert show(now, {**make_record("b"), **damage}) == ["1 files, 1 bytes"]


def test_what_is_allowed_is_said():
    record = make_record(".env", allowed=[(".env", 1, "dotenv")])

    assert show(record)[1:] == ["allowed by context.allow: .env:1 dotenv"]


def test_what_no_image_can_hold_is_said():
    record = make_record("a", left_out=[("data/p", "pipe"), ("s", "socket")])

    assert show(record)[1:] == [
        "skipped, because images cannot contain them: data/p (a pipe), s (a socket)"
    ]


@pytest.mark.parametrize(("count", "said"), [(10_000, False), (10_001, True)])
def test_many_files_are_said(count, said):
    lines = show(make_record(*(f"f{number}" for number in range(count))))

    assert any("more than 10000 files" in line for line in lines) == said


def test_names_that_differ_in_case_are_said():
    lines = show(make_record("Data.csv", "data.csv", "src/a.py"))

    assert lines[1:] == ["the same name on macOS and Windows: Data.csv and data.csv"]


@pytest.mark.parametrize(
    ("paths", "clashes"),
    [
        (["a", "b", "a/c"], []),
        (["A", "a"], [("A", "a")]),
        (["x/A", "y/a"], []),
        (["Data/a", "data/a", "data/b"], [("Data", "data")]),
        (["Data/x", "data"], [("Data", "data")]),
        (["stra\u00dfe", "STRASSE"], [("STRASSE", "stra\u00dfe")]),
        (["e\u0301", "\u00e9"], [("e\u0301", "\u00e9")]),
        (["a", "A", "\u00c4", "\u00e4"], [("A", "a"), ("\u00c4", "\u00e4")]),
    ],
)
def test_names_of_one_place(paths, clashes):
    assert find_name_clashes(paths) == clashes


def test_odd_names_stay_on_their_line():
    odd = ["line\nbreak", " blank", os.fsdecode(b"\xff"), "sep\u2028", "\u00e9"]

    text = format_context_log(make_record(*odd), make_record())

    assert text.isprintable() or set(text) - {"\n"} == set(filter(str.isprintable, text))
    assert len(text.splitlines()) == 3 + len(odd)
    assert "\u00e9" in text


def test_difference_in_sentences():
    before = make_record("a", "b", "c")
    now = make_record("a", "b", "d")
    now["files"][1][2] = "sha256:other"

    assert list(compare_contexts(before, now).format_sentences()) == [
        "b changed",
        "c is gone",
        "d is new",
    ]
