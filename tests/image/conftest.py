"""A project's folder, and where its context goes."""

from pathlib import Path

import pytest

from tests.image.sample_files import write


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "project"
    write(path / "sums.py", "a = 1\n")
    write(path / "data" / "table.csv", "1,2\n")
    return path


@pytest.fixture
def target(folder) -> Path:
    return folder / ".fftasks" / "context"
