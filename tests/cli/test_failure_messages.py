"""Runs that end badly, or wait, on a stock 2.17 and on 2.15: each command names the cause."""

import json
import re
import threading
from dataclasses import dataclass, field, replace

import pytest

from fftasks.project import open_project
from fftasks.report.polling import watch_runs
from fftasks.tasks.__main__ import main
from tests.services.argo import Argo
from tests.services.cluster import Cluster
from tests.services.executor_input import DriverError
from tests.services.kfp_server import KFPServer
from tests.services.kubernetes import Machine
from tests.services.kubernetes_api import KubernetesApi
from tests.services.launcher import Ending
from tests.services.local_pods import LocalPods
from tests.services.waiting import wait_until
from tests.submitted_project import make_project, submit_project

WORKFLOW = """
import os, time
from fftasks import Workflow, workflow

@workflow
def make(x):
    return x

@workflow
def work(x):
    print("working on", x)
    how = os.environ.get("HOW", "")
    if how == "raises":
        raise ValueError("bad value")
    if how == "sleeps":
        time.sleep(60)
    if how == "exits":
        os._exit(0)
    return x

@workflow
def use(x):
    return x

first = make(1).set_name("first")
second = work(first).set_name("second node")
Workflow(use(second).set_name("third"), name="flow")
"""
NODE = "second node"
VERSIONS = ("2.17.0", "2.15.0")


class Broken(Cluster):
    """A cluster on which the driver of some tasks fails."""

    def _drive(self, run, task):
        if task.name.startswith("second"):
            raise DriverError("no execution found for type system.ContainerExecution")
        return super()._drive(run, task)


@dataclass
class Pods:
    """Runs pods here; of one node as a scenario wants it."""

    local: LocalPods
    endings: list[Ending] = field(default_factory=list)
    how: str = ""
    is_broken: bool = True

    def __call__(self, pod):
        if NODE not in pod.args or not self.is_broken:
            return self.local(pod)
        if self.endings:
            ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
            if ending is not None:
                return ending
        return self.local(replace(pod, env={**pod.env, "HOW": self.how}))


@pytest.fixture
def play(tmp_path, monkeypatch, capfd):
    """Give a function that submits the workflow to a cluster, and others that look at the run."""
    started = []

    def start(
        version,
        *,
        argo=None,
        endings=(),
        how="",
        settings="",
        kind=Cluster,
        servers=None,
        **options,
    ):
        pods = Pods(LocalPods(tmp_path / "project"), list(endings), how)
        cluster = kind(pods, tmp_path / "cluster", **options)
        more = {} if servers is None else {"log_servers": frozenset(servers)}
        server = KFPServer(cluster, argo=argo or Argo(version), **more)
        server.__enter__()
        started.append(server)
        sample = make_project(tmp_path / "project", server, WORKFLOW)
        text = (sample.root / "config/default.yaml").read_text()
        mount = f"object_store:\n  mount: {cluster.folder}/bucket/minio\n"
        sample.write("config/default.yaml", text + mount + settings)
        _, record = submit_project(sample)
        monkeypatch.chdir(sample.root)
        return Played(sample, server, cluster, pods, record["run_id"], capfd)

    yield start
    for server in started:
        server.__exit__(None, None, None)


