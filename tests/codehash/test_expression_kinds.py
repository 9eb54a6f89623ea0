"""Kinds of values: what can be changed once it is bound to a name, as the syntax tells."""

import ast

import pytest

from fftasks.codehash.module_analysis import classify_expression, has_state


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1", "fixed"),
        ("-x + 1", "fixed"),
        ("f'{x}'", "fixed"),
        ("(1, 'a', (2,))", "fixed"),
        ("float('1')", "fixed"),
        ("Point(1, 2)", "fixed"),  # if what Point is lets it be
        ("[1]", "container"),
        ("{'a': 1}", "container"),
        ("{x for x in y}", "container"),
        ("collections.defaultdict(list)", "container"),
        ("(1, [])", "other"),
        ("open('a')", "other"),
        ("lambda: 1", "other"),
        ("x if y else z", "other"),
    ],
)
def test_what_a_name_is_bound_to(text, kind):
    assert classify_expression(ast.parse(text, mode="eval").body) == kind


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("def f(a, b=1, *, c=x, d=-1): pass", False),
        ("def f(a=[]): pass", True),
        ("def f(*, a=make()): pass", True),
        (
            "class A:\n    b = 1\n    c: int = 2\n    d: list\n    def e(self, f=[]): self.g = []",
            False,
        ),
        ("class A:\n    b = []", True),
        ("class A:\n    b: dict = {}", True),
        ("class A:\n    if x:\n        b = 1", True),
        ("class A:\n    class B: pass", True),
    ],
)
def test_what_holds_anything_that_could_be_changed(text, state):
    assert has_state(ast.parse(text).body[0]) is state
