"""A project with five nodes, and for each edit of it the nodes that must run again: these and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.codehash.sample_project import find_changed

NODES = ("load", "clean", "train", "evaluate", "report")
FILES = {
    "wf.py": '''\
"""Digits, from end to end."""
from __future__ import annotations

import json

import numpy as np

import lib.scale as scaling
from fftasks import Workflow, workflow
from lib import tidy
from models import Model
import settings

LIMIT = 10          # of load
WEIGHTS = {"a": 1, "b": 2}
STEPS = [tidy.strip, tidy.lower]
_REPORTS = []


def note(text):
    """Keep a text."""
    _REPORTS.append(text)
    return text


@workflow
def load(path, limit: int = LIMIT) -> list:
    """Read the data."""
    with open(path) as file:  # a comment
        return json.load(file)[:limit]


@workflow
def clean(rows):
    for step in STEPS:
        rows = [step(row) for row in rows]
    return rows


@workflow
def train(rows, alpha=0.1):
    model = Model(alpha)
    return model.fit(scaling.center(rows))


@workflow
def evaluate(model, rows):
    total = 0
    for name, weight in WEIGHTS.items():
        total += weight * model.score(rows, name)
    return np.sqrt(total)


@workflow
def report(score):
    from lib.text import show

    return note(show(score, settings.WIDTH))


data = load("data.json").set_name("data")
tidied = clean(data)
models = []
for alpha in (0.1, 0.2):
    models.append(train(tidied, alpha).set_name(f"train {alpha}"))
scores = [evaluate(model, tidied) for model in models]
page = report(scores[0])
print("nodes:", len(models))
flow = Workflow(page, name="digits")

if __name__ == "__main__":
    print(flow.run())
''',
    "settings.py": """\
import os

WIDTH = 80
COLOR = "red"
HOME = os.environ.get("HOME")
LEVELS = ["low", "high"]


def describe():
    return COLOR
""",
    "models.py": '''\
from abc import ABC

from lib.scale import center

UNUSED = 3


class Base(ABC):
    """What all models have."""

    rate = 1

    def score(self, rows, name):
        return sum(rows) * self.rate


class Model(Base):
    def __init__(self, alpha):
        self.alpha = alpha

    def fit(self, rows: list) -> Model:
        self.mean = sum(center(rows))
        return self


class Other(Base):
    def fit(self, rows):
        return None
''',
    "lib/__init__.py": "",
    "lib/scale.py": """\
from .constants import OFFSET, SCALE


def center(rows):
    return [row - OFFSET for row in rows]


def stretch(rows):
    return [row * SCALE for row in rows]
""",
    "lib/constants.py": "OFFSET = 1\nSCALE = 2\n",
    "lib/tidy.py": """\
import re

SPACE = re.compile(r"\\s+")


def strip(row):
    return SPACE.sub(" ", row)


def lower(row):
    return row.lower()


def upper(row):
    return row.upper()
""",
    "lib/text.py": """\
from lib.frame import *


def show(score, width):
    return draw(str(score), width)
""",
    "lib/frame.py": """\
def draw(text, width):
    return text.center(width)


def other():
    return 1
