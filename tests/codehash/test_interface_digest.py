"""Heads of functions: what others see of them, while nothing of their bodies."""

import ast

import pytest

from fftasks.codehash.module_analysis import digest_interface, may_bypass_decorator

BASE = """
@deco(1)
def f(a, b: int = 2) -> int:
    total = a + b
    return total
"""


def digest(text, known=("deco",)):
    (node,) = ast.parse(text).body
    return digest_interface(node, list(ast.walk(node)), known)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("a + b", "a - b", True),
        ("    total = a + b\n    return total", "    return a", True),
        ("deco(1)", "deco(2)", False),
        ("b: int = 2", "b: int = 3", False),
        ("b: int = 2", "b: float = 2", False),
        ("-> int", "-> float", False),
        ("a, b", "c, b", False),
        ("return total", "yield total", False),
        ("a + b", "a + Metrics(b)", False),  # a page that it may show
        ("a + b", "a + pd(b)", True),  # no word of pages, and the module does not know it
    ],
)
def test_an_edit_keeps_the_head_or_changes_it(old, new, same):
    assert old in BASE

    assert (digest(BASE.replace(old, new)) == digest(BASE)) is same


def test_words_in_a_class_within_a_function_are_not_its_own():
    inner = BASE.replace("total = a + b", "class A:\n        Metrics = 1")

    assert digest(inner) != digest(inner.replace("Metrics = 1", "metric = 1"))


@pytest.mark.parametrize(
    ("text", "bypasses"),
    [("x = f.func", True), ("x = inspect.unwrap(f)", True), ("x = f(1)", False)],
)
def test_ways_to_what_was_decorated_are_seen(text, bypasses):
    assert may_bypass_decorator(list(ast.walk(ast.parse(text)))) is bypasses
