"""Memory that was freed goes back to the system before nodes are forked."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from fftasks.runner import worker

def measure():
    return worker._measure_bytes() >> 20

garbage = [bytes(2000) for _ in range(100_000)]
kept = bytes(2000)  # above them: what is freed below stays with the process
del garbage
before = measure()
worker.trim_malloc()
print(before, measure(), "ctypes" in sys.modules)
"""


def _run(program):
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    before, after, ctypes = output.split()
    return int(before), int(after), ctypes == "True"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only it gives back")
def test_a_large_process_gives_back_what_was_freed():
    before, after, _ = _run(_PROGRAM)

    assert before > 180
    assert after < 60


def test_a_small_process_loads_nothing_for_it():
    _, _, has_ctypes = _run(_PROGRAM.replace("100_000", "1000"))

    assert not has_ctypes
