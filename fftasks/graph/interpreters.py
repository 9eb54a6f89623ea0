"""Python interpreters that run nodes: warm workers, one for each file and process, or one for each node."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import marshal
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from fftasks.errors import NodeError
from fftasks.runner.job import Job, Report, describe_timeout, write_artifacts
from fftasks.runner.process import Messages, describe_end, end_session, end_tree, format_message
from fftasks.runner.start import RUNNER_MODULE, make_command
from fftasks.state_folder import read_bytes, remove

_POLL_S = 0.5
_REPORTED_BYTES = 2048  # with the rest of a report it fits into a piece that pipes write at once
_numbers = itertools.count(1)
_workers: dict[tuple[object, ...], Worker] = {}


@dataclass(frozen=True)
class Interpreter:
    """Runs the nodes of one workflow file in processes of their own.

    Attributes:
        root: Folder of the project, the current folder of the functions.
        file: Workflow file, relative to the folder.
        files: Project file -> digest when the graph was recorded; a file with another content is rejected.
        isolation: "fork" (fork a worker that has imported the file) or "fresh" (a new interpreter for each
            node).
    """

    root: Path
    file: str
    files: tuple[tuple[str, str], ...]
    isolation: str = "fork"

    def __call__(self, job: Job, /) -> Report:
        """Run a job in a process of its own."""
        worker = self.find_worker(job.env)
        return worker.run(job) if worker else run_in_new_interpreter(self, job)

    def find_worker(self, env: Mapping[str, str]) -> Worker | None:
        """Return this thread's warm worker for an environment, started when it is first needed.

        env: what its nodes' environment has besides this process's own; it is there when the file and what
            it needs are imported, as in a container: many a library looks at it only then

        None where it cannot fork.

        Raises NodeError if the file cannot be imported any more.
        """
        if self.isolation != "fork" or not hasattr(os, "fork"):
            return None
        thread = os.getpid(), threading.get_ident()
        key = (*thread, str(self.root), self.file, tuple(sorted(env.items())))
        if key not in _workers or not _workers[key].is_alive():
            _workers[key] = Worker(self, env)
        return _workers[key] if _workers[key].forks else None


class Worker:
    """A process that has imported the user's file and forks for each job; several may run at a time.

    forks: whether it can; if not, it has ended
    """

    def __init__(self, interpreter: Interpreter, env: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [
                *make_command("fftasks.runner.worker"),
                str(interpreter.root),
                interpreter.file,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=interpreter.root,
            env=_environment(env),
            start_new_session=True,  # Ctrl-C is for doit, which ends its workers
        )
        self.questions, self.answers = (
            _require_pipe(self._process.stdin),
            _require_pipe(self._process.stdout),
        )
        self._messages = Messages(self.answers.fileno())
        self._running: dict[int, Job] = {}  # by their numbers
        self._ask(dict(interpreter.files))
        while not (messages := self._read()):
            pass
        if "error" in messages[0]:
            raise NodeError(messages[0]["error"])
        self.forks = bool(messages[0]["forks"])

    def start(self, job: Job) -> int:
        """Begin a job, and return its number: no other one has it."""
        number = next(_numbers)
        self._running[number] = job
        self._ask((number, tuple(job._replace(reported_bytes=_REPORTED_BYTES))))
        return number

    def receive(self) -> Iterator[tuple[int, Report]]:
        """Wait until the worker says something, and yield the reports of jobs that have ended.

        Raises NodeError if the worker itself is gone.
        """
        for number, said in self._read():
            job = self._running.pop(number, None)
            if job is None:  # it has sent its report, and has now ended
                continue
            if isinstance(said, tuple):
                yield number, write_artifacts(job.node, job, Report(*said))
            else:
                yield number, Report({}, error=f"{job.node} {describe_end(said)}")

    def run(self, job: Job) -> Report:
        """Run a job to its end; raises NodeError if the worker itself is gone."""
        number = self.start(job)
        while True:
            reports = dict(self.receive())
            if number in reports:
                return reports[number]

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    def _ask(self, message: object) -> None:
        data = format_message(message)
        with contextlib.suppress(BrokenPipeError):  # the missing answer is reported
            while data:
                data = data[os.write(self.questions.fileno(), data) :]

    def _read(self) -> list[Any]:
        # processes of nodes have the pipe open, too, so a closed pipe does not show that the worker ended
        while not select.select([self.answers], [], [], _POLL_S)[0]:
            if not self.is_alive():
                self._raise_gone()
        messages = [_decode_message(message) for message in self._messages.read()]
        if self._messages.ended:
            self._raise_gone()
        return messages

    def _raise_gone(self) -> NoReturn:
        self._errors.seek(0)
        code = self._process.wait()
        end_session(
            self._process.pid
        )  # ends its nodes, because nothing reads their results any more
        raise NodeError(
            f"the worker ended with exit code {code}",
            found=[self._errors.read().decode(errors="replace")[-2000:]],
        )


def run_in_new_interpreter(interpreter: Interpreter, job: Job) -> Report:
    """Run a job in a new interpreter, as a container does."""
    process = subprocess.Popen(
        [*_command(interpreter), "--workflow", job.workflow, "--job"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=interpreter.root,
        env={**_environment(job.env), "FFFUNCTION": job.node},
    )
    question = json.dumps({"files": dict(interpreter.files), "job": job._asdict()}).encode() + b"\n"
    try:
        answer, errors = process.communicate(question, timeout=job.timeout_s or None)
    except subprocess.TimeoutExpired:
        end_tree(process.pid)
        process.communicate()
        return describe_timeout(job.node, job.timeout_s)
    if answer:
        return Report(**json.loads(answer))
    end = describe_end(process.returncode)
    return Report({}, error=f"{job.node} {end}\n{errors.decode(errors='replace')[-2000:]}")


def _decode_message(message: Any) -> Any:
    if not isinstance(message, str):
        return message
    content = read_bytes(message)  # it was too large for the pipe, and is in a file
    remove(message)
    return marshal.loads(content)


def _command(interpreter: Interpreter) -> list[str]:
    return [
        *make_command(RUNNER_MODULE),
        "--root", str(interpreter.root), "--file", interpreter.file,
    ]  # fmt: skip


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    # the same order of sets in each process, so that an equal set is stored as equal bytes
    return {**os.environ, **env, "PYTHONHASHSEED": "0"}


def end_with_parent(parent: int) -> None:
    """End this forked process when its parent is killed (Linux only).

    Args:
        parent: Process id of the parent.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        # SIGKILL needs no handler: a handler in Python could be delayed forever by a blocking call
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed in between
            os._exit(128 + signal.SIGTERM)


def _require_pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker was started without its pipes")
    return stream
