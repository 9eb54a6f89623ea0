"""Stage components: what a container is given, and that kfp itself can use the files."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fftasks.api.names import make_slug
from fftasks.config import NodeSettings
from fftasks.errors import SettingsError, WorkflowError
from fftasks.pipeline import components, task_specs
from fftasks.pipeline.task_specs import name_kfp_task
from fftasks.records import digest_bytes, digest_json

IMAGE = "registry.test/fftasks@sha256:" + "0" * 64
TYPES = {
    str: "STRING",
    float: "NUMBER_DOUBLE",
    int: "NUMBER_INTEGER",
    bool: "BOOLEAN",
    list: "LIST",
    dict: "STRUCT",
}


class Ref(str):
    """The name of an upstream node, as an argument."""

    __slots__ = ()


def make_graph(nodes, workflow="sums", **changes):
    """Return a graph record: node name -> arguments (constants, Ref, lists of Ref)."""
    made = {name: make_node(name, arguments) | changes for name, arguments in nodes.items()}
    return {
        "stage": "graph",
        "version": 1,
        "inputs": {},
        "output": digest_json(made),
        "file": "flows/sums.py",
        "workflows": {
            workflow: {
                "slug": make_slug(workflow),
                "nodes": list(made),
                "leaves": [],
                "line": 9,
                "parameters": {},
            }
        },
        "nodes": made,
    }


def make_node(name, arguments):
    described = [make_argument(key, value) for key, value in arguments.items()]
    return {
        "name": name,
        "slug": make_slug(name),
        "line": 9,
        "kind": "function",
        "function": {
            "module": "sums",
            "qualname": "add",
            "file": "flows/sums.py",
            "line": 3,
        },
        "object": None,
        "after": None,
        "code": "sha256:0",
        "upstream": sorted({n["node"] for a in described for n in a["nodes"]}),
        "arguments": described,
        "parameters": {},
        "shows": [],
        "inputs": list_inputs(described),
    }


def list_inputs(arguments):
    """Return one input for each node that arguments use, named by the first use."""
    first = {}
    for argument in arguments:
        for use in argument["nodes"]:
            first.setdefault(use["node"], use["input"])
    return [{"input": name, "node": node, "output": "result"} for node, name in first.items()]


def make_pins(made, reference, **changes):
    """Return a pins record for a components record: one image, and a fingerprint for each task."""
    tasks = {}
    for name, task in made["tasks"].items():
        fingerprint = digest_json(task["name"])
        pin = {"reference": reference, "fingerprint": fingerprint, "cache_key": fingerprint[7:47]}
        tasks[name] = pin | changes
    return {"output": digest_json(tasks), "inputs": {}, "tasks": tasks}


def make_files(graph, workflow, image=IMAGE, settings=None, **options):
    """Return the record of the tasks, and the component files, whose descriptions are names."""
    parts = task_specs.make_tasks_record(graph, workflow, **options)
    ids = graph["workflows"][workflow]["nodes"]
    descriptions = {i: f"node {graph['nodes'][i]['name']!r}" for i in ids}
    _, files = components.make_component_files(
        parts, make_pins(parts, image), descriptions, settings or {}
    )
    return parts, files


def make_argument(name, value):
    argument = {"name": name, "digest": digest_json(str(value)), "repr": repr(value), "nodes": []}
    if isinstance(value, Ref):
        return argument | {"nodes": [{"input": name, "node": str(value)}]}
    if isinstance(value, list) and value and all(isinstance(item, Ref) for item in value):
        inputs = [{"input": f"{name}_{i}", "node": str(item)} for i, item in enumerate(value)]
        return argument | {"nodes": inputs}
    if type(value) in TYPES:
        return argument | {"type": TYPES[type(value)], "value": value}
    return argument


SUMS = {
    "load": {"path": "a.csv", "k": (1, 2)},
    "train": {"data": Ref("load"), "rate": 0.5, "depth": 3, "fast": True},
    "best": {"models": [Ref("train"), Ref("load")], "names": ["a", "b"], "options": {"x": 1}},
}


def load(text):
    return yaml.safe_load(text)


def test_each_node_gets_a_file_of_its_slug():
    graph = make_graph({"Load data": {}, "load_data_0000": {}})
    parts = task_specs.make_tasks_record(graph, "sums")

    record, files = components.make_component_files(
        parts, make_pins(parts, IMAGE), dict.fromkeys(graph["nodes"], ""), {}
    )

    assert set(files) == {f"{make_slug('Load data')}.yaml", "load-data-0000.yaml"}
    assert record["files"] == {name: digest_bytes(text.encode()) for name, text in files.items()}


def test_component_runs_the_node_in_its_image_with_its_fingerprint():
    _, files = make_files(make_graph(SUMS), "sums", IMAGE)

    document = load(files["train.yaml"])

    assert document["deploymentSpec"]["executors"]["exec-train"]["container"] == {
        "image": IMAGE,
        "command": ["python3", "/opt/fftasks/fftasks/runner/start.py", "fftasks.runner"],
        "args": [
            *("--file", "flows/sums.py", "--workflow", "sums", "--node", "train"),
            *("--executor-input", "{{$}}", "--fingerprint", digest_json("train")),
        ],
    }


def test_inputs_are_typed_by_what_is_passed():
    _, files = make_files(make_graph(SUMS), "sums", IMAGE)

    inputs = load(files["train.yaml"])["components"]["comp-train"]["inputDefinitions"]

    assert set(inputs["artifacts"]) == {"data"}
    assert inputs["parameters"] == {
        "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5, "isOptional": True},
        "depth": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3, "isOptional": True},
        "fast": {"parameterType": "BOOLEAN", "defaultValue": True, "isOptional": True},
    }


def test_constant_that_kfp_cannot_carry_is_no_input():
    _, files = make_files(make_graph(SUMS), "sums", IMAGE)

    inputs = load(files["load.yaml"])["components"]["comp-load"]["inputDefinitions"]

    assert set(inputs["parameters"]) == {"path"}


@pytest.mark.parametrize(
    "value",
    [
        "Dear {{name}}",
        "costs $$5",
        "$(HOME)/data",
        {"a": ["{{$}}"]},
        {"$$": 1},
        "\ud800",
        "nul\0",
        "x" * 3000,
        list(range(2000)),
    ],
)
def test_constant_that_would_change_on_its_way_comes_from_the_image(value):
    record, files = make_files(make_graph({"n": {"a": value}}), "sums", IMAGE)

    assert record["tasks"]["n"]["parameters"] == {}
    assert "inputDefinitions" not in load(files["n.yaml"])["components"]["comp-n"]


@pytest.mark.parametrize("value", [{"a": {"b": {"c": 1}}}, "$5", "{x}", "100%", "a\nb", "ü€😀", ""])
def test_harmless_constant_is_a_parameter(value):
    record, files = make_files(make_graph({"n": {"a": value}}), "sums", IMAGE)

    assert record["tasks"]["n"]["parameters"] == {"a": value}
    component = load(files["n.yaml"])["components"]["comp-n"]
    assert component["inputDefinitions"]["parameters"]["a"]["defaultValue"] == value


def test_container_of_nodes_gives_an_artifact_for_each():
    record, _ = make_files(make_graph(SUMS), "sums", IMAGE)

    task = record["tasks"]["best"]

    assert task["artifacts"] == {
        "models_0": {"task": "train", "output": "result"},
        "models_1": {"task": "load", "output": "result"},
    }
    assert task["upstream"] == ["load", "train"]
    assert task["parameters"] == {"names": ["a", "b"], "options": {"x": 1}}
    assert task["env"] == {"FFFUNCTION": "best"}


def make_class_graph():
    """Return the graph of an object with two calls, as a function node would not make it."""
    graph = make_graph({"box": {"start": 1}, "put": {"a": Ref("box")}, "put again": {"k": 2}})
    for name, before, output in (("put", "box", "result"), ("put again", "put", "state")):
        node = graph["nodes"][name]
        node["inputs"].insert(0, {"input": "self", "node": before, "output": output})
        node |= {"kind": "call", "upstream": ["box", before], "object": "box", "after": before}
    graph["nodes"]["box"]["kind"] = "object"
    return graph


def test_object_travels_from_call_to_call():
    record, files = make_files(make_class_graph(), "sums", IMAGE)

    assert record["tasks"]["put"]["artifacts"]["object"] == {"task": "box", "output": "result"}
    (again,) = (task for task in record["tasks"].values() if task["name"] == "put again")
    assert again["artifacts"] == {"object": {"task": "put", "output": "state"}}
    component = load(files["put.yaml"])["components"]["comp-put"]
    assert set(component["outputDefinitions"]["artifacts"]) == {"result", "state"}


def test_the_component_of_a_call_is_called_by_keyword_in_a_pipeline_of_somebody_else():
    from kfp import components, dsl

    _, files = make_files(make_class_graph(), "sums", IMAGE)
    box, put = (components.load_component_from_text(files[f"{n}.yaml"]) for n in ("box", "put"))

    @dsl.pipeline(name="theirs")
    def theirs():
        made = box().outputs["result"]
        put(object=made, a=made)

    tasks = theirs.pipeline_spec.root.dag.tasks
    assert set(tasks["put"].inputs.artifacts) == {"object", "a"}


def test_kfp_loads_the_component_of_a_call_with_its_object():
    from kfp import components

    _, files = make_files(make_class_graph(), "sums", IMAGE)

    spec = components.load_component_from_text(files["put.yaml"]).component_spec

    assert set(spec.inputs) == {"object", "a"}
    assert set(spec.outputs) == {"result", "state"}


@pytest.mark.parametrize("name", ["a {{b}}", "a $(b)", "a $$", "a \ud800", "a \0"])
def test_name_that_would_not_arrive_is_refused(name):
    with pytest.raises(WorkflowError, match="would not arrive as it is"):
        make_files(make_graph({name: {}}), "sums", IMAGE)


def test_default_of_a_parameter_that_would_not_arrive_is_refused():
    graph = make_graph({"n": {}})
    parameter = {"name": "greeting", "type": "STRING", "default": "Dear {{name}}"}
    graph["nodes"]["n"]["parameters"] = {"text": parameter}

    with pytest.raises(WorkflowError, match="cannot run on Kubeflow Pipelines") as caught:
        make_files(graph, "sums", IMAGE)

    assert "the default of parameter 'greeting' would not arrive as it is" in caught.value.found


def test_only_the_asked_workflow_is_made():
    graph = make_graph(SUMS)
    graph["nodes"]["other"] = make_node("other", {})
    graph["workflows"]["second"] = {
        "slug": "second",
        "nodes": ["other"],
        "leaves": [],
        "line": 1,
        "parameters": {},
    }

    record, _ = make_files(graph, "sums", IMAGE)

    assert set(record["tasks"]) == set(SUMS)


def test_node_named_like_the_driver_of_another_gets_its_own_task_name():
    graph = make_graph(
        {"train": {}, "train_driver": {"a": Ref("train")}, "x": {"a": Ref("train_driver")}}
    )

    record, files = make_files(graph, "sums", IMAGE)

    # Argo makes "train-driver" of the task "train"
    assert set(record["tasks"]) == {"train", "train-driver--n", "x"}
    assert record["tasks"]["x"]["artifacts"]["a"]["task"] == "train-driver--n"
    assert "train-driver.yaml" in files


@given(st.text(min_size=1).map(make_slug), st.text(min_size=1).map(make_slug))
def test_task_names_differ_where_slugs_do(one, other):
    assert (name_kfp_task(one) == name_kfp_task(other)) == (one == other)
    assert name_kfp_task(one) != f"{name_kfp_task(other)}-driver"


def test_code_edit_keeps_record_and_files():
    edited = make_graph(SUMS, line=99, code="sha256:1")

    assert make_files(edited, "sums", IMAGE) == make_files(make_graph(SUMS), "sums", IMAGE)


def test_changed_constant_changes_its_node_only():
    before, files_before = make_files(make_graph(SUMS), "sums", IMAGE)
    changed = make_graph(SUMS | {"train": SUMS["train"] | {"depth": 4}})

    after, files_after = make_files(changed, "sums", IMAGE)

    differing = {k for k in before["inputs"] if before["inputs"][k] != after["inputs"][k]}
    assert differing == {"node train"}
    assert {n for n in files_before if files_before[n] != files_after[n]} == {"train.yaml"}
    assert before["output"] != after["output"]


def test_wiring_is_part_of_the_record():
    before, _ = make_files(make_graph(SUMS), "sums", IMAGE)
    rewired = SUMS | {"best": SUMS["best"] | {"models": [Ref("load"), Ref("train")]}}

    after, _ = make_files(make_graph(rewired), "sums", IMAGE)

    assert before["output"] != after["output"]


def test_make_imports_no_kfp():
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "import tests.pipeline.test_components as t\n"
        "t.make_files(t.make_graph(t.SUMS), 'sums')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('kfp', 'kubernetes', 'requests')])"
    )
    root = Path(__file__).parents[2]

    printed = subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True)

    assert printed == "[]\n"


def test_kfp_loads_each_component_with_its_inputs(tmp_path):
    from kfp import components

    _, files = make_files(make_graph(SUMS), "sums", IMAGE)
    path = tmp_path / "best.yaml"
    path.write_text(files["best.yaml"])

    component = components.load_component_from_file(str(path))

    spec = component.component_spec
    assert component.name == "best"
    assert component.description == "node 'best'"
    assert {name: each.type for name, each in spec.inputs.items()} == {
        "models_0": "system.Artifact@0.0.1",
        "models_1": "system.Artifact@0.0.1",
        "names": "List",
        "options": "Dict",
    }
    assert {name for name, each in spec.inputs.items() if each.optional} == {"names", "options"}
    assert set(spec.outputs) == {"result"}


def test_component_serves_in_the_pipeline_of_somebody_else(tmp_path):
    from kfp import compiler, components, dsl

    _, files = make_files(make_graph(SUMS | {"n": {"_under": 1, "größe": "x"}}), "sums", IMAGE)
    loaded = {name: components.load_component_from_text(text) for name, text in files.items()}

    @dsl.container_component
    def foreign(data: dsl.Input[dsl.Artifact], made: dsl.Output[dsl.Dataset]):
        return dsl.ContainerSpec(image="i", args=[data.path, made.path])

    @dsl.pipeline(name="theirs")
    def theirs(path: str = "b.csv"):
        data = loaded["load.yaml"](path=path)
        made = foreign(data=data.outputs["result"])
        model = loaded["train.yaml"](data=made.outputs["made"], depth=5)
        model.set_cpu_limit("2").set_env_variable("MINE", "1").set_caching_options(False)
        loaded["best.yaml"](models_0=model.output, models_1=data.output)
        loaded["n.yaml"](_under=2)

    compiler.Compiler().compile(theirs, str(tmp_path / "theirs.yaml"))
    compiled = load((tmp_path / "theirs.yaml").read_text())

    task = compiled["root"]["dag"]["tasks"]["train"]["inputs"]
    assert task["parameters"]["depth"] == {"runtimeValue": {"constant": 5.0}}
    assert task["artifacts"]["data"]["taskOutputArtifact"]["producerTask"] == "foreign"
    assert compiled["deploymentSpec"]["executors"]["exec-train"]["container"]["args"][5] == "train"


def test_what_the_page_shows_is_an_output_of_its_type():
    graph = make_graph({"n": {}})
    graph["nodes"]["n"]["shows"] = ["metrics", "classification", "markdown", "html"]

    _, files = make_files(graph, "sums", IMAGE)

    outputs = load(files["n.yaml"])["components"]["comp-n"]["outputDefinitions"]["artifacts"]
    titles = {name: each["artifactType"]["schemaTitle"] for name, each in outputs.items()}
    assert titles == {
        "result": "system.Artifact",
        "metrics": "system.Metrics",
        "classification": "system.ClassificationMetrics",
        "markdown": "system.Markdown",
        "html": "system.HTML",
    }


def test_kfp_loads_a_component_with_pages():
    from kfp import components

    graph = make_graph({"n": {}})
    graph["nodes"]["n"]["shows"] = ["metrics", "html"]

    spec = components.load_component_from_text(make_files(graph, "sums", IMAGE)[1]["n.yaml"])

    assert set(spec.component_spec.outputs) == {"result", "metrics", "html"}


def test_values_are_not_shown_where_they_shall_not_or_find_no_room():
    nodes = {f"part_{i}": {} for i in range(101)}
    wide = make_graph({**nodes, "sum": {"parts": [Ref(name) for name in nodes]}})

    assert make_files(make_graph(SUMS), "sums", IMAGE)[0]["tasks"]["load"]["env"] == {
        "FFFUNCTION": "load"
    }
    hidden = make_files(make_graph(SUMS), "sums", IMAGE, preview=False)[0]["tasks"]
    assert {task["env"]["FFPREVIEW"] for task in hidden.values()} == {"type"}
    tasks = make_files(wide, "sums", IMAGE)[0]["tasks"]
    assert tasks["part-7"]["env"]["FFPREVIEW"] == "name"
    assert "FFPREVIEW" not in tasks["sum"]["env"]


def make_with(settings, **task):
    """Return the inputs of the record, and the document of a node with settings."""
    parts = task_specs.make_tasks_record(make_graph({"n": {}}), "sums")
    parts["tasks"]["n"]["env"] |= task
    given = (parts, make_pins(parts, IMAGE), {"n": "what it does"}, {"n": settings})
    record, files = components.make_component_files(*given)
    return record["inputs"], load(files["n.yaml"])


def read_container(document):
    return document["deploymentSpec"]["executors"]["exec-n"]["container"]


def test_the_environment_is_set_by_the_command_and_counts():
    plain, document = make_with(NodeSettings())
    inputs, other = make_with(NodeSettings(env={"B": "x y", "A": "1"}), FFPREVIEW="type")

    command = read_container(document)["command"]
    assert read_container(other)["command"] == ["env", "A=1", "B=x y", "FFPREVIEW=type", *command]
    assert "env" not in read_container(other)
    assert inputs.keys() - plain.keys() == {"settings of n"}


def test_an_environment_that_would_not_arrive_is_refused():
    with pytest.raises(SettingsError, match="env of node 'n' would not arrive as it is"):
        make_with(NodeSettings(env={"A": "$(HOME)"}))


@pytest.mark.parametrize(("cache", "options"), [(True, {"enableCache": True}), (False, {})])
def test_a_node_that_is_never_cached_says_so(cache, options):
    inputs, document = make_with(NodeSettings(cache=cache))

    assert document["root"]["dag"]["tasks"]["n"]["cachingOptions"] == options
    assert ("settings of n" in inputs) is not cache


def test_a_file_shows_the_name_of_its_node_and_what_it_does():
    from kfp import components as sdk

    graph = make_graph({"Add all": {}})
    parts = task_specs.make_tasks_record(graph, "sums")
    said = "Add.\n\nAll of them.\n    indented"
    _, files = components.make_component_files(
        parts, make_pins(parts, IMAGE), {"Add all": said}, {}
    )
    (text,) = files.values()

    assert load(text)["pipelineInfo"] == {
        "name": make_slug("Add all"),
        "displayName": "Add all",
        "description": said,
    }
    assert sdk.load_component_from_text(text).description == said


def test_another_description_changes_the_file_and_not_what_runs():
    parts = task_specs.make_tasks_record(make_graph({"n": {}}), "sums")
    made = [
        components.make_component_files(parts, make_pins(parts, IMAGE), {"n": said}, {})
        for said in ("a", "b")
    ]

    documents = [load(files["n.yaml"]) for _, files in made]
    assert made[0][0]["files"] != made[1][0]["files"]
    assert [one.pop("pipelineInfo")["description"] for one in documents] == ["a", "b"]
    assert documents[0] == documents[1]
