"""`doit context`, as a user calls it: what it says of the folder, and of what must not get in."""

import pytest

from tests.sample import Sample

WORKFLOW = """
from fftasks import Workflow, workflow


@workflow
def one():
    return 1


Workflow(one(), name="sums")
"""


@pytest.fixture
def sample(tmp_path):
    return Sample.make(tmp_path / "project", WORKFLOW)


ENV = "DB_PASSWORD=tiger-7-Oslo\n"


def test_difference_to_the_last_one_is_shown(sample):
    sample.write("old.py", "")
    sample.doit("context")
    sample.write("new.py", "")
    sample.write("wf.py", WORKFLOW + "# edited\n")
    (sample.root / "old.py").unlink()

    output = sample.doit("context")

    assert "added since the last copy (1): new.py" in output
    assert "removed since the last copy (1): old.py" in output
    assert "changed since the last copy (1): wf.py" in output


def test_first_one_has_no_difference(sample):
    output = sample.doit("context")

    assert "3 files" in output
    assert "since the last copy" not in output


def test_log_names_the_largest_files(sample):
    sample.write("data.csv", "x" * 5_000)
    sample.doit("context")

    log = (sample.root / ".fftasks/logs/context.stage.txt").read_text()

    assert "5.0 kB  data.csv" in log


def test_secret_stops_with_path_line_and_rule(sample):
    sample.write(".env", f"# mine\n{ENV}")

    output = sample.doit("context", code=1)

    assert ".env:2: dotenv" in output
    assert "to .dockerignore" in output
    assert not (sample.root / ".fftasks/context").exists()


def test_password_in_a_profile_stops_and_is_not_shown(sample):
    sample.write("config/prod.yaml", "registry:\n  password: hunter2\n")

    output = sample.doit("context", code=1)

    assert "config/prod.yaml:2: plain-setting" in output
    assert "write ${NAME}" in output
    assert "hunter2" not in output


def test_what_is_allowed_is_said(sample):
    sample.write(".env", ENV)
    sample.write("config/default.yaml", "workflows: [wf.py]\ncontext:\n  allow: [.env]\n")

    assert "allowed by context.allow: .env:1 dotenv" in sample.doit("context")


def test_too_large_stops_with_patterns_that_help(sample):
    sample.write("data/big.csv", "x" * 5_000)
    sample.write("config/default.yaml", "workflows: [wf.py]\ncontext:\n  max_size: 2kB\n")

    assert "5.0 kB  data/big.csv  (1 file)" in sample.doit("context", code=1)


def test_the_log_of_a_stage_is_not_that_of_a_node_with_its_name(tmp_path):
    sample = Sample.make(
        tmp_path,
        """\
from fftasks import Workflow, workflow

@workflow
def say():
    print("said by the node")

Workflow(say().set_name("context"), name="w")
""",
    )

    sample.doit("run")
    sample.doit("context")

    assert (tmp_path / ".fftasks/logs/context.txt").read_text() == "said by the node\n"
