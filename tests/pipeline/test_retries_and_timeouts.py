"""Retries and time limits: what the document says of them, and what Kubeflow Pipelines makes of it."""

import copy
import json

import pytest

from fftasks.config.node_settings import NodeSettings
from fftasks.fusion import Grouping, NodeGroup
from fftasks.fusion.cost import CostEstimate
from fftasks.pipeline import task_specs
from fftasks.pipeline.compiler import CompileOptions, compile_pipeline
from fftasks.pipeline.ir_yaml import parse_documents
from tests.pipeline.test_compiler import REFERENCE
from tests.pipeline.test_components import Ref, make_graph, make_pins
from tests.programs.test_caching import put_result, run_on_backend
from tests.services.cluster import Cluster

GRAPH = {"load": {"path": "x"}, "train": {"data": Ref("load"), "rate": 0.5}}
NOTHING = CostEstimate(0, 0, 0, 0, fits=True)
RETRIED = NodeSettings(retries=3, retry_wait_s=7.5, retry_factor=1.5, retry_max_wait_s=7200)


def compile_with(settings, groups=None):
    """Return both documents of the pipeline in which all nodes have these settings."""
    graph = make_graph(GRAPH)
    made = task_specs.make_tasks_record(graph, "sums", groups)
    chosen = dict.fromkeys(graph["nodes"], settings)
    options = CompileOptions(caching=True, version="0", settings=chosen)
    return parse_documents(compile_pipeline(made, make_pins(made, REFERENCE), options)[1])


def list_env(document):
    """Return the environment of each executor."""
    return [
        {one["name"]: one["value"] for one in executor["container"]["env"]}
        for executor in document["deploymentSpec"]["executors"].values()
    ]


def drop_env(document):
    document = copy.deepcopy(document)
    for executor in document["deploymentSpec"]["executors"].values():
        del executor["container"]["env"]
    return document


@pytest.mark.parametrize(
    ("settings", "means"),
    [
        (NodeSettings(), None),
        (NodeSettings(cpu="4"), None),
        (NodeSettings(retry_wait_s=3, retry_factor=1.5, retry_max_wait_s=9), None),
        (NodeSettings(timeout_s=60), {"timeout_s": 60}),
        (NodeSettings(retries=3), {"retries": 3}),
        (RETRIED, {"retries": 3, "wait_s": 7.5, "factor": 1.5, "max_wait_s": 7200}),
        (NodeSettings(retries=1, cpu="4"), {"retries": 1}),
    ],
)
def test_a_node_alone_is_told_what_differs_from_the_defaults(settings, means):
    for env in list_env(compile_with(settings)[0]):
        assert json.loads(env.get("FFMEANS", "null")) == means


def test_a_group_is_told_how_many_nodes_run_at_a_time():
    graph = make_graph(GRAPH)
    groups = Grouping(
        (NodeGroup("load+", tuple(graph["nodes"]), ()),), "chains", "", -1, NOTHING, NOTHING, {}
    )
    for settings, means in [
        (NodeSettings(), None),
        (NodeSettings(cpu="4", timeout_s=9), {"cpu": 4, "timeout_s": 9}),
        (NodeSettings(cpu="500m", retries=2), {"retries": 2}),
    ]:
        (env,) = list_env(compile_with(settings, groups)[0])
        assert json.loads(env.get("FFMEANS", "null")) == means


@pytest.mark.parametrize(
    "settings", [RETRIED, NodeSettings(timeout_s=5), NodeSettings(retries=1, timeout_s=90_000)]
)
def test_retries_and_time_limits_are_nothing_that_the_cluster_is_told_of(settings):
    plain, ours = compile_with(NodeSettings()), compile_with(settings)

    assert drop_env(ours[0]) == drop_env(plain[0])
    assert ours[1:] == plain[1:]
    for word in ("retryPolicy", "activeDeadlineSeconds", "backoff"):
        assert word not in json.dumps(ours)


def test_pod_retries_are_the_clusters_and_have_no_end_in_time():
    document, *_ = compile_with(NodeSettings(pod_retries=5))

    for task in document["root"]["dag"]["tasks"].values():
        policy = task["retryPolicy"]
        assert policy["maxRetryCount"] == 5
        assert policy["backoffDuration"] == "0s"
        # Argo gives up when so much time has passed since the first start, and gives a pod no longer to run:
        # longer than any node takes, and a number that fits into activeDeadlineSeconds
        assert 365 * 86_400 < int(policy["backoffMaxDuration"].removesuffix("s")) < 2**31
    assert all("FFMEANS" not in env for env in list_env(document))


@pytest.mark.parametrize("honours_cache_key", [False, True])
@pytest.mark.parametrize(
    ("settings", "runs"),
    [
        (RETRIED, set()),
        (NodeSettings(timeout_s=5), set()),
        (NodeSettings(pod_retries=2), set()),
        (NodeSettings(cache=False), {"load", "train"}),
    ],
)
def test_a_change_of_them_invalidates_no_result(tmp_path, settings, runs, honours_cache_key):
    cluster = Cluster(put_result, tmp_path, honours_cache_key=honours_cache_key)
    before, after = compile_with(NodeSettings())[0], compile_with(settings)[0]

    assert run_on_backend(copy.deepcopy(before), cluster) == {"load", "train"}
    assert run_on_backend(copy.deepcopy(after), cluster) == runs
