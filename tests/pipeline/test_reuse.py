"""What groups take from their last run: importers in the pipeline document."""

from fftasks.fusion import group_nodes
from fftasks.kfp.limits import ClusterLimits, count_importer_room, find_excess
from fftasks.pipeline.compiler import CompileOptions, compile_pipeline
from fftasks.pipeline.reuse import ReusedPacks
from fftasks.pipeline.task_specs import make_tasks, make_tasks_record
from fftasks.runner.task import parse_members
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_components import Ref, make_graph

GRAPH = make_graph({"a": {"n": 1}, "b": {"x": Ref("a")}, "c": {"x": Ref("b")}})
KEPT = ReusedPacks({"kept": "s3://b/values", "kept_inner": "s3://b/inner"}, ("a",), "sha256:old")


def make_document(kept):
    components = make_tasks_record(GRAPH, "sums", group_nodes(GRAPH, "sums", "chains"))
    (task,) = components["tasks"]
    pin = {"reference": f"r@sha256:{'0' * 64}", "fingerprint": "sha256:new", "cache_key": "new"}
    pins = {"output": "sha256:p", "tasks": {task: pin}}
    record, text = compile_pipeline(
        components, pins, CompileOptions(caching=True, version="1"), kept
    )
    return task, parse_document(text), record


def test_what_is_kept_comes_from_importers():
    task, document, _ = make_document({"sha256:new": KEPT})

    tasks = document["root"]["dag"]["tasks"]
    importers = {name for name in tasks if name != task}
    assert set(tasks[task]["dependentTasks"]) == importers
    uris = {
        executor["importer"]["artifactUri"]["constant"]
        for executor in document["deploymentSpec"]["executors"].values()
        if "importer" in executor
    }
    assert uris == {"s3://b/values", "s3://b/inner"}
    (args,) = [
        e["container"]["args"]
        for e in document["deploymentSpec"]["executors"].values()
        if "container" in e
    ]
    assert parse_members(args[args.index("--nodes") + 1]).keeps == ("a",)
    assert args[args.index("--kept") + 1] == "sha256:old"


def test_what_was_kept_for_another_fingerprint_changes_nothing():
    _, document, record = make_document({"sha256:another": KEPT})
    _, plain, without = make_document(None)

    assert document == plain
    assert record["output"] == without["output"]


def test_there_is_room_for_importers_only_where_the_cluster_has_some():
    tasks = make_tasks(GRAPH, "sums")

    assert count_importer_room(tasks, ClusterLimits(object_bytes=15_000)) == 0
    assert count_importer_room(tasks, ClusterLimits(object_bytes=48_000)) == 2
    assert count_importer_room(tasks, ClusterLimits(argument_bytes=2000)) == 0


def test_what_does_not_fit_is_said():
    tasks = make_tasks(GRAPH, "sums")

    assert find_excess(tasks, ClusterLimits()) == ""
    assert "3 tasks take about" in find_excess(tasks, ClusterLimits(object_bytes=15_000))
    assert "b has 1 inputs" in find_excess(tasks, ClusterLimits(inputs=0))
    assert "bytes" in find_excess(tasks, ClusterLimits(argument_bytes=500))


def test_what_is_kept_is_known_from_its_record():
    assert ReusedPacks(**KEPT.to_json()).to_json() == KEPT.to_json()
