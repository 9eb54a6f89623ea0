"""`doit submit`: what is set for nodes takes effect in the containers of a cluster."""

import re

import fftasks
from fftasks.runner.artifact import read_artifact
from fftasks.runner.pod import PodFailure, find_failure
from tests.sample import Sample
from tests.services.kubernetes import Objects

WORKFLOW = """
import os, random, time
from pathlib import Path
from fftasks import RandomStatePlugin, Workflow, workflow

LIMIT = os.environ.get("LIMIT")

@workflow(reads=[])
def look(names, paths):
    shm = os.statvfs("/dev/shm")
    return {
        "at import": LIMIT,
        "env": {name: os.environ.get(name) for name in names},
        "files": {path: Path(path).read_text() for path in paths if Path(path).is_file()},
        "scratch": os.access("/scratch", os.W_OK),
        "shm": shm.f_blocks * shm.f_frsize,
    }

@workflow(reads=[])
def stumble(x):
    with open("/tmp/tries", "a+") as file:
        file.write("x")
        file.seek(0)
        tries = len(file.read())
    if tries < 3:
        raise ValueError("not yet")
    return tries

@workflow(reads=[])
def hang(x):
    time.sleep(600)

@workflow(reads=[])
def draw(x):
    return random.random()

looked = look(["LIMIT", "PASSWORD", "LEVEL"], ["/etc/db/user", "/etc/app/level"]).set_name("look")
flow = Workflow(looked, stumble(1).set_name("stumble"), draw(1).set_name("draw"),
                hang(1).set_name("hang"), name="settings")
flow.set_plugin("draw", RandomStatePlugin(0, 10**6, 1, random.seed))
flow.query("stumble").set(retries=2, retry_wait_s=0)
"""
NODES = """
nodes:
  __default__:
    pull_secrets: [regcred]
    labels: {team: a}
  look:
    env: {LIMIT: 3}
    memory_limit: 256Mi
    secret_env: {PASSWORD: db/password}
    secret_files: {/etc/db: db}
    config_map_env: {LEVEL: app/level}
    config_map_files: {/etc/app: app}
    empty_dirs: {/scratch: 1Gi}
    shared_memory: 32Mi
    display_name: what it sees
  hang: {timeout_s: 2}
"""


def test_settings_take_effect_in_the_containers(
    tmp_path, registry, kfp_cluster, cluster, base_image, monkeypatch
):
    project = Sample.make(tmp_path, WORKFLOW)
    project.write("config/default.yaml", f"""
workflows: [wf.py]
image: {{base: {base_image}}}
registry:
  server: {registry.server}
  repository: tests/settings
  username: {registry.credentials["username"]}
  password: ${{REGISTRY_PASSWORD}}
kfp: {{host: "{kfp_cluster.url}"}}
{NODES}""")  # fmt: skip
    monkeypatch.setenv("REGISTRY_PASSWORD", registry.credentials["password"])
    secret = {"password": "s3cret", "user": "me"}
    cluster.objects = Objects({"db": secret}, {"app": {"level": "debug"}})
    project.doit("run:draw")
    output = project.doit("submit")

    run = kfp_cluster.wait(re.search(r"run ([\w-]+): http", output)[1])

    seen = find_result(cluster, run, "look")
    assert seen["at import"] == "3"
    assert seen["env"] == {"LIMIT": "3", "PASSWORD": "s3cret", "LEVEL": "debug"}
    assert seen["files"] == {"/etc/db/user": "me", "/etc/app/level": "debug"}
    assert seen["scratch"]
    assert seen["shm"] == 32 << 20
    assert run.pipeline.tasks["look"].task_info.name == "what it sees"
    assert run.tasks["stumble"].attempts == 1
    assert find_result(cluster, run, "stumble") == 3
    assert find_failure(run.tasks["hang"].log) == PodFailure(
        "hang", "took longer than timeout_s: 2"
    )
    assert find_result(cluster, run, "draw") == fftasks.load("draw", project.root)
    check_pods(run, cluster)
    yaml = next((project.root / ".fftasks" / "pipeline").glob("*.yaml")).read_text()
    assert "s3cret" not in yaml


def check_pods(run, cluster):
    pods = [pod for pod in cluster.pods if run.run_id in str(pod.args)]
    started = {pod.env["FFFUNCTION"]: pod for pod in pods}
    assert started.keys() == {"look", "stumble", "hang", "draw"}
    for pod in started.values():
        secrets = [each.secret_name for each in pod.kubernetes.image_pull_secret]
        assert secrets == ["regcred"]
        assert pod.kubernetes.pod_metadata.labels["team"] == "a"
    assert started["look"].resources.resource_memory_limit == "256Mi"


def find_result(cluster, run, task):
    outputs = run.tasks[task].executor_input["outputs"]["artifacts"]
    return read_artifact(cluster.store.get_path(outputs["result"]["artifacts"][0]["uri"]))
