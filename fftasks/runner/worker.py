"""A warm worker: imports the user's file once, then forks a child process for each job.

    python -m fftasks.runner.worker ROOT FILE

The worker reads jobs from its standard input and starts each one at once; the sender limits how many run in
parallel. Each node runs in a child of its own, so that a node that crashes, leaks memory or changes globals
does not affect others. The child itself sends its report; the worker sends how the child ended. The worker
ends when its input ends, and kills the nodes that are still running: no process would read their reports.

Requests and responses are messages as in process.py:

request             response
{path: digest}      {"forks": …} or {"error": …}; the project's files as the graph record saw them
(number, job)       (number, report), and (number, exit code) when the child has ended

A child lives about a millisecond for a trivial node. Therefore this module imports only what every node
needs, and does work before the fork rather than after it.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from fftasks.api.node import Node, SourceLocation, name_inputs
from fftasks.api.workflow_graph import collecting_workflows
from fftasks.errors import FFTasksError
from fftasks.runner.job import Job, describe_timeout, run_job
from fftasks.runner.process import Messages, end_tree, format_message
from fftasks.runner.source import CheckedModules, import_workflows, install_hook
from fftasks.state_folder import open_empty, open_in_place, open_new

_MIN_BYTES_TO_TRIM = 1 << 26
# The C function: Python's wrapper around it touches 70 memory pages, each of which a child would copy.
_set_handler = getattr(signal.signal, "__wrapped__", signal.signal)
_WARM_UP_RUNS = 20  # Python has specialised the bytecode after eight
_SIGCHLD = int(signal.SIGCHLD)


def trim_malloc() -> None:
    """Return freed memory to the system if this process is large: a fork copies an entry for each page.

    A file with long literals, or one that reads tables while it is imported, leaves several times as much
    freed memory as memory in use. In a small process, importing ctypes would cost more than it saves.
    """
    if _measure_bytes() < _MIN_BYTES_TO_TRIM:
        return
    import ctypes

    gc.collect()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _measure_bytes() -> int:
    """Return the resident memory of this process in bytes; 0 on systems without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def serve(root: Path, file: str) -> int:
    """Import the file, send the first response, and run jobs until the input ends.

    The first response is {"forks": true}, or {"error": "…"} if the file cannot be imported or has changed
    since the graph record was made. "forks" is false if the user's file has started threads, because a fork
    is not safe then.

    Args:
        root: The project's folder.
        file: The user's file, relative to it.

    Returns:
        The exit code of the worker.
    """
    with take_stdout() as stream:
        responses = stream.fileno()
        requests = Messages(0)
        while not (first := list(requests.read())):
            if requests.ended:
                return 0
        checked = CheckedModules(root, first[0])
        try:
            workflows = import_workflows(root, file)
            checked.check()
        except FFTasksError as error:
            _send(responses, {"error": str(error)})
            return error.exit_code
        # threading is not imported for this check, because its work after each fork takes a fifth of a
        # trivial node's time
        threading = sys.modules.get("threading")
        forks = threading is None or threading.active_count() == 1
        _send(responses, {"forks": forks})
        if forks:
            nodes = {(w.name, node.name): node for w in workflows for node in w.nodes}
            _JobRunner(responses, nodes, checked).serve(requests)
    return 0


def take_stdout() -> IO[bytes]:
    """Reserve the standard output for responses, and redirect the output of the user's code to stderr.

    Returns:
        A binary file that writes to the original standard output.
    """
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return responses


