"""Following a run: what is shown, what ends it, and that nothing else does."""

import io
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from fftasks.errors import ToolError
from fftasks.kfp.client import fetch_run
from fftasks.kfp.connection import UnavailableError
from fftasks.kfp.diagnostics import RunDiagnostics
from fftasks.kfp.node_status import get_task_state
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import ClusterTask
from fftasks.report.polling import PollTimeouts, StillRunningError, poll_run, watch_runs
from fftasks.report.run_status import make_run_display
from tests.services.kfp_script import Script, list_steps
from tests.services.kfp_server import Fault, KFPServer
from tests.services.waiting import wait_until
from tests.submitted_project import make_project, submit_project


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Give the names of the chain's tasks, upstream first."""
    with KFPServer() as server:
        _, record = submit_project(make_project(tmp_path_factory.mktemp("tasks"), server))
        return server.api.runs[record["run_id"]].pipeline.order_tasks()


PATIENCE = PollTimeouts(timeout_s=0, reconnect_timeout_s=60)


class Noted:
    """A Show that notes what it is told."""

    def __init__(self):
        self.told = []

    def change(self, run, task):
        self.told.append((task.name, task.state))

    def draw(self, run):
        pass

    def say(self, text):
        self.told.append(text)


class Time:
    """A clock that goes on when somebody waits."""

    def __init__(self):
        self.now = 0.0

    def pause(self, seconds):
        self.now += seconds

    def clock(self):
        return self.now


def play(*answers, patience=PATIENCE):
    """Follow a run through answers: states of the run, or errors; return the end, what was shown, when."""
    queue, show, clock = list(answers), Noted(), Time()

    def read():
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return ClusterRun({"run_id": "r", "state": answer})

    run = poll_run(read, show, patience, pause=clock.pause, clock=clock.clock)
    return run, show.told, clock.now


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_every_last_state_ends_it(state):
    run, _, _ = play("PENDING", "RUNNING", "PAUSED", "CANCELING", "", state)

    assert run.state == state


def test_a_host_that_is_away_for_a_while_is_waited_for_and_said_once():
    away = UnavailableError("cannot read run r", found=["no connection to http://kfp"])

    run, told, _ = play("RUNNING", *[away] * 8, "SUCCEEDED")

    assert run.state == "SUCCEEDED"
    assert told == ["no connection to http://kfp; trying again"]


def test_a_host_that_stays_away_ends_it_after_a_bound():
    clock_start = time.monotonic()
    away = UnavailableError("cannot read run r", found=["no connection"], tip="is kfp.host right?")
    with pytest.raises(
        UnavailableError, match="responded for 60 s; the run probably continues"
    ) as caught:
        play("RUNNING", away)

    assert caught.value.found == ("no connection",)
    assert caught.value.tip == "increase kfp.reconnect_timeout_s to wait longer; is kfp.host right?"
    assert time.monotonic() - clock_start < 5


def test_a_refusal_ends_it_at_once():
    with pytest.raises(ToolError, match="no such run"):
        play("RUNNING", ToolError("no such run"), "SUCCEEDED")


def test_a_bound_ends_it_and_says_that_the_run_goes_on():
    with pytest.raises(StillRunningError, match=r"within 30 s; it continues") as caught:
        play("RUNNING", patience=PollTimeouts(timeout_s=30, reconnect_timeout_s=60))

    assert caught.value.exit_code == 4


def test_waiting_gets_longer_up_to_a_bound():
    _, _, seconds = play(*["RUNNING"] * 100, "SUCCEEDED")

    assert 400 < seconds <= 500


def watch(tmp_path, capsys, *steps, kfp="", **options):
    script = Script(*steps, **options)
    with KFPServer(script) as server:
        project, record = submit_project(make_project(tmp_path, server, kfp=kfp))
        code = watch_runs(project, [record["run_id"]])
        assert len(server.runs) == 1
    return code, capsys.readouterr()


def test_a_run_that_succeeds_is_shown_node_by_node(tmp_path, capsys, tasks):
    steps = [(tasks[0], "CACHED"), *list_steps(tasks[1:], "PENDING", "RUNNING", "SUCCEEDED")]

    code, out = watch(tmp_path, capsys, *steps)

    assert code == 0
    lines = [line for line in out.out.splitlines() if not line.endswith("running")]
    assert [line[2:].split(" in ")[0] for line in lines[:3]] == [
        "first node  cached",
        "second  ran",
        "third  ran",
    ]
    assert re.fullmatch(r"run 'chain' has succeeded after \d s, 1 of 3 nodes cached", lines[3])
    assert out.err == ""


