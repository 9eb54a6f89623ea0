"""Docstrings for descriptions, read from the text of a file."""

import pytest

from fftasks.graph.record import read_docstring

TEXT = '''"""What the file
is for.
"""
import math

if math.pi:
    def load():
        """Load it."""

def plain():
    return 1

def twice():
    """The first."""

def twice():
    """The second."""

def make():
    def inner():
        """Inside."""
    return inner

class Counter:
    """Counts."""

    def add(self):
        """Add one.

        further
        """
'''


@pytest.mark.parametrize(
    ("qualname", "line", "expected"),
    [
        ("", 0, "What the file\nis for."),
        ("load", 7, "Load it."),
        ("plain", 10, ""),
        ("twice", 13, "The first."),
        ("twice", 16, "The second."),
        ("make.<locals>.inner", 20, "Inside."),
        ("Counter", 24, "Counts."),
        ("Counter.add", 27, "Add one.\n\nfurther"),
        ("Counter.missing", 27, ""),
        ("<lambda>", 1, ""),
    ],
)
def test_it_is_found_by_name_and_line(qualname, line, expected, tmp_path):
    path = tmp_path / "wf.py"
    path.write_text(TEXT)

    assert read_docstring(path, qualname, line) == expected


@pytest.mark.parametrize("content", [b"def f(:", b"\0", b"\xff", b""])
def test_a_file_that_cannot_be_read_has_none(content, tmp_path):
    path = tmp_path / "wf.py"
    path.write_bytes(content)

    assert read_docstring(path) == ""
    assert read_docstring(path, "f", 1) == ""
    assert read_docstring(tmp_path / "missing.py") == ""
