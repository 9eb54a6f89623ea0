"""The trial in the image: what is not there is found, whatever the user's files print."""

import json
import os
import subprocess
import sys

import pytest

from fftasks.runner.image_check import FINGERPRINTS_FILE, format_manifest

GOOD = """
from fftasks import Workflow, workflow
print("noise")

@workflow
def one():
    return 1

Workflow(one().set_name("a"), name="sums")
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "wf.py").write_text(GOOD)
    path = tmp_path / FINGERPRINTS_FILE
    path.parent.mkdir()
    path.write_bytes(format_manifest({"sums": {"a": ""}}))
    return tmp_path


def run_check(root):
    completed = subprocess.run(
        [sys.executable, "-m", "fftasks.runner", "--try"],
        cwd=root,
        env={**os.environ, "FFWORKFLOWS": "wf.py"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(completed.stdout)


def test_all_nodes_are_there(root):
    assert run_check(root) == []


def test_a_missing_module_has_the_line_that_imports_it(root):
    (root / "lib.py").write_text("\nimport no_such_module.part\n")
    (root / "wf.py").write_text("import lib\n" + GOOD)

    [problem] = run_check(root)

    assert (problem["module"], problem["where"]) == ("no_such_module", "lib.py:2")


def test_any_other_error_comes_with_its_traceback(root):
    (root / "wf.py").write_text("open('/no/such/file')\n" + GOOD)

    [problem] = run_check(root)

    assert "FileNotFoundError" in problem["error"]
    assert "module" not in problem


def test_a_node_that_is_not_built_is_named(root):
    (root / FINGERPRINTS_FILE).write_bytes(format_manifest({"sums": {"a": "", "b": ""}}))

    assert run_check(root) == [{"file": "", "error": "workflow 'sums' is built without b"}]
