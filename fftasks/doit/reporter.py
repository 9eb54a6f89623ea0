"""What doit's runs print: a line for what runs, a progress bar on a terminal, and the results at the end."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from doit.exceptions import BaseFail
from doit.reporter import ConsoleReporter
from doit.task import Task

from fftasks.doit.database import ONCE
from fftasks.doit.progress import NoProgress, ProgressBar
from fftasks.doit.signals import end_quietly_on_signals
from fftasks.project import FOLDER, Project, open_current
from fftasks.record import read_record
from fftasks.stages.node import show_values
from fftasks.store.history import Journal
from fftasks.terminal import escape_all_but_colours

_GARBAGE = 50_000  # objects that may have become garbage before it is searched for


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's console reporter, with nodes counted and results shown.

    The `meta` of a task of ours is {"node": label} or {"stage": name of its record}.
    """

    desc = "stages and nodes, with reasons and results"

    def __init__(self, outstream: IO[str], options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self._begin = time.monotonic()
        self._counts = {"ran": 0, "up to date": 0, "failed": 0, "not run": 0}
        self._seen: dict[str, None] = {}
        self._progress = NoProgress()
        self._tasks: Mapping[str, Task] = {}
        self._selected: list[str] = []
        self._same: list[str] = []
        self._heading = ""  # the stage whose heading was printed last
        began = time.time()
        self._journal = Journal(Path(FOLDER), lambda: _describe_run(self._selected, began))

    def initialize(self, tasks: Mapping[str, Task], selected_tasks: list[str]) -> None:
        """Get ready; doit calls it before the first task, and before workers are forked."""
        super().initialize(tasks, selected_tasks)
        self._tasks, self._selected = tasks, selected_tasks
        end_quietly_on_signals(self._clear)
        gc.freeze()
        # each search looks at all that a run of thousands of nodes holds
        gc.set_threshold(_GARBAGE)
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
        if _is_ours(task):
            self._journal.begin_task(_name(task))
        if not _find(task, "node"):
            super().execute_task(task)
            self._heading = task.name
            return
        self._progress.begin(task.name)

    def add_success(self, task: Task) -> None:
        """Say what came of a task that was executed."""
        if _is_ours(task):
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
        label = _find(task, "node")
        skipped = fail.get_name() == "UnmetDependency"
        if label:
            self._count("not run" if skipped else "failed", task)
        if skipped:
            if _is_ours(task):
                self._journal.end_task(_name(task), "skipped", reason="what it needs has failed")
            return  # what it needed has failed, and was shown
        from fftasks.stages.arguments import examine_here

        message, self._heading = examine_here().hide(fail.get_msg().rstrip()), ""
        if _is_ours(task):
            self._journal.end_task(_name(task), "failed", error=message)
        self.write(
            f"!! {message}\n" if fail.get_name() == "TaskFailed" else f"!! {task.name}: {message}\n"
        )

    def skip_uptodate(self, task: Task) -> None:
        """Count a node that is up to date; show what a stage's record says."""
        if self._note(task):
            self._same.append(_name(task))
            self._count("up to date", task)
        elif _find(task, "stage"):
            self._same.append(_name(task))
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
            self._counts["not begun"] = self._count_left() if self._counts["failed"] else 0
            counts = [f"{count} {what}" for what, count in self._counts.items() if count]
            self.write(f"{', '.join(counts)}; {time.monotonic() - self._begin:.1f} s\n")
        if self._counts.get("not begun"):
            self.write("doit run --continue goes on with nodes that do not need one that failed\n")
        self.failures: list[Any] = []  # they have been shown
        super().complete_run()

    def _count_left(self) -> int:
        return _count_nodes(self._tasks, self._selected) - sum(self._counts.values())

    def _record(self, task: Task) -> None:
        values = task.values
        if not values.get("ran"):
            self._journal.end_task(_name(task), "up to date")
            return
        more = {name: values.get(name) for name in ("reason", "seconds")}
        self._journal.end_task(_name(task), "ran", **more, **values.get(ONCE, {}))

    def _note(self, task: Task) -> bool:
        label = _find(task, "node")
        if label:
            self._seen[label] = None
        return bool(label)

    def _count(self, what: str, task: Task) -> None:
        self._counts[what] += 1
        self._progress.end(task.name)

    def _describe(self, task: Task) -> None:
        if _find(task, "stage"):
            from fftasks.steps.assembly import plan

            step = plan(open_current(), _find(task, "stage"), _find(task, "workflow"))
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


def _find(task: Task, kind: str) -> str:
    return str((task.meta or {}).get("fftasks", {}).get(kind, ""))


def _name(task: Task) -> str:
    """Return a task's name in the history: with a node's label as it is, where doit's is spelled out."""
    label = _find(task, "node")
    return f"run:{label}" if label else str(task.name)


def _is_ours(task: Task) -> bool:
    return bool(_find(task, "node") or _find(task, "stage"))


def _describe_run(
    selected: list[str], begin: float
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """Return what the history notes of a run when it begins, and of the graph; see store/history.py."""
    project = open_current()
    line = {"begin": begin, "tasks": selected, "workflows": list(project.workflows)}
    values = {k: v for name in project.workflows for k, v in project.list_values(name).items()}
    line["parameters"] = {name: str(value) for name, value in show_values(values).items()}
    return line, project.name_graphs(), project.describe_nodes


def _count_nodes(tasks: Mapping[str, Task], selected: list[str]) -> int:
    """Count the nodes among the selected tasks and all that they need."""
    seen, queue = set(selected), list(selected)
    while queue:
        new = [name for name in tasks[queue.pop()].task_dep if name not in seen]
        seen.update(new)
        queue.extend(new)
    return sum(bool(_find(tasks[name], "node")) for name in seen)
