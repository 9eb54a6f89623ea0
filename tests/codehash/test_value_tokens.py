"""Tokens: two values never have the same."""

import itertools

from fftasks.codehash.python_values import SIMPLE_TOKENS, digest_token, encode_text, join_tokens


def test_parts_count_by_what_they_are_parts_of_by_their_borders_and_by_their_order():
    tokens = [
        join_tokens("list", b"a", b"bc"),
        join_tokens("list", b"ab", b"c"),
        join_tokens("list", b"abc"),
        join_tokens("list", b"bc", b"a"),
        join_tokens("set", b"a", b"bc"),
        join_tokens("list", join_tokens("list", b"a"), b"bc"),
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
    tokens = [SIMPLE_TOKENS[type(value)](value) for value in values]

    assert all(one != other for one, other in itertools.combinations(tokens, 2))


def test_every_nan_is_the_same():
    assert SIMPLE_TOKENS[float](float("nan")) == SIMPLE_TOKENS[float](-float("nan"))


def test_a_digest_is_of_a_token():
    assert digest_token(encode_text("\ud800")).startswith("sha256:")
