"""Memory of a process that is about to be forked many times.

A warm worker: imports the user's file once, and forks for each node.

    python -m fftasks.runner.worker ROOT FILE

It reads jobs from its standard input, and forks for each at once: how many run at a time is for whoever
sends them. Each node has a process of its own, so that one that crashes, leaks or changes
globals harms no other. That process answers with its report itself; the worker says how it ended. It ends
when its input ends; nodes that are then running are killed, for nobody waits for them.

Questions and answers are those of messages.py. For the sake of processes that live a millisecond, nothing
is imported here that not each node needs.

question            answer
{path: digest}      {"forks": …} or {"error": …}; the project's files as the graph record saw them
(number, job)       (number, report), and (number, exit code) when its process has ended
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

from fftasks.api.node import Node, Site, number_inputs
from fftasks.api.workflow_graph import building
from fftasks.errors import FFTasksError
from fftasks.runner.job import Job, describe_timeout, run_job
from fftasks.runner.process import Messages, end_tree, format_message
from fftasks.runner.source import CheckedModules, import_workflows, install_hook
from fftasks.state_folder import open_empty, open_in_place, open_new

_MUCH_BYTES = 1 << 26


def trim_malloc() -> None:
    """Return what was freed to the system, if the process is large: a fork copies an entry for each page.

    A file with long literals, or one that reads tables while it is imported, leaves several times what is
    still in use. To a small process loading what is needed for it would cost more than it saves.
    """
    if _measure_bytes() < _MUCH_BYTES:
        return
    import ctypes

    gc.collect()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _measure_bytes() -> int:
    """Return how much memory this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# the function in C: what Python wraps around it touches 70 pages, each of which a child has to copy
_set_handler = getattr(signal.signal, "__wrapped__", signal.signal)
_REHEARSALS = 20  # Python takes eight to be done with what it does to fast code
_SIGCHLD = int(signal.SIGCHLD)


def serve(root: Path, file: str) -> int:
    """Import the file, say so, and run jobs until the input ends.

    The first answer is {"forks": true}, or {"error": "…"} if the file cannot be imported or is another one
    now. "forks" is false where forking is not safe, since the user's file started threads.
    """
    with take_stdout() as stream:
        return _serve(root, file, stream.fileno())


def _serve(root: Path, file: str, answers: int) -> int:
    questions = Messages(0)
    while not (first := list(questions.read())):
        if questions.ended:
            return 0
    checked = CheckedModules(root, first[0])
    try:
        workflows = import_workflows(root, file)
        checked.check()
    except FFTasksError as error:
        _answer(answers, {"error": str(error)})
        return error.exit_code
    forks = not _has_threads()
    _answer(answers, {"forks": forks})
    if forks:
        nodes = {(w.name, node.name): node for w in workflows for node in w.nodes}
        _Nursery(answers, nodes, checked).serve(questions)
    return 0