""",
    "unrelated.py": "def f(:\n",
}

NOTHING: set[str] = set()
EVERYTHING = set(NODES)
# file, what is replaced, by what, which nodes run again
EDITS = [
    # what means nothing
    ("wf.py", "  # a comment", "  # another comment", NOTHING),
    ("wf.py", "# of load", "", NOTHING),
    ("wf.py", '"""Read the data."""', '"""Read all of the data."""', NOTHING),
    ("wf.py", '    """Read the data."""\n', "", NOTHING),
    ("wf.py", '"""Digits, from end to end."""\n', "", NOTHING),
    ("wf.py", "limit: int = LIMIT) -> list:", "limit: float = LIMIT) -> tuple:", NOTHING),
    ("wf.py", "limit: int = LIMIT) -> list:", "limit=LIMIT):", NOTHING),
    ("wf.py", "WEIGHTS = {", "WEIGHTS: dict[str, int] = {", NOTHING),
    ("wf.py", '{"a": 1, "b": 2}', "{\n    'a': 1,\n    'b': 2,\n}", NOTHING),
    ("wf.py", "total = 0\n", "total = (0)\n\n", NOTHING),
    ("wf.py", "total = 0\n", "total = 0\n    pass\n", NOTHING),
    ("wf.py", "import json\n", "import json, csv\n", NOTHING),
    ("wf.py", "import json\n", "import json\nimport lib.frame\n", NOTHING),
    ("models.py", '    """What all models have."""\n', "", NOTHING),
    ("models.py", "class Other(Base):", "class Another(Base):", NOTHING),
    ("models.py", "        return None", "        return 1", NOTHING),
    ("models.py", "UNUSED = 3", "UNUSED = 4", NOTHING),
    ("settings.py", 'COLOR = "red"', 'COLOR = "blue"', NOTHING),
    ("settings.py", 'get("HOME")', 'get("home")', NOTHING),
    ("settings.py", '["low", "high"]', '["low"]', NOTHING),
    ("settings.py", "return COLOR", "return None", NOTHING),
    ("lib/tidy.py", "return row.upper()", "return row", NOTHING),
    ("lib/scale.py", "row * SCALE", "row / SCALE", NOTHING),
    ("lib/scale.py", "import OFFSET, SCALE", "import SCALE, OFFSET", NOTHING),
    ("lib/constants.py", "SCALE = 2", "SCALE = 3", NOTHING),
    ("lib/__init__.py", "", '"""A package."""\n', NOTHING),
    ("unrelated.py", "def f(:", "def g(:", NOTHING),
    # building the workflow
    ("wf.py", '.set_name("data")', '.set_name("rows")', NOTHING),
    ("wf.py", 'load("data.json")', 'load("other.json")', NOTHING),
    ("wf.py", "(0.1, 0.2)", "(0.1, 0.2, 0.3)", NOTHING),
    (
        "wf.py",
        "scores = [evaluate(model, tidied) for model in models]",
        "scores = [evaluate(models[0], tidied)]",
        NOTHING,
    ),
    ("wf.py", 'print("nodes:", len(models))\n', "", NOTHING),
    ("wf.py", 'name="digits"', 'name="numbers"', NOTHING),
    ("wf.py", "    print(flow.run())", "    flow.run()", NOTHING),
    ("wf.py", "page = report(scores[0])", "page = report(scores[1]).set_name('p')", NOTHING),
    # what means something
    ("wf.py", "LIMIT = 10", "LIMIT = 11", {"load"}),
    ("wf.py", "[:limit]", "[: limit + 1]", {"load"}),
    ("wf.py", "limit: int = LIMIT", "limit: int = 5", {"load"}),
    ("wf.py", "json.load(file)", "json.loads(file.read())", {"load"}),
    ("wf.py", '"b": 2}', '"b": 3}', {"evaluate"}),
    ("wf.py", "[tidy.strip, tidy.lower]", "[tidy.lower, tidy.strip]", {"clean"}),
    ("wf.py", "[tidy.strip, tidy.lower]", "[tidy.strip, tidy.upper]", {"clean"}),
    ("wf.py", "alpha=0.1):", "alpha=0.2):", {"train"}),
    ("wf.py", "np.sqrt(total)", "np.abs(total)", {"evaluate"}),
    ("wf.py", "import numpy as np", "import scipy as np", {"evaluate"}),
    (
        "wf.py",
        "import lib.scale as scaling",
        "import lib.tidy as scaling\nscaling.center = len",
        {"train"},
    ),
    ("wf.py", "    return text\n", "    return text + '!'\n", {"report"}),
    ("wf.py", "_REPORTS = []", "_REPORTS = ['a']", {"report"}),
    ("wf.py", "@workflow\ndef report", "@workflow\n@note\ndef report", {"report"}),
    ("lib/tidy.py", r'"\s+"', r'"\s*"', {"clean"}),
    ("lib/tidy.py", "return row.lower()", "return row", {"clean"}),
    ("lib/constants.py", "OFFSET = 1", "OFFSET = 2", {"train"}),
    ("lib/scale.py", "row - OFFSET", "row + OFFSET", {"train"}),
    ("lib/scale.py", "import OFFSET, SCALE", "import SCALE as OFFSET, OFFSET as SCALE", {"train"}),
    ("models.py", "rate = 1", "rate = 2", {"train"}),
    ("models.py", "self.alpha = alpha", "self.alpha = -alpha", {"train"}),
    ("models.py", "self.mean = sum", "self.mean = max", {"train"}),
    ("models.py", "class Model(Base):", "class Model:", {"train"}),
    ("settings.py", "WIDTH = 80", "WIDTH = 90", {"report"}),
    ("lib/text.py", "str(score)", "repr(score)", {"report"}),
    ("lib/frame.py", "text.center(width)", "text.ljust(width)", {"report"}),
    ("lib/frame.py", "return 1", "return 2", {"report"}),  # a star import: all of the file
    # what happens when a file is imported
    ("wf.py", "_REPORTS = []\n", "_REPORTS = []\nnp.random.seed(1)\n", EVERYTHING),
    ("lib/__init__.py", "", "import sys\nsys.setrecursionlimit(5000)\n", EVERYTHING),
    ("wf.py", "_REPORTS = []\n", "_REPORTS = []\n_REPORTS.append(1)\n", {"report"}),
    ("wf.py", "_REPORTS = []\n", "_REPORTS = []\nFIRST = note('a')\n", {"report"}),
    ("wf.py", "data = load", "WEIGHTS['c'] = 3\ndata = load", {"evaluate"}),
    ("wf.py", "data = load", "settings.WIDTH = 3\ndata = load", {"report"}),
    ("wf.py", "data = load", "Model.rate = 3\ndata = load", {"train"}),
    ("wf.py", "data = load", "LIMIT += 1\ndata = load", {"load"}),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), EDITS)
def test_edit_reruns_exactly(tmp_path: Path, file: str, old: str, new: str, expected: set[str]):
    assert old in FILES[file]
    edited = {**FILES, file: FILES[file].replace(old, new, 1)}

    changed = find_changed(tmp_path, FILES, edited, NODES)

    assert changed == expected


def test_order_of_definitions_means_nothing(tmp_path: Path):
    parts = FILES["models.py"].split("\n\n\n")
    edited = {**FILES, "models.py": "\n\n\n".join([parts[0], parts[1], parts[3], parts[2]])}

    assert edited["models.py"] != FILES["models.py"]
    assert find_changed(tmp_path, FILES, edited, NODES) == NOTHING


def test_order_of_constants_means_nothing(tmp_path: Path):
    first, second = 'WEIGHTS = {"a": 1, "b": 2}\n', "STEPS = [tidy.strip, tidy.lower]\n"
    edited = {**FILES, "wf.py": FILES["wf.py"].replace(first + second, second + first)}

    assert edited["wf.py"] != FILES["wf.py"]
    assert find_changed(tmp_path, FILES, edited, NODES) == NOTHING


def test_new_file_that_nothing_names_means_nothing(tmp_path: Path):
    edited = {**FILES, "lib/new.py": "import os\nos.environ['A'] = 'b'\n"}

    assert find_changed(tmp_path, FILES, edited, NODES) == NOTHING


def test_package_that_hides_a_module_reruns_its_users(tmp_path: Path):
    edited = {**FILES, "settings/__init__.py": "WIDTH = 80\n"}

    assert find_changed(tmp_path, FILES, edited, NODES) == {"report"}


def test_file_that_is_gone_reruns_its_users(tmp_path: Path):
    edited = {name: text for name, text in FILES.items() if name != "lib/constants.py"}

    assert find_changed(tmp_path, FILES, edited, NODES) == {"train"}
