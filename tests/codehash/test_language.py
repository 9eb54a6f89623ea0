"""The forms that Python code takes, a case of language.txt each: does a node that may depend on it run again?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.codehash.sample_project import look, write


class Case(NamedTuple):
    """An edit of a project."""

    rerun: bool
    files: dict[str, str]
    file: str
    old: str
    new: str


def read_cases() -> dict[str, Case]:
    """Return the cases of language.txt by name."""
    text = re.sub(r"\n\n+# .*\n", "\n", Path(__file__).with_name("language.txt").read_text())
    _, shared, *parts = re.split(r"^=== ", text, flags=re.MULTILINE)
    common = _read_files(shared)
    return dict(_read_case(part, common) for part in parts)


def _read_case(text: str, common: dict[str, str]) -> tuple[str, Case]:
    head, edit = re.split(r"^>>> ", text, flags=re.MULTILINE)
    name, _, outcome = head.partition("\n")[0].rpartition(" | ")
    file, _, change = edit.strip("\n").partition("\n") if "\n<<<" in edit else edit.partition(": ")
    old, _, new = change.partition("\n<<<" if "\n<<<" in change else " => ")
    return name, Case(
        outcome == "rerun", {**common, **_read_files(head)}, file, old, new.strip("\n")
    )


def _read_files(text: str) -> dict[str, str]:
    _, *parts = re.split(r"^--- ", text, flags=re.MULTILINE)
    files = (part.partition("\n") for part in parts)
    return {name: content.rstrip("\n") + "\n" for name, _, content in files}


CASES = read_cases()


@pytest.mark.parametrize("name", CASES)
def test_edit_of(name: str, tmp_path: Path):
    case = CASES[name]
    assert case.old in case.files[case.file]
    write(tmp_path, case.files)
    before = look(tmp_path).digest

    write(tmp_path, {case.file: case.files[case.file].replace(case.old, case.new)})

    assert (look(tmp_path).digest != before) is case.rerun