def take_stdout() -> IO[bytes]:
    """Return the standard output for answers alone; what the user's code prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def redirect_output(log: str, *, is_new: bool = True) -> None:
    """Send all that this process prints to a file, also what C code prints."""
    sys.stdout.flush()
    descriptor = open_empty(log) if is_new else open_in_place(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _has_threads() -> bool:
    # not imported for this alone: what it does behind each fork costs a trivial node a fifth of its time
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


class _Nursery:
    """The processes of the nodes that are running."""

    def __init__(
        self, answers: int, nodes: Mapping[tuple[str, str], Node], checked: CheckedModules
    ) -> None:
        self._answers, self._checked = answers, checked
        # here: each child would have to copy the memory that it touches
        self._nodes = {key: (node, number_inputs(node)) for key, node in nodes.items()}
        self._children: dict[int, int] = {}  # process -> number of its job
        self._deadlines: dict[int, tuple[float, Job]] = {}  # of those that have one
        self._nowhere = os.open(os.devnull, os.O_RDONLY)
        self._woken, waking = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(waking, False)
        # the end of a child is told by a byte in a pipe: nothing is done in a handler
        self._before = _set_handler(_SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)

    def serve(self, questions: Messages) -> None:
        """Start jobs and reap them, until the input ends."""
        install_hook()
        _rehearse(self._checked)
        trim_malloc()
        gc.freeze()  # a child that collects garbage would copy every page that it looks at
        while not questions.ended:
            ready, _, _ = select.select([0, self._woken], [], [], self._end_late())
            if self._woken in ready:
                os.read(self._woken, 1 << 12)
                self._reap()
            if 0 in ready:
                for number, job in questions.read():
                    self._start(number, Job(*job))
        for child in self._children:
            end_tree(child)

    def _start(self, number: int, job: Job) -> None:
        try:
            child = os.fork()
        except OSError as error:
            _answer(self._answers, (number, f"could not be started: {error.strerror}"))
            return
        if child == 0:
            self._live(number, job)
        self._children[child] = number
        if job.timeout_s:
            self._deadlines[child] = time.monotonic() + job.timeout_s, job

    def _end_late(self) -> float | None:
        """Kill what has taken too long; return the seconds until there may be more of it, if at all."""
        if not self._deadlines:
            return None
        now = time.monotonic()
        for child in [c for c, (deadline, _) in self._deadlines.items() if deadline <= now]:
            _, job = self._deadlines.pop(child)
            end_tree(child)
            _answer(
                self._answers,
                (self._children[child], tuple(describe_timeout(job.node, job.timeout_s))),
            )
        return max(0.0, min((d for d, _ in self._deadlines.values()), default=now) - now) or None

    def _live(self, number: int, job: Job) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            _set_handler(_SIGCHLD, self._before)
            if job.timeout_s:
                os.setpgid(0, 0)  # so that what has lost its parent is found as well
            os.dup2(self._nowhere, 0)
            reseed()
            if job.log:
                redirect_output(job.log, is_new=not job.is_retry)
            node, inputs = self._nodes[job.workflow, job.node]
            report = run_job(node, job, self._checked, inputs)
            sys.stdout.flush()
            _answer(self._answers, (number, tuple(report)), job.outputs["result"])
            code = 0
        finally:
            # never back into the loop that serves jobs, and no exit handlers of the parent's
            os._exit(code)

    def _reap(self) -> None:
        for child in list(self._children):  # not any child: the user's file may have its own
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                number = self._children.pop(child)
                self._deadlines.pop(child, None)
                _answer(self._answers, (number, os.waitstatus_to_exitcode(status)))


def _rehearse(checked: CheckedModules) -> None:
    """Run a node of no use some times, with all that comes with it.

    What Python and the system find out when something is done for the first time, each child would find out
    for itself otherwise: it would take half as long again.
    """
    node = Node(_do_nothing, (0, [None]), {}, Site("", 0))
    job = Job("", node.name, {}, {"result": ""}, reported_bytes=1 << 10)
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_APPEND, 0o666)
    for number in range(_REHEARSALS):
        report = run_job(node, job, checked, {})
        sys.stdout.flush()
        _answer(nowhere, (number, tuple(report)), job.outputs["result"])
    os.close(nowhere)


def _do_nothing(value: int, _upstream: object) -> int:
    return value


def _answer(descriptor: int, message: Any, beside: str = "") -> None:
    """Write a message in one piece, as other processes write beside this one.

    beside: a path; what does not fit into one piece is put into a file in the same folder
    """
    data = format_message(message)
    if beside and len(data) > select.PIPE_BUF:
        path = f"{os.path.dirname(beside)}/.report.{os.getpid()}"  # noqa: PTH120
        with open(open_new(path), "wb") as file:  # noqa: PTH123 - a descriptor
            marshal.dump(message, file)
        data = format_message(path)
    while data:
        data = data[os.write(descriptor, data) :]


def reseed() -> None:
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


def main(root: str, file: str) -> int:
    """Serve; return the exit code."""
    try:
        with building():  # reading a result may import a file of the user's that starts a workflow
            return serve(Path(root).resolve(), file)
    except FFTasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
