"""How far a run is: a bar on a terminal.

The end of a run by a signal, or of one of its workers: in a line, with what has finished recorded.

What doit's runs print: a line for what runs, a progress bar on a terminal, and the results at the end.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter
from doit.task import Task

from fftasks.cache.fingerprint import redact_values
from fftasks.cache.history import RunJournal
from fftasks.errors import escape_controls
from fftasks.project import STATE_FOLDER_NAME, Project, open_current
from fftasks.records import read_record
from fftasks.report.reasons import UPSTREAM_FAILED
from fftasks.tasks.doit_database import REPORTER_ONLY
from fftasks.terminal import escape_all_but_colours


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


def install_signal_handlers(clear: Callable[[], None]) -> None:
    """Let a signal, and the end of a worker, end the run in a line; what has finished is recorded already.

    clear: takes the progress bar off the screen
    Without Python's own way out: an exception can come between any two steps of the queues that doit
    has with its workers, and then both sides wait for each other.
    """
    main = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == main:
            _exit_with_message(128 + number, "interrupted: what has finished is kept", clear)
        if number == signal.SIGTERM:  # a forked worker of doit, which ends it so
            os._exit(128 + number)

    def look(_number: int, _frame: FrameType | None) -> None:
        # doit would wait for a worker that was killed; whoever calls active_children() forgets them
        workers = tuple(multiprocessing.process._children)  # type: ignore[attr-defined]
        code = next((worker.exitcode for worker in workers if worker.exitcode), 0)
        if code and os.getpid() == main:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tip = "is there enough memory? What has finished is kept: run again"
            _exit_with_message(1, f"a worker of doit ended with {name}\n  hint: {tip}", clear)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCHLD, look)
    doit = [main]

    def follow() -> None:
        if doit:  # else it is a child of a child
            _end_with_parent(doit.pop())

    os.register_at_fork(after_in_child=follow)


def _exit_with_message(code: int, message: str, clear: Callable[[], None]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.terminate()
    clear()
    with suppress(OSError, ValueError):  # nobody may be there to read it
        sys.stdout.flush()
        sys.stderr.write(f"\n{message}\n")
        sys.stderr.flush()
    os._exit(code)


def _end_with_parent(parent: int) -> None:
    from fftasks.graph.interpreters import end_with_parent

    end_with_parent(parent)


_GC_THRESHOLD = 50_000  # objects that may have become garbage before it is searched for


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's console reporter, with nodes counted and results shown.

    The `meta` of a task of ours is {"node": label} or {"stage": name of its record}.
    """

    desc = "stages and nodes, with reasons and results"

    def __init__(self, outstream: IO[str], options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._begin = time.monotonic()
        self._counts = {"ran": 0, "up to date": 0, "failed": 0, "skipped": 0}
        self._seen: dict[str, None] = {}
        self._progress = NoProgress()
        self._tasks: Mapping[str, Task] = {}
        self._selected: list[str] = []
        self._same: list[str] = []
        self._heading = ""  # the stage whose heading was printed last
        began = time.time()
        self._journal = RunJournal(
            Path(STATE_FOLDER_NAME), lambda: _describe_run(self._selected, began)
        )

    def initialize(self, tasks: Mapping[str, Task], selected_tasks: list[str]) -> None:
        """Get ready; doit calls it before the first task, and before workers are forked."""
        super().initialize(tasks, selected_tasks)
        self._tasks, self._selected = tasks, selected_tasks
        install_signal_handlers(self._clear)
        gc.freeze()
        # each search looks at all that a run of thousands of nodes holds
        gc.set_threshold(_GC_THRESHOLD)
        gc.enable()
        nodes = _count_nodes(tasks, selected_tasks)
        if nodes and self.outstream.isatty():
            self._progress = ProgressBar(nodes)

    def write(self, text: str) -> None:
        """Print above the progress bar, if there is one; control sequences except colours are escaped."""
        self._progress.clear()
        try:
            self.outstream.write(escape_all_but_colours(text))
            self.outstream.flush()
        except BrokenPipeError:  # as with `doit | head`: nobody reads on, and the run goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.outstream.fileno())

    def _clear(self) -> None:
        self._progress.clear()

    def execute_task(self, task: Task) -> None:
        """Say that a task begins, and why."""
        if _is_fftasks_task(task):
            self._journal.begin_task(_get_history_name(task))
        if not _get_meta(task, "node"):
            super().execute_task(task)
            self._heading = task.name
            return
        self._progress.begin(task.name)

    def add_success(self, task: Task) -> None:
        """Say what came of a task that was executed."""
        if _is_fftasks_task(task):
            self._record(task)
        if not self._note(task):
            self._describe(task)
            return
        if not task.values.get("ran"):
            self._count("up to date", task)
            return
        reason = self._dim(f"  ({task.values['reason']})")
        self._heading = ""
        self.write(f".  {task.name}  {task.values['seconds']:.2f} s{reason}\n")
        self._count("ran", task)

    def add_failure(self, task: Task, fail: BaseFail) -> None:
        """Show a failure once, where it happens."""
        label = _get_meta(task, "node")
        skipped = fail.get_name() == "UnmetDependency"
        if label:
            self._count("skipped" if skipped else "failed", task)
        if skipped:
            if _is_fftasks_task(task):
                self._journal.end_task(_get_history_name(task), "skipped", reason=UPSTREAM_FAILED)
            return  # what it needed has failed, and was shown
        from fftasks.secrets.value_scanner import get_environment_scanner

        message, self._heading = get_environment_scanner().hide(fail.get_msg().rstrip()), ""
        if _is_fftasks_task(task):
            self._journal.end_task(_get_history_name(task), "failed", error=message)
        self.write(
            f"!! {message}\n" if fail.get_name() == "TaskFailed" else f"!! {task.name}: {message}\n"
        )

    def skip_uptodate(self, task: Task) -> None:
        """Count a node that is up to date; show what a stage's record says."""
        if self._note(task):
            self._same.append(_get_history_name(task))
            self._count("up to date", task)
        elif _get_meta(task, "stage"):
            self._same.append(_get_history_name(task))
            self.write(f"-- {task.name}  {self._dim('up to date')}\n")
            self._heading = task.name
            self._describe(task)
        elif not task.has_subtask:
            super().skip_uptodate(task)

    def complete_run(self) -> None:
        """Show the leaves' results, how many nodes ran, and the time."""
        self._progress.clear()
        self._journal.end(self._same)
        if any(self._counts.values()):
            self._show_leaves(open_current())
            # doit does not report tasks that it never started because the run stopped at a failure
            left = self._count_left() if self._counts["failed"] else 0
            self._counts["skipped"] += left
            counts = [f"{count} {what}" for what, count in self._counts.items() if count]
            self.write(f"{', '.join(counts)}; {time.monotonic() - self._begin:.1f} s\n")
            if left:
                self.write(
                    "  hint: `doit run --continue` also runs nodes that do not depend on a failed node\n"
                )
        self.failures: list[Any] = []  # they have been shown
        super().complete_run()

    def _count_left(self) -> int:
        return _count_nodes(self._tasks, self._selected) - sum(self._counts.values())

    def _record(self, task: Task) -> None:
        values = task.values
        if not values.get("ran"):
            self._journal.end_task(_get_history_name(task), "up to date")
            return
        more = {name: values.get(name) for name in ("reason", "seconds")}
        self._journal.end_task(
            _get_history_name(task), "ran", **more, **values.get(REPORTER_ONLY, {})
        )

    def _note(self, task: Task) -> bool:
        label = _get_meta(task, "node")
        if label:
            self._seen[label] = None
        return bool(label)

    def _count(self, what: str, task: Task) -> None:
        self._counts[what] += 1
        self._progress.end(task.name)

    def _describe(self, task: Task) -> None:
        if _get_meta(task, "stage"):
            from fftasks.pipeline.stages import plan_stage

            step = plan_stage(open_current(), _get_meta(task, "stage"), _get_meta(task, "workflow"))
            record = read_record(step.path)
            if record is not None:
                if self._heading != task.name:  # stages that run side by side end in any order
                    self.write(f"-- {task.name}  {self._dim('done')}\n")
                    self._heading = task.name
                self.write(f"   {step.describe(record)}\n")

    def _show_leaves(self, project: Project) -> None:
        for graph in project.graphs:
            for name, workflow in graph["workflows"].items():
                wanted = [(leaf["node"], leaf["path"]) for leaf in workflow["leaves"]]
                lines = [
                    line
                    for leaf in wanted
                    for line in self._format_leaf(project, graph["file"], *leaf)
                ]
                if lines:
                    self.write(f"{name}:\n" + "".join(f"  {line}\n" for line in lines))

    def _format_leaf(self, project: Project, file: str, identity: str, path: str) -> list[str]:
        for label in self._seen:
            node = project.nodes[label]
            if node.content["id"] == identity and node.graph["file"] == file:
                trace = project.find_trace(label)
                if trace is None:
                    return []
                shown = f"{label}{path} = {trace.previews.get(path, trace.previews[''])}"
                # numbers stand in the line above
                pages = [p for p in project.list_pages(label) if p.suffix != ".json"]
                return [shown, *(f"  shown in {os.path.relpath(page)}" for page in pages)]
        return []

    def _dim(self, text: str) -> str:
        styled = self.outstream.isatty() and "NO_COLOR" not in os.environ
        return f"\x1b[2m{text}\x1b[0m" if styled else text


def _get_meta(task: Task, kind: str) -> str:
    return str((task.meta or {}).get("fftasks", {}).get(kind, ""))


def _get_history_name(task: Task) -> str:
    """Return a task's name in the history: with a node's label as it is, where doit's is spelled out."""
    label = _get_meta(task, "node")
    return f"run:{label}" if label else str(task.name)


def _is_fftasks_task(task: Task) -> bool:
    return bool(_get_meta(task, "node") or _get_meta(task, "stage"))


def _describe_run(
    selected: list[str], begin: float
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """Return what the history notes of a run when it begins, and of the graph; see store/history.py."""
    project = open_current()
    line = {"begin": begin, "tasks": selected, "workflows": list(project.workflows)}
    values = {k: v for name in project.workflows for k, v in project.list_values(name).items()}
    line["parameters"] = {name: str(value) for name, value in redact_values(values).items()}
    return line, project.name_graphs(), project.describe_nodes


def _count_nodes(tasks: Mapping[str, Task], selected: list[str]) -> int:
    """Count the nodes among the selected tasks and all that they need."""
    seen, queue = set(selected), list(selected)
    while queue:
        new = [name for name in tasks[queue.pop()].task_dep if name not in seen]
        seen.update(new)
        queue.extend(new)
    return sum(bool(_get_meta(tasks[name], "node")) for name in seen)
