"""Waiting for something outside to become true."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], bool], *, what: str, timeout_s: float = 30) -> None:
    """Return as soon as is_true() does; TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)
