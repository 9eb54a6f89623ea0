"""Write and read the history of local runs: what ran, why, when, and with which result.

    runs/<id>.jsonl           journal: one line per event, appended at once
    runs/graphs/<hex>.json    graph, shared by all runs with the same graph

A killed run leaves all lines but the last. A run in which nothing ran leaves nothing. A file may be damaged
or edited: a value of another type than the journal writes is treated as absent.

line                                    meaning
{"format", "run", "begin", "pid", …}    the run began; first line
{"task", "at", "begins": true}          a node or a stage began
{"task", "at", "state", …}              its final state, with reason, seconds, preview or error
{"at", "ended", "same"}                 the run ended; same: tasks that were up to date
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fftasks.cache.store import is_alive
from fftasks.errors import StoreError
from fftasks.path_validation import explain_unsafe_name
from fftasks.records import (
    FORMAT_KEY,
    STATE_FORMAT,
    has_state_format,
    read_state_file,
    write_state_file,
)
from fftasks.state_folder import need_folder, open_in_place, read_text, remove
from fftasks.task_states import STATES

_MOST_RUNS = 30
_LONGEST = 20_000  # characters of an error
_END_OF_TIME = 1e11  # seconds since the epoch, in the year 5138


@dataclass
class TaskEvent:
    """The state of one task in a run.

    Attributes:
        task: Name of the task: "run:<label>" for a node, or the name of a stage.
        state: A word of task_states.STATES.
        begin: Start in seconds since the epoch, or None if it is unknown.
        end: End in seconds since the epoch, or None if it is unknown.
        reason: Why the task ran.
        seconds: Duration of the function itself.
        preview: Short text that displays the result.
        output: Digest of the result.
        error: Error message; "" if the task did not fail.
    """

    task: str
    state: str = "running"
    begin: float | None = None
    end: float | None = None
    reason: str = ""
    seconds: float | None = None
    preview: str = ""
    output: str = ""
    error: str = ""


@dataclass
class LocalRun:
    """A local run, as its journal describes it.

    Attributes:
        identity: Name of the run.
        begin: Start in seconds since the epoch.
        header: First line of the journal.
        state: A word of task_states.STATES.
        end: End in seconds since the epoch; None while it runs, or if it was killed.
        events: State of each task, by its name.
        same: Names of the tasks that were up to date.
    """

    identity: str
    begin: float
    header: dict[str, Any]
    state: str = "running"
    end: float | None = None
    events: dict[str, TaskEvent] = field(default_factory=dict)
    same: tuple[str, ...] = ()


class RunJournal:
    """Journal of the current run. The file is created with the first event.

    Errors while writing are ignored: a run does not fail because its history cannot be written.
    """

    def __init__(
        self, folder: Path, describe: Callable[[], tuple[dict[str, Any], str, Callable[[], Any]]]
    ) -> None:
        """Prepare the journal.

        Args:
            folder: State folder.
            describe: Returns the first line, the name of the graph, and a function that returns the graph.
        """
        self._folder = folder / "runs"
        self._describe = describe
        self._path: Path | None = None
        self._descriptor = -1
        self._has_news = False

    def begin_task(self, task: str) -> None:
        """Write that a task begins."""
        self._append({"task": task, "at": time.time(), "begins": True})

    def end_task(self, task: str, state: str, **more: Any) -> None:
        """Write the final state of a task.

        Args:
            task: Name of the task.
            state: A word of task_states.STATES.
            more: Further attributes of TaskEvent.
        """
        self._has_news = self._has_news or state != "up to date"
        known = {name: value for name, value in more.items() if value}
        self._append({"task": task, "at": time.time(), "state": state, **known})

    def end(self, same: list[str]) -> None:
        """Write the end of the run with the tasks that were up to date; delete the journal if all were."""
        if self._path is None:
            return
        if self._has_news:
            self._append({"at": time.time(), "ended": True, "same": same})
        else:
            remove(self._path)

    def _append(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            if self._path is None:
                self._open()
            os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def _open(self) -> None:
        line, name, content = self._describe()
        moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(line["begin"]))
        self._path = self._folder / f"{moment}-{os.getpid()}.jsonl"
        _write_graph(self._folder / "graphs" / f"{name}.json", content)
        _forget_old(self._folder)
        need_folder(str(self._folder))
        self._descriptor = open_in_place(self._path, os.O_WRONLY | os.O_APPEND)
        header = {"run": self._path.stem, "pid": os.getpid(), "graph": name, **line}
        self._append({FORMAT_KEY: STATE_FORMAT, **header})


def list_local_runs(folder: Path) -> list[str]:
    """Return the names of all runs in the history, the oldest first."""
    paths = sorted((folder / "runs").glob("*.jsonl"))
    return [path.stem for path in paths if _is_header(next(_read_lines(path), {}), path.stem)]


def find_local_run(folder: Path, name: str = "") -> str:
    """Return the run whose name starts with a text, or the last run for "".

    Args:
        folder: State folder.
        name: Beginning of the name of the run.

    Raises:
        StoreError: No run, or more than one, has a name that starts so.
    """
    known = list_local_runs(folder)
    found = [run for run in known if run.startswith(name)]
    if found and (not name or len(found) == 1):
        return found[-1]
    if not known:
        raise StoreError("there is no run here yet", tip="`doit run` makes one")
    tip = "give more of its name" if found else "leave the name away for the last one"
    raise StoreError(
        f"{'several runs begin with' if found else 'there is no run'} {name!r}",
        found=[f"runs: {', '.join((found or known)[-8:])}"],
        tip=tip,
    )


def read_local_run(folder: Path, name: str) -> LocalRun:
    """Read a run by its full name; raise StoreError if its file is missing or damaged."""
    lines = list(_read_lines(folder / "runs" / f"{name}.jsonl"))
    if not lines or not _is_header(lines[0], name):
        raise StoreError(f"the record of run {name!r} is gone or damaged", tip="name another run")
    run = LocalRun(name, lines[0]["begin"], lines[0])
    for line in lines[1:]:
        if "at" not in line:
            continue
        if "ended" in line:
            run.end, run.same = line["at"], tuple(line.get("same", ()))
        elif "task" in line and ("begins" in line or "state" in line):
            _apply_line(run.events.setdefault(line["task"], TaskEvent(line["task"])), line)
    run.state = _find_state(run)
    if run.state == "canceled":
        for event in run.events.values():
            event.state = "canceled" if event.state == "running" else event.state
    return run


def read_run_graph(folder: Path, run: LocalRun) -> dict[str, Any]:
    """Return the graph of a run, as describe_for_history returns it; {} if it is missing."""
    name = run.header.get("graph", "")
    if explain_unsafe_name(name):
        return {}
    nodes = (read_state_file(folder / "runs" / "graphs" / f"{name}.json") or {}).get("nodes")
    if not isinstance(nodes, dict):
        return {}
    graph = {label: _complete_node(node) for label, node in nodes.items() if isinstance(node, dict)}
    for node in graph.values():
        node["upstream"] = [other for other in node["upstream"] if other in graph]
    return graph


def _complete_node(node: dict[str, Any]) -> dict[str, Any]:
    """Return a node of a graph without values of wrong types, and with all required keys."""
    return _EMPTY_NODE | {
        key: value for key, value in node.items() if _fits(key, value, _NODE_TYPES)
    }


def _is_header(line: Mapping[str, Any], name: str) -> bool:
    """Return whether a line is the first line in the file of a run, in the current format."""
    is_readable = has_state_format(line.get(FORMAT_KEY))
    return is_readable and line.get("run") == name and {"begin", "pid"} <= line.keys()


def _find_state(run: LocalRun) -> str:
    if run.end is None:
        return "running" if is_alive(run.header["pid"]) else "canceled"
    return "failed" if any(event.state == "failed" for event in run.events.values()) else "ran"


def _apply_line(event: TaskEvent, line: dict[str, Any]) -> None:
    if "begins" in line:
        event.begin = line["at"]
        return
    event.state, event.end = line["state"], line["at"]
    event.begin = line.get("begin", event.begin)
    event.reason, event.preview = line.get("reason", ""), line.get("preview", "")
    event.output = line.get("output", "")
    event.seconds, event.error = line.get("seconds"), line.get("error", "")[:_LONGEST]


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        return
    for line in text.splitlines():
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # the last line of a run that was killed
            value = json.loads(line)
            if isinstance(value, dict):
                yield {key: one for key, one in value.items() if _fits(key, one, _LINE_TYPES)}


def _fits(key: str, value: Any, types: Mapping[str, Callable[[Any], bool]]) -> bool:
    """Return whether a value has the type of its key; values of unknown keys always fit."""
    return key not in types or types[key](value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_time(value: Any) -> bool:
    """Return whether a value is a number of seconds that a float and a date can represent."""
    return type(value) in (int, float) and abs(value) < _END_OF_TIME


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


_LINE_TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(["run", "graph", "task", "reason", "preview", "output", "error"], _is_text),
    **dict.fromkeys(["begin", "at", "seconds"], _is_time),
    **dict.fromkeys(["tasks", "same"], _are_texts),
    "parameters": lambda value: isinstance(value, dict),
    "pid": lambda value: type(value) is int and value > 0,
    "state": lambda value: isinstance(value, str) and value in STATES,
}
_NODE_TYPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(["function", "place", "line", "slug", "workflow", "chain"], _is_text),
    **dict.fromkeys(["upstream", "extra"], _are_texts),
    **dict.fromkeys(["is_written", "is_function_written", "is_workflow_written"], _is_flag),
    "arguments": _are_named_texts,
}
_EMPTY_NODE: dict[str, Any] = {
    **dict.fromkeys(["function", "place", "line", "slug", "workflow", "chain"], ""),
    "upstream": [],
    "arguments": {},
}


def _write_graph(path: Path, content: Callable[[], Any]) -> None:
    if read_state_file(path) is None:
        write_state_file(path, {"nodes": content()})


def _forget_old(folder: Path) -> None:
    """Remove all but the last runs and graphs."""
    runs = sorted(folder.glob("*.jsonl"))
    for path in runs[: max(0, len(runs) - _MOST_RUNS + 1)]:
        remove(path)
    graphs = sorted((folder / "graphs").glob("*.json"), key=lambda path: path.lstat().st_mtime_ns)
    for path in graphs[: -_MOST_RUNS - 1]:
        remove(path)
