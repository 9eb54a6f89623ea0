"""KFPWorkflow before anything is submitted: whose project, which settings, what a container would find."""

import subprocess
import sys

import pytest

from fftasks import KFPWorkflow, workflow
from fftasks.errors import WorkflowError
from fftasks.functionfuse.kfp import find_root, list_settings

HIDDEN = """
from fftasks import KFPWorkflow, workflow

@workflow
def one():
    return 1

def main():
    KFPWorkflow(one(), workflow_name="w").run()
"""


@workflow
def step(x):
    return x


def test_credentials_have_known_keys():
    with pytest.raises(WorkflowError, match="unknown key in registry_credentials: 'user'"):
        KFPWorkflow(step(1), workflow_name="w", registry_credentials={"user": "me"})


def test_what_a_script_sets_beats_config_and_is_on_no_command_line():
    flow = KFPWorkflow(step(1), workflow_name="w", kfp_host="http://old")
    flow.set_baseimage("python:3.12")
    flow.set_kfp_host("http://kfp.test")
    flow.set_registry_credentials({"server": "registry.test", "password": "secret"})

    assert list_settings(flow, "flows/wf.py") == {
        "FFTASKS_WORKFLOWS": '["flows/wf.py"]',
        "FFTASKS_IMAGE__BASE": "python:3.12",
        "FFTASKS_KFP__HOST": "http://kfp.test",
        "FFTASKS_KFP__WATCH": "false",
        "FFTASKS_REGISTRY__SERVER": "registry.test",
        "FFTASKS_REGISTRY__PASSWORD": "secret",
    }


@pytest.mark.parametrize(
    ("configured", "here", "root"),
    [("", "elsewhere", "a/b"), ("a", "elsewhere", "a"), ("", "a", "a"), ("a/b", "a", "a/b")],
)
def test_the_project_is_the_nearest_with_settings_else_here_else_the_scripts_folder(
    tmp_path, monkeypatch, configured, here, root
):
    for folder in ("a/b", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    if configured:
        (tmp_path / configured / "config").mkdir()
        (tmp_path / configured / "config" / "default.yaml").touch()
    monkeypatch.chdir(tmp_path / here)

    assert find_root(tmp_path / "a" / "b" / "script.py") == tmp_path / root


def test_a_graph_that_no_container_would_find_is_not_submitted(tmp_path):
    (tmp_path / "wf.py").write_text(HIDDEN)

    done = subprocess.run(
        [sys.executable, "-c", "import wf; wf.main()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "wf.py:9: a container that imports the file does not find workflow 'w'" in done.stderr
    assert "build the graph where the file is imported" in done.stderr
