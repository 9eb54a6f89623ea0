"""Stage pipeline: the document is what kfp's own compiler makes of the same pipeline."""

import time
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftasks.config.node_settings import NodeSettings
from fftasks.errors import SettingsError, ToolError, WorkflowError
from fftasks.kfp.limits import ClusterLimits, get_cluster_limits
from fftasks.pipeline import task_specs
from fftasks.pipeline.compiler import CompileOptions, compile_pipeline
from fftasks.pipeline.ir_yaml import parse_documents
from fftasks.records import digest_bytes, digest_json
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_components import SUMS, Ref, make_files, make_graph, make_pins

REFERENCE = f"registry.test/fftasks@sha256:{'0' * 64}"
VARIED = SUMS | {
    "circles, Nearest Neighbors-model": {
        "a": Ref("best"),
        "s": "",
        "e": [],
        "d": {},
        "f": -0.0,
        "i": 2**53,
    },
    "a/b/../ü": {
        "a": Ref("circles, Nearest Neighbors-model"),
        "b": Ref("load"),
        "n": -1,
        "t": False,
    },
    "train_driver": {"_x": Ref("train")},
}


def build(nodes, *, caching=True, cluster=None, workflow="sums", reference=REFERENCE):
    made, files = make_files(make_graph(nodes, workflow), workflow, reference)
    pins = make_pins(made, reference)
    record, text = compile_pipeline(
        made,
        pins,
        CompileOptions(caching=caching, version="0.1.0", cluster=cluster or ClusterLimits()),
    )
    return record, text, files


def read_message(document):
    from kfp.pipeline_spec import pipeline_spec_pb2

    return json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())


def compile_with_kfp(nodes, files, folder: Path, *, caching=True):
    """Return what kfp compiles of the same nodes, each loaded from its component file."""
    from kfp import compiler, dsl
    from kfp.components import load_component_from_text

    from fftasks.api.names import make_slug

    def flow():
        tasks = {}
        for name, arguments in nodes.items():
            given = {}
            for key, value in arguments.items():
                many = isinstance(value, list) and value and isinstance(value[0], Ref)
                refs = {f"{key}_{i}": r for i, r in enumerate(value)} if many else {}
                refs |= {key: value} if isinstance(value, Ref) else {}
                given |= {k: tasks[r].outputs["result"] for k, r in refs.items()}
                if not refs and not isinstance(value, tuple):
                    given[key] = value
            task = load_component_from_text(files[f"{make_slug(name)}.yaml"])(**given)
            task.set_env_variable("FFFUNCTION", name)
            task.set_display_name(name).set_caching_options(caching)
            if caching:
                task.set_caching_options(True, cache_key=digest_json(name)[7:47])
            tasks[name] = task

    path = folder / "theirs.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="sums", display_name="sums")(flow), str(path))
    return parse_document(path.read_text())


def rename_drivers(document):
    """Undo the one name that kfp would choose otherwise; see name_task."""
    import json

    return json.loads(json.dumps(document).replace("-driver--n", "-driver"))


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("nodes", [{"one": {}}, SUMS, VARIED], ids=["one", "sums", "varied"])
def test_document_is_what_kfp_compiles(nodes, caching, tmp_path):
    _, text, files = build(nodes, caching=caching)
    theirs = compile_with_kfp(nodes, files, tmp_path, caching=caching)

    ours = rename_drivers(parse_document(text)) | {"sdkVersion": theirs["sdkVersion"]}

    assert read_message(ours) == read_message(theirs)


@st.composite
def graphs(draw):
    """Draw chains, fan-ins, diamonds and what lies between, with constants."""
    count = draw(st.integers(1, 6))
    constants = st.one_of(
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).filter(
            lambda t: "$" not in t
        ),
        st.lists(st.integers(0, 9), max_size=3),
    )
    nodes = {}
    for i in range(count):
        parents = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        values = draw(st.dictionaries(st.sampled_from("xyz"), constants, max_size=3))
        nodes[f"node_{i}"] = {f"in_{p}": Ref(f"node_{p}") for p in sorted(parents)} | values
    return nodes


