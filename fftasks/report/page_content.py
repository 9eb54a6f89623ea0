"""What stands on the page of a run, as JSON; it knows neither where the run was nor how the page looks.

Build the report page for report.previews: false, which contains no values of the user's.

on the page                       as it is                                     otherwise
names of nodes and workflows      automatic, or a text of the code             the function with a number
names of arguments                of the function's signature                  left out
states, times, phases, edges      always
functions                         a name of the code                           a number
files and lines                   always
settings                          numbers, sizes and switches                  their names alone
reasons                           what changed, in words of fftasks            "not shown"
errors                            the type of the exception: a built-in one,   "raised an exception", "failed"
                                  or a class of the code
everything else                                                                left out
"""

from __future__ import annotations

import builtins
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fftasks.project import STAGE_NEEDS
from fftasks.report.diagram import DiagramNode, format_dot, make_diagram
from fftasks.report.result_documents import ResultDocument
from fftasks.secrets.scanner import HIDDEN, hide_tokens
from fftasks.task_states import STATES

_MAX_LENGTHS = {
    "log": 60_000,
    "error": 20_000,
    "preview": 2_000,
    "text": 20_000,
    "reason": 500,
}  # characters of a text
_MAX_ARGUMENT_LENGTH = 500
_REDACTED_NOTICE = "Values are left out of this page on purpose, as report.previews is false."
_NO_MESSAGES_NOTICE = "Messages about this run are not shown, as report.previews is false."
_MAX_TOTAL_DOCUMENTS = 30_000_000  # characters of documents and pictures
_MAX_TOTAL_LOGS = 10_000_000  # characters of those that did not fail


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
    documents: tuple[ResultDocument, ...] = ()
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