def test_a_failed_node_is_shown_with_error_log_and_what_to_do(tmp_path, capsys, tasks):
    log = "".join(f"line {n}\n" for n in range(50))
    steps = [*list_steps(tasks[:1], "RUNNING"), (tasks[0], "FAILED", "exit status 1")]

    code, out = watch(tmp_path, capsys, *steps, logs={tasks[0]: log})

    assert code == 1
    assert "first node failed: its command ended with exit status 1" in out.out
    assert "line 49" in out.out
    assert "line 29\n" not in out.out
    assert re.search(r"`doit replay 'first node' [0-9a-f]{8} --pdb`", out.out)


@pytest.mark.parametrize("servers", [frozenset({"page"}), frozenset({"api"}), frozenset()])
def test_the_log_comes_from_whoever_gives_it(tmp_path, capsys, servers, tasks):
    task = tasks[0]
    script = Script((task, "RUNNING"), (task, "FAILED", "x"), logs={task: "what it printed\n"})
    with KFPServer(script, log_servers=servers) as server:
        project, record = submit_project(make_project(tmp_path, server))
        watch_runs(project, [record["run_id"]])

    assert ("what it printed" in capsys.readouterr().out) is bool(servers)


def test_logs_of_many_pods_are_not_waited_for_where_nobody_answers(tmp_path):
    with KFPServer() as server:
        project, record = submit_project(make_project(tmp_path, server))
        run = ClusterRun(fetch_run(project.settings.kfp, record["run_id"]))
        evidence = RunDiagnostics(project.settings, project.folder, run)
        server.faults.append(Fault(reset=True, path="log", times=100))

        logs = [evidence.read_log(ClusterTask("task", ("node",), pod=f"pod-{n}")) for n in range(9)]

    asked = [request for request in server.requests if "log" in request.path]
    assert logs == [None] * 9
    assert 2 <= len(asked) <= 4


def test_a_canceled_run_ends_it(tmp_path, capsys, tasks):
    task = tasks[0]
    with KFPServer(Script((task, "RUNNING"), (None, None))) as server:
        project, record = submit_project(make_project(tmp_path, server))
        timer = threading.Timer(0.5, server.api.runs[record["run_id"]].terminate)
        timer.start()

        code = watch_runs(project, [record["run_id"]])

    assert code == 1
    assert "run 'chain' was canceled" in capsys.readouterr().out


def test_broken_and_slow_answers_do_not_end_it(tmp_path, capsys, tasks):
    with KFPServer(Script((None, None), *list_steps(tasks, "SUCCEEDED"))) as server:
        sample = make_project(tmp_path, server, kfp="  timeout_s: 0.3")
        project, record = submit_project(sample)
        faults = (Fault(status=503), Fault(reset=True), Fault(delay_s=1), Fault(status=429))
        server.faults += faults
        server.api.execute.go_on()

        assert watch_runs(project, [record["run_id"]]) == 0

    assert all(fault.times == 0 for fault in faults)
    assert "trying again" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [Fault(status=401), Fault(status=403), Fault(body=b"<html>")])
def test_an_expired_login_ends_it_with_the_setting(tmp_path, capsys, fault):
    with KFPServer(Script((None, None))) as server:
        project, record = submit_project(make_project(tmp_path, server))
        server.faults.append(Fault(**vars(fault)))

        code = watch_runs(project, [record["run_id"]])

    assert code == 1
    assert "kfp." in capsys.readouterr().err


def test_a_deleted_run_ends_it(tmp_path, capsys):
    with KFPServer() as server:
        project, record = submit_project(make_project(tmp_path, server))
        del server.api.runs[record["run_id"]]

        assert watch_runs(project, [record["run_id"]]) == 1

    assert "does not exist (any more)" in capsys.readouterr().err


