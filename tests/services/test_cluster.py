"""The cluster without containers: pods are a function of the test."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.services.argo import Argo
from tests.services.cluster import Cluster
from tests.services.executor_input import LEGACY_OUTPUT_FILE, Paths
from tests.services.kfp_pipeline import read_parameters, read_pipeline
from tests.services.kfp_run import Run
from tests.services.kfp_server import KFPServer
from tests.services.launcher import Ending, Pod
from tests.services.object_store import get_local_path
from tests.services.sample import make_pipeline
from tests.services.waiting import wait_until


class FakePods:
    """Keeps what pods are to do, and writes a result into each output."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        self.inputs: list[dict[str, Any]] = []
        self.seen: list[dict[str, str]] = []
        self.endings: list[Ending] = []
        self.output = "{}"

    def __call__(self, pod: Pod) -> Ending:
        self.pods.append(pod)
        executor_input = json.loads(pod.args[-1])
        self.inputs.append(executor_input)
        self.seen.append(
            {
                name: find(pod, items["artifacts"][0]["uri"]).read_text()
                for name, items in executor_input["inputs"].get("artifacts", {}).items()
            }
        )
        find(
            pod, executor_input["outputs"]["artifacts"]["result"]["artifacts"][0]["uri"]
        ).write_text(name_task(pod))
        file = pod.folder / executor_input["outputs"]["outputFile"].lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.output)
        return self.endings.pop(0) if self.endings else Ending(log="fine\n")


def name_task(pod: Pod) -> str:
    """Return the name of a pod's task; the sample's containers have it as their first argument."""
    return pod.args[1]


def find(pod: Pod, uri: str) -> Path:
    return pod.folder / get_local_path(uri).relative_to("/")


PLAIN = Argo(retry_block=False)


def start(
    spec: dict[str, Any], cluster: Cluster, argo: Argo | None = None, **parameters: Any
) -> Run:
    pipeline = read_pipeline(copy.deepcopy(spec))
    values = read_parameters(pipeline, parameters)
    run = Run(pipeline, values, {"display_name": "x"}, argo=argo or Argo())
    run.execute(cluster)
    return run


def start_and_terminate(spec: dict[str, Any], cluster: Cluster, task: str) -> Run:
    """Execute a run, and terminate it when a task waits for what it will never get."""
    pipeline = read_pipeline(copy.deepcopy(spec))
    run = Run(pipeline, read_parameters(pipeline, {}), {"display_name": "x"})
    thread = threading.Thread(target=run.execute, args=(cluster,))
    thread.start()
    wait_until(lambda: any(pod.waits for pod in run.get_task(task).pods), what="a pod that waits")
    assert (run.get_task(task).state, run.state) == ("PENDING", "RUNNING")
    run.terminate()
    thread.join()
    return run


@pytest.fixture
def pods() -> FakePods:
    return FakePods()


@pytest.fixture
def fast(pods, tmp_path) -> Cluster:
    return Cluster(pods, tmp_path, workers=1)


def test_tasks_run_upstream_first_and_see_results(pods, fast):
    run = start(
        make_pipeline("i", {"b": {"after": ["a"]}, "c": {"after": ["a", "b"]}, "a": {}}), fast
    )

    assert [name_task(pod) for pod in pods.pods] == ["a", "b", "c"]
    assert pods.seen == [{}, {"a": "a"}, {"a": "a", "b": "b"}]
    assert run.state == "SUCCEEDED"


