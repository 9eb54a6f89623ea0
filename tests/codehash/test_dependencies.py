"""What a closure says it consists of, and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fftasks.codehash.dependencies import find_dependencies
from fftasks.codehash.source_tree import SourceTree
from fftasks.records import digest_bytes
from tests.codehash.sample_project import look, write


def test_pieces_have_names_that_a_user_knows(tmp_path: Path):
    write(
        tmp_path,
        {
            "wf.py": "import numpy as np\nfrom lib.models import Model, ALPHA\nA, B = 1, 2\n"
            "if A:\n  C = 1\ndef node(): return np.sum([ALPHA, A, C]), Model()\n",
            "lib/models.py": "class Base: pass\nclass Model(Base): pass\nALPHA = 1\n",
        },
    )

    pieces = set(look(tmp_path).pieces)

    assert {name for name in pieces if not name.startswith("numpy ")} == {
        "wf.py: function node()",
        "wf.py: import np",
        "wf.py: import Model",
        "wf.py: import ALPHA",
        "wf.py: names A, B",
        "wf.py: names C",
        "lib/models.py: class Model",
        "lib/models.py: class Base",
        "lib/models.py: constant ALPHA",
    }


def test_distribution_counts_with_its_version(tmp_path: Path):
    numpy = pytest.importorskip("numpy")
    write(tmp_path, {"wf.py": "import numpy.linalg\ndef node(): return numpy.linalg.norm([1])\n"})

    assert f"numpy {numpy.__version__}" in look(tmp_path).pieces


def test_distribution_that_the_node_does_not_name_does_not_count(tmp_path: Path):
    write(tmp_path, {"wf.py": "import numpy\nimport json\ndef node(): return json.dumps(1)\n"})

    assert set(look(tmp_path).pieces) == {"wf.py: function node()"}


def test_the_tool_itself_does_not_count(tmp_path: Path):
    write(tmp_path, {"wf.py": "from fftasks import workflow\n@workflow\ndef node(): return 1\n"})

    assert set(look(tmp_path).pieces) == {"wf.py: function node()"}


def test_files_are_all_that_were_read(tmp_path: Path):
    write(
        tmp_path,
        {
            "wf.py": "from lib import a\ndef node(): return 1\n",
            "lib/__init__.py": "",
            "lib/a.py": "import b\n",
            "b.py": "X = 1\n",
            "c.py": "",
        },
    )

    files = look(tmp_path).files

    assert list(files) == ["b.py", "lib/__init__.py", "lib/a.py", "wf.py"]
    assert files["b.py"] == digest_bytes(b"X = 1\n")


NOTES = {
    "star import": (
        "from helpers import *\ndef node(): return f()",
        "helpers.py (widened: star import in wf.py)",
        "wf.py:1: star import: all of helpers.py counts",
    ),
    "getattr": (
        "import helpers\ndef node(n):\n  return getattr(helpers, n)",
        "helpers.py (widened: used as a value in wf.py)",
        "wf.py:3: the module itself is used: all of helpers.py counts",
    ),
    "getattr, its own file": (
        "import helpers\ndef node(n):\n  return getattr(helpers, n)",
        "wf.py (widened: getattr)",
        "wf.py:3: getattr: all of wf.py counts",
    ),
    "eval": (
        "import helpers\ndef node(n):\n  return eval(n)",
        "helpers.py (widened: eval in wf.py)",
        "wf.py:3: eval: all of helpers.py counts",
    ),
    "computed import": (
        "import importlib\ndef node(n):\n  return importlib.import_module(n)",
        "helpers.py (widened: import by a computed name in wf.py)",
        "wf.py:3: import by a computed name: all of helpers.py counts",
    ),
    "unknown name": (
        "def node():\n  return magic",
        "wf.py (widened: magic is not found)",
        "wf.py:2: magic is not found in wf.py: all of wf.py counts",
    ),
    "set twice": (
        "X = 1\nX = 2\ndef node(): return X",
        "wf.py (widened: X is set more than once)",
        "wf.py:2: X is set more than once: all of wf.py counts",
    ),
    "global": (
        "X = 1\ndef f():\n  global X\n  X = 2\ndef node(): return X",
        "wf.py (widened: global X)",
        "wf.py:3: global X: all of wf.py counts",
    ),
    "patch": (
        "import helpers\nhelpers.f = 1\ndef node(): return helpers.f",
        "helpers.py (widened: changed in wf.py)",
        "wf.py:2: an attribute of a module is set: all of helpers.py counts",
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_widening_is_said(name: str, tmp_path: Path):
    text, piece, note = NOTES[name]
    write(tmp_path, {"wf.py": text, "helpers.py": "def f(): return 1\n"})

    closure = look(tmp_path)

    assert f"file {piece}" in closure.pieces
    assert note in closure.notes


def test_note_for_docstrings(tmp_path: Path):
    write(tmp_path, {"wf.py": "def node():\n  return node.__doc__\n"})

    assert look(tmp_path).notes == ("wf.py:2: .__doc__: docstrings and annotations count",)


def test_nothing_widened_has_no_notes(tmp_path: Path):
    write(tmp_path, {"wf.py": "def f(): return 1\ndef node(): return f()\n"})

    assert look(tmp_path).notes == ()


@pytest.mark.parametrize("qualname", ["Counter", "Counter.add", "Counter.Inner.f"])
def test_class_counts_whole(qualname: str, tmp_path: Path):
    write(tmp_path, {"wf.py": "class Counter:\n  def add(self): return X\nX = 1\n"})

    assert set(look(tmp_path, qualname).pieces) == {"wf.py: class Counter", "wf.py: constant X"}


def test_inner_function_counts_with_the_one_around(tmp_path: Path):
    write(tmp_path, {"wf.py": "def outer():\n  def inner(): return X\n  return inner\nX = 1\n"})

    assert set(look(tmp_path, "outer.<locals>.inner").pieces) == {
        "wf.py: function outer()",
        "wf.py: constant X",
    }


def test_function_that_is_not_found_widens_to_its_file(tmp_path: Path):
    write(tmp_path, {"wf.py": "X = 1\n"})

    closure = look(tmp_path, "made")

    assert set(closure.pieces) == {"file wf.py (widened: made is not found in it)"}


def test_lambda_is_found_by_its_line(tmp_path: Path):
    write(tmp_path, {"wf.py": "X = 1\nF = [\n  lambda: X,\n]\nY = 2\n"})
    project = SourceTree(tmp_path, [tmp_path], path=())

    closure = find_dependencies(project, "wf.py", "<lambda>", line=3)

    assert set(closure.pieces) == {"wf.py: constant F", "wf.py: constant X"}


def test_syntax_error_in_a_file_that_is_needed(tmp_path: Path):
    write(tmp_path, {"wf.py": "import m\ndef node(): return m.f()\n", "m.py": "X = 1\ndef f(:\n"})

    closure = look(tmp_path)

    assert "file m.py (widened: used as a value in wf.py)" in closure.pieces
    assert closure.pieces["file m.py (widened: used as a value in wf.py)"] == closure.files["m.py"]


def test_syntax_error_in_the_function_s_own_file(tmp_path: Path):
    write(tmp_path, {"wf.py": "def node(:\n"})

    closure = look(tmp_path)

    assert set(closure.pieces) == {"file wf.py (widened: syntax error at line 1)"}


def test_file_that_is_not_there(tmp_path: Path):
    closure = look(tmp_path, file="gone.py", entry="gone.py")

    assert set(closure.pieces) == {"file gone.py (missing)"}
    assert closure.notes == ("gone.py is not there",)


@pytest.mark.parametrize(
    "source",
    [b"x = '\xff'\n", b"\0", b"\xef\xbb\xbfx = 1\n", b"", b"# coding: latin-1\nx = '\xe4'\n"],
)
def test_odd_file_harms_nobody(tmp_path: Path, source: bytes):
    write(tmp_path, {"wf.py": "import m\ndef node(): return 1\n"})
    (tmp_path / "m.py").write_bytes(source)

    assert set(look(tmp_path).pieces) == {"wf.py: function node()"}


def test_file_that_is_nested_too_deeply_counts_with_the_project(tmp_path: Path):
    deep = "x = " + "-" * 3000 + "1\n"
    write(tmp_path, {"wf.py": "import m\ndef node(): return m.x\n", "m.py": deep, "k.py": ""})

    pieces = look(tmp_path).pieces

    assert any(name.startswith("file m.py") for name in pieces)
    assert any(name.startswith("file k.py") for name in pieces)


def test_sum_of_a_thousand_terms_is_read(tmp_path: Path):
    total = " + ".join(["X"] * 1000)
    write(tmp_path, {"wf.py": f"X = 1\ndef node(): return {total}\n"})

    assert set(look(tmp_path).pieces) == {"wf.py: constant X", "wf.py: function node()"}


def test_long_chains_need_no_recursion(tmp_path: Path):
    count = sys.getrecursionlimit() * 2
    files = {
        f"m{n}.py": f"from m{n + 1} import f as g, h\nimport m{n + 1}\ndef f(): return m{n + 1}.f(), g()\n"
        for n in range(count)
    }
    files[f"m{count}.py"] = "def f(): return 1\ndef h(): return 2\n"
    write(tmp_path, {**files, "wf.py": "from m0 import f, h\ndef node(): return f(), h()\n"})

    pieces = look(tmp_path).pieces

    assert f"m{count}.py: function f()" in pieces
    assert f"m{count}.py: function h()" in pieces


def test_entry_that_imports_more_than_the_function_s_file_counts(tmp_path: Path):
    write(
        tmp_path,
        {
            "wf.py": "import patch\nfrom steps import node\n",
            "steps.py": "import m\ndef node(): return m.X\n",
            "m.py": "X = []\n",
            "patch.py": "import m\nm.X.append(1)\n",
        },
    )

    with_entry = look(tmp_path, file="steps.py", entry="wf.py")
    without = look(tmp_path, file="steps.py", entry="steps.py")

    assert "patch.py: statements" in with_entry.pieces
    assert "patch.py: statements" not in without.pieces


def test_same_project_elsewhere_has_the_same_digest(tmp_path: Path):
    files = {
        "wf.py": "import os\nfrom lib.a import f\ndef node(): return f()\n",
        "lib/a.py": "def f(): pass\n",
    }
    write(tmp_path / "one", files)
    write(tmp_path / "two", files)

    assert look(tmp_path / "one") == look(tmp_path / "two")
