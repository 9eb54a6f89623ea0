"""Sizes: read, written, held against the limit, and what would make the copy smaller."""

from __future__ import annotations

import pytest

from fftasks.image.context_policy import (
    ContextSizeError,
    check_size,
    format_size,
    list_largest,
    suggest_patterns,
)

MB = 10**6


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (20_300_000, "20.3 MB"),
        (5 * 10**9, "5.0 GB"),
        (2 * 10**15, "2000.0 TB"),
    ],
)
def test_size_for_people(size_bytes, text):
    assert format_size(size_bytes) == text


def test_largest_are_ten_in_order():
    sizes = {f"f{number:02}": number % 7 for number in range(20)}

    assert list_largest(sizes)[:4] == [("f06", 6), ("f13", 6), ("f05", 5), ("f12", 5)]
    assert len(list_largest(sizes)) == 10


@pytest.mark.parametrize("limit", ["3MB", "0", "1GB"])
def test_up_to_the_limit_is_no_error(limit):
    check_size({"a": 2 * MB, "b": MB}, limit)


def test_over_the_limit_says_total_largest_and_patterns():
    sizes = {"sums.py": 100, "data/raw/a.bin": 3 * MB, "data/raw/b.bin": 2 * MB, "data/c.csv": MB}

    with pytest.raises(ContextSizeError) as caught:
        check_size(sizes, "2MB")

    text = str(caught.value)
    assert "4 files have 6.0 MB, more than the 2MB of context.max_size" in text
    assert "3.0 MB  data/raw/a.bin\n" in text
    assert "6.0 MB  data  (3 files)" in text
    assert "raise context.max_size" in text


@pytest.mark.parametrize(
    ("sizes", "excess", "patterns"),
    [
        ({"a.py": 1, "data/a.csv": 9, "data/b.csv": 9}, 5, ["data"]),
        ({"a.py": 1, "data/raw/a.csv": 9, "data/raw/b.txt": 9}, 5, ["data/raw"]),
        ({"data/load.py": 1, "data/a.csv": 9, "b.csv": 9}, 12, ["**/*.csv"]),
        ({"data/load.py": 1, "data/a.csv": 9, "data/b.txt": 1}, 5, ["data/a.csv"]),
        ({"big.py": 9, "a.py": 1}, 5, ["big.py"]),
        ({"x/a.py": 1, "x/[1]/m.bin": 9, "x/[1]/n.txt": 9}, 5, ["x/\\[1\\]"]),
        ({"p/a": 9, "q/a": 8, "r/a": 7, "s.py": 1}, 16, ["p/a", "q/a"]),
        ({f"{n}/{n}/x": 10 for n in range(9)}, 85, [f"{n}/{n}/x" for n in range(5)]),
        ({"empty": 0}, 5, []),
    ],
)
def test_patterns_that_would_help(sizes, excess, patterns):
    assert [pattern for pattern, *_ in suggest_patterns(sizes, excess)] == patterns


def test_suggestion_has_bytes_and_files():
    assert list(suggest_patterns({"data/a": 5, "data/b": 4, "c": 3}, 12)) == [
        ("data", 9, 2),
        ("c", 3, 1),
    ]
