"""Tokens: two values never have the same."""

import itertools

from fftasks.constant.token import SIMPLE, encode, join, seal


def test_parts_count_by_what_they_are_parts_of_by_their_borders_and_by_their_order():
    tokens = [
        join("list", b"a", b"bc"),
        join("list", b"ab", b"c"),
        join("list", b"abc"),
        join("list", b"bc", b"a"),
        join("set", b"a", b"bc"),
        join("list", join("list", b"a"), b"bc"),
    ]

    assert len(set(tokens)) == len(tokens)


def test_simple_values_of_different_types_have_different_tokens():
    values = [
        None,
        ...,
        NotImplemented,
        1,
        True,
        1.0,
        1 + 0j,
        "1",
        b"1",
        bytearray(b"1"),
        -0.0,
        0.0,
    ]
    tokens = [SIMPLE[type(value)](value) for value in values]

    assert all(one != other for one, other in itertools.combinations(tokens, 2))


def test_every_nan_is_the_same():
    assert SIMPLE[float](float("nan")) == SIMPLE[float](-float("nan"))


def test_a_digest_is_of_a_token():
    assert seal(encode("\ud800")).startswith("sha256:")
