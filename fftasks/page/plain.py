"""Build the report page for report.previews: false, which contains no values of the user's.

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
# how the name of a piece of code begins that the parser has found; see closure/module.py
_PIECES = ("function ", "class ", "constant ", "names ")
_ENDINGS = (
    " changed", " is used now", " is not used any more", " is new", " is not there any more",
)  # fmt: skip
_CHANGES = ("changed", "is new", "is gone", "was changed or removed")
_ENDED = "its command ended with exit status "
_BUILT_IN = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


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
        written: Names of nodes, functions, classes and workflows that are literals in the code; all
            others were computed and may contain values.
    """
    functions = _choose_functions(tasks, items, written)
    tasks = [dataclasses.replace(task, function=functions[task.function]) for task in tasks]
    items = [dataclasses.replace(item, function=functions[item.function]) for item in items]
    names = _choose_names(tasks, items, written)
    return Plain(
        _show_run(run),
        [_show_task(task, names, written) for task in tasks],
        [_show_item(item, names) for item in items],
        [_show_run(one) for one in history],
    )


def _choose_functions(
    tasks: Sequence[PageTask], items: Sequence[Item], written: Collection[str]
) -> dict[str, str]:
    """Return the name to be shown of each function; stages have names of fftasks."""
    functions = {task.function: task.function for task in tasks if task.stage} | {"": ""}
    for name in [*(task.function for task in tasks), *(item.function for item in items)]:
        if name not in functions:
            functions[name] = name if name in written else _number("function", functions, written)
    return functions


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


def _show_task(task: PageTask, names: Mapping[str, str], written: Collection[str]) -> PageTask:
    """Return a copy of a task that contains no user values."""
    return type(task)(
        name=names[task.name],
        state=task.state,
        reason=_show_reason(task, names, written),
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
        error=_show_error(task, written),
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


def _show_reason(task: PageTask, names: Mapping[str, str], written: Collection[str]) -> str:
    reason, again, number = task.reason.rpartition("; try ")
    if again and number.isdecimal():
        again = f"{again}{number}"
    else:
        reason, again = task.reason, ""
    if not reason or reason in _REASONS or _is_change_of_code(reason, written):
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
    place, colon, _ = reason.partition(".py: ")
    if colon and _is_path(place):
        return f"its code changed{again}"
    has_values = " -> " in reason.partition(": ")[2]
    return f"its inputs changed{again}" if has_values or reason.endswith(_CHANGES) else LEFT_OUT


def _is_change_of_code(reason: str, written: Collection[str]) -> bool:
    """Return whether a reason names code alone, such as "wf.py: names first, second changed"."""
    place, _, rest = reason.partition(".py: ")
    ending = next((ending for ending in _ENDINGS if rest.endswith(ending)), "")
    rest = rest.removesuffix(ending)
    if not ending or not _is_path(place):
        return False
    kind = next((kind for kind in _PIECES if rest.startswith(kind)), "")
    if not kind:  # of a function that was made while the graph was built: its name may be computed
        return rest == "statements" or rest.removesuffix("()") in written
    names = rest.removeprefix(kind).removesuffix("()").removesuffix(", ...").split(", ")
    return all(part.isidentifier() for name in names for part in name.split("."))


def _is_path(text: str) -> bool:
    return bool(text) and all(letter.isalnum() or letter in "_./-" for letter in text)


def _show_error(task: PageTask, written: Collection[str]) -> str:
    """Return the type of an exception; its message and a computed class name may contain values."""
    if not task.error:
        return ""
    first = task.error.partition("\n")[0].removeprefix("run: ").removeprefix(f"{task.name} ")
    if first.startswith(_ENDED) and first.removeprefix(_ENDED).isdecimal():
        return first
    raised, _, _ = first.removeprefix("raised ").partition(", at the last of ")
    name = raised.partition(":")[0].rpartition(".")[2]
    if name in _BUILT_IN or (name.isidentifier() and name in written):
        return f"raised {name}"
    return "raised an exception" if first.startswith("raised ") else "failed"
