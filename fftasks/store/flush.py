"""Have what was written put on the disk, in the background: a power cut shall cost no more than seconds.

What was not there yet is found by its digest; so nothing waits for the disk, which takes 25 ms each time.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

_PAUSE_S = 5.0


class Flusher:
    """Starts `sync` for the file system of a folder, now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._next = time.monotonic() + _PAUSE_S
        self._has_news = False

    def note(self) -> None:
        """Note that something was written; start, if it is time to."""
        self._has_news = True
        if time.monotonic() > self._next:
            self.start()

    def start(self) -> None:
        """Start, if there is anything new, and the last one has ended; do not wait."""
        if not self._has_news or (self._process is not None and self._process.poll() is None):
            return
        with suppress(OSError):  # there is no such program: the system writes within half a minute
            self._process = subprocess.Popen(
                ["sync", "-f", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,  # Ctrl-C is not for it
            )
        self._has_news = False
        self._next = time.monotonic() + _PAUSE_S
