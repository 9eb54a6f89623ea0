"""Numbers and messages in Go's form of JSON."""

from __future__ import annotations

import json

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from tests.services.protojson import format_message, format_number, format_plain, format_value


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5.0, "5"),
        (-3.0, "-3"),
        (0.0, "0"),
        (-0.0, "-0"),
        (0.1, "0.1"),
        (2.0**53, "9007199254740992"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (2.5e-10, "2.5e-10"),
    ],
)
def test_number_is_written_as_go_does(number, text):
    assert format_number(number) == text


def test_number_in_a_placeholder_has_no_exponent():
    assert format_plain(1e21) == "1" + "0" * 21


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_survives(number):
    assert float(format_number(number)) == float(format_plain(number)) == number


def test_keys_are_sorted_and_there_are_no_spaces():
    assert format_value({"b": [1.0, "é"], "a": {"x": None}}) == '{"a":{"x":null},"b":[1,"é"]}'


def test_integer_in_a_message_was_a_double():
    value = struct_pb2.Struct()
    value.update({"n": 2**53 + 1})

    assert json.loads(format_message(value))["n"] == 2**53
