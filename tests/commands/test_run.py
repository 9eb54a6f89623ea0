"""`doit run --keep`: room on the disk after a run."""

from __future__ import annotations

import pytest

from tests.sample import Sample


@pytest.fixture
def chain(tmp_path):
    return Sample.copy("chain", tmp_path)


def count_artifacts(sample: Sample) -> int:
    return len(list((sample.root / ".fftasks" / "artifacts").iterdir()))


def test_results_that_no_node_has_any_more_go_after_the_run(chain):
    chain.doit()
    current = count_artifacts(chain)
    chain.edit("wf.py", "factor=2", "factor=3")

    output = chain.doit("run", "--keep", "0GB")

    assert "removed" in output
    assert count_artifacts(chain) == current
    assert chain.ran() == []


def test_results_that_fit_stay(chain):
    chain.doit("run", "--keep=5GB")
    before = count_artifacts(chain)

    output = chain.doit("--keep", "5GB")

    assert "removed 0 results" in output
    assert count_artifacts(chain) == before


def test_what_is_no_size_is_said_before_anything_runs(chain):
    output = chain.doit("run", "--keep", "much", code=3)

    assert "'much' is no size" in output
    assert not (chain.root / ".fftasks").exists()


def test_the_exit_code_is_that_of_the_run(chain):
    chain.edit("wf.py", "return sum(values)", "return 1 / 0 * sum(values)")

    output = chain.doit("run", "--keep", "5GB", code=1)

    assert "ZeroDivisionError" in output
    assert "bytes are left" in output