@given(graphs())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_graph_is_what_kfp_compiles(tmp_path, nodes):
    _, text, files = build(nodes)
    theirs = compile_with_kfp(nodes, files, tmp_path)

    ours = parse_document(text) | {"sdkVersion": theirs["sdkVersion"]}

    assert read_message(ours) == read_message(theirs)


def test_kfp_loads_the_pipeline(tmp_path):
    from kfp.components import load_component_from_file

    path = tmp_path / "sums.yaml"
    path.write_text(build(VARIED)[1], encoding="utf-8")

    loaded = load_component_from_file(str(path))

    assert loaded.name == "sums"
    assert loaded.description == "workflow 'sums', made by fftasks"
    assert len(loaded.pipeline_spec.components) == len(VARIED)


def test_each_task_has_an_executor_of_its_own_with_image_by_digest():
    document = parse_document(build(VARIED)[1])

    containers = [e["container"] for e in document["deploymentSpec"]["executors"].values()]

    assert len(containers) == len(VARIED)
    assert {c["image"] for c in containers} == {REFERENCE}
    assert {c["env"][0]["value"] for c in containers} == set(VARIED)
    assert all(c["env"] == [{"name": "FFFUNCTION", "value": c["args"][5]}] for c in containers)


def test_nodes_that_differ_only_in_name_have_different_arguments():
    # KFP's cache key holds args, and not env (kubeflow/pipelines 14339)
    document = parse_document(build({"one": {"a": 1}, "two": {"a": 1}})[1])

    one, two = (e["container"] for e in document["deploymentSpec"]["executors"].values())

    assert (one["image"], one["command"]) == (two["image"], two["command"])
    assert one["args"] != two["args"]