def test_executor_input_is_what_the_launcher_gives(pods, fast):
    run = start(make_pipeline("i", {"a": {"n": 3, "s": "x"}, "b": {"after": ["a"]}}), fast)

    first, second = pods.inputs
    output = first["outputs"]["artifacts"]["result"]["artifacts"][0]
    assert first["inputs"] == {"parameterValues": {"n": 3, "s": "x"}}
    assert output["uri"].startswith(f"minio://mlpipeline/v2/artifacts/sample/{run.run_id}/a/")
    assert output["uri"].endswith("/result")
    assert output["type"] == {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
    assert first["outputs"]["outputFile"].startswith("/minio/mlpipeline/v2/artifacts/sample/")
    artifact = second["inputs"]["artifacts"]["a"]["artifacts"][0]
    # the first artifact in the store is what the program printed
    assert (artifact["name"], artifact["uri"]) == ("2", output["uri"])
    assert artifact["metadata"]["display_name"] == "result"


@pytest.mark.parametrize(
    ("root", "local"),
    [("minio://b/k", "/minio/b/k/"), ("s3://b/k", "/s3/b/k/"), ("gs://b/k", "/gcs/b/k/")],
)
def test_paths_follow_the_scheme_of_the_bucket(pods, tmp_path, root, local):
    cluster = Cluster(pods, tmp_path, Paths(root))

    run = start(make_pipeline("i", {"a": {}, "b": {"after": ["a"]}}), cluster)

    assert pods.inputs[0]["outputs"]["outputFile"].startswith(local)
    assert run.state == "SUCCEEDED"


def test_old_backend_has_a_fixed_output_file_and_makes_no_folder_for_it(pods, tmp_path):
    start(make_pipeline("i", {"a": {}}), Cluster(pods, tmp_path, Paths(is_legacy=True)))

    assert pods.inputs[0]["outputs"]["outputFile"] == LEGACY_OUTPUT_FILE


def test_integers_arrive_without_a_point_and_floats_may_too(pods, fast):
    start(
        make_pipeline(
            "i", {"a": {"n": 3, "f": 2.0, "big": 2**53, "b": True, "l": [1, 2.5], "d": {"k": 1}}}
        ),
        fast,
    )

    text = pods.pods[0].args[-1]
    values = '{"b":true,"big":9007199254740992,"d":{"k":1},"f":2,"l":[1,2.5],"n":3}'
    assert f'"parameterValues":{values}' in text


def test_parameters_of_the_pipeline_reach_the_task(pods, fast):
    spec = make_pipeline("i", {"a": {"n": 3}})
    spec["root"]["inputDefinitions"] = {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}}
    source = {"componentInputParameter": "n"}
    spec["root"]["dag"]["tasks"]["a"]["inputs"]["parameters"]["n"] = source

    start(spec, fast, n=7)

    assert pods.inputs[0]["inputs"]["parameterValues"] == {"n": 7}


def test_value_of_a_wrong_type_fails_the_task(pods, fast):
    spec = make_pipeline("i", {"a": {"n": 3}})
    spec["root"]["dag"]["tasks"]["a"]["inputs"]["parameters"]["n"] = {
        "runtimeValue": {"constant": "3"}
    }

    run = start(spec, fast)

    assert "type mismatch: expect NUMBER_INTEGER" in run.tasks["a"].error
    assert pods.pods == []


def test_environment_and_command_of_the_container_are_used(pods, fast):
    start(make_pipeline("i", {"a": {}}), fast)

    assert pods.pods[0].env["FFFUNCTION"] == "a"
    assert (pods.pods[0].command, pods.pods[0].args[:2]) == (["python3"], ["/program.py", "a"])


def test_failed_task_stops_what_is_downstream_only(pods, fast):
    pods.endings = [Ending(3, log="Traceback\n")]

    run = start(make_pipeline("i", {"a": {}, "b": {"after": ["a"]}, "c": {}}), fast)

    assert {name: task.state for name, task in run.tasks.items()} == {
        "a": "FAILED",
        "b": "",
        "c": "SUCCEEDED",
    }
    assert "Traceback\n" in run.tasks["a"].log
    assert "Component failed to execute successfully: exit status 3\n" in run.tasks["a"].log


def test_pod_without_its_image_waits_until_the_run_is_terminated(pods, fast):
    pods.endings = [Ending(1, error="ImagePullBackOff: no basic auth credentials")]

    run = start_and_terminate(make_pipeline("i", {"a": {}}), fast, "a")

    assert run.tasks["a"].pods[0].waits == (
        "image",
        "ImagePullBackOff",
        "no basic auth credentials",
    )
    assert [state for _, state in run.tasks["a"].history] == ["PENDING", "FAILED"]
    assert run.state == "FAILED"


def make_retried(**policy: Any) -> dict[str, Any]:
    spec = make_pipeline("i", {"a": {}})
    spec["root"]["dag"]["tasks"]["a"]["retryPolicy"] = {"backoffMaxDuration": "3600s", **policy}
    return spec


