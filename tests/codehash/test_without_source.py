"""Closures of functions and classes that have no source in the project."""

from __future__ import annotations

import functools
import json
import threading
from typing import Any

import pytest

from fftasks.codehash.dependencies import digest_without_source


def make(text: str, **names: Any) -> Any:
    namespace = {"__name__": "__main__", **names}
    exec(text, namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x", "def f(x):\n    # a comment\n    return x"),
        ("def f(x): return x", "\n\ndef f(x): return x"),
        ("def f(x):\n  'doc'\n  return x", "def f(x):\n  'other'\n  return x"),
        ("def f(x): return x", "def f(x: int): return x"),
    ],
)
def test_what_means_nothing(one: str, other: str):
    assert digest_without_source(make(one)).digest == digest_without_source(make(other)).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x", "def f(x): return -x"),
        ("def f(x): return 1", "def f(x): return 2"),
        ("def f(x): return 1", "def f(x): return 1.0"),
        ("def f(x): return x.a", "def f(x): return x.b"),
        ("def f(x=1): return x", "def f(x=2): return x"),
        ("def f(*, x=1): return x", "def f(*, x=2): return x"),
        ("def f(x): return [y for y in x]", "def f(x): return [-y for y in x]"),
        ("def f(x): return (lambda: 1)()", "def f(x): return (lambda: 2)()"),
        ("A = 1\ndef f(x): return A", "A = 2\ndef f(x): return A"),
        ("def g(): return 1\ndef f(x): return g()", "def g(): return 2\ndef f(x): return g()"),
        (
            "def d(f): return lambda x: f(x)\n@d\ndef f(x): return 1",
            "def d(f): return lambda x: f(x)\n@d\ndef f(x): return 2",
        ),
        (
            "def m(n):\n  def f(x): return n\n  return f\nf = m(1)",
            "def m(n):\n  def f(x): return n\n  return f\nf = m(2)",
        ),
        ("class f:\n  def g(self): return 1", "class f:\n  def g(self): return 2"),
        ("class f:\n  x = 1", "class f:\n  x = 2"),
        ("class b:\n  x = 1\nclass f(b): pass", "class b:\n  x = 2\nclass f(b): pass"),
        (
            "class f:\n  @property\n  def g(self): return 1",
            "class f:\n  @property\n  def g(self): return 2",
        ),
        (
            "class f:\n  @staticmethod\n  def g(): return 1",
            "class f:\n  @staticmethod\n  def g(): return 2",
        ),
    ],
)
def test_what_means_something(one: str, other: str):
    assert digest_without_source(make(one)).digest != digest_without_source(make(other)).digest


def test_unrelated_global_means_nothing():
    text = "def f(x): return A"

    assert (
        digest_without_source(make(text, A=1, B=1)).digest
        == digest_without_source(make(text, A=1, B=2)).digest
    )


def test_functions_that_call_each_other_have_a_digest():
    text = "def g(x): return f(x)\ndef f(x): return g(x)"

    assert digest_without_source(make(text)).digest == digest_without_source(make(text)).digest


def test_it_is_said():
    closure = digest_without_source(make("def f(x): return x"))

    assert list(closure.pieces) == ["__main__.f (code object)"]
    assert closure.notes == ("__main__.f has no source here: its code object counts",)
    assert closure.files == {}


def test_value_without_a_stable_digest_is_said():
    closure = digest_without_source(make("def f(x): return A", A=threading.Lock()))

    assert "__main__.f uses a value that has no stable digest" in closure.notes


def test_what_is_installed_counts_with_its_version():
    numpy = pytest.importorskip("numpy")

    assert list(digest_without_source(numpy.linalg.norm).pieces) == [
        f"numpy.linalg.norm of numpy {numpy.__version__}"
    ]
    assert digest_without_source(numpy.linalg.norm).notes == ()


def test_what_is_python_s_counts_with_its_name():
    assert list(digest_without_source(json.dumps).pieces) == ["json.dumps of Python"]
    assert digest_without_source(json.dumps).digest != digest_without_source(json.loads).digest
    assert digest_without_source(len).digest != digest_without_source(sum).digest


def test_partial_has_a_closure():
    text = "def f(x, y): return x"

    one, two = (digest_without_source(functools.partial(make(text), n)).digest for n in (1, 2))

    assert one != two
