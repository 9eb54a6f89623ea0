"""What stands on the page of a run, as JSON; it knows neither where the run was nor how the page looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fftasks.page.documents import Document
from fftasks.page.plain import leave_values_out
from fftasks.picture.dot import format_dot
from fftasks.picture.drawing import Item, draw
from fftasks.stages.secret import HIDDEN, hide_tokens
from fftasks.state import STATES

_LONGEST = {
    "log": 60_000,
    "error": 20_000,
    "preview": 2_000,
    "text": 20_000,
    "reason": 500,
}  # characters of a text
_LONGEST_VALUE = 500
_LEFT_OUT = "Values are left out of this page on purpose, as report.previews is false."
_WITHHELD = "Messages about this run are not shown, as report.previews is false."
_ALL_DOCUMENTS = 30_000_000  # characters of documents and pictures
_ALL_LOGS = 10_000_000  # characters of those that did not fail


@dataclass(frozen=True)
class Phase:
    """A part of a task's time in which its function did not run, such as "queue"."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class PageTask:
    """A node or a stage on the page; times are seconds since the epoch, None where they are not known.

    state: a word of state.py; upstream: names of tasks that it needs
    stage: which one it is, "" for a node
    place: where its function is; line: where the graph has it
    extra: names of arguments that are passed as **kwargs
    preview: the beginning of its result; kind: type and shape of it
    text: what its result says in Markdown; documents: what it has for people; pictures: as data: URLs
    """

    name: str
    state: str
    reason: str = ""
    begin: float | None = None
    end: float | None = None
    seconds: float | None = None
    phases: tuple[Phase, ...] = ()
    function: str = ""
    stage: str = ""
    place: str = ""
    line: str = ""
    workflow: str = ""
    upstream: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    preview: str = ""
    kind: str = ""
    text: str = ""
    documents: tuple[Document, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    error: str = ""
    log: str = ""
    link: str = ""


@dataclass(frozen=True)
class PageRun:
    """A run on the page, or a row of the table of the last runs; ran: how many nodes ran in it."""

    name: str
    state: str
    begin: float | None
    end: float | None
    where: str = ""
    command: str = ""
    link: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ran: int = 0

    @property
    def seconds(self) -> float | None:
        """How long it took, None if it has not ended."""
        return None if self.begin is None or self.end is None else self.end - self.begin


@dataclass(frozen=True)
class Privacy:
    """What must not be on a page: secrets never, and values not where they are not wanted."""

    secrets: tuple[str, ...] = ()
    previews: bool = True


def make_content(  # noqa: PLR0913 - a page has as many parts
    title: str,
    run: PageRun,
    tasks: Sequence[PageTask],
    *,
    items: Sequence[Item],
    render: Callable[[str], str],
    history: Iterable[PageRun] = (),
    privacy: Privacy | None = None,
    notice: str = "",
    written: Collection[str] = (),
) -> dict[str, Any]:
    """Return the content of a page.

    items: the nodes as the picture has them; render: makes SVG of DOT; history: the newest run first
    notice: what the reader must know before all else
    written: names that are literals in the code; see plain.py
    """
    privacy, history = privacy or Privacy(), list(history)
    if not privacy.previews:
        plain = leave_values_out(run, tasks, items, history, written)
        run, tasks, items, history = plain.run, plain.tasks, plain.items, plain.history
        notice = f"{_LEFT_OUT} {_WITHHELD}" if notice else _LEFT_OUT
    shown = list(_limit_documents(tasks))
    most = {**_LONGEST, "log": max(500, min(_LONGEST["log"], _ALL_LOGS // max(1, len(tasks))))}
    path = find_longest_path(tasks)
    content = {
        "title": title,
        "run": _show_run(run),
        "tasks": [_cut(vars(task), most if task.state != "failed" else _LONGEST) for task in shown],
        "path": path,
        "spent": measure_path(tasks, path),
        "graph": _draw_graph(items, render),
        "history": [_show_run(one) for one in history],
        "states": {word: vars(state) for word, state in STATES.items()},
        "live": False,
        "notice": notice,
    }
    return dict(_hide(content, [secret for secret in privacy.secrets if secret]))


def make_empty(title: str) -> dict[str, Any]:
    """Return the content of a page where there is no run yet."""
    run = PageRun("", "waiting", None, None)
    return make_content(title, run, (), items=(), render=lambda _: "")


def find_longest_path(tasks: Sequence[PageTask]) -> list[str]:
    """Return the names of the tasks that the end of the run waited for, the first one first.

    From the one that ended last, back over the one, of those that it needs, that ended last.
    """
    timed = {task.name: task for task in tasks if task.end is not None and task.begin is not None}
    if not timed:
        return []
    # the last one of several that ended at once: times of a cluster are in whole seconds
    now = max(reversed(timed.values()), key=_end)
    path = [now.name]
    while True:
        needed = [timed[name] for name in now.upstream if name in timed and name not in path]
        if not needed:
            return path[::-1]
        now = max(reversed(needed), key=_end)
        path.append(now.name)


def measure_path(tasks: Sequence[PageTask], path: Sequence[str]) -> dict[str, float]:
    """Return what the time from the begin of a path to its end was for: seconds, by what they went into.

    That is the name of a stage or of a phase, "run" for functions, and "between" where nothing was at work.
    """
    known = {task.name: task for task in tasks}
    spent: dict[str, float] = {}
    now: float | None = None
    for name in path:
        for what, begin, end in _list_parts(known[name]):
            now = begin if now is None else now
            if begin > now:
                spent["between"] = spent.get("between", 0.0) + begin - now
                now = begin
            spent[what] = spent.get(what, 0.0) + max(end - now, 0.0)
            now = max(now, end)
    return {what: seconds for what, seconds in spent.items() if seconds > 0}


def _list_parts(task: PageTask) -> Iterator[tuple[str, float, float]]:
    """Yield the parts of a task that has begun and ended, one behind the other."""
    now, own = task.begin or 0.0, task.stage or "run"
    for phase in sorted(task.phases, key=lambda phase: phase.begin):
        if phase.begin > now:
            yield own, now, phase.begin
        yield phase.name, phase.begin, phase.end
        now = max(now, phase.end)
    yield own, now, max(_end(task), now)


def _end(task: PageTask) -> float:
    return task.end or 0.0


def _draw_graph(items: Sequence[Item], render: Callable[[str], str]) -> dict[str, Any]:
    if not items:
        return {"svg": "", "shapes": {}, "note": ""}
    drawing = draw(items)
    svg, note = render(format_dot(drawing)), ""
    if not svg:
        note = "The picture could not be drawn: `doit graph` says why."
    elif len(drawing.shapes) < len(items):
        note = f"{len(items):,} nodes, drawn as {len(drawing.shapes)}: nodes of one function are one shape."
    shapes = {key: list(shape.names) for key, shape in drawing.shapes.items()}
    return {"svg": svg, "shapes": shapes, "note": note}


def _show_run(run: PageRun) -> dict[str, Any]:
    return {**dataclasses.asdict(run), "seconds": run.seconds}


def _limit_documents(tasks: Iterable[PageTask]) -> Iterator[PageTask]:
    """Yield tasks, from where the page would become too large without their documents and pictures."""
    left = _ALL_DOCUMENTS
    for task in tasks:
        left -= sum(len(document.html) for document in task.documents) + sum(
            map(len, task.pictures)
        )
        yield task if left >= 0 else dataclasses.replace(task, documents=(), pictures=())


def _cut(task: Mapping[str, Any], longest: Mapping[str, int]) -> dict[str, Any]:
    """Keep the end of what is too long in a log, the beginning elsewhere, and say so."""
    task = {
        **task,
        "phases": [vars(phase) for phase in task["phases"]],
        "documents": [document._asdict() for document in task["documents"]],
    }
    for name, most in longest.items():
        text = task[name]
        if len(text) > most:
            left = f"[{len(text) - most:,} characters more]"
            task[name] = f"{left}\n{text[-most:]}" if name == "log" else f"{text[:most]} {left}"
    task["arguments"] = {name: text[:_LONGEST_VALUE] for name, text in task["arguments"].items()}
    return task


def _hide(value: Any, secrets: Sequence[str]) -> Any:
    """Take secrets out of all texts in a value, keys included."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value if value.startswith("data:image/") else hide_tokens(value)
    if isinstance(value, Mapping):
        return {_hide(key, secrets): _hide(inner, secrets) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hide(inner, secrets) for inner in value]
    return value