def test_exit_codes_are_not_retried_on_a_stock_installation(pods, fast):
    pods.endings = [Ending(1)]

    run = start(make_retried(maxRetryCount=2), fast)

    assert (run.state, run.tasks["a"].attempts) == ("FAILED", 1)


def test_retries_without_the_block_keep_the_place_of_the_result(pods, fast):
    pods.endings = [Ending(1)]

    run = start(make_retried(maxRetryCount=2), fast, PLAIN)

    first, second = (one["outputs"]["artifacts"] for one in pods.inputs)
    assert first["result"] == second["result"]
    assert first["executor-logs"]["artifacts"][0]["uri"].endswith("/executor-logs-0")
    assert second["executor-logs"]["artifacts"][0]["uri"].endswith("/executor-logs-1")
    assert [pod.env["KFP_RETRY_INDEX"] for pod in pods.pods] == ["0", "1"]
    assert (run.state, run.tasks["a"].attempts) == ("SUCCEEDED", 2)


def test_number_of_the_try_is_in_the_environment_of_tasks_with_a_policy_only(pods, fast):
    start(make_pipeline("i", {"a": {}}), fast)

    assert "KFP_RETRY_INDEX" not in pods.pods[0].env


@pytest.mark.parametrize(
    "policy",
    [
        # "Max duration limit exceeded": a field that is not written counts as 0
        {"backoffMaxDuration": "0s"},
        # "Backoff would exceed max duration limit"
        {"backoffDuration": "20s", "backoffMaxDuration": "10s"},
        # "value '1.5' cannot be resolved to an int"
        {"backoffFactor": 1.5},
    ],
)
def test_retry_that_argo_does_not_make(pods, fast, policy):
    pods.endings = [Ending(1)]

    run = start(make_retried(maxRetryCount=2, **policy), fast, PLAIN)

    assert (run.state, run.tasks["a"].attempts) == ("FAILED", 1)


def test_fraction_as_factor_makes_the_block_repeat_the_step_around_the_pod(pods, fast):
    pods.endings = [Ending(1), Ending(1), Ending(1)]

    run = start(make_retried(maxRetryCount=3, backoffFactor=1.5), fast)

    assert [len(tries) for tries in run.tasks["a"].rounds] == [1, 1, 1]
    assert run.state == "FAILED"


def test_pod_that_is_lost_is_started_again_as_the_same_node(pods, fast):
    pods.endings = [Ending(is_lost=True)]

    run = start(make_pipeline("i", {"a": {}}), fast)

    states = [state for _, state in run.tasks["a"].history]
    assert states == ["PENDING", "RUNNING", "FAILED", "RUNNING", "SUCCEEDED"]


def test_run_that_is_retried_runs_what_failed_and_what_is_downstream(pods, fast):
    pods.endings = [Ending(), Ending(1)]
    spec = make_pipeline("i", {"a": {}, "b": {"after": ["a"]}, "c": {"after": ["b"]}})

    with KFPServer(fast) as server:
        client = server.connect()
        run_id = client.runs.run_service_create_run(
            run={"display_name": "x", "pipeline_spec": spec}
        ).run_id
        first = server.wait(run_id).state
        client.runs.run_service_retry_run(run_id)
        second = server.wait(run_id).state

    assert (first, second) == ("FAILED", "SUCCEEDED")
    assert [name_task(pod) for pod in pods.pods] == ["a", "b", "b", "c"]


@pytest.mark.parametrize("output", ['{"artefacts": {}}', "not json", '{"parameterValues": 1}'])
def test_output_file_is_parsed_strictly(pods, fast, output):
    pods.output = output

    run = start(make_pipeline("i", {"a": {}}), fast)

    assert "failed to unmarshall ExecutorOutput" in run.tasks["a"].error


def test_metadata_of_an_output_travels_downstream(pods, fast):
    metadata = {"display_name": "mine", "rows": 3, "wide": True, "names": ["a"]}
    pods.output = json.dumps({"artifacts": {"result": {"artifacts": [{"metadata": metadata}]}}})

    start(make_pipeline("i", {"a": {}, "b": {"after": ["a"]}}), fast)

    seen = pods.inputs[1]["inputs"]["artifacts"]["a"]["artifacts"][0]["metadata"]
    assert seen == {
        "display_name": "mine",
        "rows": 3,
        "wide": 1,
        "names": {"list": ["a"]},
        "store_session_info": "{}",
    }


