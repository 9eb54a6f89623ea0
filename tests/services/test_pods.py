"""Real pods: a pipeline of real containers, from an image of a registry that wants a password."""

from __future__ import annotations

import io
import json
import tarfile
import threading

import pytest

from tests.services.cluster import Cluster
from tests.services.kfp_server import KFPServer
from tests.services.pods import DockerPods
from tests.services.sample import (
    PROGRAM,
    add_kubernetes,
    make_pipeline,
    name_object,
    write_pipeline,
)
from tests.services.waiting import wait_until

REPOSITORY = "tests/sample"


@pytest.fixture(scope="module")
def image(engine, base_image, _session_registry) -> str:
    """Build the sample's image, push it, and give its reference by digest."""
    registry = _session_registry
    # an entry point that would spoil everything, if a cluster used it
    dockerfile = f'FROM {base_image}\nCOPY program.py /\nENTRYPOINT ["false"]\n'
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("Dockerfile", dockerfile), ("program.py", PROGRAM)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    name = f"{registry.server}/{REPOSITORY}"
    engine.images.build(fileobj=context, custom_context=True, tag=f"{name}:1", rm=True)
    answer = engine.api.push(name, tag="1", auth_config=registry.credentials)
    assert "error" not in answer.lower()
    return f"{name}@{registry.get_digest(REPOSITORY, '1')}"


def submit(server: KFPServer, tmp_path, spec):
    client = server.connect()
    if "platform_spec" in spec:  # a package of two documents
        made = client.runs.run_service_create_run(
            run={"display_name": "a run", "pipeline_spec": spec}
        )
    else:
        made = client.create_run_from_pipeline_package(write_pipeline(tmp_path, spec))
    return server.wait(made.run_id)


def submit_and_terminate(server: KFPServer, tmp_path, spec, task="one"):
    """Submit a run, and terminate it when a task's pod waits; return the reason."""
    client = server.connect()
    made = client.create_run_from_pipeline_package(write_pipeline(tmp_path, spec))
    record = server.api.runs[made.run_id].get_task(task)
    wait_until(lambda: any(pod.waits for pod in record.pods), what="a pod that waits", timeout_s=60)
    assert record.state == "PENDING"
    client.terminate_run(made.run_id)
    assert server.wait(made.run_id).state == "FAILED"
    return record.pods[-1].waits


def read_result(server_cluster: Cluster, run, task: str):
    artifact = run.tasks[task].outputs["artifacts"]["result"]
    return json.loads(server_cluster.store.get_path(artifact.uri).read_text())


def test_pipeline_runs_in_containers(kfp_cluster, cluster, image, tmp_path):
    spec = make_pipeline(image, {"one": {"n": 3, "s": "x"}, "two": {"after": ["one"]}})

    run = submit(kfp_cluster, tmp_path, spec)

    assert run.state == "SUCCEEDED", run.error
    one = {"parameters": {"n": 3, "s": "x"}, "upstream": {}}
    assert read_result(cluster, run, "two") == {"parameters": {}, "upstream": {"one": one}}
    assert "node one in one attempt none" in run.tasks["one"].log
    assert run.tasks["one"].outputs["artifacts"]["result"].metadata["display_name"] == "one"


def test_command_that_fails_leaves_its_log(kfp_cluster, image, tmp_path):
    run = submit(
        kfp_cluster, tmp_path, make_pipeline(image, {"fail": {}, "next": {"after": ["fail"]}})
    )

    assert run.state == "FAILED"
    assert "exit status 3" in run.tasks["fail"].log
    assert "this goes wrong" in run.tasks["fail"].log


def test_output_that_was_not_written_is_a_warning(kfp_cluster, image, tmp_path):
    run = submit(kfp_cluster, tmp_path, make_pipeline(image, {"silent": {}}))

    assert run.state == "SUCCEEDED"
    assert "does not exist" in run.tasks["silent"].log


def test_user_without_rights_can_write_results(engine, registry, image, tmp_path):
    cluster = Cluster(DockerPods(engine, registry.credentials, user="1234:1234"), tmp_path)

    with KFPServer(cluster) as server:
        run = submit(server, tmp_path, make_pipeline(image, {"one": {}, "two": {"after": ["one"]}}))

    assert run.state == "SUCCEEDED", run.error


@pytest.mark.parametrize("credentials", [None, {"username": "user", "password": "wrong"}])
def test_image_is_not_pulled_without_the_password(engine, registry, image, tmp_path, credentials):
    with KFPServer(Cluster(DockerPods(engine, credentials), tmp_path)) as server:
        waits = submit_and_terminate(server, tmp_path, make_pipeline(image, {"one": {}}))

    assert waits[1] == "ImagePullBackOff"


def test_image_that_the_registry_has_not_is_not_pulled(kfp_cluster, registry, tmp_path):
    image = f"{registry.server}/{REPOSITORY}@sha256:{'0' * 64}"

    waits = submit_and_terminate(kfp_cluster, tmp_path, make_pipeline(image, {"one": {}}))

    assert waits[1] == "ImagePullBackOff"


