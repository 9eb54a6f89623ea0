"""Our component files in pipelines that KFP's SDK compiles, run in containers of a real engine."""

import subprocess
import sys

import pytest
import yaml

from fftasks.records import read_record
from tests.programs.test_submit import connect, find_result
from tests.sample import Sample

WORKFLOW = '''"""Numbers, and what becomes of them."""
from pathlib import Path

from fftasks import Workflow, workflow


@workflow
def add(x):
    """Add one.

    The rest of the docstring.
    """
    return x + 1


@workflow
def double(x):
    return 2 * x


@workflow
def read(table: Path, text: str, anything, numbers: list[int], folder: Path):
    names = sorted(path.name for path in folder.iterdir())
    return [table.read_text(), text, anything, numbers, names]


@workflow
def show(x):
    import os
    return [x, os.environ.get("ALPHA", ""), os.environ.get("FFPREVIEW", "")]


added = add(2).set_name("add")
doubled = double(added).set_name("double")
told = read(added, added, doubled, doubled, added).set_name("read")
Workflow(told, show(doubled).set_name("show"), name="numbers")
'''


@pytest.fixture
def sample(tmp_path, registry, kfp_cluster, base_image, monkeypatch):
    project = Sample.make(tmp_path / "ours", WORKFLOW)
    connect(project, registry, kfp_cluster, base_image, monkeypatch)
    return project


