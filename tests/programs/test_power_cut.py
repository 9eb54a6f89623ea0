"""What a power cut may do to the state folder: results stay right, and nothing raises."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.sample import Sample

RESULT = "report['scaled'] = 120"


@pytest.fixture
def chain(tmp_path):
    sample = Sample.copy("chain", tmp_path)
    assert RESULT in sample.doit()
    return sample


def list_state(sample: Sample) -> list[Path]:
    return sorted(path for path in (sample.root / ".fftasks").rglob("*") if path.is_file())


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 7):
        data[place] ^= 0x55
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [zero, truncate, empty, spoil])
def test_any_damaged_file_of_the_state_folder_is_made_again(chain, damage):
    paths = list_state(chain)
    assert len(paths) > 20
    for path in paths:
        path.chmod(0o644)
        damage(path)

    output = chain.doit()

    assert RESULT in output
    assert "Traceback" not in output
    assert chain.ran() == []


@pytest.mark.parametrize("damage", [zero, truncate, empty, spoil])
@pytest.mark.parametrize("part", ["artifacts", "nodes", "traces", "codes", "graph", "closures", ""])
def test_one_kind_of_damaged_file_is_made_again(chain, damage, part):
    folder = chain.root / ".fftasks" / part
    for path in [path for path in folder.glob("**/*" if part else "*") if path.is_file()]:
        path.chmod(0o644)
        damage(path)
    chain.edit("wf.py", "factor=2", "factor=3")

    assert "report['scaled'] = 180" in chain.doit()
    chain.edit("wf.py", "factor=3", "factor=2")
    assert RESULT in chain.doit()
    assert chain.ran() == []


@pytest.mark.parametrize("seed", range(3))
def test_files_that_a_power_cut_took_are_made_again(chain, seed):
    chance = random.Random(seed)
    for path in list_state(chain):
        if chance.random() < 0.4:
            path.unlink()

    assert RESULT in chain.doit()
    assert chain.ran() == []


def test_a_result_of_zeros_with_the_times_of_the_real_one_is_found_out(chain):
    for path in (chain.root / ".fftasks" / "artifacts").iterdir():
        stat = path.stat()
        path.chmod(0o644)
        zero(path)
        path.chmod(0o444)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert RESULT in chain.doit()
