"""Everything that a container image contains suffices to import a workflow file and to run its nodes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import fftasks
from fftasks.runner.artifact import read_artifact

IN_THE_IMAGE = ("__init__.py", "api", "runner", "errors.py", "state_folder.py", "records.py")

WORKFLOW = f"""
from pathlib import Path
from fftasks import {", ".join(fftasks.__all__)}

@workflow
def add(a, b):
    return a + b

@workflow
def load_result():
    return load("total")

@task
class Counter:
    def __init__(self, start):
        self.n = start

    def add(self, k):
        self.n += k
        return self.n

def seed(number):
    pass

one = add(Parameter("a", default=1), 1).set_name("one")
total = add(one, Counter(3).add(4)).set_name("total")
loaded = load_result().set_name("loaded")
Workflow(total, loaded, name="w")

local = LocalWorkflow(total, workflow_name="local", descendants=False)
storage = storage_factory({{"kind": "file", "options": {{"path": "storage"}}}})
local.set_storage(storage)
local.log_nodes("one")
local.set_plugin("one", PluginCollection([RandomStatePlugin(0, 9, 1, seed), InitializerPlugin(dict)]))
print("local:", local.run(), storage.list_tasks("local"))

remote = KFPWorkflow(total, workflow_name="remote", baseimage="python:3.11", kfp_host="http://kfp.test")
remote.set_registry_credentials({{"server": "registry.test"}})
print("remote:", remote.run().run_id)
shown = (HTML(""), Markdown(""), Metrics(a=1), Roc([0], [0], [0]), ConfusionMatrix(["a"], [[1]]))
"""


@pytest.fixture
def image(tmp_path):
    """A folder with what an image contains, and a workflow file."""
    package = Path(fftasks.__file__).parent
    for name in IN_THE_IMAGE:
        copy = shutil.copytree if (package / name).is_dir() else shutil.copy
        (tmp_path / "fftasks").mkdir(exist_ok=True)
        copy(package / name, tmp_path / "fftasks" / name)
    shutil.copytree(Path(cloudpickle.__file__).parent, tmp_path / "cloudpickle")
    (tmp_path / "wf.py").write_text(WORKFLOW)
    return tmp_path


def run_python(folder, *arguments, **environ):
    """Run Python without site-packages, in a folder that it imports from."""
    return subprocess.run(
        [sys.executable, "-S", "-E", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )


def run_node(folder, node, workflow="w", **inputs):
    document = {
        "inputs": {
            "artifacts": {
                name: {"artifacts": [{"uri": str(folder / file)}]} for name, file in inputs.items()
            }
        },
        "outputs": {
            "artifacts": {"result": {"artifacts": [{"uri": str(folder / node)}]}},
            "outputFile": str(folder / "answer.json"),
        },
    }
    options = ("--file", "wf.py", "--workflow", workflow, "--node", node)
    options += ("--executor-input", json.dumps(document))
    return run_python(folder, "-m", "fftasks.runner", *options, FFFUNCTION=node)


@pytest.mark.parametrize("workflow", ["w", "local", "remote"])
def test_a_pod_imports_a_file_with_all_public_names_and_runs_a_node(image, workflow):
    done = run_node(image, "one", workflow)

    assert done.returncode == 0, done.stdout
    assert read_artifact(image / "one") == 2
    assert "local: <not run: the graph is only being built> []" in done.stdout
    assert "remote: <not run: the graph is only being built>" in done.stdout


def test_load_fails_in_a_pod_with_a_hint(image):
    done = run_node(image, "loaded")

    assert done.returncode != 0
    assert "load() failed: it is not available in a pod" in done.stdout
    assert "wf.py:" in done.stdout
    assert "a node gets the result of another node as an argument" in done.stdout


@pytest.mark.parametrize(
    ("call", "caller"),
    [
        ('fftasks.load("total")', "load()"),
        ("wf.local.run()", "LocalWorkflow.run()"),
        ("wf.remote.run()", "KFPWorkflow.run()"),
        ('wf.storage.save("local", "x", 1)', "save()"),
    ],
)
def test_what_needs_the_rest_of_the_package_raises_a_workflow_error_there(image, call, caller):
    code = (
        "import fftasks\n"
        "from fftasks.api.workflow_graph import collecting_workflows\n"
        "from fftasks.errors import WorkflowError\n"
        "with collecting_workflows():\n    import wf\n"
        f"try:\n    {call}\nexcept WorkflowError as error:\n    print(error)\n"
    )

    done = run_python(image, "-c", code)

    assert done.returncode == 0, done.stdout
    assert f"<string>:7: {caller} failed: it is not available in a pod" in done.stdout


def test_a_missing_package_of_another_project_is_not_reported_as_a_pod(monkeypatch):
    def fail(_name):
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")

    monkeypatch.setattr(fftasks, "import_module", fail)

    with pytest.raises(ModuleNotFoundError, match="yaml"):
        fftasks.load("total")


def test_nothing_above_the_image_is_imported_to_build_a_graph(image):
    (image / "wf.py").write_text(WORKFLOW.replace("remote.run()", "remote").replace(".run_id", ""))
    code = (
        "import sys\nfrom fftasks.api.workflow_graph import collecting_workflows\n"
        "with collecting_workflows():\n    import wf\n"
        "print(sorted(m for m in sys.modules if m.startswith('fftasks.') and not "
        "m.startswith(('fftasks.api', 'fftasks.errors'))))"
    )

    assert run_python(image, "-c", code).stdout.splitlines()[-1] == "[]"
