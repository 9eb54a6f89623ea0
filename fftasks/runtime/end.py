"""End a process and all that it has started, and say how one has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_LOOK_S = 0.02


def end_tree(pid: int) -> None:
    """Kill a process, what it has started, and its process group if it leads one."""
    tree = [pid, *_list_descendants(pid)]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    _signal_all(tree, signal.SIGKILL)


def terminate_tree(pid: int, has_ended: Callable[[], bool], grace_s: float) -> None:
    """Send SIGTERM to a process and all that it has started, and kill what is left of them later.

    Args:
        pid: The process.
        has_ended: Tells whether it has ended, and does not wait.
        grace_s: How long to wait in seconds until all of them have ended.
    """
    tree = [pid, *_list_descendants(pid)]
    _signal_all(tree, signal.SIGTERM)
    late = time.monotonic() + grace_s
    while not (has_ended() and _have_ended(tree[1:])) and time.monotonic() < late:
        time.sleep(_LOOK_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # a group outlives its leader
    _signal_all(tree, signal.SIGKILL)


def end_session(leader: int) -> None:
    """Kill what is left of the session of a process that has ended; its group where there is no /proc."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for pid, fields in _list_processes():
        if int(fields[3]) == leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _have_ended(pids: Sequence[int]) -> bool:
    states = {pid: fields[0] for pid, fields in _list_processes()}
    return all(states.get(pid, b"Z") == b"Z" for pid in pids)


def _list_descendants(pid: int) -> list[int]:
    """Return the processes below one; only its group is known where there is no /proc."""
    children: dict[int, list[int]] = {}
    for child, fields in _list_processes():
        children.setdefault(int(fields[1]), []).append(child)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def _list_processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield each process, and what the system says behind its name: state, parent, group, session, …"""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            # the name, in brackets, may hold anything
            yield int(path.parent.name), path.read_bytes().rpartition(b")")[2].split()


def describe_end(code: int | str, memory: str = "out of memory?") -> str:
    """Return in words how a process ended that gave no result.

    Args:
        code: Its exit code, a signal as -code, or these words themselves.
        memory: What is added to SIGKILL, which is how the kernel ends a process for lack of memory.
    """
    if isinstance(code, str):
        return code
    if code >= 0:
        return f"ended its process with exit code {code}" + " without a result" * (code == 0)
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    return f"was killed by {name}" + (f" ({memory})" if memory and name == "SIGKILL" else "")
