"""The entry point: it refuses an image that was made for something else, before anything is imported."""

import os
import subprocess
import sys

import pytest

from fftasks.errors import WorkflowError
from fftasks.runner.image_check import (
    FINGERPRINTS_FILE,
    check_manifest,
    combine_fingerprints,
    format_manifest,
)

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def root(tmp_path):
    path = tmp_path / FINGERPRINTS_FILE
    path.parent.mkdir()
    path.write_bytes(format_manifest({"sums": {"a": ONE, "b": TWO, "ü": ""}}))
    return tmp_path


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [(["a"], ONE), (["b"], TWO), (["a", "b"], combine_fingerprints([ONE, TWO]))],
)
def test_the_image_of_a_task_is_taken(root, nodes, expected):
    check_manifest(root, "sums", nodes, expected)


@pytest.mark.parametrize(
    ("workflow", "nodes", "expected"),
    [
        ("sums", ["a"], TWO),
        ("sums", ["b", "a"], combine_fingerprints([ONE, TWO])),
        ("sums", ["nope"], ONE),
        ("sums", ["ü"], ONE),
        ("others", ["a"], ONE),
    ],
)
def test_any_other_image_is_refused(root, workflow, nodes, expected):
    with pytest.raises(WorkflowError, match="made for another version") as caught:
        check_manifest(root, workflow, nodes, expected)

    assert expected in str(caught.value)
    assert "doit submit" in caught.value.tip


def test_an_image_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(WorkflowError, match="made for another version"):
        check_manifest(tmp_path, "sums", ["a"], ONE)


def test_nothing_is_imported_before_the_refusal(root):
    (root / "sums.py").write_text("raise SystemExit('imported')\n")
    arguments = ["--file", "sums.py", "--workflow", "sums", "--node", "a", "--fingerprint", TWO]

    completed = subprocess.run(
        [sys.executable, "-m", "fftasks.runner", *arguments, "--executor-input", "{}"],
        cwd=root,
        env={**os.environ, "FFFUNCTION": "a"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == WorkflowError.exit_code
    assert f"the image has a: {ONE}" in completed.stderr
    assert "imported" not in completed.stderr
