"""The entry point of a pod, started as in a container: how nodes end, how often they are tried, what is said.

Each row holds for a node alone in its pod and for one in a group.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fftasks.runner import pod as entry
from fftasks.runner.artifact import read_artifact, read_pack
from fftasks.runner.pod import PodFailure, find_failure
from fftasks.runner.task import TaskNodes, format_members

WORKFLOW = """
import asyncio, atexit, ctypes, os, signal, subprocess, sys, threading, time
from pathlib import Path
from fftasks import Workflow, workflow

class OwnError(Exception):
    pass

def note(text):
    with open("notes.txt", "a") as file:
        file.write(f"{text}\\n")

@workflow
def first():
    return 1

@workflow
def work(x):
    note(f"try {time.monotonic()}")
    print("before the end")
    BODY
    return x

note("imported")
AT_IMPORT
one = first().set_name("one")
node = work(2).set_name("node")
Workflow(one, node, name="w")
"""


class Pod:
    """A pod that runs the node, alone or in a group."""

    def __init__(self, root, *, is_group):
        self.root, self.is_group = root, is_group
        self.log, self.code, self.seconds = "", 0, 0.0

    def prepare(self, body="pass", at_import=""):
        text = WORKFLOW.replace("BODY", body).replace("AT_IMPORT", at_import)
        (self.root / "wf.py").write_text(text)

    def make_command(self):
        outputs = ("values", "inner") if self.is_group else ("result",)
        document = {
            "outputs": {
                "artifacts": {
                    name: {"artifacts": [{"uri": str(self.root / name)}]} for name in outputs
                },
                "outputFile": str(self.root / "answer.json"),
            }
        }
        members = TaskNodes(("one", "node"), (("node", "result"),))
        nodes = ["--nodes", format_members(members)] if self.is_group else []
        command = [sys.executable, "-m", "fftasks.runner", "--file", "wf.py", "--workflow", "w"]
        command += ["--node", self.name, *nodes, "--executor-input", json.dumps(document)]
        return command

    @property
    def name(self):
        return "one+" if self.is_group else "node"

    def start(self, means=None, **environ):
        env = {**os.environ, "FFFUNCTION": self.name, **environ}
        if means:
            env["FFMEANS"] = json.dumps(means)
        return subprocess.Popen(
            self.make_command(),
            cwd=self.root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # as KFP's launcher has it
            text=True,
            errors="replace",
        )

    def run(self, body="pass", at_import="", means=None, **environ):
        self.prepare(body, at_import)
        begin = time.monotonic()
        with self.start(means, **environ) as process:
            self.log, _ = process.communicate(timeout=100)
        self.code, self.seconds = process.returncode, time.monotonic() - begin
        return self

    @property
    def failure(self):
        return find_failure(self.log)

    @property
    def notes(self):
        path = self.root / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def tries(self):
        return [float(line.split()[1]) for line in self.notes if line.startswith("try")]

    def read_result(self):
        if self.is_group:
            return read_pack(self.root / "values").values["node", "result"].place.read()
        return read_artifact(self.root / "result")

    def has_result(self):
        return (self.root / ("values" if self.is_group else "result")).exists()

    def expect(self, reason):
        """Check that the node has failed, for this reason."""
        assert self.code not in {0, -signal.SIGPIPE}, self.log
        done = ("one",) if self.is_group else ()
        assert self.failure == PodFailure("node", reason, done), self.log
        assert self.log.splitlines()[-1].startswith("-- failed: ")
        return True


@pytest.fixture(params=["alone", "in a group"])
def pod(tmp_path, request):
    return Pod(tmp_path, is_group=request.param == "in a group")


@pytest.fixture
def alone(tmp_path):
    return Pod(tmp_path, is_group=False)


NO_RESULT = "ended its process with exit code 0 without a result"
ENDS = {
    "raise ValueError('bad value')": "ValueError: bad value",
    "raise ValueError": "ValueError",
    "raise OwnError('in\\nlines')": "wf.OwnError: in lines",
    "raise asyncio.CancelledError('stop')": "asyncio.exceptions.CancelledError: stop",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise MemoryError": "MemoryError",
    "raise ValueError('x' * 10_000_000)": "ValueError: " + "x" * 487 + "…",
    "return (i for i in [1])": "returned a generator that cannot be stored: "
    "TypeError: cannot pickle 'generator' object",
    "sys.exit()": NO_RESULT,
    "sys.exit(0)": NO_RESULT,
    "sys.exit(3)": "ended its process with exit code 3",
    "sys.exit('no luck')": "ended its process with exit code 1: no luck",
    "os._exit(0)": NO_RESULT,
    "os._exit(5)": "ended its process with exit code 5",
    "ctypes.CDLL(None).exit(0)": NO_RESULT,
    "ctypes.CDLL(None).exit(7)": "ended its process with exit code 7",
    "os.abort()": "was killed by SIGABRT",
    "ctypes.string_at(0)": "was killed by SIGSEGV",
    "os.kill(os.getpid(), 40)": "was killed by signal 40",
    "os.kill(os.getpid(), signal.SIGHUP); time.sleep(60)": "was killed by SIGHUP",
    "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)": "KeyboardInterrupt",
    "threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(60)": NO_RESULT,
    "os.closerange(3, 100)": "ended its process with exit code 1",
    "os.closerange(3, 100); open('other.txt', 'w'); os._exit(0)": NO_RESULT,
    "os.execvp('true', ['true'])": NO_RESULT,
}


@pytest.mark.parametrize("body", ENDS)
def test_node_that_ends_without_a_result_fails_with_the_reason(pod, body):
    pod.run(body).expect(ENDS[body])

    assert len(pod.tries) == 1
    assert pod.log.count("before the end") == 1


def test_node_that_writes_into_the_pipe_of_its_report_fails(pod):
    body = "[os.write(n, b'x' * 9) for n in range(3, 30) if Path(f'/proc/self/fd/{n}').is_fifo()]"
    pod.run(body)

    assert pod.code
    assert pod.failure.node == "node"
    assert pod.failure.reason.startswith("ended its process with exit code")


def test_file_that_has_the_number_of_the_closed_pipe_is_not_written_to(pod):
    pod.run("os.closerange(3, 100); files = [open(f'{n}.txt', 'w') for n in range(50)]")

    assert pod.code
    assert "closed a file descriptor that it did not open" in pod.log
    assert not any(path.read_bytes() for path in pod.root.glob("*.txt") if path.stem.isdecimal())


def test_traceback_stands_above_the_last_line(pod):
    pod.run("raise ValueError('bad value')").expect("ValueError: bad value")

    assert not (pod.root / "answer.json").exists()
    lines = pod.log.splitlines()
    assert any("node raised ValueError" in line for line in lines)
    assert any('wf.py", line' in line for line in lines)
    assert "fftasks/runner" not in pod.log


def test_node_that_was_killed_may_have_run_out_of_memory(pod):
    pod.run("os.kill(os.getpid(), signal.SIGKILL)")

    reason = pod.failure.reason
    assert reason.startswith("was killed by SIGKILL")
    assert "out of memory," not in reason  # the kernel has counted nothing


def test_node_that_is_done_gives_its_result(pod):
    pod.run()

    assert pod.code == 0, pod.log
    assert pod.read_result() == 2
    assert pod.failure is None
    assert (pod.root / "answer.json").exists()


HANGS = {
    "sleep": "time.sleep(600)",
    "C": "ctypes.PyDLL(None).sleep(600)",  # keeps the interpreter's lock, so that no handler runs
    "ignores signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    "thread": "threading.Thread(target=time.sleep, args=(600,)).start(); time.sleep(600)",
    "processes": "subprocess.run(['sh', '-c', 'sleep 600 & echo $! >pid.txt; sleep 600'])",
    "closed pipe": "os.closerange(3, 100); time.sleep(600)",
}


@pytest.mark.parametrize("body", HANGS)
def test_node_that_hangs_is_killed_with_all_that_it_started(pod, body):
    pod.run(HANGS[body], means={"timeout_s": 1}).expect("took longer than timeout_s: 1")

    assert pod.seconds < 30
    if body == "processes":
        assert not is_alive(int((pod.root / "pid.txt").read_text()))


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_node_that_is_fast_enough_is_not_killed(pod):
    pod.run("time.sleep(0.5)", means={"timeout_s": 30})

    assert (pod.code, pod.read_result()) == (0, 2)


def test_node_that_hangs_behind_its_result_is_killed(alone):
    body = "threading.Thread(target=time.sleep, args=(600,)).start()"

    alone.run(body, means={"timeout_s": 1}).expect("took longer than timeout_s: 1")


AT_IMPORT = {
    "raise ValueError('bad value')": "wf.py cannot be imported: ValueError: bad value",
    "sys.exit(0)": "wf.py cannot be imported: SystemExit: 0",
    "os._exit(0)": f"{NO_RESULT}, while wf.py was imported",
    "ctypes.CDLL(None).exit(0)": f"{NO_RESULT}, while wf.py was imported",
    "os.abort()": "was killed by SIGABRT, while wf.py was imported",
    "time.sleep(600)": "took longer than timeout_s: 2, while wf.py was imported",
    "ctypes.PyDLL(None).sleep(600)": "took longer than timeout_s: 2, while wf.py was imported",
}


@pytest.mark.parametrize("at_import", AT_IMPORT)
def test_file_that_cannot_be_imported_fails_with_the_reason(pod, at_import):
    pod.run(at_import=at_import, means={"timeout_s": 2})

    assert pod.code
    assert pod.failure == PodFailure(pod.name, AT_IMPORT[at_import])
    assert not pod.tries


@pytest.mark.parametrize("at_import", ["os._exit(0)", "time.sleep(600)", "raise ValueError"])
def test_import_that_fails_is_tried_again(pod, at_import):
    guarded = f"if len(Path('notes.txt').read_text().splitlines()) < 3: {at_import}"

    pod.run(at_import=guarded, means={"timeout_s": 2, "retries": 2})

    assert pod.code == 0, pod.log
    assert pod.notes.count("imported") == 3
    assert pod.read_result() == 2


FAILS = {
    "raises": ("raise ValueError('bad value')", "ValueError: bad value"),
    "exits": ("os._exit(3)", "ended its process with exit code 3"),
    "exits with 0": ("os._exit(0)", NO_RESULT),
    "killed": ("os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
    "hangs": ("time.sleep(600)", "took longer than timeout_s: 1"),
}


@pytest.mark.parametrize("case", FAILS)
def test_node_is_tried_again_until_it_succeeds(pod, case):
    body = f"if len([line for line in open('notes.txt') if 'try' in line]) < 3: {FAILS[case][0]}"

    pod.run(body, means={"timeout_s": 1, "retries": 3})

    assert pod.code == 0, pod.log
    assert len(pod.tries) == 3
    assert pod.read_result() == 2
    assert pod.failure is None
    assert pod.log.count(f"-- {FAILS[case][1]}; again in 0 s") == 2


@pytest.mark.parametrize("case", FAILS)
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_node_that_goes_on_failing_is_tried_once_more_than_it_has_retries(pod, case, retries):
    body, reason = FAILS[case]
    pod.run(body, means={"timeout_s": 1, "retries": retries})

    pod.expect(f"{reason}, at the last of {retries + 1} tries" if retries else reason)
    assert len(pod.tries) == retries + 1


@pytest.mark.parametrize(
    ("means", "waits"),
    [
        ({"wait_s": 0.4, "factor": 1.5}, [0.4, 0.6, 0.9]),
        ({"wait_s": 0.4, "factor": 1.0}, [0.4, 0.4, 0.4]),
        ({"wait_s": 0.4, "factor": 3.0, "max_wait_s": 0.7}, [0.4, 0.7, 0.7]),
        ({"wait_s": 3600.0, "max_wait_s": 0.5}, [0.5, 0.5, 0.5]),
        ({"wait_s": 0.3, "factor": 1e9, "max_wait_s": 0.3}, [0.3, 0.3, 0.3]),
        ({}, [0, 0, 0]),
    ],
)
def test_waits_between_tries_are_as_long_as_set(pod, means, waits):
    pod.run("raise ValueError", means={"retries": 3, **means})

    begun = pod.tries
    found = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert len(found) == 3
    for wait, expected in zip(found, waits, strict=True):
        assert expected <= wait < expected + 1.5


@pytest.mark.parametrize(
    ("index", "tries"), [("", 3), ("0", 3), ("1", 1), ("2", 1), ("{{retries}}", 3)]
)
def test_pod_that_was_started_again_does_not_multiply_tries(pod, index, tries):
    pod.run("raise ValueError", means={"retries": 2}, KFP_RETRY_INDEX=index)

    assert len(pod.tries) == tries


def test_error_of_each_try_is_in_the_log(pod):
    pod.run(
        "raise ValueError(f'number {len(open(\"notes.txt\").readlines())}')", means={"retries": 1}
    )

    numbers = [line.rpartition("ValueError: number ")[2] for line in pod.log.splitlines()
               if line.removeprefix("node | ").startswith("ValueError: number ")]  # fmt: skip
    assert len(set(numbers)) >= 1
    assert pod.log.count("Traceback (most recent call last)") == 2


def test_output_of_a_node_alone_has_no_name_before_it(alone):
    alone.run("print('part', end=''); sys.stderr.write('error\\n'); os.system('echo from C')")

    assert alone.log.splitlines() == ["before the end", "parterror", "from C"]


def test_last_line_is_a_line_of_its_own_behind_half_a_line(pod):
    pod.run("sys.stdout.write('half'); sys.stdout.flush(); os._exit(3)")

    assert pod.log.splitlines()[-1].startswith("-- failed: ")


def test_exit_handlers_and_threads_of_a_node_alone_are_waited_for(alone):
    alone.run(
        "atexit.register(note, 'handler'); "
        "threading.Thread(target=lambda: (time.sleep(0.5), note('thread'))).start()"
    )

    assert alone.code == 0, alone.log
    assert alone.notes[-2:] == ["thread", "handler"]


def test_exit_handler_that_breaks_the_process_fails_a_node_alone(alone):
    alone.run("atexit.register(os.abort)").expect(
        "was killed by SIGABRT, after its function had returned"
    )


LEFT = "if os.fork() == 0: time.sleep(20); os._exit(0)"  # holds the pipe of the report, and the log


def test_process_that_a_node_leaves_behind_is_not_waited_for(pod):
    pod.prepare(LEFT)
    begin = time.monotonic()
    with subprocess.Popen(
        pod.make_command(), cwd=pod.root, stdin=subprocess.DEVNULL,
        env={**os.environ, "FFFUNCTION": pod.name}, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.wait(timeout=60) == 0

    assert time.monotonic() - begin < 15
    assert pod.read_result() == 2


def test_process_that_a_node_leaves_behind_does_not_hide_that_it_failed(pod):
    pod.prepare(f"{LEFT}\n    os._exit(0)")
    with open(pod.root / "log.txt", "w") as log:  # noqa: PTH123
        code = subprocess.run(
            pod.make_command(), cwd=pod.root, stdin=subprocess.DEVNULL, check=False, timeout=60,
            env={**os.environ, "FFFUNCTION": pod.name}, stdout=log, stderr=log,
        ).returncode  # fmt: skip

    assert code == 1
    assert find_failure((pod.root / "log.txt").read_text()).reason == NO_RESULT


def test_node_whose_exit_code_is_taken_by_code_of_the_users_is_judged_by_its_report(tmp_path):
    pod = Pod(tmp_path, is_group=True)
    pod.run(at_import="signal.signal(signal.SIGCHLD, signal.SIG_IGN)")

    assert pod.code == 0, pod.log
    assert pod.read_result() == 2


def wait_for(test, seconds=30):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("means", [{}, {"timeout_s": 60, "retries": 3}])
def test_pod_that_is_terminated_says_so_and_ends_its_processes(pod, means):
    pod.prepare("note(f'pid {os.getpid()}'); time.sleep(600)")
    with pod.start(means) as process:
        wait_for(lambda: any(line.startswith("pid") for line in pod.notes))
        process.send_signal(signal.SIGTERM)
        pod.log, _ = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    failure = pod.failure
    assert failure.node == pod.name
    assert failure.reason.startswith("was terminated with its pod (SIGTERM)")
    assert failure.finished == (("one",) if pod.is_group else ())
    assert len(pod.tries) == 1
    (pid,) = (int(line.split()[1]) for line in pod.notes if line.startswith("pid"))
    wait_for(lambda: not is_alive(pid))


def test_pod_that_is_terminated_while_the_file_is_imported_ends(pod):
    pod.prepare(at_import="note(f'pid {os.getpid()}'); ctypes.PyDLL(None).sleep(600)")
    with pod.start() as process:
        wait_for(lambda: any(line.startswith("pid") for line in pod.notes))
        process.send_signal(signal.SIGTERM)
        pod.log, _ = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert pod.failure.reason.startswith("was terminated with its pod (SIGTERM)")


def test_node_can_still_save_something_when_its_pod_is_terminated(pod):
    pod.prepare("signal.signal(signal.SIGTERM, lambda *_: (note('saved'), sys.exit(1))); "
                "note('ready'); time.sleep(600)")  # fmt: skip
    with pod.start() as process:
        wait_for(lambda: "ready" in pod.notes)
        process.send_signal(signal.SIGTERM)
        pod.log, _ = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    wait_for(lambda: "saved" in pod.notes, 5)
    assert pod.notes.count("saved") == 1


def test_wait_before_a_retry_ends_when_the_pod_is_terminated(pod):
    pod.prepare("raise ValueError")
    with pod.start({"retries": 1, "wait_s": 600}) as process:
        wait_for(lambda: pod.tries)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        pod.log, _ = process.communicate(timeout=10)

    assert pod.failure.reason.startswith("was terminated")
    assert len(pod.tries) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_pod_that_is_interrupted_ends_its_node_and_says_so(pod, number):
    pod.prepare("time.sleep(600)")
    with pod.start({}) as process:
        wait_for(lambda: pod.tries)
        process.send_signal(number)
        pod.log, _ = process.communicate(timeout=20)

    assert process.returncode != 0
    assert pod.failure.reason == f"was stopped with its pod by {number.name}"


def test_entry_point_stays_small_while_a_node_makes_much(alone):
    status = "Path(f'/proc/{os.getppid()}/status').read_text()"
    alone.run(f"data = bytes(400 << 20); x = int({status}.split('VmHWM:')[1].split()[0])")

    assert alone.read_result() < 100 << 10  # KiB


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--fingerprint", "sha256:1"], "this image was made for another version of workflow 'w'"),
        (["--node", "another"], "FFFUNCTION is 'node' and --node is 'another'"),
    ],
)
def test_what_is_refused_before_anything_is_run_has_the_last_line_too(alone, arguments, found):
    alone.prepare()
    done = subprocess.run(
        [*alone.make_command(), *arguments], cwd=alone.root, capture_output=True, text=True,
        env={**os.environ, "FFFUNCTION": "node"}, check=False,
    )  # fmt: skip

    assert done.returncode == 3
    assert found in find_failure(done.stderr).reason
    assert not alone.notes


def test_reason_is_left_to_kubernetes_as_the_message_of_the_container(tmp_path, monkeypatch, capfd):
    file = tmp_path / "termination-log"
    monkeypatch.setattr(entry, "_MESSAGE_FILE", str(file))
    failure = PodFailure("node", "ValueError: bad value", ("one", "two"))

    entry.print_failure(failure, "first line\nsecond line")
    assert not file.exists()  # this is no pod
    assert find_failure(capfd.readouterr().err) == failure

    file.write_text("x" * 1000)
    entry.print_failure(failure, "first line\nsecond line")
    assert find_failure(file.read_text()) == PodFailure("node", "ValueError: bad value")
    assert capfd.readouterr().err.startswith("first line\nsecond line\n-- failed: ")