def test_ctrl_c_cancels_nothing_and_says_how_to_go_on(tmp_path):
    with KFPServer(Script((None, None))) as server:
        project, record = submit_project(make_project(tmp_path, server))
        program = (
            "import sys; from pathlib import Path; from fftasks.project import open_project\n"
            "from fftasks.report.polling import watch_runs\n"
            f"sys.exit(watch_runs(open_project(Path({str(tmp_path)!r})), [{record['run_id']!r}]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True
        )
        path = f"/runs/{record['run_id']}"
        wait_until(lambda: server.list_requests("GET", path), what="the first look", timeout_s=20)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)

        assert process.returncode == 130
        assert server.list_requests("POST", ":terminate") == []
        assert not server.runs[0].is_terminated.is_set()
    assert f"`doit cancel {record['run_id'][:8]}` cancels it" in errors
    assert "`doit status" in errors


def test_a_terminal_gets_a_bar(tasks):
    stream = io.StringIO()
    stream.isatty = lambda: True
    document = {"root": {"dag": {"tasks": {t: {"componentRef": {"name": "x"}} for t in tasks}}}}
    details = [{"display_name": tasks[0], "state": "RUNNING"}]
    run = ClusterRun({"pipeline_spec": document, "run_details": {"task_details": details}})

    show = make_run_display(stream)
    show.draw(run)
    show.say("[red]no markup[/red]")
    show._progress.refresh()
    show.close()

    assert "0/3" in stream.getvalue()
    assert tasks[0] in stream.getvalue()
    assert "[red]no markup[/red]" in stream.getvalue()


def test_states_that_nobody_knows_yet_are_no_end():
    run, _, _ = play("BRAND_NEW", "SUCCEEDED")

    assert run.state == "SUCCEEDED"


def test_run_without_a_document_has_no_nodes(tasks):
    assert ClusterRun({"run_id": "r", "run_details": None}).tasks == ()
    assert ClusterRun(SimpleNamespace().__dict__).nodes == {}


def show_times(*rows):
    """Return a run whose task `a` has succeeded, with what the interface shows beside it."""
    document = {"root": {"dag": {"tasks": {"a": {"componentRef": {"name": "x"}}}}}}
    details = [
        {"display_name": name, "state": state, "start_time": f"2026-01-01T00:00:{begin:02}Z",
         "end_time": f"2026-01-01T00:00:{end:02}Z"}
        for name, state, begin, end in rows
    ]  # fmt: skip
    answer = {"pipeline_spec": document, "run_details": {"task_details": details}}
    return ClusterRun(answer).tasks[0].state


@pytest.mark.parametrize(
    ("state", "rows"),
    [
        ("CACHED", [("a", "SUCCEEDED", 1, 1), ("executor", "SKIPPED", 1, 1)]),
        ("CACHED", [("a", "SUCCEEDED", 1, 2), ("executor", "SKIPPED", 1, 1), ("executor", "FAILED", 2, 9)]),
        ("SUCCEEDED", [("a", "SUCCEEDED", 1, 9), ("executor", "SKIPPED", 1, 1), ("executor", "X", 2, 9)]),
        ("SUCCEEDED", [("a", "SUCCEEDED", 1, 9), ("executor", "SUCCEEDED", 1, 9)]),
        ("SUCCEEDED", [("a", "SUCCEEDED", 1, 9)]),
        ("CACHED", [("a", "SKIPPED", 1, 1)]),
    ],
)  # fmt: skip
def test_a_cached_task_is_known_by_the_times_of_its_pod(state, rows):
    assert show_times(*rows) == state


@pytest.mark.parametrize(
    ("state", "rows", "word"),
    [
        ("RUNNING", [("b", "FAILED")], "waiting"),
        ("FAILED", [("b", "FAILED")], "skipped"),
        ("CANCELED", [("b", "CANCELED")], "canceled"),
        ("CANCELED", [("a", "CANCELED")], "canceled"),
        ("FAILED", [("a-driver", "FAILED")], "failed"),
        ("SUCCEEDED", [("b", "SUCCEEDED")], "waiting"),
        ("FAILED", [], "waiting"),  # its details are gone: nobody knows
    ],
)
def test_what_never_began_is_skipped_when_the_run_has_failed_and_canceled_with_it(
    state, rows, word
):
    document = {"root": {"dag": {"tasks": {"a": {"componentRef": {"name": "x"}}}}}}
    details = [{"display_name": name, "state": word} for name, word in rows]
    run = ClusterRun(
        {"state": state, "pipeline_spec": document, "run_details": {"task_details": details}}
    )

    assert get_task_state(run, run.tasks[0]) == word
