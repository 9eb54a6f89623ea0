"""Digests of syntax trees."""

from __future__ import annotations

import ast

import pytest

from fftasks.codehash.module_analysis import analyse
from fftasks.codehash.syntax_digest import digest_tree


def digest(text: str) -> str:
    return digest_tree(ast.parse(text))


def digest_unit(text: str) -> str:
    return analyse(text.encode())["units"][0]["digest"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a+b", "a + b  # sum"),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("'a'", '"a"'),
        ("'a' 'b'", "'ab'"),
        ("(a)", "a"),
        ("0x10", "16"),
        ("1_000", "1000"),
        ("u'a'", "'a'"),
        ("if a:\n  b", "if a:\n\n        b"),
        ("x = 1; y = 2", "x = 1\ny = 2"),
        ("a if b else c", "(a if b else (c))"),
    ],
)
def test_layout_is_not_in_it(one: str, other: str):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "True"),
        ("'1'", "b'1'"),
        ("'1'", "1"),
        ("0.0", "-0.0"),
        ("a - b", "b - a"),
        ("a.b", "a['b']"),
        ("f(a)", "f(*a)"),
        ("f(a=1)", "f(b=1)"),
        ("[a]", "(a,)"),
        ("{a}", "{a: a}"),
        ("{**a}", "{None: a}"),
        ("a < b", "a <= b"),
        ("not a", "-a"),
        ("lambda x: x", "lambda x, /: x"),
        ("lambda *, x: x", "lambda x: x"),
        ("f'{a}'", "f'{a!r}'"),
        ("f'{a}'", "f'{a:3}'"),
        ("f'a'", "f'{a}'"),
        ("async def f(): pass", "def f(): pass"),
        ("from . import a", "from .. import a"),
        ("from .a import b", "from a import b"),
        ("import a", "import a as b"),
        ("global a", "global b"),
        ("'a)'", "'a'"),
        ("x = 'a', 'b'", "x = 'a,', 'b'"),
        ("'\\ud800'", "'\\ud801'"),
        ("...", "None"),
    ],
)
def test_meaning_is_in_it(one: str, other: str):
    assert digest(one) != digest(other)


def test_integer_too_long_to_print_has_a_digest():
    assert digest("0x" + "f" * 10_000) != digest("0x" + "f" * 10_001)


def test_digest_is_the_same_in_every_version_of_python():
    text = "@d(1)\nclass A(B, c=2):\n  x: int = 1\n  async def f(self, /, a, *b, c=1, **d): return f'{a!r:>{b}}'"

    assert digest(text) == ("17aa1fd57b1add9c64d3f83fe95f11756b0135d1752f62ee02452f531b74659a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f():\n  'doc'\n  return 1", "def f(): return 1"),
        ("def f(): 'doc'", "def f(): pass"),
        ("def f(): ...", "def f(): pass"),
        ("def f():\n  1\n  return 1", "def f(): return 1"),
        ("def f(x: int) -> str: pass", "def f(x): pass"),
        ("def f(*a: int, b: str = '', **c: int): pass", "def f(*a, b='', **c): pass"),
        ("def f():\n  x: int = 1", "def f():\n  x = 1"),
        ("def f():\n  if a:\n    x: int = 1", "def f():\n  if a:\n    x = 1"),
        ("def f():\n  def g(x: int): 'doc'", "def f():\n  def g(x): pass"),
        ("def f():\n  if a: pass\n  else: pass", "def f():\n  if a: pass"),
        ("class A:\n  'doc'\n  x: int = 1", "class A:\n  x = 1"),
        ("class A:\n  x: int", "class A: pass"),
        ("class A:\n  def f(self): 'doc'", "class A:\n  def f(self): pass"),
        ("class A:\n  def f(self): pass\n  x = 1", "class A:\n  x = 1\n  def f(self): pass"),
        ("class A(Exception):\n  x: int = 1", "class A(Exception):\n  x = 1"),
        ("x: int = 1", "x = 1"),
        ("match a:\n  case 1:\n    'doc'\n    b()", "match a:\n  case 1:\n    b()"),
        ("try:\n  a()\nexcept E:\n  'doc'\n  b()", "try:\n  a()\nexcept E:\n  b()"),
    ],
)
def test_what_does_nothing_is_not_in_a_unit(one: str, other: str):
    assert digest_unit(one) == digest_unit(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f():\n  x: int\n  return x", "def f():\n  return x"),
        ("@d\ndef f(x: int): pass", "@d\ndef f(x): pass"),
        ("@d\nclass A:\n  x: int = 1", "@d\nclass A:\n  x: str = 1"),
        ("class A(B):\n  x: int = 1", "class A(B):\n  x: str = 1"),
        ("class A(metaclass=M):\n  x: int = 1", "class A(metaclass=M):\n  x: str = 1"),
        (
            "class A(B):\n  def f(self): pass\n  def g(self): pass",
            "class A(B):\n  def g(self): pass\n  def f(self): pass",
        ),
        ("class A:\n  def f(self): pass\n  f = f", "class A:\n  f = f\n  def f(self): pass"),
        ("def f(): return 'doc'", "def f(): return 'other'"),
        ("def f():\n  x = 'doc'", "def f():\n  x = 'other'"),
    ],
)
def test_what_does_something_is_in_a_unit(one: str, other: str):
    assert digest_unit(one) != digest_unit(other)


@pytest.mark.parametrize(
    "decorator",
    ["workflow", "task()", "functools.cache", "staticmethod", "contextlib.contextmanager"],
)
def test_annotations_under_a_decorator_that_reads_none_do_nothing(decorator: str):
    head = f"from fftasks import workflow, task\nimport functools, contextlib\n@{decorator}\n"

    digests = {
        analyse(f"{head}def f({argument}): pass".encode())["units"][-1]["digest"]
        for argument in ("x", "x: int")
    }

    assert len(digests) == 1
