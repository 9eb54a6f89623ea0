"""End a process and all that it has started, and say how one has ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def end_tree(pid: int) -> None:
    """Kill a process, what it has started, and its process group if it leads one."""
    tree = [pid, *_list_descendants(pid)]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    for one in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def end_session(leader: int) -> None:
    """Kill what is left of the session of a process that has ended; its group where there is no /proc."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for pid, fields in _list_processes():
        if int(fields[3]) == leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


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


def describe_end(code: int | str) -> str:
    """Return in words how a process ended: its exit code, a signal as -code, or these words themselves."""
    if isinstance(code, str):
        return code
    if code >= 0:
        return f"ended its process with exit code {code}"
    name = signal.Signals(-code).name
    reason = " (is there enough memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{reason}"
