"""Build the report page for report.previews: false, which contains no values of the user's.

This table lists what the page shows unchanged, and what it shows instead of the rest.

content                           shown unchanged                              shown instead
names of nodes and workflows      automatic names, and literals in the code    the function and a number
names of arguments                parameters in the function's signature       nothing
states, times, phases, edges      all
functions, files and lines        all
settings                          numbers, sizes and switches                  the name of the setting
reasons                           reasons that contain no value                a short reason, or "not shown"
errors                            the type of the exception                    "failed"
everything else                   nothing                                      nothing
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fftasks.picture.drawing import Item
from fftasks.project import NEEDS

if TYPE_CHECKING:
    from fftasks.page.content import PageRun, PageTask

LEFT_OUT = "not shown"
# settings whose values are numbers, sizes, switches or terms of Kubernetes
_SETTINGS = frozenset({
    "cpu", "cpu_limit", "memory", "memory_limit", "gpu", "retries", "retry_wait_s", "retry_factor",
    "retry_max_wait_s", "timeout_s", "pod_retries", "shared_memory", "pull_policy", "cache", "fuse",
})  # fmt: skip
_REASONS = frozenset({
    "never ran", "its result is gone or damaged", "its code changed", "its data changed",
    "the fingerprint algorithm changed", "the algorithm of this stage changed",
    "an earlier run has computed it", "what it needs has failed", "the base is to be looked at again",
    "a new run is asked for", "what context.allow lets in changed", "the patterns changed",
    "nobody has tried to import its workflows", "the record is damaged",
})  # fmt: skip
# prefixes of reasons that contain a value, a node or a file, with their replacements
_KINDS = {
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
_WORD = r"[A-Za-z_]\w*"
_CODE = re.compile(
    rf"[\w./-]+\.py: (?:[a-z]+ )?(?:{_WORD}\.?)+(?:\(\))?"
    r" (?:changed|is used now|is not used any more|is new|is not there any more)"
)
_TRY = re.compile(r"; try \d+$")
_CHANGE = re.compile(r": .* -> |\b(?:changed|is new|is gone|was changed or removed)$", re.DOTALL)
_EXCEPTION = re.compile(rf"(?:{_WORD}\.)*\w*(?:Error|Exception|Warning|Interrupt|Exit|Iteration)")
_ENDS = re.compile(r"its command ended with exit status \d+")


@dataclass(frozen=True)
class Plain:
    """The parts of a page, without values."""

    run: PageRun
    tasks: list[PageTask]
    items: list[Item]
    history: list[PageRun]


def leave_values_out(
    run: PageRun,
    tasks: Sequence[PageTask],
    items: Sequence[Item],
    history: Iterable[PageRun],
    written: Collection[str],
) -> Plain:
    """Return the parts of a page without the values of the user.

    Args:
        run: The run.
        tasks: Stages and nodes of the run.
        items: Nodes of the run, as the drawing of the graph needs them.
        history: The last runs.
        written: Names of nodes and workflows that are literals in the code. All other names were computed,
            and may contain values.
    """
    names = _choose_names(tasks, items, written)
    return Plain(
        _show_run(run),
        [_show_task(task, names) for task in tasks],
        [_show_item(item, names) for item in items],
        [_show_run(one) for one in history],
    )


def _choose_names(
    tasks: Sequence[PageTask], items: Sequence[Item], written: Collection[str]
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
            names[name] = name if name in written else _number(what, names, written)
    for task in tasks:
        if task.stage:
            workflow = names.get(task.workflow, "")
            names[task.name] = f"{task.stage}:{workflow}" if workflow else task.stage
    return names


def _list_workflows(tasks: Sequence[PageTask], items: Sequence[Item]) -> list[str]:
    return [*(item.workflow for item in items), *(task.workflow for task in tasks)]


def _number(what: str, names: Mapping[str, str], written: Collection[str]) -> str:
    """Return a unique name such as "train #3"."""
    taken = {*names.values(), *written}
    return next(
        name for n in itertools.count(len(names) + 1) if (name := f"{what} #{n}") not in taken
    )


def _show_run(run: PageRun) -> PageRun:
    words = [word.partition(":")[0] for word in run.command.removeprefix("doit ").split()]
    known = list(dict.fromkeys(word for word in words if word in ("run", *NEEDS)))
    command = " ".join(["doit", *known]) if run.command.startswith("doit ") else ""
    return dataclasses.replace(run, command=command, parameters={}, metrics={})


def _show_task(task: PageTask, names: Mapping[str, str]) -> PageTask:
    """Return a copy of a task that contains no user values."""
    return type(task)(
        name=names[task.name],
        state=task.state,
        reason=_show_reason(task, names),
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
        arguments={name: LEFT_OUT for name in task.arguments if name not in task.extra},
        settings=dict(_show_setting(*one) for one in task.settings.items()),
        error=_show_error(task),
        link=task.link,
    )


def _show_item(item: Item, names: Mapping[str, str]) -> Item:
    return dataclasses.replace(
        item,
        name=names[item.name],
        upstream=tuple(names[other] for other in item.upstream if other in names),
        workflow=names.get(item.workflow, ""),
        chain=names.get(item.chain, ""),
        group=names.get(item.group, ""),
    )


def _show_setting(name: str, value: str) -> tuple[str, str]:
    return (name, value) if name in _SETTINGS else (name.partition(".")[0], LEFT_OUT)


def _show_reason(task: PageTask, names: Mapping[str, str]) -> str:
    found = _TRY.search(task.reason)
    again = found[0] if found else ""
    reason = task.reason.removesuffix(again)
    if not reason or reason in _REASONS or _CODE.fullmatch(reason):
        return f"{reason}{again}"
    argument = reason.removeprefix("constant ").partition(":")[0].removesuffix(" changed")
    if reason.startswith("constant ") and argument in set(task.arguments) - set(task.extra):
        return f"constant {argument} changed{again}"
    for other in task.upstream:
        if reason == f"result of {other} changed":
            return f"result of {names.get(other, 'a node')} changed{again}"
    for kind, said in _KINDS.items():
        if reason.startswith((f"{kind} ", f"{kind}: ")):
            return f"{said}{again}"
    if re.match(r"[\w./-]+\.py: ", reason):
        return f"its code changed{again}"
    return f"its inputs changed{again}" if _CHANGE.search(reason) else LEFT_OUT


def _show_error(task: PageTask) -> str:
    """Return the type of an exception without its message, which may contain values."""
    if not task.error:
        return ""
    first = task.error.partition("\n")[0].removeprefix("run: ").removeprefix(f"{task.name} ")
    raised = re.fullmatch(rf"raised ({_WORD})(?:, at the last of \d+ tries)?", first)
    if raised:
        return f"raised {raised[1]}"
    kind = _EXCEPTION.fullmatch(first.partition(":")[0])
    if kind:
        return f"raised {kind[0]}"
    return first if _ENDS.fullmatch(first) else "failed"
