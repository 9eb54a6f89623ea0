"""Messages between processes, through a pipe: four bytes of length, and marshal.

JSON's encoder would be a lot to copy for a process that was forked and lives a millisecond.

End a process and all that it has started, and say how one has ended.

What the kernel says about the memory of this container: its limit, and how often it was exceeded.
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

_LENGTH = struct.Struct("<I")  # of a message, before it


class Messages:
    """The messages that another process writes to a pipe.

    Attributes:
        ended: Whether the pipe was closed at its other end.
    """

    def __init__(self, descriptor: int) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._left = bytearray()

    def read(self) -> Iterator[Any]:
        """Wait for one piece of data, and yield the messages that are complete with it.

        Raises:
            ValueError, EOFError, TypeError: The data are no message; nothing can be read after that.
        """
        piece = os.read(self._descriptor, 1 << 16)
        if not piece:
            self.ended = True
        self._left += piece
        while len(self._left) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._left)[0]
            if end > len(self._left):
                break
            message = marshal.loads(bytes(self._left[_LENGTH.size : end]))
            del self._left[:end]
            yield message


def format_message(message: Any) -> bytes:
    """Return a message as it goes through a pipe."""
    data = marshal.dumps(message)
    return _LENGTH.pack(len(data)) + data


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


_UNLIMITED_BYTES = 1 << 60  # cgroup v1 has a number of about this size where there is no limit
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@dataclass(frozen=True)
class MemoryState:
    """The state of the memory controller.

    Attributes:
        limit_bytes: The memory limit; None if there is none or it cannot be read.
        kills: How many processes the kernel has killed for lack of memory; None if it cannot be read.
    """

    limit_bytes: int | None = None
    kills: int | None = None

    def has_killed_since(self, before: MemoryState) -> bool:
        """Tell whether the kernel has counted a kill since the state was `before`."""
        return self.kills is not None and before.kills is not None and self.kills > before.kills

    def describe_kill(self, before: MemoryState) -> str:
        """Return what SIGKILL means for a process that was started when the state was `before`.

        Returns:
            "out of memory" where the kernel has counted a kill since, "out of memory?" where it does not
            count, both with the limit; "" where it has counted none.
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
    """Return the state of the memory controller of this process, cgroup v1 or v2.

    Args:
        membership: The file that names the cgroups of the process.
        mount: Where the cgroup file systems are mounted.
    """
    for folder, limit, events in _list_places(membership, mount):
        kills = _read_kills(folder / events)
        limit_bytes = _read_limit(folder / limit)
        if kills is not None or limit_bytes is not None:
            return MemoryState(limit_bytes, kills)
    return MemoryState()


def format_bytes(number: int) -> str:
    """Return a number of bytes with a unit in which it is short: "256 MiB", "1.5 GiB"."""
    size, unit = float(number), _UNITS[0]
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            break
        size /= _STEP
    return f"{size:.4g} {unit}"


def _list_places(membership: Path, mount: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each folder that may be that of this container, with the names of its files.

    In a container, the mount usually shows the container's own cgroup as its root, while the path of the
    cgroup is that on the machine, or "/".
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
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
    return number if number < _UNLIMITED_BYTES else None


def _read_kills(file: Path) -> int | None:
    try:
        lines = file.read_text("ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    except (OSError, ValueError, IndexError):
        return None
