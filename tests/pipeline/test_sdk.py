"""Both documents are what kfp's own SDK compiles of the same pipeline: container components, compiled."""

import itertools

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftasks.config import NodeSettings
from fftasks.pipeline import compiler, task_specs
from fftasks.pipeline.ir_yaml import parse_documents
from tests.pipeline.sdk_compiler import compile_pipeline
from tests.pipeline.test_compiler import REFERENCE, read_message
from tests.pipeline.test_components import Ref, make_graph, make_pins

EVERYTHING = NodeSettings(
    cpu="500m",
    cpu_limit="2",
    memory="512Mi",
    memory_limit="2G",
    gpu=2,
    gpu_type="amd.com/gpu",
    retries=3,
    retry_wait_s=10,
    retry_factor=1.5,
    retry_max_wait_s=600,
    timeout_s=60,
    pod_retries=4,
    env={"ALPHA": "1", "ZETA": "x: y"},
    secret_env={"PASSWORD": "db/password", "USER": "db/user", "KEY": "api/key"},
    secret_files={"/etc/db": "db"},
    config_map_env={"LEVEL": "app/level"},
    config_map_files={"/etc/app": "app"},
    volumes={"/data": "claim", "/more": "claim/folder"},
    empty_dirs={"/scratch": "10Gi", "/fast": "memory 1Gi", "/ram": "memory"},
    shared_memory="8Gi",
    node_selector={"disk": "ssd", "zone": "a"},
    node_affinity=("disk=ssd",),
    tolerations=("gpu=true:NoSchedule",),
    labels={"team": "a"},
    annotations={"note": "b: c"},
    pull_policy="Always",
    pull_secrets=("regcred", "other"),
    cache=False,
    display_name="shown so",
)


def make_both(graph, folder, chosen=None, *, caching=True):
    """Return our two documents and the SDK's."""
    made = task_specs.make_tasks_record(graph, "sums")
    pins = make_pins(made, REFERENCE)
    _, text = compiler.compile_pipeline(
        made, pins, compiler.CompileOptions(caching=caching, version="0.1.0", settings=chosen or {})
    )
    theirs = compile_pipeline(made, pins, folder, caching=caching, settings=chosen)
    return parse_documents(text), theirs


def check_equal(ours, theirs):
    version = {"sdkVersion": theirs[0]["sdkVersion"]}
    assert read_message(ours[0] | version) == read_message(theirs[0])
    assert read_platform(ours[1]) == read_platform(theirs[1])


def read_platform(document):
    """Return the messages of the document for Kubernetes, by executor."""
    from kfp.kubernetes import kubernetes_executor_config_pb2 as schema

    executors = (
        document["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if document else {}
    )
    return {
        label: json_format.ParseDict(executor, schema.KubernetesExecutorConfig())
        for label, executor in executors.items()
    }


GRAPH = {"load": {"path": "x"}, "train": {"data": Ref("load"), "rate": 0.5}}


@pytest.mark.parametrize("name", sorted(EVERYTHING.to_json()))
def test_each_setting_is_what_the_sdk_makes_of_it(name, tmp_path):
    only = NodeSettings(**{name: getattr(EVERYTHING, name)})
    if name in ("retry_wait_s", "retry_factor", "retry_max_wait_s"):
        only = NodeSettings(retries=1, **{name: getattr(EVERYTHING, name)})

    ours, theirs = make_both(make_graph(GRAPH), tmp_path, {"train": only})

    check_equal(ours, theirs)
    if name not in ("fuse", "gpu_type"):
        assert ours != make_both(make_graph(GRAPH), tmp_path)[0], "it has no effect"


def test_all_settings_together_are_what_the_sdk_makes_of_them(tmp_path):
    ours, theirs = make_both(make_graph(GRAPH), tmp_path, {"train": EVERYTHING})

    check_equal(ours, theirs)


def add_object(graph, names):
    """Make a construction and calls of these nodes, each behind the one before."""
    nodes = graph["nodes"]
    nodes[names[0]]["kind"] = "object"
    for before, name in itertools.pairwise(names):
        output = "result" if before == names[0] else "state"
        taken = {"input": "self", "node": before, "output": output}
        others = nodes[name]["inputs"]  # one input for each upstream artifact
        others = [o for o in others if (o["node"], o["output"]) != (before, output)]
        nodes[name]["inputs"] = [taken, *others]
        upstream = sorted({*nodes[name]["upstream"], before})
        nodes[name] |= {"kind": "call", "upstream": upstream, "object": names[0], "after": before}


@st.composite
def graphs(draw):
    """Draw chains, fan-ins, layers, diamonds and what lies between, with constants and objects."""
    count = draw(st.integers(1, 8))
    constants = st.one_of(
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(
            st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="${"), max_size=8
        ),
        st.lists(st.integers(0, 9), max_size=3),
        st.dictionaries(st.sampled_from("kl"), st.booleans(), max_size=2),
    )
    nodes = {}
    for i in range(count):
        parents = draw(st.sets(st.integers(0, i - 1), max_size=4)) if i else set()
        values = draw(st.dictionaries(st.sampled_from("xyz"), constants, max_size=3))
        nodes[f"node_{i}"] = {f"in_{p}": Ref(f"node_{p}") for p in sorted(parents)} | values
    graph = make_graph(nodes)
    chain = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True, max_size=3).map(sorted))
    if chain:
        add_object(graph, chain)
    return graph


@st.composite
def settings_of_nodes(draw):
    """Draw settings for some nodes, each with a few of all that there are."""
    names = st.sets(st.sampled_from(sorted(EVERYTHING.to_json())), max_size=4)
    return {
        f"node_{i}": NodeSettings(**{n: getattr(EVERYTHING, n) for n in draw(names)})
        for i in draw(st.sets(st.integers(0, 7), max_size=2))
    }


@given(graphs(), settings_of_nodes())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_graph_is_what_the_sdk_makes_of_it(tmp_path, graph, chosen):
    check_equal(*make_both(graph, tmp_path, chosen))