class Played:
    """A run that was submitted, and what commands say of it."""

    def __init__(self, sample, server, cluster, pods, run_id, capfd):
        self.sample, self.server, self.cluster, self.pods = sample, server, cluster, pods
        self.run_id, self._capfd = run_id, capfd

    def end(self):
        """Wait until the run has ended."""
        return self.server.wait(self.run_id)

    def wait_for_pod(self):
        """Wait until a pod cannot start."""
        tasks = self.server.api.runs[self.run_id].tasks

        def waits():
            return any(task.pods and task.pods[-1].waits for task in list(tasks.values()))

        wait_until(waits, what="the pod that waits")

    def doit(self, *words, code=0):
        """Run a command; return what it printed."""
        open_project.cache_clear()
        self._capfd.readouterr()
        found = main(list(words))
        out = self._capfd.readouterr()
        assert found == code, out.out + out.err
        return out.out + out.err

    def read(self):
        """Return what was printed since the last command."""
        return self._capfd.readouterr().out

    def list_states(self):
        shown = json.loads(self.doit("status", "--json"))
        return {node["node"]: node["shown"] for node in shown["nodes"]}

    def find_error(self):
        shown = json.loads(self.doit("status", "--json"))
        return next(node["error"] for node in shown["nodes"] if node["node"] == NODE)

    def find_on_page(self):
        shown = json.loads(self.doit("report", "--cluster", "--json"))
        return next(task for task in shown["tasks"] if task["name"] == NODE)


