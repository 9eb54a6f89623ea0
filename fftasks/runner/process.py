"""Work with other processes: exchange messages, end process trees, and describe how a process ended.

A message is four bytes of length, and a value in the format of marshal. JSON's encoder would touch many
memory pages, which a forked process that lives a millisecond would have to copy.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<I")  # length of a message, in front of it
_WAIT_STEP_S = 0.02
# cgroup v1 contains a number of about this size if there is no limit
_UNLIMITED_BYTES = 1 << 60
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_UNIT_FACTOR = 1024


class Messages:
    """Reader of the messages that another process writes to a pipe.

    Attributes:
        ended: Whether the write end of the pipe is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._buffer = bytearray()

    def read(self) -> Iterator[Any]:
        """Wait for data, read once, and yield the messages that are complete now.

        Yields:
            The messages in the order in which they were written.

        Raises:
            ValueError, EOFError, TypeError: The data are not a message. Nothing can be read after that.
        """
        data = os.read(self._descriptor, 1 << 16)
        if not data:
            self.ended = True
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if end > len(self._buffer):
                break
            message = marshal.loads(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
            yield message


def format_message(message: Any) -> bytes:
    """Return the bytes of a message: its length and its content."""
    data = marshal.dumps(message)
    return _LENGTH.pack(len(data)) + data


def end_tree(pid: int) -> None:
    """Kill a process, its descendants, and its process group if it leads one."""
    tree = [pid, *_list_descendants(pid)]
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    _signal_all(tree, signal.SIGKILL)


def terminate_tree(pid: int, has_ended: Callable[[], bool], grace_s: float) -> None:
    """Send SIGTERM to a process and its descendants, and SIGKILL after a grace period.

    Args:
        pid: The process.
        has_ended: Returns whether the process has ended, without waiting.
        grace_s: Seconds between the two signals; less if all processes end earlier.
    """
    tree = [pid, *_list_descendants(pid)]
    _signal_all(tree, signal.SIGTERM)
    end = time.monotonic() + grace_s
    while not (has_ended() and _have_ended(tree[1:])) and time.monotonic() < end:
        time.sleep(_WAIT_STEP_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # a group outlives its leader
    _signal_all(tree, signal.SIGKILL)


def end_session(leader: int) -> None:
    """Kill the remaining processes of a session whose leader has ended; only its group without /proc."""
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
    """Return the descendants of a process; none on systems without /proc."""
    children: dict[int, list[int]] = {}
    for child, fields in _list_processes():
        children.setdefault(int(fields[1]), []).append(child)
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


def _list_processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield each process id with the fields of /proc/PID/stat from the state on: state, parent, group, …"""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            # the name, in brackets, may contain any character
            yield int(path.parent.name), path.read_bytes().rpartition(b")")[2].split()


def describe_end(code: int | str, memory: str = "out of memory?") -> str:
    """Describe the end of a process that gave no result, such as "was killed by SIGKILL (out of memory?)".

    Args:
        code: Its exit code; -N if signal N ended it; a string is returned unchanged.
        memory: Remark behind SIGKILL, with which the kernel ends a process for lack of memory; "" for none.
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


@dataclass(frozen=True)
class MemoryState:
    """The state of the memory controller of this container.

    Attributes:
        limit_bytes: Memory limit in bytes; None if there is none or it cannot be read.
        kills: Number of processes that the kernel has killed for lack of memory; None if it cannot be read.
    """

    limit_bytes: int | None = None
    kills: int | None = None

    def has_killed_since(self, before: MemoryState) -> bool:
        """Return whether the kernel has killed a process for lack of memory since the state `before`."""
        return self.kills is not None and before.kills is not None and self.kills > before.kills

    def describe_kill(self, before: MemoryState) -> str:
        """Return the probable cause of a SIGKILL that a process got since the state `before`.

        Returns:
            "out of memory" if the kernel has counted a kill since then, "out of memory?" if the count cannot
            be read, both with the limit; "" if the kernel has counted none.
        """
        limit = "" if self.limit_bytes is None else f"memory limit {format_bytes(self.limit_bytes)}"
        if self.kills is None or before.kills is None:
            return f"out of memory? {limit}".rstrip()
        if self.has_killed_since(before):
            return f"out of memory, {limit}" if limit else "out of memory"
        return ""


def read_memory_state(
    membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> MemoryState:
    """Read the state of the memory controller of this process, cgroup v1 or v2.

    Args:
        membership: File that names the cgroups of the process.
        mount: Folder at which the cgroup file systems are mounted.

    Returns:
        The state; without values if no file of the controller can be read.
    """
    for folder, limit, events in _list_cgroups(membership, mount):
        kills = _read_kills(folder / events)
        limit_bytes = _read_limit(folder / limit)
        if kills is not None or limit_bytes is not None:
            return MemoryState(limit_bytes, kills)
    return MemoryState()


def format_bytes(number: int) -> str:
    """Return a number of bytes with a suitable unit: "256 MiB", "1.5 GiB"."""
    size, unit = float(number), _UNITS[0]
    for unit in _UNITS:
        if size < _UNIT_FACTOR or unit == _UNITS[-1]:
            break
        size /= _UNIT_FACTOR
    return f"{size:.4g} {unit}"


def _list_cgroups(membership: Path, mount: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each possible folder of this container's cgroup, with the names of its limit and events files.

    In a container, the root of the mount usually is the container's own cgroup, while the membership file
    contains the path on the machine, or "/".
    """
    try:
        lines = membership.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = path.lstrip("/")
        if "memory" in controllers.split(","):
            for folder in (mount / "memory" / inside, mount / "memory"):
                yield folder, "memory.limit_in_bytes", "memory.oom_control"
        elif not controllers:
            for folder in (mount / inside, mount):
                yield folder, "memory.max", "memory.events"


def _read_limit(file: Path) -> int | None:
    try:
        number = int(file.read_text("ascii"))
    except (OSError, ValueError):  # the file does not exist, or contains "max"
        return None
    return number if number < _UNLIMITED_BYTES else None


def _read_kills(file: Path) -> int | None:
    try:
        lines = file.read_text("ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    except (OSError, ValueError, IndexError):
        return None
