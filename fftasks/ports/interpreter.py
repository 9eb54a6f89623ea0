"""Python interpreters that run nodes: warm workers, one for each file and process, or one for each node."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fftasks.errors import NodeError
from fftasks.runtime.end import end_tree
from fftasks.runtime.job import Job, Report
from fftasks.runtime.worker import describe_timeout

_workers: dict[tuple[int, str, str, bool], Worker] = {}


@dataclass(frozen=True)
class Interpreter:
    """How nodes of one file are run; an instance is a `stages.node.Run`.

    root: the project's folder, in which functions run
    file: builds the workflow
    files: project file -> digest, as the graph record saw them; another content is refused
    isolation: "fork" from a warm worker, or a "fresh" interpreter for each node
    """

    root: Path
    file: str
    files: tuple[tuple[str, str], ...]
    isolation: str = "fork"

    def __call__(self, job: Job, /) -> Report:
        """Run a job in a process of its own."""
        if self.isolation == "fork" and hasattr(os, "fork"):
            worker = get_worker(self, job.env)
            if worker.forks:
                return worker.run(job)
        return run_fresh(self, job)


class Worker:
    """A process that has imported the user's file and forks for each job.

    env: what its nodes' environment has besides this process's own; it is there when the file and what it
        needs are imported, as in a container: many a library looks at it only then
    """

    def __init__(self, interpreter: Interpreter, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process = subprocess.Popen(
            [*_command(interpreter), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=interpreter.root,
            env=_environment(env),
            start_new_session=True,  # Ctrl-C is for doit, which ends its workers
        )
        answer = self._ask({"files": dict(interpreter.files)})
        if "error" in answer:
            raise NodeError(answer["error"])
        self.forks = bool(answer["forks"])

    def run(self, job: Job) -> Report:
        """Run a job; raises NodeError if the worker itself is gone."""
        return Report(**self._ask(vars(job)))

    def close(self) -> None:
        """End the process, which has nothing to do."""
        with contextlib.suppress(BrokenPipeError):
            _need(self._process.stdin).close()
        self._process.wait()
        _need(self._process.stdout).close()
        self._errors.close()

    def is_alive(self) -> bool:
        """Tell whether the process is there."""
        return self._process.poll() is None

    def _ask(self, message: dict[str, object]) -> dict[str, Any]:
        question, answers = _need(self._process.stdin), _need(self._process.stdout)
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells
            question.write(json.dumps(message).encode() + b"\n")
            question.flush()
        line = answers.readline()
        if not line:
            raise NodeError(
                f"the worker ended with exit code {self._process.wait()}",
                found=[self._read_errors()],
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read_errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:]


def get_worker(interpreter: Interpreter, env: Mapping[str, str]) -> Worker:
    """Return this process's warm worker for a file and an environment, started when it is first needed."""
    key = (os.getpid(), str(interpreter.root), interpreter.file, bool(env))
    worker = _workers.get(key)
    if worker is None or worker.env != env or not worker.is_alive():
        # one for nodes without an environment of their own, and one for the last of the others
        if worker is not None:
            worker.close()
        worker = _workers[key] = Worker(interpreter, env)
    return worker


def run_fresh(interpreter: Interpreter, job: Job) -> Report:
    """Run a job in a new interpreter, as a container does."""
    process = subprocess.Popen(
        [*_command(interpreter), "--workflow", job.workflow, "--job"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=interpreter.root,
        env={**_environment(job.env), "FFFUNCTION": job.node},
    )
    question = json.dumps({"files": dict(interpreter.files), "job": vars(job)}).encode() + b"\n"
    try:
        answer, errors = process.communicate(question, timeout=job.timeout_s or None)
    except subprocess.TimeoutExpired:
        end_tree(process.pid)
        process.communicate()
        return describe_timeout(job)
    if answer:
        return Report(**json.loads(answer))
    if process.returncode < 0:
        end = f"was killed by {signal.Signals(-process.returncode).name}"
    else:
        end = f"ended its process with exit code {process.returncode}"
    return Report({}, error=f"{job.node} {end}\n{errors.decode(errors='replace')[-2000:]}")


def _command(interpreter: Interpreter) -> list[str]:
    return [
        sys.executable, "-m", "fftasks.runtime",
        "--root", str(interpreter.root), "--file", interpreter.file,
    ]  # fmt: skip


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    # the same order of sets in each process, so that an equal set is stored as equal bytes
    return {**os.environ, **env, "PYTHONHASHSEED": "0"}


def end_with_parent(parent: int) -> None:
    """Let this forked process end when its parent is killed, as nobody would tell it (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        # SIGKILL, for which nothing has to run here: a handler in Python may be put off for ever by a
        # call that begins to wait just then
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed in between
            os._exit(128 + signal.SIGTERM)


def _need(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker was started without its pipes")
    return stream