def run_theirs(sample, server, body, folder):
    """Compile a pipeline around our component files in a process of its own, and run it."""
    folder.mkdir(exist_ok=True)
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    script = f"""
import sys
from kfp import compiler, components, dsl

def load(name):
    return components.load_component_from_file(
        {str(sample.root / ".fftasks/components/numbers")!r} + f"/{{name}}.yaml"
    )

IMAGE = {read_record(sample.root / ".fftasks/push.json")["reference"]!r}

@dsl.container_component
def write(text: str, made: dsl.Output[dsl.Dataset]):
    code = "import sys; open(sys.argv[2], 'w').write(sys.argv[1])"
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", code], args=[text, made.path])

@dsl.container_component
def fill(made: dsl.Output[dsl.Model]):
    code = (
        "import os, sys; os.makedirs(sys.argv[1]); "
        "[open(sys.argv[1] + '/' + name, 'w').close() for name in ('b', 'a')]"
    )
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "-c", code], args=[made.path])

@dsl.pipeline(name="theirs")
def theirs():
{indented}

compiler.Compiler().compile(theirs, "theirs.yaml")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=folder, check=True)
    client = server.connect()
    made = client.create_run_from_pipeline_package(str(folder / "theirs.yaml"), enable_caching=True)
    return server.wait(made.run_id)


def list_logs(run):
    return [(name, task.error, task.log) for name, task in run.tasks.items()]


BOTH = "made = load('add')()\nload('double')(x=made.outputs['result'])"


def test_an_edit_reaches_other_pipelines_with_the_new_file_and_leaves_the_old_one(
    sample, kfp_cluster, cluster, tmp_path
):
    sample.doit("components")
    first = run_theirs(sample, kfp_cluster, BOTH, tmp_path / "old")
    again = run_theirs(sample, kfp_cluster, BOTH, tmp_path / "old")
    assert first.state == again.state == "SUCCEEDED", list_logs(first)
    assert [task.is_cached for task in again.tasks.values()] == [True, True]
    assert find_result(cluster, first, "double") == 6

    sample.edit("wf.py", "x + 1", "x + 100")
    sample.doit("push")
    old = run_theirs(sample, kfp_cluster, BOTH, tmp_path / "old")
    output = sample.doit("components")
    new = run_theirs(sample, kfp_cluster, BOTH, tmp_path / "new")

    assert [task.is_cached for task in old.tasks.values()] == [True, True]
    assert "components:numbers" in output
    assert new.state == "SUCCEEDED", list_logs(new)
    assert find_result(cluster, new, "add") == 102
    assert find_result(cluster, new, "double") == 204


def test_a_comment_or_a_docstring_changes_neither_images_nor_arguments(sample):
    sample.doit("components")
    folder = sample.root / ".fftasks" / "components" / "numbers"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    containers = {name: read_container(text) for name, text in before.items()}
    assert "# Description: Add one.\n#              \n#              The rest" in before["add.yaml"]

    sample.edit("wf.py", "Add one.", "Add just one.")
    sample.edit("wf.py", "Numbers, and", "Some numbers, and")
    sample.doit("components")

    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name: read_container(text) for name, text in after.items()} == containers
    assert [name for name in after if after[name] != before[name]] == ["add.yaml"]
    assert "# Description: Add just one." in after["add.yaml"]
    assert "components:numbers  up to date" in sample.doit("components")


def test_a_docstring_changes_what_a_pipeline_says_and_starts_no_run(sample, kfp_cluster):
    sample.write("wf.py", WORKFLOW.replace("Workflow(told, ", "Workflow("))
    sample.doit("run")
    sample.doit("submit")
    path = sample.root / ".fftasks" / "pipeline" / "numbers.yaml"
    info = yaml.safe_load(path.read_text())["pipelineInfo"]
    assert info["description"] == "Numbers, and what becomes of them."
    assert info["displayName"] == "numbers"
    kfp_cluster.wait(kfp_cluster.runs[0].run_id)

    sample.edit("wf.py", "Numbers, and", "Some numbers, and")
    sample.edit("wf.py", "Add one.", "Add just one.")

    assert sample.ran("run") == []
    sample.doit("submit")
    assert "Some numbers" in yaml.safe_load(path.read_text())["pipelineInfo"]["description"]
    assert len(kfp_cluster.runs) == 1
    sample.edit("wf.py", "x + 1", "x + 100")
    assert sample.ran("run") == ["add", "double", "show"]


def read_container(text):
    (executor,) = yaml.safe_load(text)["deploymentSpec"]["executors"].values()
    return executor["container"]


def test_there_is_a_file_for_each_node_also_where_nodes_share_a_pod(sample, kfp_cluster):
    output = sample.doit("submit", "components", FFTASKS_KFP__FUSE="chains")

    assert "fused from 4 nodes" in output
    folder = sample.root / ".fftasks" / "components" / "numbers"
    assert {path.stem for path in folder.iterdir()} == {"add", "double", "read", "show"}
    alone = {path.name: path.read_text() for path in folder.iterdir()}
    sample.doit("components", FFTASKS_KFP__FUSE="none")
    assert {path.name: path.read_text() for path in folder.iterdir()} == alone


FOREIGN = """
text = write(text="a,b\\n1,2\\n")
numbers = write(text="[1, 2]")
told = load("read")(
    table=text.outputs["made"], text=numbers.outputs["made"],
    anything=load("add")().outputs["result"], numbers=write(text="[3]").outputs["made"],
    folder=fill().outputs["made"],
)
load("double")(x=write(text="21").outputs["made"])
"""
NAMED = WORKFLOW.replace(
    "told = read(added, added, doubled, doubled, added)",
    "inputs = [add(i).set_name(f'input {i}') for i in range(5)]\ntold = read(*inputs)",
)


def test_files_and_folders_of_other_components_are_what_annotations_say(
    sample, kfp_cluster, cluster, tmp_path
):
    sample.write("wf.py", NAMED)
    sample.doit("components")

    run = run_theirs(sample, kfp_cluster, FOREIGN, tmp_path / "theirs")

    assert run.state == "SUCCEEDED", list_logs(run)
    assert find_result(cluster, run, "read") == ["a,b\n1,2\n", "[1, 2]", 3, [3], ["a", "b"]]
    assert find_result(cluster, run, "double") == 42


def test_a_file_that_is_not_what_the_annotation_says_fails_with_the_options(
    sample, kfp_cluster, tmp_path
):
    sample.write("wf.py", NAMED)
    sample.doit("components")
    body = FOREIGN.replace('"[3]"', '"three"')

    run = run_theirs(sample, kfp_cluster, body, tmp_path / "theirs")

    assert run.state == "FAILED"
    log = run.tasks["read"].log
    assert "read: cannot convert the file of input 'numbers' to the type" in log
    assert "a file of 5 bytes that begins with b'three'" in log
    assert "annotate it as pathlib.Path, str, bytes" in log


def test_the_environment_of_a_node_goes_with_its_file(sample, kfp_cluster, cluster, tmp_path):
    path = sample.root / "config" / "default.yaml"
    path.write_text(
        path.read_text() + "  preview: false\nnodes:\n  show: {env: {ALPHA: 'a b'}, retries: 1}\n"
    )
    sample.doit("components")

    run = run_theirs(
        sample, kfp_cluster, "load('show')(x=write(text='1').outputs['made'])", tmp_path / "theirs"
    )

    assert run.state == "SUCCEEDED", list_logs(run)
    assert find_result(cluster, run, "show") == [1, "a b", "type"]
    assert "preview" not in run.tasks["show"].outputs["artifacts"]["result"].metadata


def test_without_a_registry_it_says_why_a_component_needs_one_and_what_to_set(
    tmp_path, base_image, monkeypatch
):
    sample = Sample.make(tmp_path, WORKFLOW)
    sample.write("config/default.yaml", f"workflows: [wf.py]\nimage:\n  base: {base_image}\n")

    output = sample.doit("components", code=1)

    assert "a component file names its image by the digest that a registry gives it" in output
    assert "registry.server is not set" in output
    assert "hint: set registry.server" in output
    assert not (tmp_path / ".fftasks" / "components").exists()
    sample.doit("image")
    output = sample.doit("components", code=1)
    assert "a component file names its image by the digest that a registry gives it" in output


def test_a_file_whose_image_has_gone_names_another(sample, registry, kfp_cluster):
    sample.doit("components")
    folder = sample.root / ".fftasks" / "components" / "numbers"
    before = {read_container(path.read_text())["image"] for path in folder.iterdir()}
    for image in before:  # images of other projects among them, as they share the repository
        repository, _, digest = image.partition("/")[2].partition("@")
        registry.delete(repository, digest)
    sample.edit("wf.py", "x + 1", "x + 100")

    sample.doit("components")

    after = {read_container(path.read_text())["image"] for path in folder.iterdir()}
    assert after
    assert not after & before