OUT_OF_MEMORY = Ending(137, log="working on 1\n", is_out_of_memory=True)
NO_PYTHON = Ending(127, reason='exec: "python3": executable file not found in $PATH')
LIMIT = f"nodes:\n  {NODE}:\n    memory_limit: 300Mi\n"
TIMEOUT = f"nodes:\n  {NODE}:\n    timeout_s: 1\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("options", "cause", "printed"),
    [
        ({"how": "raises"}, "ValueError: bad value", "working on 1"),
        ({"how": "exits"}, "exit code 0 without a result", "working on 1"),
        ({"how": "sleeps", "settings": TIMEOUT}, "took longer than timeout_s: 1", "working on 1"),
        ({"endings": [OUT_OF_MEMORY], "settings": LIMIT}, "out of memory", "working on 1"),
        ({"endings": [NO_PYTHON]}, '"python3": executable file not found', "executable file not found"),
    ],
)  # fmt: skip
def test_a_node_that_failed_is_shown_with_the_cause(play, version, options, cause, printed):
    played = play(version, **options)
    played.end()

    assert played.list_states() == {"first": "ran", NODE: "failed", "third": "skipped"}
    assert cause in played.find_error()
    assert f"{NODE} failed: " in played.doit("status")
    assert cause in played.doit("status")
    logs = played.doit("logs", NODE)
    assert printed in logs
    assert "publish success" not in logs
    assert "-- failed: {" not in logs
    assert "launcher_v2.go" in played.doit("logs", NODE, "--all")
    assert cause in played.doit("result", NODE, "--cluster", code=1)
    assert cause in played.doit("result", "third", "--cluster", code=1)
    task = played.find_on_page()
    assert task["state"] == "failed"
    assert cause in task["error"].splitlines()[0]
    assert "second node has no result" in played.doit("replay", "third", code=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_a_run_that_was_watched_names_the_cause(play, version):
    played = play(version, how="raises")
    open_project.cache_clear()

    assert watch_runs(open_project(played.sample.root), [played.run_id]) == 1

    shown = played.read()
    assert "second node failed: ValueError: bad value" in shown
    assert "    working on 1\n" in shown
    assert "launcher_v2.go" not in shown


@pytest.mark.parametrize("version", VERSIONS)
def test_the_memory_limit_is_named(play, version):
    played = play(version, endings=[OUT_OF_MEMORY], settings=LIMIT)
    played.end()

    assert re.search(r"SIGKILL.*300Mi|OOMKilled.*300Mi", played.find_error())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_driver_is_named_with_its_log(play, version):
    played = play(version, kind=Broken)
    played.end()

    assert played.list_states() == {"first": "ran", NODE: "failed", "third": "skipped"}
    words = (
        "the driver of node second node failed before the node started: no execution found for type"
    )
    for output in (
        played.doit("status"),
        played.doit("result", NODE, "--cluster", code=1),
        played.doit("result", "third", "--cluster", code=1),
        played.doit("logs", "third", code=1),
        played.find_on_page()["error"],
    ):
        assert words in output
    logs = played.doit("logs", NODE)
    assert "KFP driver: driver.Container(" in logs
    assert "input ComponentSpec" not in logs
    assert "input ComponentSpec" in played.doit("logs", NODE, "--all")
    played.doit("replay", NODE)  # its inputs are there, and it can be run here


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_driver_is_named_at_the_end_of_a_run_that_was_watched(play, version):
    played = play(version, kind=Broken)
    open_project.cache_clear()

    assert watch_runs(open_project(played.sample.root), [played.run_id]) == 1

    shown = played.read()
    assert "the driver of node second node failed before the node started: no execution" in shown
    assert "last lines of the driver's log:" in shown


def test_a_driver_of_the_run_that_fails_is_named(play, monkeypatch):
    monkeypatch.setattr("tests.services.cluster.MAX_ARGUMENT_BYTES", 100)
    played = play("2.15.0")  # later ones are given the document in a file
    played.end()

    shown = played.doit("status")

    assert "the driver of the run failed before any node started" in shown
    assert "argument list too long" in shown
    assert set(played.list_states().values()) <= {"skipped", "waiting"}


@pytest.mark.parametrize("version", VERSIONS)
def test_of_a_pod_that_was_lost_and_started_again_the_last_log_counts(play, version):
    lost = Ending(137, log="the first pod\n", is_lost=True)
    played = play(
        version, endings=[lost, None], settings=f"nodes:\n  {NODE}:\n    pod_retries: 1\n"
    )
    run = played.end()

    if run.state == "SUCCEEDED":  # without the block, what is lost is not started again
        assert played.list_states()[NODE] == "ran"
        logs = played.doit("logs", NODE)
        assert "working on 1" in logs
        assert "the first pod" not in logs
        assert played.doit("result", NODE, "--cluster") == "1\n"
    else:
        assert played.list_states()[NODE] == "failed"


def test_a_pod_that_is_lost_each_time_is_named_as_far_as_it_is_known(play):
    played = play("2.17.0", endings=[Ending(137, log="begun\n", is_lost=True)])
    played.end()

    assert played.list_states()[NODE] == "failed"
    assert "begun" in played.doit("logs", NODE)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cached_node_says_so(play, version):
    played = play(version)
    played.end()
    _, record = submit_project(played.sample)
    played.server.wait(record["run_id"])

    assert set(played.list_states().values()) == {"cached"}
    assert "KFP took its result from the cache" in played.doit("logs", NODE, code=1)
    assert played.doit("result", NODE, "--cluster") == "1\n"
    assert played.find_on_page()["state"] == "cached"
    played.doit("replay", NODE)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_canceled_run_is_canceled_with_all_that_had_not_finished(play, version):
    played = play(version, how="sleeps")
    wait_until(lambda: len(played.cluster.pods) == 2, what="the second pod")
    assert "cancellation requested" in played.doit("cancel")
    assert played.end().state == "FAILED"  # as KFP has it

    assert played.list_states() == {"first": "ran", NODE: "canceled", "third": "canceled"}
    assert "run 'flow'" in played.doit("status").splitlines()[0]
    assert ": canceled, " in played.doit("status").splitlines()[0]
    assert "canceled" in played.doit("runs")
    assert "has already ended: canceled" in played.doit("cancel")
    assert "its state is canceled" in played.doit("result", NODE, "--cluster", code=1)
    assert played.find_on_page()["state"] == "canceled"
    played.doit("logs", NODE)  # what it had printed


def test_a_run_that_ends_while_it_is_being_canceled_has_ended(play, monkeypatch):
    from fftasks.kfp import client as kfp_runs

    played = play("2.17.0")
    read = kfp_runs.fetch_run
    late = []

    def read_early(settings, run_id):
        """Show the run once as it was a moment before it ended."""
        answer = read(settings, run_id)
        if not late:
            late.append(answer)
            played.end()
            return {**answer, "state": "RUNNING"}
        return answer

    monkeypatch.setattr("fftasks.kfp.diagnostics.fetch_run", read_early)

    assert "has already ended: ran" in played.doit("cancel")


def let_time_pass(played, seconds):
    """Shift what happened on the cluster into the past."""
    run = played.server.api.runs[played.run_id]
    for task in run.tasks.values():
        for step in (task.driver, *task.pods):
            step.history[:] = [(when - seconds, state) for when, state in step.history]
            step.placed -= seconds if step.placed else 0
            step.begun -= seconds if step.begun else 0


WAITS = [
    ({"endings": [Ending(error='ImagePullBackOff: Back-off pulling image "x"')]},
     'ImagePullBackOff: Back-off pulling image "x"'),
    ({"settings": f"nodes:\n  {NODE}:\n    secret_env: {{A: token/key}}\n"},
     'CreateContainerConfigError: secret "token" not found'),
    ({"settings": f"nodes:\n  {NODE}:\n    cpu: '64'\n", "machines": (Machine(),)},
     "Unschedulable: "),
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("options", "cause"), WAITS)
def test_a_pod_that_does_not_start_is_explained_in_kubernetes_words(play, version, options, cause):
    played = play(version, **options)
    played.wait_for_pod()

    assert "does not start" not in played.doit("status")  # it may do so yet
    let_time_pass(played, 120)
    shown = played.doit("status")

    assert f"second node does not start: {cause}" in shown
    assert played.list_states() == {"first": "ran", NODE: "waiting", "third": "waiting"}
    assert cause in played.doit("logs", NODE, code=1)
    assert cause in played.find_on_page()["reason"]
    assert "cancellation requested" in played.doit("cancel")
    played.end()
    assert played.list_states()[NODE] == "canceled"


def test_a_pod_that_does_not_start_is_told_once_while_the_run_is_followed(play):
    played = play("2.17.0", endings=[Ending(error="ErrImagePull: denied")])
    played.wait_for_pod()
    let_time_pass(played, 120)
    open_project.cache_clear()
    threading.Timer(4, played.server.api.runs[played.run_id].terminate).start()

    assert watch_runs(open_project(played.sample.root), [played.run_id]) == 1

    shown = played.read()
    assert shown.count("second node does not start: ErrImagePull: denied") == 1
    assert "run 'flow' was canceled" in shown


def test_kubectl_is_asked_where_no_server_tells_of_pods(kubectl, play, monkeypatch, tmp_path):
    played = play("2.17.0", endings=[Ending(error="ErrImagePull: denied")], servers=["api"])
    played.wait_for_pod()
    let_time_pass(played, 120)
    [pod] = re.findall(r"kubectl describe pod -n kubeflow (\S+?)`", played.doit("status"))
    with KubernetesApi("kubeflow") as api:
        waiting = {"waiting": {"reason": "ErrImagePull", "message": "denied"}}
        api.add_pod(pod, containerStatuses=[{"name": "main", "state": waiting}])
        api.write_config(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

        assert "second node does not start: ErrImagePull: denied" in played.doit("status")


def test_the_log_comes_from_kubectl_where_no_server_has_it(kubectl, play, monkeypatch, tmp_path):
    played = play("2.15.0", how="raises", servers=[])
    played.end()
    command = played.doit("logs", NODE, code=1)
    [pod] = re.findall(r"kubectl logs -n kubeflow (\S+) -c main", command)
    with KubernetesApi("kubeflow") as api:
        api.add_pod(pod, "what kubectl has\n")
        api.write_config(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

        assert played.doit("logs", NODE) == "what kubectl has\n"


def test_without_kubernetes_the_command_to_look_with_is_told(play, monkeypatch, tmp_path):
    played = play("2.17.0", endings=[Ending(error="ErrImagePull: denied")], servers=["api"])
    played.wait_for_pod()
    let_time_pass(played, 120)
    monkeypatch.setenv("PATH", str(tmp_path))  # no kubectl

    shown = played.doit("status")

    assert re.search(
        r"reason unknown; `kubectl describe pod -n kubeflow flow-\S+` shows more", shown
    )


class TestTooLarge:
    """Above 1 MiB, here above some bytes, Kubeflow Pipelines gives no states of tasks."""

    SMALL = Argo("2.17.0", compress_bytes=10)

    def test_states_come_from_the_metadata_store(self, play):
        played = play("2.17.0", argo=self.SMALL, how="raises")
        played.end()

        assert played.list_states() == {"first": "ran", NODE: "failed", "third": "skipped"}
        assert "ValueError: bad value" in played.doit("status")
        assert "working on 1" in played.doit("logs", NODE)
        assert played.doit("result", "first", "--cluster") == "1\n"

    def test_states_of_a_run_under_way_too(self, play, monkeypatch):
        # on a real system it is noticed when a task has ended 30 s after the last update of the rows;
        # here both are in the same second
        monkeypatch.setattr("fftasks.kfp.task_details._LAG_S", -1)
        played = play("2.17.0", argo=self.SMALL, how="sleeps")
        wait_until(lambda: len(played.cluster.pods) == 2, what="the second pod")
        run = played.server.api.runs[played.run_id]
        wait_until(lambda: played.list_states()["first"] == "ran", what="its rows")

        assert played.list_states()[NODE] == "running"
        run.terminate()

    def test_without_the_store_a_run_that_succeeded_has_run(self, play):
        played = play("2.17.0", argo=self.SMALL, servers=["api"])
        played.end()

        assert set(played.list_states().values()) == {"ran"}
        assert "gives no task states, because Argo has compressed them" in played.doit("status")
        assert played.doit("result", NODE, "--cluster", "--trust") == "1\n"

    def test_without_the_store_a_run_that_failed_is_unknown(self, play):
        played = play("2.17.0", argo=self.SMALL, how="raises", servers=["api"])
        played.end()

        shown = played.doit("status")

        assert set(played.list_states().values()) == {"unknown"}
        assert "at least 1 of 3 tasks have finished" in shown
        assert f"kubectl get pods -n kubeflow -l pipeline/runid={played.run_id}" in shown


class TestLogs:
    def test_the_copy_in_the_object_store_is_the_log_where_the_pod_is_gone(self, play):
        played = play("2.17.0", how="raises", servers=["page", "api"])
        played.end().pods_are_gone = True

        assert "working on 1" in played.doit("logs", NODE)
        assert "ValueError: bad value" in played.doit("status")

    def test_what_is_not_below_the_pipeline_root_is_not_read(self, play):
        played = play("2.17.0", how="raises")
        played.end().pods_are_gone = True
        root = "kfp:\n  pipeline_root: minio://elsewhere/root"

        played.sample.edit("config/default.yaml", "kfp:", root)

        assert "log of 'second node' in run" in played.doit("logs", NODE, code=1)

    def test_an_answer_that_is_an_error_is_not_printed_as_a_log(self, play, monkeypatch, tmp_path):
        played = play("2.15.0", how="raises", servers=["api"])
        played.end().pods_are_gone = True
        monkeypatch.setenv("PATH", str(tmp_path))

        shown = played.doit("logs", NODE, code=1)

        assert "log of 'second node' in run" in shown
        assert "the API server says: BadRequestError: Failed to read logs" in shown
        assert re.search(
            r"kubectl logs -n kubeflow flow-\S+-system-container-impl-\d+ -c main", shown
        )
        assert "error_message" not in shown

    def test_the_log_of_a_pod_that_runs_is_what_it_has_printed_so_far(self, play):
        played = play("2.17.0", endings=[Ending(error="ErrImagePull: x")])
        played.wait_for_pod()

        assert "has not started" in played.doit("logs", NODE, code=1)


def test_a_run_in_which_nothing_failed_is_asked_about_in_few_requests(play):
    played = play("2.17.0")
    played.end()
    played.server.requests.clear()

    played.doit("status")

    assert len(played.server.requests) <= 5
