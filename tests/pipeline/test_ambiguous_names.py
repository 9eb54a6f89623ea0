"""Pipelines whose names KFP's SDK would confuse can be loaded, and put into other pipelines."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftasks.config import NodeSettings
from fftasks.pipeline import compiler, task_specs
from fftasks.pipeline.ir_yaml import parse_documents
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_compiler import REFERENCE
from tests.pipeline.test_components import Ref, make_files, make_graph, make_pins

NAMES = ["a", "a_2", "a_3", "a_10", "a_2_2", "a_0002", "train", "b"]


def compile_ours(workflow, names, chosen=None):
    """Return the YAML of a chain of nodes."""
    nodes = {
        name: {"data": Ref(before)} if before else {}
        for before, name in zip(["", *names], names, strict=False)
    }
    parts = task_specs.make_tasks_record(make_graph(nodes, workflow), workflow)
    options = compiler.CompileOptions(caching=True, version="0", settings=chosen or {})
    return compiler.compile_pipeline(parts, make_pins(parts, REFERENCE), options)[1]


def compile_around(text, others, folder):
    """Return what the SDK compiles of a pipeline with single components, and ours twice."""
    from kfp import compiler, components, dsl

    ours = components.load_component_from_text(text)

    @dsl.pipeline(name="around")
    def around():
        for other in others:
            components.load_component_from_text(other)()
        ours()
        ours()

    compiler.Compiler().compile(around, str(folder / "around.yaml"))
    return parse_documents((folder / "around.yaml").read_text())


def list_nodes(document, component):
    """Return the node that each task below a component runs, by the name of the task."""
    executors = document["deploymentSpec"]["executors"]
    found = {}
    for name, task in component["dag"]["tasks"].items():
        inner = document["components"][task["componentRef"]["name"]]
        if "dag" in inner:
            found[name] = list_nodes(document, inner)
        else:
            args = executors[inner["executorLabel"]]["container"]["args"]
            found[name] = args[args.index("--node") + 1]
    return found


@given(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True),
    st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_pipeline_can_be_put_into_another_one(tmp_path, workflow, names, others):
    text = compile_ours(workflow, names)
    files = [
        make_files(make_graph({other: {}}), "sums")[1][f"{slug(other)}.yaml"] for other in others
    ]

    document, _ = compile_around(text, files, tmp_path)

    found = list_nodes(document, document["root"])
    expected = {slug(name): name for name in names}
    nested = [one for one in found.values() if isinstance(one, dict)]
    assert nested == [expected, expected]
    assert sorted(one for one in found.values() if isinstance(one, str)) == sorted(others)


def slug(name):
    return name.replace("_", "-")


@pytest.mark.parametrize("workflow", ["train", "load", "sums"])
def test_a_workflow_with_a_node_of_its_name_is_loaded_as_a_pipeline(workflow):
    from kfp import components

    text = compile_ours(workflow, ["load", "train"])

    loaded = components.load_component_from_text(text)

    assert loaded.component_spec.implementation.graph is not None
    assert set(loaded.pipeline_spec.root.dag.tasks) == {"load", "train"}
    assert not loaded.component_spec.inputs


def test_settings_for_kubernetes_go_with_their_executor(tmp_path):
    chosen = {"a_2": NodeSettings(labels={"team": "a"}), "a": NodeSettings(labels={"team": "b"})}
    text = compile_ours("a", ["a", "a_2"], chosen)

    document, platform = compile_around(text, [], tmp_path)

    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    teams = {label: one["podMetadata"]["labels"]["team"] for label, one in executors.items()}
    containers = document["deploymentSpec"]["executors"]
    nodes = {label: one["container"]["args"][5] for label, one in containers.items()}
    assert nodes.keys() == teams.keys()
    assert {(nodes[label], teams[label]) for label in nodes} == {("a", "b"), ("a_2", "a")}


def test_other_names_are_as_they_were():
    document = parse_document(compile_ours("sums", ["a", "a_0002", "load_3"]))

    assert set(document["components"]) == {"comp-a", "comp-a-0002", "comp-load-3"}
    assert set(document["deploymentSpec"]["executors"]) == {"exec-a", "exec-a-0002", "exec-load-3"}
