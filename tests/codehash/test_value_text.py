"""Short texts for values."""

from __future__ import annotations

import functools
import json
import math
from enum import Enum
from typing import Any

import pytest

from fftasks.codehash.python_values import describe_constant


class Color(Enum):
    RED = 1


class Plain:
    def method(self) -> None:
        """Do nothing."""


class Loud:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class Long:
    def __repr__(self) -> str:
        return "a\n  b" * 1000


class Odd:
    __class__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (1, "1"),
        (0.1, "0.1"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        ([1, (2, {"a": 3})], "[1, (2, {'a': 3})]"),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
        ({"c", "a", "b"}, "{'a', 'b', 'c'}"),
        (len, "len"),
        (Plain, "Plain"),
        (json.dumps, "dumps"),
        (math, "module math"),
        (Color.RED, "Color.RED"),
        (functools.partial(int, base=2), "partial(int, base=2)"),
        (Plain(), "<tests.codehash.test_value_text.Plain>"),
        (Plain().method, "<tests.codehash.test_value_text.Plain>.method"),
        ([Loud()], "[<Loud instance>]"),
    ],
)
def test_text(value: Any, text: str):
    assert describe_constant(value) == text


@pytest.mark.parametrize(
    "value",
    ["a" * 100, [1] * 1000, Long(), 10**1000, {i: i for i in range(99)}, 10**5000, [[[[[[[]]]]]]]],
    ids=lambda value: type(value).__name__,
)
def test_text_is_one_short_line(value: Any):
    text = describe_constant(value)

    assert len(text) <= 60
    assert "\n" not in text


def test_object_that_raises_at_everything_has_a_text():
    assert describe_constant(Odd()) == "<Odd>"


def test_arrays_and_frames_show_their_shape():
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")

    assert describe_constant(numpy.zeros((100, 3))) == "ndarray 100x3 float64"
    assert describe_constant(numpy.array(1.5)) == "array(1.5)"
    assert describe_constant(numpy.array([1, 2])) == "ndarray([1, 2], int64)"
    assert describe_constant(pandas.DataFrame({"a": [1]})) == "DataFrame 1x1"


def test_estimators_show_their_parameters():
    svm = pytest.importorskip("sklearn.svm")

    assert describe_constant(svm.SVC(C=2.0)) == "SVC(C=2.0)"


def test_cycle_ends():
    cycle: list[Any] = []
    cycle.append(cycle)

    assert describe_constant(cycle).startswith("[[")