def redirect_output(log: str, *, is_new: bool = True) -> None:
    """Redirect all output of this process, including that of C code, to a file.

    Args:
        log: Path of the file.
        is_new: Whether the file is emptied first; otherwise output is appended.
    """
    sys.stdout.flush()
    descriptor = open_empty(log) if is_new else open_in_place(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class _JobRunner:
    """The loop of the worker, and the child processes of the nodes that are running."""

    def __init__(
        self, responses: int, nodes: Mapping[tuple[str, str], Node], checked: CheckedModules
    ) -> None:
        self._responses, self._checked = responses, checked
        # name_inputs is called before the fork: each child would copy the memory pages that it touches
        self._nodes = {key: (node, name_inputs(node)) for key, node in nodes.items()}
        self._children: dict[int, int] = {}  # process id -> number of its job
        self._deadlines: dict[int, tuple[float, Job]] = {}  # process id -> end of its time limit
        self._devnull = os.open(os.devnull, os.O_RDONLY)
        # The end of a child writes a byte into a pipe, so that no Python code runs in a signal handler.
        self._wakeup, write_end = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(write_end, False)
        self._old_handler = _set_handler(_SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

    def serve(self, requests: Messages) -> None:
        """Start jobs and reap their processes until the input ends."""
        install_hook()
        _warm_up(self._checked)
        trim_malloc()
        gc.freeze()  # a child that collects garbage would copy every page that it looks at
        while not requests.ended:
            ready, _, _ = select.select([0, self._wakeup], [], [], self._kill_overdue())
            if self._wakeup in ready:
                os.read(self._wakeup, 1 << 12)
                self._reap()
            if 0 in ready:
                for number, job in requests.read():
                    self._start(number, Job(*job))
        for child in self._children:
            end_tree(child)

    def _start(self, number: int, job: Job) -> None:
        try:
            child = os.fork()
        except OSError as error:
            _send(self._responses, (number, f"could not be started: {error.strerror}"))
            return
        if child == 0:
            self._run_in_child(number, job)
        self._children[child] = number
        if job.timeout_s:
            self._deadlines[child] = time.monotonic() + job.timeout_s, job

    def _kill_overdue(self) -> float | None:
        """Kill children beyond their time limits; return the seconds until the next limit, None if none."""
        if not self._deadlines:
            return None
        now = time.monotonic()
        for child in [c for c, (deadline, _) in self._deadlines.items() if deadline <= now]:
            _, job = self._deadlines.pop(child)
            end_tree(child)
            report = describe_timeout(job.node, job.timeout_s)
            _send(self._responses, (self._children[child], tuple(report)))
        return max(0.0, min((d for d, _ in self._deadlines.values()), default=now) - now) or None

    def _run_in_child(self, number: int, job: Job) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            _set_handler(_SIGCHLD, self._old_handler)
            if job.timeout_s:
                os.setpgid(0, 0)  # so that descendants without a parent can be killed as well
            os.dup2(self._devnull, 0)
            reseed_random()
            if job.log:
                redirect_output(job.log, is_new=not job.is_retry)
            node, inputs = self._nodes[job.workflow, job.node]
            report = run_job(node, job, self._checked, inputs)
            sys.stdout.flush()
            _send(self._responses, (number, tuple(report)), job.outputs["result"])
            code = 0
        finally:
            # never return into the parent's loop, and do not run the parent's exit handlers
            os._exit(code)

    def _reap(self) -> None:
        """Send the exit codes of the children that have ended."""
        for child in list(self._children):  # not any child: the user's file may have its own
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                number = self._children.pop(child)
                self._deadlines.pop(child, None)
                _send(self._responses, (number, os.waitstatus_to_exitcode(status)))


def _warm_up(checked: CheckedModules) -> None:
    """Run a dummy node several times so that forked children inherit specialised bytecode and caches.

    Without it, each child would do this work itself and take half as long again.
    """
    node = Node(_do_nothing, (0, [None]), {}, SourceLocation("", 0))
    job = Job("", node.name, {}, {"result": ""}, reported_bytes=1 << 10)
    devnull = os.open(os.devnull, os.O_RDWR | os.O_APPEND, 0o666)
    for number in range(_WARM_UP_RUNS):
        report = run_job(node, job, checked, {})
        sys.stdout.flush()
        _send(devnull, (number, tuple(report)), job.outputs["result"])
    os.close(devnull)


def _do_nothing(value: int, _upstream: object) -> int:
    return value


def _send(descriptor: int, message: Any, output: str = "") -> None:
    """Write a message atomically, because several processes write to the same pipe.

    Args:
        descriptor: The pipe.
        message: Any value that marshal can write.
        output: Path of an output. A message that is too long for an atomic write goes to a file in the same
            folder, and the path of that file is sent instead. "" if the message must go through the pipe.
    """
    data = format_message(message)
    if output and len(data) > select.PIPE_BUF:
        path = f"{os.path.dirname(output)}/.report.{os.getpid()}"  # noqa: PTH120
        with open(open_new(path), "wb") as file:  # noqa: PTH123 - a descriptor
            marshal.dump(message, file)
        data = format_message(path)
    while data:
        data = data[os.write(descriptor, data) :]


def reseed_random() -> None:
    """Seed numpy's global random generator in a forked child, as in a process of its own.

    Python itself does it for `random`; the state of numpy's generator would be the same in all children. A
    generator that the user's file has seeded with a number is left alone: there, the first word of the state
    is the seed.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return
    _, words, position, *_ = numpy.random.get_state()
    unseeded = 0x80000000, 624  # the values that numpy's own start leaves
    if (int(words[0]), position) == unseeded:
        numpy.random.seed()


def main(root: str, file: str) -> int:
    """Run the worker; return the exit code."""
    try:
        with (
            collecting_workflows()
        ):  # reading a result may import a file of the user's that starts a workflow
            return serve(Path(root).resolve(), file)
    except FFTasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
