"""What the kernel says about the memory of this container: its limit, and how often it was exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED_BYTES = 1 << 60  # cgroup v1 has a number of about this size where there is no limit
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@dataclass(frozen=True)
class Memory:
    """The state of the memory controller.

    Attributes:
        limit_bytes: The memory limit; None if there is none or it cannot be read.
        kills: How many processes the kernel has killed for lack of memory; None if it cannot be read.
    """

    limit_bytes: int | None = None
    kills: int | None = None

    def has_killed_since(self, before: Memory) -> bool:
        """Tell whether the kernel has counted a kill since the state was `before`."""
        return self.kills is not None and before.kills is not None and self.kills > before.kills

    def describe_kill(self, before: Memory) -> str:
        """Return what SIGKILL means for a process that was started when the state was `before`.

        Returns:
            "out of memory" where the kernel has counted a kill since, "out of memory?" where it does not
            count, both with the limit; "" where it has counted none.
        """
        limit = "" if self.limit_bytes is None else f"memory limit {spell_bytes(self.limit_bytes)}"
        if self.kills is None or before.kills is None:
            return f"out of memory? {limit}".rstrip()
        if self.has_killed_since(before):
            return f"out of memory, {limit}" if limit else "out of memory"
        return ""


def read_memory(
    membership: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Memory:
    """Return the state of the memory controller of this process, cgroup v1 or v2.

    Args:
        membership: The file that names the cgroups of the process.
        mount: Where the cgroup file systems are mounted.
    """
    for folder, limit, events in _list_places(membership, mount):
        kills = _read_kills(folder / events)
        limit_bytes = _read_limit(folder / limit)
        if kills is not None or limit_bytes is not None:
            return Memory(limit_bytes, kills)
    return Memory()


def spell_bytes(number: int) -> str:
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
