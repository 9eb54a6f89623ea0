"""`doit run`: names of nodes, and with --keep, room on the disk after a run."""

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

    assert "--keep: invalid size: 'much'" in output
    assert not (chain.root / ".fftasks").exists()


def test_the_exit_code_is_that_of_the_run(chain):
    chain.edit("wf.py", "return sum(values)", "return 1 / 0 * sum(values)")

    output = chain.doit("run", "--keep", "5GB", code=1)

    assert "ZeroDivisionError" in output
    assert "bytes are left" in output


@pytest.mark.parametrize("words", [("run", "total"), ("total",), ("-n1", "total")])
def test_the_name_of_a_node_stands_for_its_task(chain, words):
    assert chain.ran(*words) == ["total", "values"]


def test_a_name_that_doit_would_take_for_a_pattern_is_one_in_its_spelling(chain):
    chain.edit("wf.py", 'set_name("total")', 'set_name("a*b")')

    assert chain.ran("run", "a%2Ab") == ["a%2Ab", "values"]


def test_a_task_goes_before_a_node_of_the_same_name(chain):
    chain.edit("wf.py", 'set_name("total")', 'set_name("context")')

    assert chain.ran("run", "context") == []


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("run", "totl"), "total"),
        (("totl",), "total"),
        (("run", "run:totl"), "run:total"),
        (("statsu",), "status"),
        (("grahp",), "graph"),
    ],
)
def test_a_typo_gets_the_nearest_node_task_or_command(chain, words, near):
    assert f"did you mean '{near}'?" in chain.doit(*words, code=3)


def test_a_name_like_no_other_is_said_with_how_to_find_one(chain):
    output = chain.doit("run", "xyzzy", code=3)

    assert "unknown command, task or node 'xyzzy'; `doit list --all` and" in output


@pytest.mark.parametrize(
    "words", [("run", "--help"), ("plan", "--help"), ("plan", "total", "-h"), ("accept", "--help")]
)
def test_help_behind_a_command_is_its_usage(chain, words):
    assert chain.doit(*words) == chain.doit("help", words[0])


@pytest.mark.parametrize("words", [("submit", "--help"), ("run", "submit", "--again", "--help")])
def test_help_behind_a_task_is_about_the_task(chain, words):
    assert chain.doit(*words) == chain.doit("help", "submit")
    assert not (chain.root / ".fftasks" / "context").exists()


def test_a_wrong_option_is_still_an_error(chain):
    output = chain.doit("run", "--hlep", code=3)
    assert output == "ERROR: unknown option --hlep; did you mean '--help'?\n"


def test_too_many_names_are_answered_with_the_usage(chain):
    assert "usage: doit doctor; see `doit help doctor`" in chain.doit("doctor", "kfp", code=3)
