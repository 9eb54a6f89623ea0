"""The page about the code: it names each module on its floor, and no file that is not there."""

import re
from pathlib import Path

import pytest

from tests.test_floors import FLOORS, PACKAGE

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
TEXT = PAGE.read_text()


def read_floors():
    """Yield the number of each floor of the page, and the modules in the first column of its table."""
    for number, text in re.findall(r"(?ms)^### (\d):.*?\n(.*?)(?=^##)", TEXT):
        cells = re.findall(r"(?m)^\| (`.*?) \|", text)
        yield int(number), {name.strip("/") for c in cells for name in re.findall(r"`(.*?)`", c)}


def test_each_module_is_told_on_its_floor():
    assert dict(read_floors()) == {floor: set(names) for floor, names in FLOORS.items()}


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.\w+)?|\w+\.py)`", TEXT)))
)
def test_a_file_that_is_named_is_there(name):
    paths = [root / name for root in (PACKAGE, PACKAGE.parent)]

    assert any(path.exists() or path.with_suffix(".py").exists() for path in paths)
