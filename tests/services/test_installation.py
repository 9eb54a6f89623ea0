"""What else the test server shows of a run: logs, pods, events, metadata, the bucket, schedules."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.services.argo import Argo
from tests.services.cluster import Cluster
from tests.services.kfp_run import Run
from tests.services.kfp_server import KFPServer
from tests.services.kubernetes import Machine, Objects
from tests.services.launcher import Ending, Pod
from tests.services.sample import add_kubernetes, make_pipeline, name_object, write_pipeline
from tests.services.test_recorded import list_rows, load, make_run
from tests.services.waiting import wait_until


def post(server: KFPServer, spec: dict[str, Any]) -> Run:
    body = {"display_name": "a run", "pipeline_spec": spec}
    answer = requests.post(f"{server.url}/apis/v2beta1/runs", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return server.api.runs[answer.json()["run_id"]]


def get_log(server: KFPServer, run: Run, pod: str) -> requests.Response:
    address = f"{server.url}/apis/v1alpha1/runs/{run.run_id}/nodes/{pod}/log"
    return requests.get(address, timeout=10)


def ask_page(server: KFPServer, path: str, pod: str) -> requests.Response:
    query = {"podname": pod, "podnamespace": "kubeflow"}
    return requests.get(f"{server.url}{path}", query, timeout=10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KFPServer]:
    """Give a server whose programs print a line and, if they are called "bad", fail."""

    def launch(pod: Pod) -> Ending:
        return Ending(int(pod.env["FFFUNCTION"] == "bad"), "hello\n")

    with KFPServer(Cluster(launch, tmp_path)) as server:
        yield server


def test_log_has_the_launchers_lines_around_those_of_the_program(server: KFPServer) -> None:
    run = post(server, make_pipeline("i", {"one": {}}))
    server.wait(run.run_id)

    answer = get_log(server, run, run.find_pod_names("one")[-1])

    lines = answer.text.splitlines()
    assert "hello" in lines
    assert 8 <= len(lines) - 1 <= 14
    assert lines[0].startswith("time=")
    assert lines[0].endswith('level=INFO msg="capturing logs" argo=true')
    assert lines[-1].endswith('msg="sub-process exited" argo=true error=<nil>')


def test_failed_program_and_driver_have_logs_and_the_interface_has_no_error(
    server: KFPServer,
) -> None:
    spec = make_pipeline("i", {"a": {}, "twice": {"after": ["a"]}, "bad": {}})
    artifacts = spec["root"]["dag"]["tasks"]["twice"]["inputs"]["artifacts"]
    inputs = spec["components"]["comp-twice"]["inputDefinitions"]["artifacts"]
    artifacts["again"], inputs["again"] = artifacts["a"], inputs["a"]
    run = post(server, spec)
    server.wait(run.run_id)

    program = get_log(server, run, run.find_pod_names("bad")[-1]).text
    driver = get_log(server, run, run.find_pod_names("twice")[0]).text

    assert "Component failed to execute successfully: exit status 1\n" in program
    assert program.endswith("Error: exit status 1\n")
    assert 'no execution found for type="system.ContainerExecution"' in driver
    assert '"error"' not in json.dumps(run.to_json())
    states = {row.get("display_name"): row.get("state") for row in list_rows(run.to_json())}
    assert (states["twice-driver(0)"], states["twice"]) == ("FAILED", None)


@pytest.mark.parametrize("are_gone", [False, True])
def test_log_that_cannot_be_given_is_answered_with_200(
    server: KFPServer, *, are_gone: bool
) -> None:
    run = post(server, make_pipeline("i", {"one": {}}))
    server.wait(run.run_id)
    run.pods_are_gone = are_gone
    pod = run.find_pod_names("one")[-1]

    answer = get_log(server, run, pod if are_gone else pod.replace("impl", "other"))

    assert (answer.status_code, answer.headers["Content-Type"]) == (
        200,
        "text/plain; charset=utf-8",
    )
    assert answer.json()["error_message"].startswith("BadRequestError: Failed to read logs for run")
    assert ask_page(server, "/k8s/pod/logs", "nothing").status_code == 500


def test_names_of_pods_have_the_numbers_of_the_real_run(tmp_path: Path) -> None:
    # the rows hold no name of a pod; the number of run(0).root(0).train(0).executor(0) is a child's
    recorded = load("train-1")
    children = {
        child["pod_name"] for row in list_rows(recorded) for child in row.get("child_tasks", ())
    }
    workflow = next(iter(children)).rpartition("-")[0]
    run = make_run(recorded, block=True)
    run.execute(Cluster(lambda _: Ending(), tmp_path))

    driver, pod = run.find_pod_names("train")
    assert pod.startswith(f"{workflow}-system-container-impl-")
    assert driver.startswith(f"{workflow}-system-container-driver-")
    assert {f"{workflow}-{one.rpartition('-')[2]}" for one in (driver, pod)} <= children


def test_why_a_pod_waits_is_in_the_pod_and_its_events_only(tmp_path: Path) -> None:
    spec = make_pipeline("i", {key: {} for key in ("secret", "files", "claim", "key")})
    keys = [{"secretKey": "nothing", "envVar": "X"}]
    spec = add_kubernetes(
        spec,
        secret={"secretAsEnv": [{"secretNameParameter": name_object("no"), "keyToEnv": keys}]},
        files={"secretAsVolume": [{"secretNameParameter": name_object("no"), "mountPath": "/x"}]},
        claim={"pvcMount": [{"pvcNameParameter": name_object("no"), "mountPath": "/x"}]},
        key={"secretAsEnv": [{"secretNameParameter": name_object("db"), "keyToEnv": keys}]},
    )
    objects = Objects({"db": {"password": "x"}}, claims=frozenset())
    cluster = Cluster(lambda _: Ending(), tmp_path, objects=objects, machines=(Machine(),))
    with KFPServer(cluster) as server:
        run = post(server, spec)
        wait_until(
            lambda: sum(pod.waits is not None for t in run.tasks.values() for pod in t.pods) == 4,
            what="pods",
        )
        pods = {key: run.find_pod_names(key)[-1] for key in run.tasks}
        shown = {key: ask_page(server, "/k8s/pod", pod).json() for key, pod in pods.items()}
        events = {
            key: ask_page(server, "/k8s/pod/events", pod).json()["items"]
            for key, pod in pods.items()
        }
        log = get_log(server, run, pods["secret"])
        said = json.dumps(run.to_json())

    waiting = shown["secret"]["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'secret "no" not found'}
    waiting = shown["key"]["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["message"] == "couldn't find key nothing in Secret db"
    assert shown["claim"]["status"]["conditions"][0]["reason"] == "Unschedulable"
    assert 'persistentvolumeclaim "no" not found' in events["claim"][0]["message"]
    assert [event["reason"] for event in events["files"]] == ["Scheduled", "FailedMount"]
    assert "error_message" in log.json()
    assert "not found" not in said
    assert json.loads(said)["state"] == "RUNNING"


def test_claim_keeps_files_between_pods_and_a_sub_folder_is_a_part_of_it(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}

    def launch(pod: Pod) -> Ending:
        folder = pod.folder / "data"
        seen[pod.env["FFFUNCTION"]] = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )
        (folder / f"{pod.env['FFFUNCTION']}.txt").write_text("x")
        return Ending()

    claim = {"pvcNameParameter": name_object("c"), "mountPath": "/data"}
    spec = make_pipeline("i", {"a": {}, "b": {"after": ["a"]}, "c": {"after": ["b"]}})
    part = {"pvcMount": [{**claim, "subPath": "sub"}]}
    spec = add_kubernetes(spec, a={"pvcMount": [claim]}, b=part, c={"pvcMount": [claim]})
    with KFPServer(Cluster(launch, tmp_path)) as server:
        server.wait(post(server, spec).run_id)

    assert seen == {"a": [], "b": [], "c": ["a.txt", "sub/b.txt"]}


def ask_store(server: KFPServer, method: str, body: bytes) -> bytes:
    frame = b"\0" + struct.pack(">I", len(body)) + body
    address = f"{server.url}/ml_metadata.MetadataStoreService/{method}"
    kind = {"Content-Type": "application/grpc-web+proto"}
    return requests.post(address, data=frame, headers=kind, timeout=10).content


def test_metadata_has_the_pod_and_the_state_of_an_execution_and_the_logs_of_a_try(
    server: KFPServer,
) -> None:
    run = post(server, make_pipeline("i", {"good": {}, "bad": {}}, is_caching=True))
    server.wait(run.run_id)

    executions = ask_store(server, "GetExecutionsByContext", b"\x08\x01")

    for task in ("good", "bad"):
        assert run.find_pod_names(task)[-1].encode() in executions
    for key in (b"task_name", b"pod_uid", b"namespace", b"cache_fingerprint", b"parent_dag_id"):
        assert key in executions
    assert b"\x18\x03" in executions  # last_known_state: COMPLETE
    assert b"\x18\x04" in executions  # FAILED
    [(key, artifact)] = run.tasks["bad"].published
    assert key == "executor-logs"
    assert artifact.uri.endswith("/executor-logs-0")
    place = artifact.uri.removeprefix("minio://mlpipeline/")
    query = {"source": "minio", "bucket": "mlpipeline", "key": place}
    assert requests.get(f"{server.url}/artifacts/get", query, timeout=10).text == "hello\n"


def test_unknown_method_of_the_store_has_a_trailer_only(server: KFPServer) -> None:
    assert b"grpc-status:12" in ask_store(server, "PutExecution", b"")


@pytest.mark.parametrize(
    ("version", "suffix", "has_block"),
    [
        ("2.4.0", None, False),
        ("2.14.0", "", False),
        ("2.16.1", "-0", False),
        ("2.17.0", "-0", True),
    ],
)
def test_logs_artifact_and_retry_block_follow_from_the_version(
    tmp_path: Path, version: str, suffix: str | None, *, has_block: bool
) -> None:
    outputs = []

    def launch(pod: Pod) -> Ending:
        outputs.append(json.loads(pod.args[-1])["outputs"]["artifacts"])
        return Ending()

    with KFPServer(Cluster(launch, tmp_path), version=version) as server:
        run = post(server, make_pipeline("i", {"one": {}}))
        server.wait(run.run_id)

    found = outputs[0].get("executor-logs")
    assert (found is None) == (suffix is None)
    assert found is None or found["artifacts"][0]["uri"].endswith(f"/executor-logs{suffix}")
    names = [row["display_name"] for row in list_rows(run.to_json())]
    assert ("executor(0)" in names) == has_block


def test_cache_of_a_task_without_logs_artifact_does_not_serve_one_with_it(tmp_path: Path) -> None:
    cluster = Cluster(lambda _: Ending(), tmp_path)
    spec = make_pipeline("i", {"one": {}}, is_caching=True)
    states = []
    for publish_logs in (False, True, True):
        with KFPServer(cluster, argo=Argo(publish_logs=publish_logs)) as server:
            run = post(server, spec)
            server.wait(run.run_id)
            states.append(run.tasks["one"].state)

    assert states == ["SUCCEEDED", "SUCCEEDED", "SKIPPED"]


def test_recurring_run_starts_runs_as_the_real_one_did(tmp_path: Path) -> None:
    recorded = load("recurring-1")
    with KFPServer() as server:
        client = server.connect()
        path = write_pipeline(tmp_path, make_pipeline("i", {"w": {}}))
        pipeline = client.upload_pipeline(path, "flow").pipeline_id
        version = client.list_pipeline_versions(pipeline).pipeline_versions[0]
        reference = {
            "pipeline_id": pipeline,
            "pipeline_version_id": version.pipeline_version_id,
        }
        body = {
            "display_name": "fftasks: flow",
            "mode": "ENABLE",
            "max_concurrency": "1",
            "trigger": {"cron_schedule": {"cron": "* * * * * *"}},
            "pipeline_version_reference": reference,
        }
        answer = requests.post(f"{server.url}/apis/v2beta1/recurringruns", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        wait_until(lambda: len(server.runs) >= 2 and bool(server.runs[1].finished), what="runs")
        first, second = (run.to_json() for run in server.runs[:2])

    assert first.keys() == recorded.keys()
    assert first["recurring_run_id"] == answer.json()["recurring_run_id"]
    head, number, _ = first["display_name"].rsplit("-", 2)
    assert (head[:11], len(head), number) == ("fftasksflow", 16, "1")
    assert second["display_name"].startswith(f"{head}-2-")
    states = [entry.get("state") for entry in first["state_history"]]
    assert states[-2:] == ["RUNNING", "SUCCEEDED"]


def test_times_are_in_whole_seconds_and_what_has_not_ended_has_gos_zero_time() -> None:
    go_on = threading.Event()

    def execute(run: Run) -> None:
        run.get_task("one").move("RUNNING")
        go_on.wait(10)
        run.get_task("one").move("SUCCEEDED")

    with KFPServer(execute) as server:
        run = post(server, make_pipeline("i", {"one": {}}))
        wait_until(lambda: bool(run.get_task("one").pods), what="a pod")
        rows = {row["display_name"]: row for row in list_rows(run.to_json())}
        go_on.set()

    assert rows["executor(0)"]["end_time"] == "0001-01-01T00:00:00Z"
    assert len(rows["executor(0)"]["start_time"]) == len("2026-11-30T16:05:28Z")
    assert rows["executor(0)"]["create_time"] == run.created
    assert time.time() - run.made < 60