def make_page_content(  # noqa: PLR0913 - a page has as many parts
    title: str,
    run: PageRun,
    tasks: Sequence[PageTask],
    *,
    items: Sequence[DiagramNode],
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
        plain = redact_page(run, tasks, items, history, written)
        run, tasks, items, history = plain.run, plain.tasks, plain.items, plain.history
        notice = f"{_REDACTED_NOTICE} {_NO_MESSAGES_NOTICE}" if notice else _REDACTED_NOTICE
    shown = list(_limit_documents(tasks))
    most = {
        **_MAX_LENGTHS,
        "log": max(500, min(_MAX_LENGTHS["log"], _MAX_TOTAL_LOGS // max(1, len(tasks)))),
    }
    path = find_critical_path(tasks)
    content = {
        "title": title,
        "run": _run_to_json(run),
        "tasks": [
            _truncate_texts(vars(task), most if task.state != "failed" else _MAX_LENGTHS)
            for task in shown
        ],
        "path": path,
        "spent": measure_critical_path(tasks, path),
        "graph": _draw_graph(items, render),
        "history": [_run_to_json(one) for one in history],
        "states": {word: vars(state) for word, state in STATES.items()},
        "live": False,
        "notice": notice,
    }
    return dict(_remove_secrets(content, [secret for secret in privacy.secrets if secret]))


def make_empty_page_content(title: str) -> dict[str, Any]:
    """Return the content of a page where there is no run yet."""
    run = PageRun("", "waiting", None, None)
    return make_page_content(title, run, (), items=(), render=lambda _: "")


def find_critical_path(tasks: Sequence[PageTask]) -> list[str]:
    """Return the names of the tasks that the end of the run waited for, the first one first.

    From the one that ended last, back over the one, of those that it needs, that ended last.
    """
    timed = {task.name: task for task in tasks if task.end is not None and task.begin is not None}
    if not timed:
        return []
    # the last one of several that ended at once: times of a cluster are in whole seconds
    now = max(reversed(timed.values()), key=_get_end)
    path = [now.name]
    while True:
        needed = [timed[name] for name in now.upstream if name in timed and name not in path]
        if not needed:
            return path[::-1]
        now = max(reversed(needed), key=_get_end)
        path.append(now.name)


def measure_critical_path(tasks: Sequence[PageTask], path: Sequence[str]) -> dict[str, float]:
    """Return what the time from the begin of a path to its end was for: seconds, by what they went into.

    That is the name of a stage or of a phase, "run" for functions, and "between" where nothing was at work.
    """
    known = {task.name: task for task in tasks}
    spent: dict[str, float] = {}
    now: float | None = None
    for name in path:
        for what, begin, end in _list_time_intervals(known[name]):
            now = begin if now is None else now
            if begin > now:
                spent["between"] = spent.get("between", 0.0) + begin - now
                now = begin
            spent[what] = spent.get(what, 0.0) + max(end - now, 0.0)
            now = max(now, end)
    return {what: seconds for what, seconds in spent.items() if seconds > 0}


def _list_time_intervals(task: PageTask) -> Iterator[tuple[str, float, float]]:
    """Yield the parts of a task that has begun and ended, one behind the other."""
    now, own = task.begin or 0.0, task.stage or "run"
    for phase in sorted(task.phases, key=lambda phase: phase.begin):
        if phase.begin > now:
            yield own, now, phase.begin
        yield phase.name, phase.begin, phase.end
        now = max(now, phase.end)
    yield own, now, max(_get_end(task), now)


def _get_end(task: PageTask) -> float:
    return task.end or 0.0


def _draw_graph(items: Sequence[DiagramNode], render: Callable[[str], str]) -> dict[str, Any]:
    if not items:
        return {"svg": "", "shapes": {}, "note": ""}
    drawing = make_diagram(items)
    svg, note = render(format_dot(drawing)), ""
    if not svg:
        note = "The picture could not be drawn: `doit graph` says why."
    elif len(drawing.shapes) < len(items):
        note = f"{len(items):,} nodes, drawn as {len(drawing.shapes)}: nodes of one function are one shape."
    shapes = {key: list(shape.names) for key, shape in drawing.shapes.items()}
    return {"svg": svg, "shapes": shapes, "note": note}


def _run_to_json(run: PageRun) -> dict[str, Any]:
    return {**dataclasses.asdict(run), "seconds": run.seconds}


def _limit_documents(tasks: Iterable[PageTask]) -> Iterator[PageTask]:
    """Yield tasks, from where the page would become too large without their documents and pictures."""
    left = _MAX_TOTAL_DOCUMENTS
    for task in tasks:
        left -= sum(len(document.html) for document in task.documents) + sum(
            map(len, task.pictures)
        )
        yield task if left >= 0 else dataclasses.replace(task, documents=(), pictures=())


def _truncate_texts(task: Mapping[str, Any], longest: Mapping[str, int]) -> dict[str, Any]:
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
    task["arguments"] = {
        name: text[:_MAX_ARGUMENT_LENGTH] for name, text in task["arguments"].items()
    }
    return task


def _remove_secrets(value: Any, secrets: Sequence[str]) -> Any:
    """Take secrets out of all texts in a value, keys included."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value if value.startswith("data:image/") else hide_tokens(value)
    if isinstance(value, Mapping):
        return {
            _remove_secrets(key, secrets): _remove_secrets(inner, secrets)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_remove_secrets(inner, secrets) for inner in value]
    return value


REDACTED = "not shown"
# settings whose values are numbers, sizes, switches or terms of Kubernetes
_PUBLIC_SETTINGS = frozenset({
    "cpu", "cpu_limit", "memory", "memory_limit", "gpu", "retries", "retry_wait_s", "retry_factor",
    "retry_max_wait_s", "timeout_s", "pod_retries", "shared_memory", "pull_policy", "cache", "fuse",
})  # fmt: skip
_PUBLIC_REASONS = frozenset({
    "never ran", "its result is gone or damaged", "its code changed", "its data changed",
    "the fingerprint algorithm changed", "the algorithm of this stage changed",
    "an earlier run has computed it", "what it needs has failed", "the base is resolved again",
    "a new run is asked for", "what context.allow lets in changed", "the patterns changed",
    "its workflows have not been imported for a check", "the record is damaged",
})  # fmt: skip
# prefixes of reasons that contain a value, a node or a file, with their replacements
_REASON_PREFIXES = {
    "parameter": "a run parameter changed",
    "env": "a variable of its environment changed",
    "data file": "a data file changed",
    "data": "a data file changed",
    "version": "its version changed",
    "function": "its function changed",
    "python": "Python changed",
    "requirements": "the requirements changed",
    "setting": "a setting changed",
    "constant": "a constant changed",
    "result of": "a result that it needs changed",
    "input": "a result that it needs changed",
}
# how the name of a piece of code begins that the parser has found; see closure/module.py
_CODE_PIECES = ("function ", "class ", "constant ", "names ")
_CODE_CHANGES = (
    " changed", " is used now", " is not used any more", " is new", " is not there any more",
)  # fmt: skip
_REASON_SUFFIXES = ("changed", "is new", "is gone", "was changed or removed")
_EXIT_STATUS_PREFIX = "its command ended with exit status "
_BUILT_IN = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


@dataclass(frozen=True)
class RedactedContent:
    """The parts of a page, without values."""

    run: PageRun
    tasks: list[PageTask]
    items: list[DiagramNode]
    history: list[PageRun]


def redact_page(
    run: PageRun,
    tasks: Sequence[PageTask],
    items: Sequence[DiagramNode],
    history: Iterable[PageRun],
    written: Collection[str],
) -> RedactedContent:
    """Return the parts of a page without the values of the user.

    Args:
        run: The run.
        tasks: Stages and nodes of the run.
        items: Nodes of the run, as the drawing of the graph needs them.
        history: The last runs.
        written: Names of nodes, functions, classes and workflows that are literals in the code; all
            others were computed and may contain values.
    """
    functions = _redact_functions(tasks, items, written)
    tasks = [dataclasses.replace(task, function=functions[task.function]) for task in tasks]
    items = [dataclasses.replace(item, function=functions[item.function]) for item in items]
    names = _redact_names(tasks, items, written)
    return RedactedContent(
        _redact_run(run),
        [_redact_task(task, names, written) for task in tasks],
        [_redact_diagram_node(item, names) for item in items],
        [_redact_run(one) for one in history],
    )


def _redact_functions(
    tasks: Sequence[PageTask], items: Sequence[DiagramNode], written: Collection[str]
) -> dict[str, str]:
    """Return the name to be shown of each function; stages have names of fftasks."""
    functions = {task.function: task.function for task in tasks if task.stage} | {"": ""}
    for name in [*(task.function for task in tasks), *(item.function for item in items)]:
        if name not in functions:
            functions[name] = (
                name if name in written else _make_numbered_name("function", functions, written)
            )
    return functions


def _redact_names(
    tasks: Sequence[PageTask], items: Sequence[DiagramNode], written: Collection[str]
) -> dict[str, str]:
    """Return the name to show for each node, workflow, group and stage."""
    wanted = [(item.name, item.function or "node") for item in items]
    wanted += [(task.name, task.function or "node") for task in tasks if not task.stage]
    wanted += [(name, "workflow") for name in _list_workflows(tasks, items)]
    wanted += [(item.chain, "object") for item in items]
    wanted += [(item.group, "group") for item in items]
    names: dict[str, str] = {}
    for name, what in wanted:
        if name and name not in names:
            names[name] = name if name in written else _make_numbered_name(what, names, written)
    for task in tasks:
        if task.stage:
            workflow = names.get(task.workflow, "")
            names[task.name] = f"{task.stage}:{workflow}" if workflow else task.stage
    return names


def _list_workflows(tasks: Sequence[PageTask], items: Sequence[DiagramNode]) -> list[str]:
    return [*(item.workflow for item in items), *(task.workflow for task in tasks)]


def _make_numbered_name(what: str, names: Mapping[str, str], written: Collection[str]) -> str:
    """Return a unique name such as "train #3"."""
    taken = {*names.values(), *written}
    return next(
        name for n in itertools.count(len(names) + 1) if (name := f"{what} #{n}") not in taken
    )


def _redact_run(run: PageRun) -> PageRun:
    words = [word.partition(":")[0] for word in run.command.removeprefix("doit ").split()]
    known = list(dict.fromkeys(word for word in words if word in ("run", *STAGE_NEEDS)))
    command = " ".join(["doit", *known]) if run.command.startswith("doit ") else ""
    return dataclasses.replace(run, command=command, parameters={}, metrics={})


def _redact_task(task: PageTask, names: Mapping[str, str], written: Collection[str]) -> PageTask:
    """Return a copy of a task that contains no user values."""
    return type(task)(
        name=names[task.name],
        state=task.state,
        reason=_redact_task_reason(task, names, written),
        begin=task.begin,
        end=task.end,
        seconds=task.seconds,
        phases=task.phases,
        function=task.function,
        stage=task.stage,
        place=task.place,
        line=task.line,
        workflow=names.get(task.workflow, ""),
        upstream=tuple(names[other] for other in task.upstream if other in names),
        arguments={name: REDACTED for name in task.arguments if name not in task.extra},
        settings=dict(_redact_setting(*one) for one in task.settings.items()),
        error=_redact_error(task, written),
        link=task.link,
    )


def _redact_diagram_node(item: DiagramNode, names: Mapping[str, str]) -> DiagramNode:
    return dataclasses.replace(
        item,
        name=names[item.name],
        upstream=tuple(names[other] for other in item.upstream if other in names),
        workflow=names.get(item.workflow, ""),
        chain=names.get(item.chain, ""),
        group=names.get(item.group, ""),
    )


def _redact_setting(name: str, value: str) -> tuple[str, str]:
    return (name, value) if name in _PUBLIC_SETTINGS else (name.partition(".")[0], REDACTED)


def _redact_task_reason(task: PageTask, names: Mapping[str, str], written: Collection[str]) -> str:
    reason, again, number = task.reason.rpartition("; try ")
    if again and number.isdecimal():
        again = f"{again}{number}"
    else:
        reason, again = task.reason, ""
    if not reason or reason in _PUBLIC_REASONS or _is_code_change(reason, written):
        return f"{reason}{again}"
    argument = reason.removeprefix("constant ").partition(":")[0].removesuffix(" changed")
    if reason.startswith("constant ") and argument in set(task.arguments) - set(task.extra):
        return f"constant {argument} changed{again}"
    for other in task.upstream:
        if reason == f"result of {other} changed":
            return f"result of {names.get(other, 'a node')} changed{again}"
    for kind, said in _REASON_PREFIXES.items():
        if reason.startswith((f"{kind} ", f"{kind}: ")):
            return f"{said}{again}"
    place, colon, _ = reason.partition(".py: ")
    if colon and _is_path(place):
        return f"its code changed{again}"
    has_values = " -> " in reason.partition(": ")[2]
    return (
        f"its inputs changed{again}"
        if has_values or reason.endswith(_REASON_SUFFIXES)
        else REDACTED
    )


def _is_code_change(reason: str, written: Collection[str]) -> bool:
    """Return whether a reason names code alone, such as "wf.py: names first, second changed"."""
    place, _, rest = reason.partition(".py: ")
    ending = next((ending for ending in _CODE_CHANGES if rest.endswith(ending)), "")
    rest = rest.removesuffix(ending)
    if not ending or not _is_path(place):
        return False
    kind = next((kind for kind in _CODE_PIECES if rest.startswith(kind)), "")
    if not kind:  # of a function that was made while the graph was built: its name may be computed
        return rest == "statements" or rest.removesuffix("()") in written
    names = rest.removeprefix(kind).removesuffix("()").removesuffix(", ...").split(", ")
    return all(part.isidentifier() for name in names for part in name.split("."))


def _is_path(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "_./-" for letter in text)


def _redact_error(task: PageTask, written: Collection[str]) -> str:
    """Return the type of an exception; its message and a computed class name may contain values."""
    if not task.error:
        return ""
    first = task.error.partition("\n")[0].removeprefix("run: ").removeprefix(f"{task.name} ")
    if (
        first.startswith(_EXIT_STATUS_PREFIX)
        and first.removeprefix(_EXIT_STATUS_PREFIX).isdecimal()
    ):
        return first
    raised, _, _ = first.removeprefix("raised ").partition(", at the last of ")
    name = raised.partition(":")[0].rpartition(".")[2]
    if name in _BUILT_IN or (name.isidentifier() and name in written):
        return f"raised {name}"
    return "raised an exception" if first.startswith("raised ") else "failed"
