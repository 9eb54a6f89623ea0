"""`doit image` tries the image before it is pushed: "No module named" comes here, not from the cluster."""

import subprocess

import pytest

from fftasks.records import read_record
from fftasks.runner.start import make_command
from tests.sample import Sample

WORKFLOW = """
import sys
import yaml
from fftasks import Workflow, workflow

@workflow
def one():
    return 1

Workflow(one(), name="w")
"""


@pytest.fixture
def sample(tmp_path, base_image, engine):
    project = Sample.make(tmp_path, WORKFLOW)
    project.write("config/default.yaml", f"workflows: [wf.py]\nimage: {{base: {base_image!r}}}\n")
    return project


def test_a_module_that_the_image_lacks_stops_the_stage(sample):
    output = sample.doit("image", code=1)

    assert "module not found: yaml" in output
    assert "wf.py:3: No module named 'yaml'" in output
    assert "add to requirements.txt: PyYAML==" in output
    assert not (sample.root / ".fftasks" / "image.json").exists()

    sample.doit("image", FFTASKS_IMAGE__CHECK="false")
    assert "checked" not in read_record(sample.root / ".fftasks" / "image.json")
    assert "module not found: yaml" in sample.doit("image", code=1)  # nobody has tried it yet

    sample.edit("wf.py", "import yaml\n", "")
    sample.doit("image")
    first = read_record(sample.root / ".fftasks" / "image.json")
    sample.edit("wf.py", "return 1", "return 2")
    sample.doit("image")
    second = read_record(sample.root / ".fftasks" / "image.json")
    assert (first["output"] == second["output"], first["checked"]) == (False, second["checked"])

    for name in ("json", "types"):  # called as Python's own, and taken for them by nobody
        sample.write(f"{name}.py", "1 / 0\n")
    subprocess.run([*make_command("doit"), "image"], cwd=sample.root, check=True)
    third = read_record(sample.root / ".fftasks" / "image.json")
    assert third["checked"] != second["checked"]
