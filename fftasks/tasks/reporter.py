"""The reporter of doit: a line for each task that runs, a progress bar, and the results at the end.

It also writes the history of the run, and ends the run with one line after a signal or the death of a worker.
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
from fftasks.project import Project, open_current
from fftasks.records import read_record
from fftasks.report.reasons import UPSTREAM_FAILED
from fftasks.state_folder import STATE_FOLDER
from fftasks.tasks.doit_database import REPORTER_ONLY
from fftasks.terminal import escape_all_but_colours


class NoProgress:
    """Display of the progress if the output is not a terminal: nothing."""

    def begin(self, name: str) -> None:
        """Show that a node runs.

        Args:
            name: Name of the task.
        """

    def end(self, name: str) -> None:
        """Show that a node has ended, whether it succeeded or not.

        Args:
            name: Name of the task.
        """

    def clear(self) -> None:
        """Remove the progress bar from the terminal."""


class ProgressBar(NoProgress):
    """A progress bar with the names of running nodes. It is drawn at each event, without a thread.

    A thread would be copied into doit's forked workers together with the locks that it holds.
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
    """End the run with one line after SIGINT, SIGTERM or the death of a worker; results are recorded already.

    The process exits without raising an exception: an exception between any two steps of the queues between
    doit and its workers could make both sides wait for each other.

    Args:
        clear: Removes the progress bar from the terminal.
    """
    main = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == main:
            _exit_with_message(
                128 + number, "interrupted: the results of finished nodes are kept", clear
            )
        if number == signal.SIGTERM:  # a forked worker that doit terminates
            os._exit(128 + number)

    def look(_number: int, _frame: FrameType | None) -> None:
        # doit would wait for a killed worker. active_children() would remove ended workers from its list.
        workers = tuple(multiprocessing.process._children)  # type: ignore[attr-defined]
        code = next((worker.exitcode for worker in workers if worker.exitcode), 0)
        if code and os.getpid() == main:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tip = "is there enough memory? Results of finished nodes are kept: run again"
            _exit_with_message(1, f"a worker of doit ended with {name}\n  hint: {tip}", clear)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCHLD, look)
    doit = [main]

    def follow() -> None:
        if doit:  # empty in a child of a child
            _end_with_parent(doit.pop())

    os.register_at_fork(after_in_child=follow)


