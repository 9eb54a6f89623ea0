"""Memory of a process that is about to be forked many times."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path

_MUCH_BYTES = 1 << 26


def give_back() -> None:
    """Return what was freed to the system, if the process is large: a fork copies an entry for each page.

    A file with long literals, or one that reads tables while it is imported, leaves several times what is
    still in use. To a small process loading what is needed for it would cost more than it saves.
    """
    if _measure_bytes() < _MUCH_BYTES:
        return
    import ctypes

    gc.collect()
    with suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _measure_bytes() -> int:
    """Return how much memory this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
