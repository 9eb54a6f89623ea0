"""Runs that are killed at random moments, over and over: nothing is lost, nothing is wrong.

FFTASKS_SOAK: how many kills; FFTASKS_SOAK_SEED: of the random moments, printed when a test fails.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fftasks.cache.store import remove_unused
from tests.sample import Sample

KILLS = int(os.environ.get("FFTASKS_SOAK", "15"))
SEED = int(os.environ.get("FFTASKS_SOAK_SEED", time.time_ns() % 10**9))
LONGEST_S = 1.6

TEXT = """
import os
import time

import numpy as np

from fftasks import Workflow, workflow

SCALE = 1


def note(name):
    with open(os.environ["SOAK_LOG"], "a") as file:
        file.write(f"{name}\\n")


@workflow(reads=[])
def make(i):
    time.sleep(i % 5 / 100)
    note(f"make-{i}")
    return np.full(20_000, i * SCALE)


@workflow(reads=["data.txt"])
def read():
    note("read")
    return float(open("data.txt").read())


@workflow(reads=[])
def join(k, parts):
    time.sleep(k % 3 / 50)
    note(f"join-{k}")
    return sum(parts) + k


@workflow(reads=[])
class Model:
    def __init__(self):
        note("model")
        self.seen = []

    def fit(self, k, part):
        note(f"fit-{k}")
        self.seen.append(float(part.sum()))
        return len(self.seen)

    def end(self, offset):
        note("end")
        return sum(self.seen) + offset


parts = [make(i).set_name(f"make-{i}") for i in range(30)]
joined = [join(k, parts[3 * k : 3 * k + 6]).set_name(f"join-{k}") for k in range(9)]
model = Model().set_name("model")
for k, part in enumerate(joined):
    model.fit(k, part).set_name(f"fit-{k}")
Workflow(model.end(read().set_name("read")).set_name("end"), *joined, name="w")
"""


class Soak:
    """A project that is run and killed, and a file that says which nodes came to their end."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.sample = Sample.make(folder / "project", TEXT)
        self.sample.write("data.txt", "7")
        self.log = folder / "log.txt"
        self.log.touch()
        self.printed = folder / "printed.txt"
        self.chance = chance
        self.scale = 1

    def start(self) -> subprocess.Popen[bytes]:
        """Start doit in a session of its own."""
        with self.printed.open("wb") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "doit"],
                cwd=self.sample.root,
                env={**os.environ, "SOAK_LOG": str(self.log)},
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )

    def list_finished(self) -> set[str]:
        """Return the nodes of which the last run said that they ran."""
        return set(re.findall(r"^\.  run:(\S+)", self.printed.read_text(), re.MULTILINE))

    def list_outputs(self) -> dict[str, str]:
        """Return the outputs of all nodes, by their records."""
        paths = self.sample.root.glob(".fftasks/nodes/[!.]*.json")
        return {path.stem: json.loads(path.read_bytes())["outputs"] for path in paths}

    def edit(self) -> None:
        """Change a constant that all nodes reach, forth and back again, or a file that one reads."""
        if self.chance.random() < 0.3:
            self.sample.write("data.txt", str(self.chance.randrange(100)))
            return
        old, self.scale = self.scale, self.scale % 3 + 1
        self.sample.edit("wf.py", f"SCALE = {old}", f"SCALE = {self.scale}")


def kill_parent(process: subprocess.Popen[bytes], _: random.Random) -> None:
    process.kill()


def kill_all(process: subprocess.Popen[bytes], _: random.Random) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def terminate(process: subprocess.Popen[bytes], _: random.Random) -> None:
    process.terminate()


def interrupt(process: subprocess.Popen[bytes], _: random.Random) -> None:
    os.killpg(process.pid, signal.SIGINT)


def kill_one(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    others = [pid for pid in list_processes(process.pid) if pid != process.pid]
    if others:
        os.kill(chance.choice(others), signal.SIGKILL)


WAYS: list[Callable[[subprocess.Popen[bytes], random.Random], None]] = [
    kill_parent,
    kill_all,
    terminate,
    interrupt,
    kill_one,
]


def list_processes(session: int) -> list[int]:
    """Return the processes of a session that have not ended; workers may lead sessions of their own."""
    found, parents = [], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, leader = stat.read_text().rpartition(") ")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(parent)
        if state not in "ZX" and (int(leader) == session or parents[pid] == session):
            found.append(pid)
    return found


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def list_users(log: Path) -> list[str]:
    """Return the processes that were started for a project, by their environment."""
    mark = f"SOAK_LOG={log}\0".encode()
    folders = [path for path in Path("/proc").glob("[0-9]*") if mark in read(path / "environ")]
    return [f"{path.name}: {read(path / 'stat')!r} {read(path / 'cmdline')!r}" for path in folders]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_killed_runs_lose_nothing_and_spoil_nothing(tmp_path):
    print(f"FFTASKS_SOAK_SEED={SEED}")
    chance = random.Random(SEED)
    soak = Soak(tmp_path / "killed", chance)
    kills, finished = 0, set[str]()
    while kills < KILLS:
        ended = len(soak.log.read_text().splitlines())
        process = soak.start()
        if wait_until(functools.partial(has_ended, process), chance.uniform(0.2, LONGEST_S)):
            assert process.returncode == 0, soak.printed.read_text()
            soak.edit()
            finished = set()
            continue
        way = chance.choice(WAYS)
        print(f"kill {kills}: {way.__name__}")
        way(process, chance)
        kills += 1
        assert wait_until(functools.partial(has_ended, process), 30), soak.printed.read_text()
        assert wait_until(lambda: not list_users(soak.log), 10), list_users(soak.log)
        ran = set(soak.log.read_text().splitlines()[ended:])
        assert not ran & finished, "what had finished ran again"
        finished |= soak.list_finished()
        if chance.random() < 0.2:
            soak.edit()
            finished = set()

    assert soak.start().wait(120) == 0
    assert_equals_clean_run(soak, tmp_path / "clean")


def assert_equals_clean_run(soak: Soak, folder: Path) -> None:
    clean = Soak(folder, soak.chance)
    for file in ("wf.py", "data.txt"):
        clean.sample.write(file, (soak.sample.root / file).read_text())
    assert clean.start().wait(120) == 0
    assert soak.list_outputs() == clean.list_outputs()
    for path in (soak.sample.root / ".fftasks" / "artifacts").glob("[!.]*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    remove_unused(soak.sample.root / ".fftasks", 10**12)
    assert not [path for path in (soak.sample.root / ".fftasks").rglob(".*") if path.is_file()]