def test_constants_are_passed_explicitly():
    document = parse_document(build(SUMS)[1])

    parameters = document["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]

    values = {name: each["runtimeValue"]["constant"] for name, each in parameters.items()}
    assert values == {"rate": 0.5, "depth": 3, "fast": True}


def test_tasks_are_shown_by_their_own_names():
    tasks = parse_document(build(VARIED)[1])["root"]["dag"]["tasks"]

    assert {task["taskInfo"]["name"] for task in tasks.values()} == set(VARIED)


def test_a_setting_that_would_not_arrive_is_refused_with_its_place():
    made = task_specs.make_tasks_record(make_graph(SUMS), "sums")
    node = NodeSettings(env={"MODE": "$(HOME)"}, origins={"env.MODE": "config/default.yaml:6"})
    options = CompileOptions(
        caching=True, version="0", settings={made["tasks"]["load"]["nodes"][0]: node}
    )

    with pytest.raises(SettingsError, match="env of node 'load' would not arrive") as caught:
        compile_pipeline(made, make_pins(made, REFERENCE), options)

    assert caught.value.found[0] == "config/default.yaml:6"


def test_old_backend_finds_tasks_by_the_name_that_is_shown():
    tasks = parse_document(build(VARIED, cluster=ClusterLimits(display_names=False))[1])["root"][
        "dag"
    ]["tasks"]

    assert all(task["taskInfo"]["name"] == name for name, task in tasks.items())


@pytest.mark.parametrize(
    ("pin", "caching", "args"),
    [
        ({}, {"enableCache": True, "cacheKey": digest_json("train")[7:47]}, True),
        ({"cache_key": ""}, {"enableCache": True}, True),  # a run parameter reaches it
        ({"fingerprint": "", "cache_key": ""}, {}, False),  # never the same twice
    ],
)
def test_a_key_of_its_own_only_where_it_decides_alone(pin, caching, args):
    made = task_specs.make_tasks_record(make_graph(SUMS), "sums")

    _, text = compile_pipeline(
        made, make_pins(made, REFERENCE, **pin), CompileOptions(caching=True, version="0")
    )

    document = parse_document(text)
    options = document["root"]["dag"]["tasks"]["train"]["cachingOptions"]
    container = document["deploymentSpec"]["executors"]["exec-train"]["container"]
    if "cacheKey" in caching:
        caching = caching | {"cacheKey": make_pins(made, "")["tasks"]["train"]["cache_key"]}
    assert options == caching
    assert ("--fingerprint" in container["args"]) == args


def test_caching_off_reaches_every_task():
    tasks = parse_document(build(SUMS, caching=False)[1])["root"]["dag"]["tasks"]

    assert [task["cachingOptions"] for task in tasks.values()] == [{}] * 3


def test_workflow_of_any_name_has_a_pipeline_name_that_the_server_takes():
    document = parse_document(build(SUMS, workflow="My Flow/1")[1])

    assert document["pipelineInfo"]["name"].startswith("my-flow-1-")


def test_same_input_same_bytes():
    assert build(VARIED)[:2] == build(VARIED)[:2]


def test_order_of_nodes_does_not_matter():
    reordered = {name: SUMS[name] for name in ("load", "train", "best")}

    assert build(SUMS)[1] == build(reordered)[1]


def test_inserted_node_moves_nothing():
    before = build(SUMS)[1].splitlines()
    after = build({"early": {}} | SUMS)[1].splitlines()

    lines = iter(after)
    assert all(line in lines for line in before)  # before is after with some lines left out


def test_record_says_what_decides():
    record, text, _ = build(SUMS)

    assert record["file"] == digest_bytes(text.encode())
    other, changed, _ = build(SUMS, reference=REFERENCE[:-1] + "1")
    assert {k for k in record["inputs"] if record["inputs"][k] != other["inputs"][k]} == {"pins"}
    assert text != changed


def build_described(description, workflow="sums"):
    made = task_specs.make_tasks_record(make_graph(SUMS, workflow), workflow)
    options = CompileOptions(caching=True, version="0", description=description)
    return compile_pipeline(made, make_pins(made, REFERENCE), options)


def test_a_pipeline_says_what_it_is_for_as_the_sdk_reads_it():
    from kfp.components import load_component_from_text

    said = "Sum numbers.\n\nAll of {{them}}, for $(5); \x07 and \ud800 is said as a blank."

    _, text = build_described(said, workflow="All sums")

    info = parse_document(text)["pipelineInfo"]
    assert info["displayName"] == "All sums"
    assert info["description"] == said.replace("\x07", " ").replace("\ud800", " ")
    loaded = load_component_from_text(text)
    assert loaded.description == f"{info['description']}\n\nworkflow 'All sums', made by fftasks"
    read_message(parse_document(text))


def test_what_a_pipeline_says_has_the_length_that_kfp_takes():
    info = parse_document(build_described("x" * 5000, workflow="w" * 2000)[1])["pipelineInfo"]

    assert (len(info["description"]), len(info["displayName"])) == (1024, 1024)


def test_what_a_pipeline_says_is_in_its_file_and_starts_no_run():
    (before, text), (after, other) = build_described("this"), build_described("that")

    assert text != other
    assert before["output"] == after["output"]
    assert before["file"] != after["file"]
    assert {k for k in before["inputs"] if before["inputs"][k] != after["inputs"][k]} == {
        "description"
    }


def test_image_by_tag_is_refused():
    with pytest.raises(ToolError, match="not named by its digest"):
        build(SUMS, reference="registry.test/fftasks:latest")


LONG = "a_name_of_a_node_that_says_a_lot_about_what_it_does"
ROOMY = ClusterLimits(object_bytes=10**9)


def fan_in(count):
    nodes = {f"part_{i}": {"i": i} for i in range(count)}
    return nodes | {"sum": {"parts": [Ref(name) for name in nodes]}}


def chain(count):
    return {f"n{i}": {"x": Ref(f"n{i - 1}"), "y": i} if i else {"y": 0} for i in range(count)}


def test_a_graph_of_as_many_tasks_as_were_seen_to_run_is_accepted():
    # 200 tasks ran on a real KFP 2.17.0, and filled 99.3 % of Argo's workflow object. The digests of inputs,
    # which they did not have, take 5 % of it.
    record, text, _ = build(chain(190))

    assert record["file"] == digest_bytes(text.encode())
    assert build(fan_in(130))[1]
    assert build(fan_in(230), cluster=ROOMY)[1]


def test_more_tasks_than_the_workflow_object_has_room_for_are_refused_with_the_numbers():
    # 299 tasks were accepted by a real KFP 2.17.0, and failed after 6 minutes
    with pytest.raises(WorkflowError, match="too large for Kubeflow Pipelines") as caught:
        build(chain(299))

    message = str(caught.value)
    assert "299 tasks take about 1,6" in message
    assert "which may have 1,048,576 (about 19" in message
    assert "kfp.fuse" in message


def test_a_task_with_many_inputs_leaves_less_room():
    # on a real KFP 2.17.0, the last task of these made the object larger than 1 MiB
    steps = {f"step{i}": {"x": Ref("start"), "i": i} for i in range(168)}
    nodes = {"start": {}, **steps, "gather": {"xs": [Ref(name) for name in steps]}}

    with pytest.raises(WorkflowError, match="170 tasks take about 1,2"):
        build(nodes)
    assert build(dict(list(nodes.items())[:-1]))[1]


def test_releases_without_steps_for_retries_have_room_for_more_tasks():
    assert build(chain(240), cluster=get_cluster_limits("2.16.1"))[1]
    with pytest.raises(WorkflowError):
        build(chain(240), cluster=get_cluster_limits("2.17"))
    with pytest.raises(WorkflowError):
        build(chain(300), cluster=get_cluster_limits("2.14.0"))


@pytest.mark.parametrize(
    "grow",
    [
        lambda i: {f"n{i}": {"y": "k" * 500}},
        lambda i: {f"n{i}": {"xs": [Ref(f"n{k}") for k in range(max(i - 5, 0), i)]}},
        lambda i: {f"{LONG}_{i}": {"x": Ref(f"{LONG}_{i - 1}")} if i else {}},
    ],
    ids=["long constants", "many inputs", "long names"],
)
def test_what_makes_tasks_larger_leaves_room_for_fewer(grow):
    nodes = {name: arguments for i in range(198) for name, arguments in grow(i).items()}

    with pytest.raises(WorkflowError, match="too large for Kubeflow Pipelines"):
        build(nodes)


def test_too_many_inputs_are_refused_with_the_numbers():
    with pytest.raises(WorkflowError) as caught:
        build(fan_in(231), cluster=ROOMY)

    assert "node 'sum' has 231 inputs; a task takes about 230" in str(caught.value)


def test_too_long_constants_are_refused_with_the_numbers():
    with pytest.raises(WorkflowError) as caught:
        build({"n": {f"a{i}": "x" * 2000 for i in range(66)}})

    assert "node 'n': 0 inputs and 66 constants take" in str(caught.value)


def test_too_many_edges_are_refused_with_the_numbers():
    nodes = {f"node_{i}": {"a": [Ref(f"node_{k}") for k in range(i)]} for i in range(60)}

    with pytest.raises(WorkflowError) as caught:
        build(nodes)

    assert "its nodes and edges take" in str(caught.value)
    assert "131072" in str(caught.value)


def test_time_is_linear_in_nodes():
    def measure(count):
        nodes = {f"node_{i}": {"a": Ref(f"node_{i - 1}")} if i else {} for i in range(count)}
        begin = time.process_time()
        build(nodes, cluster=ClusterLimits(object_bytes=10**9, argument_bytes=10**9))
        return time.process_time() - begin

    measure(10)  # imports

    assert measure(1600) < 8 * measure(400)


def make_parameter_graph():
    """Return a graph with a parameter that reaches two nodes, one of them inside a list."""
    graph = make_graph({"one": {"k": 1}, "two": {"a": Ref("one")}})
    alpha = {"type": "NUMBER_DOUBLE", "default": 0.1}
    graph["nodes"]["one"]["parameters"] = {"rate": alpha | {"name": "alpha"}}
    graph["nodes"]["two"]["parameters"] = {"alpha": alpha | {"name": "alpha"}}
    graph["workflows"]["sums"]["parameters"] = {"alpha": alpha | {"help": "learning rate"}}
    return graph


def test_run_parameters_are_parameters_of_the_pipeline_as_kfp_compiles_them(tmp_path):
    from kfp import compiler, dsl
    from kfp.components import load_component_from_text

    made, files = make_files(make_parameter_graph(), "sums", REFERENCE)

    def flow(alpha: float = 0.1):
        tasks = {name: load_component_from_text(files[f"{name}.yaml"]) for name in ("one", "two")}
        one = tasks["one"](rate=alpha, k=1)
        two = tasks["two"](alpha=alpha, a=one.outputs["result"])
        one.set_env_variable("FFFUNCTION", "one")
        two.set_env_variable("FFFUNCTION", "two")

    flow.__doc__ = "Flow.\n\n    Args:\n        alpha: learning rate\n    "
    path = tmp_path / "theirs.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="sums", display_name="sums")(flow), str(path))
    theirs = parse_document(path.read_text())
    pins = make_pins(made, REFERENCE, cache_key="")
    ours = parse_document(
        compile_pipeline(made, pins, CompileOptions(caching=True, version="0"))[1]
    )

    theirs["pipelineInfo"].pop("description", None)
    assert ours["root"]["inputDefinitions"]["parameters"]["alpha"]["description"] == "learning rate"
    assert read_message(ours | {"sdkVersion": ""}) == read_message(theirs | {"sdkVersion": ""})


def test_changed_default_of_a_parameter_changes_the_record():
    graph = make_parameter_graph()
    before = task_specs.make_tasks_record(graph, "sums")
    graph["workflows"]["sums"]["parameters"]["alpha"]["default"] = 0.2

    after = task_specs.make_tasks_record(graph, "sums")

    changed = {k for k in before["inputs"] if before["inputs"][k] != after["inputs"][k]}
    assert changed == {"parameter alpha"}
    assert before["output"] != after["output"]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"shared_memory": "1Gi", "empty_dirs": {"/dev/shm": "memory"}}, "empty_dirs./dev/shm"),
        ({"volumes": {"/data": "claim"}, "secret_files": {"/data/": "db"}}, "volumes./data"),
        ({"config_map_files": {"/a//b": "app"}, "empty_dirs": {"/a/b": "1Gi"}}, "empty_dirs./a/b"),
    ],
)
def test_two_settings_that_mount_at_the_same_folder_are_refused(chosen, found):
    made = task_specs.make_tasks_record(make_graph(SUMS), "sums")
    node = made["tasks"]["load"]["nodes"][0]
    origins = {found: "config/default.yaml:7"}
    settings = {node: NodeSettings(**chosen, origins=origins)}

    with pytest.raises(SettingsError, match="mount the same folder") as caught:
        compile_pipeline(made, make_pins(made, REFERENCE), CompileOptions(True, "0", settings))

    assert found in str(caught.value)
    assert "config/default.yaml:7" in str(caught.value)


def test_folders_below_each_other_and_shared_memory_are_accepted():
    made = task_specs.make_tasks_record(make_graph(SUMS), "sums")
    chosen = NodeSettings(
        shared_memory="1Gi", empty_dirs={"/a/b": "1Gi"}, volumes={"/a": "claim", "/a/bc": "claim/d"}
    )
    settings = {made["tasks"]["load"]["nodes"][0]: chosen}

    _, text = compile_pipeline(
        made, make_pins(made, REFERENCE), CompileOptions(True, "0", settings)
    )

    executor = parse_documents(text)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounts = executor["exec-load"]["emptyDirMounts"]
    assert {m["mountPath"]: m.get("medium") for m in mounts} == {"/a/b": None, "/dev/shm": "Memory"}
