"""What KFP carries without loss, and what it does not."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest

from fftasks.graph.run_parameters import convert_to_kfp


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int


class Text(str):
    __slots__ = ()


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a", "STRING"),
        ("", "STRING"),
        ("äöü 日本 😀\n\t", "STRING"),
        ("{{", "STRING"),
        (True, "BOOLEAN"),
        (False, "BOOLEAN"),
        (0, "NUMBER_INTEGER"),
        (2**53, "NUMBER_INTEGER"),
        (-(2**53), "NUMBER_INTEGER"),
        (0.1, "NUMBER_DOUBLE"),
        (1.0, "NUMBER_DOUBLE"),
        (1e300, "NUMBER_DOUBLE"),
        ([], "LIST"),
        ({}, "STRUCT"),
        ([1, "a", True, 0.5, [], {}], "LIST"),
        ({"a": [1, {"b": 2}]}, "STRUCT"),
        (nest(100), "LIST"),
    ],
)
def test_carried(value: Any, kind: str):
    assert convert_to_kfp(value) == (kind, value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, 2),
        {1},
        frozenset(),
        b"a",
        1j,
        2**53 + 1,
        -(2**53) - 1,
        math.nan,
        math.inf,
        -0.0,
        "\ud800",
        "a\0b",
        "{{$.inputs}}",
        Number.ONE,
        Text("a"),
        Point(1),
        OrderedDict(a=1),
        len,
        [None],
        [(1,)],
        [1.0],
        {"a": 2.0},
        [math.nan],
        {1: 2},
        {Text("a"): 1},
        {"{{$": 1},
        {"a": "\0"},
        CYCLE,
        nest(100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_not_carried(value: Any):
    assert convert_to_kfp(value) is None


def test_numpy_scalars_are_not_carried():
    numpy = pytest.importorskip("numpy")

    assert convert_to_kfp(numpy.float64(0.5)) is None
    assert convert_to_kfp(numpy.bool_(True)) is None
    assert convert_to_kfp([numpy.int64(1)]) is None
