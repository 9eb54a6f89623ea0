"""How far a run is: a bar on a terminal."""

from __future__ import annotations

from fftasks.errors import escape_controls


class NoProgress:
    """Progress where there is no terminal: none."""

    def begin(self, name: str) -> None:
        """Note that a node begins."""

    def end(self, name: str) -> None:
        """Note that a node has ended, however."""

    def clear(self) -> None:
        """Take the bar off the screen."""


class ProgressBar(NoProgress):
    """A bar with what is running; drawn only when something happens, so that there is no thread.

    A thread would be copied into doit's forked workers, with whatever lock it holds.
    """

    def __init__(self, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Progress(*columns, auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total)
        self._running: dict[str, None] = {}
        self._shown = False

    def begin(self, name: str) -> None:
        self._running[name] = None
        self._draw()

    def end(self, name: str) -> None:
        self._running.pop(name, None)
        self._bar.advance(self._task)
        if self._running:
            self._draw()

    def clear(self) -> None:
        if self._shown:
            self._bar.stop()
            self._shown = False

    def _draw(self) -> None:
        if not self._shown:
            self._bar.start()
            self._shown = True
        shown = escape_controls(", ".join(self._running)[:60])
        self._bar.update(self._task, description=shown)
        self._bar.refresh()
