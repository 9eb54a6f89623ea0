"""Placeholders: which values reach a container as they are."""

import pytest

from fftasks.pipeline.ir_yaml import is_passed_unchanged


@pytest.mark.parametrize(
    ("value", "carried"),
    [
        ("{x} $5 100% } { ü€😀", True),
        ({"a": {"b": {"c": 1}}}, True),  # its JSON ends with }}
        ([1, 2.5, None, True], True),
        ("Dear {{name}}", False),
        ("$(HOME)/data", False),
        ("costs $$5", False),
        ({"a": ["{{$}}"]}, False),
        ({"$$": 1}, False),
        ("\ud800", False),
        ("nul\0", False),
    ],
)
def test_what_would_be_replaced_or_is_no_text_is_not_carried(value, carried):
    assert is_passed_unchanged(value) is carried