def _exit_with_message(code: int, message: str, clear: Callable[[], None]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.terminate()
    clear()
    with suppress(OSError, ValueError):  # the terminal may be closed
        sys.stdout.flush()
        sys.stderr.write(f"\n{message}\n")
        sys.stderr.flush()
    os._exit(code)


def _end_with_parent(parent: int) -> None:
    from fftasks.graph.interpreters import end_with_parent

    end_with_parent(parent)


_GC_THRESHOLD = 50_000  # allocations between two garbage collections of the youngest generation


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's console reporter that also counts nodes, shows results and writes the history.

    `task.meta["fftasks"]` of a task of fftasks is {"node": label} or {"stage": name, "workflow": name}.
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
        self._journal = RunJournal(Path(STATE_FOLDER), lambda: _describe_run(self._selected, began))

    def initialize(self, tasks: Mapping[str, Task], selected_tasks: list[str]) -> None:
        """Prepare the run; doit calls it before the first task and before workers are forked.

        Args:
            tasks: All tasks, by name.
            selected_tasks: Names of the selected tasks.
        """
        super().initialize(tasks, selected_tasks)
        self._tasks, self._selected = tasks, selected_tasks
        install_signal_handlers(self._clear)
        gc.freeze()
        # Each collection visits all objects, of which a run of thousands of nodes has many.
        gc.set_threshold(_GC_THRESHOLD)
        gc.enable()
        nodes = _count_nodes(tasks, selected_tasks)
        if nodes and self.outstream.isatty():
            self._progress = ProgressBar(nodes)

    def write(self, text: str) -> None:
        """Print text above the progress bar. Control sequences except colours are escaped.

        Args:
            text: Lines, with line feeds.
        """
        self._progress.clear()
        try:
            self.outstream.write(escape_all_but_colours(text))
            self.outstream.flush()
        except BrokenPipeError:  # the reader has ended, as in `doit | head`; the run continues
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.outstream.fileno())

    def _clear(self) -> None:
        self._progress.clear()

    def execute_task(self, task: Task) -> None:
        """Show that a task starts."""
        if _is_fftasks_task(task):
            self._journal.begin_task(_get_history_name(task))
        if not _get_meta(task, "node"):
            super().execute_task(task)
            self._heading = task.name
            return
        self._progress.begin(task.name)

    def add_success(self, task: Task) -> None:
        """Show and record the outcome of a task that was executed."""
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
        """Show and record a failure. A task whose upstream task failed is only recorded as skipped.

        Args:
            task: The failed or skipped task.
            fail: Error object of doit.
        """
        label = _get_meta(task, "node")
        skipped = fail.get_name() == "UnmetDependency"
        if label:
            self._count("skipped" if skipped else "failed", task)
        if skipped:
            if _is_fftasks_task(task):
                self._journal.end_task(_get_history_name(task), "skipped", reason=UPSTREAM_FAILED)
            return
        from fftasks.secrets.value_scanner import get_environment_scanner

        message, self._heading = get_environment_scanner().hide(fail.get_msg().rstrip()), ""
        if _is_fftasks_task(task):
            self._journal.end_task(_get_history_name(task), "failed", error=message)
        self.write(
            f"!! {message}\n" if fail.get_name() == "TaskFailed" else f"!! {task.name}: {message}\n"
        )

    def skip_uptodate(self, task: Task) -> None:
        """Count a node that is up to date; for a stage, show the content of its record."""
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
        """Show the results of the leaves, the number of nodes by outcome, and the time."""
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
        self.failures: list[Any] = []  # shown already by add_failure
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
                if self._heading != task.name:  # stages that run in parallel end in any order
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
                # numbers are in the line above
                pages = [p for p in project.list_pages(label) if p.suffix != ".json"]
                return [shown, *(f"  shown in {os.path.relpath(page)}" for page in pages)]
        return []

    def _dim(self, text: str) -> str:
        styled = self.outstream.isatty() and "NO_COLOR" not in os.environ
        return f"\x1b[2m{text}\x1b[0m" if styled else text


def _get_meta(task: Task, kind: str) -> str:
    return str((task.meta or {}).get("fftasks", {}).get(kind, ""))


def _get_history_name(task: Task) -> str:
    """Return the name of a task in the history: "run:" and the label of a node, not its spelling for doit."""
    label = _get_meta(task, "node")
    return f"run:{label}" if label else str(task.name)


def _is_fftasks_task(task: Task) -> bool:
    return bool(_get_meta(task, "node") or _get_meta(task, "stage"))


def _describe_run(
    selected: list[str], begin: float
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """Return the header of a run in the history, a name for its graphs, and a function that describes them.

    See cache/history.py for the format.
    """
    project = open_current()
    line = {"begin": begin, "tasks": selected, "workflows": list(project.workflows)}
    values = {k: v for name in project.workflows for k, v in project.list_values(name).items()}
    line["parameters"] = {name: str(value) for name, value in redact_values(values).items()}
    return line, project.name_graphs(), project.describe_nodes


def _count_nodes(tasks: Mapping[str, Task], selected: list[str]) -> int:
    """Return the number of nodes among the selected tasks and their dependencies."""
    seen, queue = set(selected), list(selected)
    while queue:
        new = [name for name in tasks[queue.pop()].task_dep if name not in seen]
        seen.update(new)
        queue.extend(new)
    return sum(bool(_get_meta(tasks[name], "node")) for name in seen)
