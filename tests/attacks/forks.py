"""Run many commands quickly: one warm process that forks for each command, with a time limit.

python -m tests.attacks.forks    reads questions as JSON lines, and answers each with a JSON line
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What came of a command: its exit code (None if it did not end in time), and what it printed."""

    code: int | None
    output: str


class Commands:
    """A warm process; use it in a `with` statement."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.forks"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Commands:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def run(
        self,
        root: Path,
        *words: str,
        program: str = "doit",
        terminal: bool = False,
        timeout_s: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command in a folder; terminal: in a pseudo-terminal instead of a pipe."""
        question = {
            "root": str(root), "words": words, "program": program, "terminal": terminal,
            "timeout_s": timeout_s, "env": {**os.environ, **(env or {})},
        }  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    reading, writing = pty.openpty() if question["terminal"] else os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _become(question, writing)
        finally:
            os._exit(99)
    os.close(writing)
    pieces, deadline = [], time.monotonic() + question["timeout_s"]
    code = None
    while code is None and time.monotonic() < deadline:
        if select.select([reading], [], [], 0.02)[0]:
            pieces.append(_read(reading))
        ended, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if ended else None
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    while select.select([reading], [], [], 0)[0] and (piece := _read(reading)):
        pieces.append(piece)
    os.close(reading)
    return {"code": code, "output": b"".join(pieces).decode("utf-8", "surrogateescape")}


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other end of a pseudo-terminal is closed
        return b""


def _become(question: Mapping[str, Any], output: int) -> None:
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(question["root"])
    os.environ.clear()
    os.environ.update(question["env"])
    sys.path[0] = ""
    sys.argv = [question["program"], *question["words"]]
    is_terminal = question["terminal"]
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1 if is_terminal else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    code = 1
    try:
        code = _run(question["program"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _run(program: str) -> int:
    if program == "fftasks":
        from fftasks.cli.main import main

        return main()
    from doit.__main__ import main as run_doit

    return int(run_doit() or 0)


def main() -> None:
    """Answer questions until the input ends."""
    import doit.doit_cmd

    import fftasks.cli.run
    import fftasks.project
    import fftasks.report.run_report
    import fftasks.tasks  # noqa: F401 - warm

    assert doit.doit_cmd
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
