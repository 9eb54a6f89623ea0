"""`doit submit`: nodes that fail are tried again in their pods, on each kind of installation, and say why."""

import itertools
import re

import pytest

from fftasks.runner.pod import PodFailure, find_failure
from tests.sample import Sample
from tests.services.argo import Argo
from tests.services.kfp_server import KFPServer

WORKFLOW = """
import os, subprocess, sys, time
from fftasks import Workflow, workflow

@workflow(reads=[])
def ready():
    return 1

@workflow(reads=[])
def stumble(x):
    print("try at", time.monotonic())
    raise ValueError("bad value")

@workflow(reads=[])
def leave(x):
    os._exit(0)

@workflow(reads=[])
def eat(x):
    return len(b"x" * (1 << 30))

@workflow(reads=[])
def delegate(x):
    code = "b'x' * (1 << 30)"
    subprocess.run(["eat", "-c", code], executable=sys.executable, check=True)

@workflow(reads=[])
def hang(x):
    subprocess.run(["sleep", "600"])

one = ready().set_name("ready")
nodes = [f(one).set_name(f.__name__) for f in (stumble, leave, eat, delegate, hang)]
Workflow(*nodes, name="failures")
"""
NODES = """
nodes:
  stumble: {retries: 3, retry_wait_s: 0.4, retry_factor: 1.5, retry_max_wait_s: 7200}
  leave: {retries: 1}
  "eat|delegate": {memory_limit: 128Mi}
  hang: {timeout_s: 2, retries: 1, pod_retries: 1}
"""
REASONS = {
    "stumble": "ValueError: bad value, at the last of 4 tries",
    "leave": "ended its process with exit code 0 without a result, at the last of 2 tries",
    "delegate": "subprocess.CalledProcessError: Command '['eat', '-c', \"b'x' * (1 << 30)\"]' "
    "died with <Signals.SIGKILL: 9>. (a process was killed: out of memory, memory limit 128 MiB)",
    "eat": "was killed by SIGKILL (out of memory, memory limit 128 MiB)",
    "hang": "took longer than timeout_s: 2, at the last of 2 tries",
}
INSTALLATIONS = {"stock": Argo(), "without the block": Argo("2.16.1")}


@pytest.fixture(params=INSTALLATIONS)
def server(cluster, request):
    """Give a KFP server of each kind."""
    with KFPServer(cluster, argo=INSTALLATIONS[request.param]) as server:
        yield server


@pytest.fixture
def project(tmp_path, registry, server, base_image, monkeypatch):
    """Give the project, which uses that server."""
    project = Sample.make(tmp_path, WORKFLOW)
    project.write("config/default.yaml", f"""
workflows: [wf.py]
image: {{base: {base_image}}}
registry:
  server: {registry.server}
  repository: tests/failures
  username: {registry.credentials["username"]}
  password: ${{REGISTRY_PASSWORD}}
kfp: {{host: "{server.url}"}}
{NODES}""")  # fmt: skip
    monkeypatch.setenv("REGISTRY_PASSWORD", registry.credentials["password"])
    return project


def submit(project, server):
    return server.wait(re.search(r"run ([\w-]+): http", project.doit("submit"))[1])


def test_nodes_are_tried_again_in_their_pods_and_say_why_they_fail(project, server):
    run = submit(project, server)

    assert run.state == "FAILED"
    # only without the block does Argo start a pod again whose node failed, which tries it once then
    is_restarted = not server.api.argo.has_block
    reasons = REASONS | ({"hang": "took longer than timeout_s: 2"} if is_restarted else {})
    assert {name: find_failure(run.tasks[name].log) for name in REASONS} == {
        name: PodFailure(name, reason) for name, reason in reasons.items()
    }
    log = run.tasks["stumble"].log
    begun = [float(found) for found in re.findall(r"try at ([\d.]+)", log)]
    assert len(begun) == 4
    waits = [later - earlier for earlier, later in itertools.pairwise(begun)]
    for wait, least in zip(waits, [0.4, 0.6, 0.9], strict=True):
        assert least <= wait < least + 5
    assert {name: run.tasks[name].attempts for name in REASONS} == {
        **dict.fromkeys(REASONS, 1), "hang": 1 + is_restarted
    }  # fmt: skip
    document = (project.root / ".fftasks" / "pipeline" / "failures.yaml").read_text()
    assert "activeDeadlineSeconds" not in document
    policies = [line for line in document.splitlines() if "maxRetryCount" in line]
    assert len(policies) == 1

    # what has succeeded stays cached when retries and time limits change; what failed runs again
    before = {name: run.tasks[name].fingerprint for name in run.tasks}
    config = project.root / "config" / "default.yaml"
    config.write_text(config.read_text().replace("retries: 3", "retries: 1").replace(
        "nodes:", "nodes:\n  ready: {retries: 2, timeout_s: 900, pod_retries: 3}"))  # fmt: skip
    again = submit(project, server)

    assert again.run_id != run.run_id
    assert again.tasks["ready"].state == "SKIPPED"
    assert {name: again.tasks[name].fingerprint for name in again.tasks} == before
    assert len(re.findall("try at", again.tasks["stumble"].log)) == 2


def test_nodes_of_a_group_do_the_same(project, server):
    project.edit("wf.py", "(stumble, leave, eat, delegate, hang)", "(stumble,)")
    config = project.root / "config" / "default.yaml"
    text = config.read_text().partition("nodes:")[0].replace("kfp: {", "kfp: {fuse: chains, ")
    config.write_text(f"{text}nodes:\n  __default__: {{retries: 3, retry_wait_s: 0.1}}\n")

    run = submit(project, server)

    (task,) = run.tasks.values()
    reason = "ValueError: bad value, at the last of 4 tries"
    assert find_failure(task.log) == PodFailure("stumble", reason, ("ready",))
    assert len(re.findall(r"stumble \| try at", task.log)) == 4
    document = (project.root / ".fftasks" / "pipeline" / "failures.yaml").read_text()
    assert "retryPolicy" not in document
    assert "FFMEANS" in document
