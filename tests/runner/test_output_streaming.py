"""What a pod prints can be read while it goes on: nobody wants to wait for the end of a training."""

import json
import os
import subprocess
import sys

from tests.sample import Sample

WORKFLOW = """
import select, sys
from fftasks import Workflow, workflow

@workflow
def train():
    print("epoch 1")
    sys.stderr.write("a warning\\n")
    print("epoch 2")
    select.select([sys.stdin], [], [], 10)  # it goes on until somebody lets it end

Workflow(train().set_name("train"), name="long")
"""


def test_lines_of_a_node_are_there_before_it_ends_and_in_their_order(tmp_path):
    Sample.make(tmp_path, WORKFLOW)
    outputs = {"artifacts": {"result": {"artifacts": [{"uri": str(tmp_path / "result")}]}}}
    command = [sys.executable, "-m", "fftasks.runner", "--file", "wf.py", "--node", "train"]
    command += ["--executor-input", json.dumps({"outputs": outputs})]

    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.stdin.close()

    assert lines == ["epoch 1\n", "a warning\n", "epoch 2\n"]
    assert process.returncode == 0
