"""A warm worker: imports the user's file once, and forks for each node.

It reads jobs from its standard input, a JSON line each, and answers with a report, a JSON line each. Each
node has a process of its own, so that one that crashes, leaks or changes globals harms no other. It ends
when its input ends; a node that is then running is killed, for nobody waits for it.
"""

from __future__ import annotations

import functools
import gc
import json
import marshal
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fftasks.errors import FFTasksError
from fftasks.runtime.call import number_inputs
from fftasks.runtime.end import end_tree
from fftasks.runtime.job import Job, Report, run_job
from fftasks.runtime.observe import install_hook
from fftasks.runtime.source import CheckedModules, import_workflows
from fftasks.workflow.node import Node


def serve(root: Path, file: str) -> int:
    """Import the file, say so, and run jobs until the input ends.

    The first line asked is {"files": {path: digest}}, the files as the graph record saw them. The first
    answer is {"forks": true}, or {"error": "…"} if the file cannot be imported or is another one now.
    "forks" is false where forking is not safe, since the user's file started threads.
    """
    answers = take_stdout()
    checked = CheckedModules(root, json.loads(sys.stdin.buffer.readline())["files"])
    try:
        workflows = import_workflows(root, file)
        checked.check()
    except FFTasksError as error:
        _answer(answers, {"error": str(error)})
        return error.exit_code
    _answer(answers, {"forks": not _has_threads()})
    nodes = {(workflow.name, node.name): node for workflow in workflows for node in workflow.nodes}
    install_hook()
    gc.freeze()  # a child that collects garbage would copy every page that it looks at
    for line in sys.stdin.buffer:
        job = Job(**json.loads(line))
        _answer(answers, _run(nodes[job.workflow, job.node], job, checked).to_json())
    return 0


def take_stdout() -> IO[bytes]:
    """Return the standard output for answers alone; what the user's code prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def redirect_output(log: str, *, is_new: bool = True) -> None:
    """Send all that this process prints to a file, also what C code prints."""
    sys.stdout.flush()
    truncate = os.O_TRUNC if is_new else 0
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | truncate | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _has_threads() -> bool:
    # not imported for this alone: what it does behind each fork costs a trivial node a fifth of its time
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


def _answer(answers: IO[bytes], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


def _run(node: Node, job: Job, checked: CheckedModules) -> Report:
    inputs = number_inputs(node)  # here, as the child would have to copy the memory that it touches
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_in_child(functools.partial(run_job, node, job, checked, inputs), job, write_end)
    os.close(write_end)
    return _wait(child, read_end, job)


def _run_in_child(run: Callable[[], Report], job: Job, write_end: int) -> None:
    code = 1
    try:
        if job.timeout_s:
            os.setpgid(0, 0)  # so that what has lost its parent is found as well
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _reseed()
        if job.log:
            redirect_output(job.log, is_new=not job.is_retry)
        report = run()
        # not JSON: its encoder is a lot to copy for a process that lives a millisecond
        with os.fdopen(write_end, "wb") as pipe:
            marshal.dump(report.to_json(), pipe)
        sys.stdout.flush()
        code = 0
    finally:
        # never back into the loop that serves jobs, and no exit handlers of the parent's
        os._exit(code)


def _wait(child: int, read_end: int, job: Job) -> Report:
    content = b""
    deadline = time.monotonic() + job.timeout_s if job.timeout_s else math.inf
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        while True:
            left_s = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([pipe.fileno(), 0], [], [], left_s)
            if not ready:
                end_tree(child)
                os.waitpid(child, 0)
                return describe_timeout(job)
            if pipe.fileno() not in ready and not os.read(
                0, 1
            ):  # nobody sends jobs ahead: only the end is there
                end_tree(child)
                os._exit(1)
            piece = pipe.read(1 << 16)
            if not piece:
                break
            content += piece
    _, status = os.waitpid(child, 0)
    if status == 0 and content:
        return Report(**marshal.loads(content))
    return Report({}, error=f"{job.node} {_describe_end(os.waitstatus_to_exitcode(status))}")


def describe_timeout(job: Job) -> Report:
    """Return the report of a node that was killed because it took too long."""
    what = f"was killed after {job.timeout_s} s, with all that it had started"
    return Report({}, error=f"{job.node} {what}\ntip: raise timeout_s of the node's settings")


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}"
    name = signal.Signals(-code).name
    reason = " (is there enough memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{reason}"


def _reseed() -> None:
    """Give each node random numbers of its own, as in a process of its own.

    Python does it for `random`; numpy's global generator would be the same in all children. One that the
    user's file seeded with a number is left: there, the first word of the state is the seed.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    _, words, position, *_ = numpy.random.get_state()
    unseeded = 0x80000000, 624  # what the generator's own start leaves there
    if (int(words[0]), position) == unseeded:
        numpy.random.seed()