def test_missing_artifact_is_a_warning_and_nothing_arrives(tmp_path):
    seen = []

    def launch(pod: Pod) -> Ending:
        for items in json.loads(pod.args[-1])["inputs"].get("artifacts", {}).values():
            path = find(pod, items["artifacts"][0]["uri"])
            seen.extend([path] if path.exists() else [])
        return Ending()

    run = start(make_pipeline("i", {"a": {}, "b": {"after": ["a"]}}), Cluster(launch, tmp_path))

    assert run.state == "SUCCEEDED"
    assert "does not exist" in run.tasks["a"].log
    # the launcher lists what lies below the key, and nothing does (objectstore.DownloadBlob)
    assert not seen


def test_independent_tasks_run_side_by_side(tmp_path):
    both = threading.Barrier(2)

    def launch(pod: Pod) -> Ending:
        both.wait(60)
        return Ending()

    run = start(make_pipeline("i", {"a": {}, "b": {}}), Cluster(launch, tmp_path, workers=2))

    assert run.state == "SUCCEEDED"


def test_many_inputs_do_not_fit_into_one_argument(pods, fast):
    names = [f"n{number}" for number in range(231)]
    run = start(make_pipeline("i", {**{name: {} for name in names}, "all": {"after": names}}), fast)

    assert "argument list too long" in run.error


def test_root_of_many_tasks_does_not_fit_into_one_argument_of_older_releases(pods, fast):
    spec = make_pipeline("i", {f"n{number}": {"s": "x" * 3000} for number in range(50)})

    run = start(spec, fast, Argo("2.15.0"))
    newer = start(spec, fast)

    assert "root driver" in run.error
    rows = {row["display_name"]: row for row in run.to_json()["run_details"]["task_details"]}
    assert (rows["root-driver"]["state"], rows["root"].get("state")) == ("FAILED", None)
    assert newer.state == "SUCCEEDED"


def test_equal_task_of_a_later_run_is_served_from_the_cache(pods, fast):
    spec = make_pipeline("i", {"a": {"n": 1}, "b": {"after": ["a"]}}, is_caching=True)
    start(spec, fast)

    run = start(spec, fast)

    assert [task.is_cached for task in run.tasks.values()] == [True, True]
    assert (run.state, len(pods.pods)) == ("SUCCEEDED", 2)


def test_changed_constant_runs_its_task_and_those_downstream(pods, fast):
    tasks = {"a": {"n": 1}, "b": {"after": ["a"]}, "c": {"n": 1}}
    start(make_pipeline("i", tasks, is_caching=True), fast)

    run = start(make_pipeline("i", {**tasks, "a": {"n": 2}}, is_caching=True), fast)

    assert {name: task.is_cached for name, task in run.tasks.items()} == {
        "a": False,
        "b": False,
        "c": True,
    }


def test_tasks_that_differ_in_environment_only_get_each_others_results(pods, fast):
    spec = make_pipeline("i", {"a": {}, "b": {"after": ["a"]}}, is_caching=True)
    spec["root"]["dag"]["tasks"]["b"]["inputs"] = {}
    del spec["components"]["comp-b"]["inputDefinitions"]
    spec["deploymentSpec"]["executors"]["exec-b"]["container"]["args"] = ["a", "{{$}}"]

    run = start(spec, fast)

    assert run.tasks["b"].is_cached


@pytest.mark.parametrize(("honours", "is_cached"), [(False, False), (True, True)])
def test_cache_key_counts_from_release_2_18_on(pods, tmp_path, honours, is_cached):
    cluster = Cluster(pods, tmp_path, honours_cache_key=honours)
    runs = []
    for image in ("i:1", "i:2"):
        spec = make_pipeline(image, {"a": {}}, is_caching=True)
        spec["root"]["dag"]["tasks"]["a"]["cachingOptions"]["cacheKey"] = "k"
        runs.append(start(spec, cluster))

    assert runs[1].tasks["a"].is_cached is is_cached


def test_importing_the_cluster_loads_no_docker():
    command = "import sys, tests.services.cluster; sys.exit('docker' in sys.modules)"

    subprocess.run([sys.executable, "-c", command], check=True, cwd=Path(__file__).parents[2])