def test_image_is_asked_for_even_if_the_engine_has_it(kfp_cluster, registry, image, tmp_path):
    registry.stop()

    waits = submit_and_terminate(kfp_cluster, tmp_path, make_pipeline(image, {"one": {}}))

    assert waits[1] == "ImagePullBackOff"


def test_command_that_is_not_in_the_image_fails(kfp_cluster, image, tmp_path):
    spec = make_pipeline(image, {"one": {}})
    spec["deploymentSpec"]["executors"]["exec-one"]["container"]["command"] = ["nothing"]

    run = submit(kfp_cluster, tmp_path, spec)

    assert run.state == "FAILED"
    assert 'exec: "nothing": executable file not found in $PATH' in run.tasks["one"].log


@pytest.mark.parametrize("code", ["import socket; socket.create_connection(('192.0.2.1', 80), 2)"])
def test_pod_has_no_network(kfp_cluster, image, tmp_path, code):
    spec = make_pipeline(image, {"one": {}})
    spec["deploymentSpec"]["executors"]["exec-one"]["container"]["command"] = [
        "python3",
        "-c",
        code,
    ]

    run = submit(kfp_cluster, tmp_path, spec)

    assert "Network is unreachable" in run.tasks["one"].log


def set_code(spec, task, code):
    container = spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
    container["command"] = ["python3", "-c", code]
    container["args"] = []


SEE_SHARED_MEMORY = "import shutil; print('bytes', shutil.disk_usage('/dev/shm').total)"


@pytest.mark.parametrize(
    ("config", "size"),
    [
        # no release of KFP reads it; 64 MiB is what a container has without more
        ({"enabledSharedMemory": {"volumeName": "shm", "size": "256Mi"}}, 64 << 20),
        (
            {
                "emptyDirMounts": [
                    {
                        "volumeName": "shm",
                        "mountPath": "/dev/shm",
                        "medium": "Memory",
                        "sizeLimit": "256Mi",
                    }
                ]
            },
            256 << 20,
        ),
    ],
)
def test_shared_memory_is_an_empty_dir_in_memory(kfp_cluster, image, tmp_path, config, size):
    spec = make_pipeline(image, {"one": {}})
    set_code(spec, "one", SEE_SHARED_MEMORY)

    run = submit(kfp_cluster, tmp_path, add_kubernetes(spec, one=config))

    assert f"bytes {size}\n" in run.tasks["one"].log


def test_claim_keeps_what_a_container_wrote(kfp_cluster, image, tmp_path):
    spec = make_pipeline(image, {"one": {}, "two": {"after": ["one"]}})
    set_code(spec, "one", "open('/data/x.txt', 'w').write('written')")
    set_code(spec, "two", "print(open('/data/x.txt').read())")
    claim = {"pvcNameParameter": name_object("c"), "mountPath": "/data", "subPath": "folder"}
    config = {"pvcMount": [claim]}

    run = submit(kfp_cluster, tmp_path, add_kubernetes(spec, one=config, two=config))

    assert "written\n" in run.tasks["two"].log


def test_container_that_needs_too_much_memory_is_killed_and_only_the_log_says_so(
    kfp_cluster, image, tmp_path
):
    spec = make_pipeline(image, {"one": {}})
    set_code(spec, "one", "x = bytearray(200 << 20)")
    container = spec["deploymentSpec"]["executors"]["exec-one"]["container"]
    container["resources"] = {"resourceMemoryLimit": "32Mi"}

    run = submit(kfp_cluster, tmp_path, spec)

    assert "Component failed to execute successfully: signal: killed\n" in run.tasks["one"].log
    assert "killed" not in json.dumps(run.to_json())


def test_terminated_run_kills_its_pod(kfp_cluster, engine, image, tmp_path):
    spec = make_pipeline(image, {"one": {}})
    command = ["python3", "-c", "import time; time.sleep(60)"]
    spec["deploymentSpec"]["executors"]["exec-one"]["container"]["command"] = command
    client = kfp_cluster.connect()
    run_id = client.create_run_from_pipeline_package(write_pipeline(tmp_path, spec)).run_id

    client.terminate_run(run_id)

    run = kfp_cluster.wait(run_id, timeout_s=20)
    assert run.state == "FAILED"
    # by name, because the engine may run pods of other tests
    left = engine.containers.list(filters={"label": "fftasks-test.pod"})
    names = [container.labels["fftasks-test.pod"] for container in left]
    assert not [name for name in names if name.startswith(run.argo_name)]


def test_a_registry_that_fails_for_a_moment_is_asked_again(kfp_cluster, image, tmp_path, registry):
    registry.stop()
    back = threading.Timer(0.5, registry.start)
    back.start()

    run = submit(kfp_cluster, tmp_path, make_pipeline(image, {"one": {"n": 3}}))

    back.join()
    assert run.state == "SUCCEEDED", run.error
