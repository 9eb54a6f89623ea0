"""Call a node's function with the values that its arguments stand for.

Python's debugger at the place where a node's function has raised.

Jobs: run one node with paths of files, in this process; the same here and in the container.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import reprlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

from fftasks.api.node import (
    OUTPUTS,
    CallNode,
    Input,
    Node,
    Pending,
    Result,
    _find_object,
    format_path,
    number_inputs,
    replace_pending,
)
from fftasks.api.parameter import Parameter, find_parameters
from fftasks.api.plugin import initialize
from fftasks.api.workflow_graph import calling
from fftasks.errors import FFTasksError, NodeError
from fftasks.runner.artifact import dump, read_artifact, write_parts
from fftasks.runner.display_files import write_pages
from fftasks.runner.process import describe_end
from fftasks.runner.source import CheckedModules, observe_files
from fftasks.state_folder import remove

_PACKAGE = str(Path(__file__).resolve().parents[1])


Load = Callable[[Input], Any]


def number_parameters(node: Node) -> dict[str, Parameter]:
    """Return the run parameters that reach a node: a name for each place that takes one.

    The names are the same in every process, and none of number_inputs:

    name           call
    rate           f(rate=Parameter("alpha", 1)): the argument's
    alpha          f(rates=[Parameter("alpha", 1), 2]): the parameter's, also if it stands there twice
    alpha_         the same, where the function has an argument alpha or the node an input alpha
    """
    if not find_parameters((node.args, node.kwargs)):
        return {}
    arguments = node.arguments
    found = {name: value for name, value in arguments.items() if isinstance(value, Parameter)}
    inside = [v for v in arguments.values() if not isinstance(v, Pending)]
    taken = {*number_inputs(node), *arguments}
    for parameter in {p.name: p for p in find_parameters(inside)}.values():
        name = parameter.name
        while name in taken:
            name += "_"
        taken.add(name)
        found[name] = parameter
    return found


def list_outputs(node: Node) -> tuple[str, ...]:
    """Return the names of what a node gives: its result and, behind a method call, the object."""
    return OUTPUTS[node.kind]


def call_node(
    node: Node,
    load: Load,
    parameters: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Call the node's function with upstream values in place of nodes.

    Each artifact is loaded once, so that objects are shared as in plain Python: `f(x, x)` gets one object
    twice, and in `f(x, x[0])` the second argument is an item of the first.

    Args:
        node: Node to call.
        load: Reads an upstream artifact.
        parameters: Argument name -> value, where it differs from the value in the graph.
        values: Run parameter -> value, where it differs from the default.

    Returns:
        Output name, as in list_outputs -> value.

    Raises:
        NodeError: An item of an upstream value does not exist. Errors of the function itself are not caught.
    """
    load = _load_once(load)
    args, kwargs = _take_arguments(node, _take(load, values or {}), parameters or {})
    if node.after is None:
        with calling():
            if node.plugin is not None:
                initialize(node.plugin, node.name)
            return {"result": node.func(*args, **kwargs)}
    state = load(_find_object(node.after))
    with calling():
        if node.plugin is not None:
            initialize(node.plugin, node.name)
        result = getattr(state, cast("CallNode", node).method)(*args, **kwargs)
    return {"result": result, "state": state}


def format_user_traceback(error: BaseException) -> str:
    """Return the traceback of an error, beginning in the user's code."""
    lines = traceback.format_exception(type(error), error, find_user_traceback(error))
    return "".join(lines).rstrip()


def find_user_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error from the user's code on; all of it if no code of theirs is in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace or error.__traceback__


def _load_once(load: Load) -> Load:
    """Return a function that keeps what `load` returned for each input."""
    loaded: dict[Input, Any] = {}

    def load_once(needed: Input) -> Any:
        if needed not in loaded:
            loaded[needed] = load(needed)
        return loaded[needed]

    return load_once


def _take_arguments(
    node: Node, take: Callable[[Pending], Any], parameters: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if parameters:
        values = {**node.arguments, **parameters}
        return node.replace_arguments({k: replace_pending(v, take) for k, v in values.items()})
    args = tuple([replace_pending(value, take) for value in node.args])
    if not node.kwargs:
        return args, {}
    return args, {name: replace_pending(value, take) for name, value in node.kwargs.items()}


def _take(load: Load, values: Mapping[str, Any]) -> Callable[[Pending], Any]:
    def take(pending: Pending) -> Any:
        if isinstance(pending, Parameter):  # a copy: the function may change it
            return copy.deepcopy(values.get(pending.name, pending.default))
        return take_item(cast("Result", pending))

    def take_item(result: Result) -> Any:
        value = load(Input(result.node, "result"))
        for depth, index in enumerate(result.path):
            try:
                value = value[index]
            except (LookupError, TypeError) as error:  # noqa: PERF203 - says at which depth it failed
                place = f"{result.node!r}{format_path(result.path[:depth])}"
                raise NodeError(
                    f"cannot take {result!r}: {place} is a {type(value).__name__}",
                    found=[f"{type(error).__name__}: {error}"],
                ) from error
        return value

    return take


Examine = Callable[[Exception], None]


def debug(error: Exception) -> None:
    """Show an error, and let whoever sits at the terminal look at its frames."""
    import pdb  # noqa: T100 - it is what was asked for

    print(format_user_traceback(error), file=sys.stderr, flush=True)
    pdb.post_mortem(find_user_traceback(error))


_TIPS = {
    errno.ENOSPC: "make room on the disk, and run again",
    errno.ENOENT: "the folder was deleted while the node ran: run again",
}

_MAX_REASON = 500
_SHORT, _MAX_SHORT = (int, float, bool, type(None)), 40  # what reprlib would give as repr does


class Job(NamedTuple):
    """Which node to run, and where its inputs are and its outputs go.

    inputs: input name -> path of an artifact, or a Place in a file; outputs: output name -> path to write
    parameters: argument name -> value that replaces the constant in the graph
    values: run parameter -> its value, where it is not the default
    items: paths of items that are wanted, such as "[0]", to be shown
    log: file that takes what the node prints; "" leaves it where it goes
    env: environment that its process is started with
    timeout_s: seconds after which it is killed; 0: never
    is_retry: it has failed before, and its log goes on
    pages: folder that takes what is shown of the result, see show.py; "" if nobody wants it
    foreign: inputs may be files or folders that no node wrote, see foreign.py
    reported_bytes: an output of up to so many bytes is in the report, for whoever reads it to write

    A tuple, as is the report: a process that lives a millisecond makes one faster than an object.
    """

    workflow: str
    node: str
    inputs: Mapping[str, str | Sequence[Any]]
    outputs: Mapping[str, str]
    parameters: Mapping[str, Any] = {}
    items: Sequence[str] = ()
    log: str = ""
    env: Mapping[str, str] = {}
    timeout_s: int = 0
    is_retry: bool = False
    values: Mapping[str, Any] = {}
    pages: str = ""
    reported_bytes: int = 0
    foreign: bool = False


class Report(NamedTuple):
    """What came of a job: the outputs' digests, or the error.

    outputs: output name -> digest of its artifact; empty if it failed
    previews: path of an item ("" for the whole result) -> a short text that shows it
    seconds: how long the function took, without reading and writing
    error: what went wrong, in the user's words; "" if nothing did
    read, written: files of the project that the function opened, as far as they were seen
    traits: what is known of each output: "python_type", and "shape" where it has one
    pages: names of the files that were written to be shown
    unwritten: output name -> its pickle, which is still to be written; see write_outputs
    reason: the error in one line, without the node's name: "ValueError: bad value"
    """

    outputs: Mapping[str, str]
    previews: Mapping[str, str] = {}
    seconds: float = 0.0
    error: str = ""
    read: Sequence[str] = ()
    written: Sequence[str] = ()
    traits: Mapping[str, Mapping[str, str]] = {}
    pages: Sequence[str] = ()
    unwritten: Mapping[str, bytes] = {}
    reason: str = ""


def run_job(
    node: Node,
    job: Job,
    checked: CheckedModules | None = None,
    inputs: Mapping[str, Input] | None = None,
    examine: Callable[[Exception], None] | None = None,
) -> Report:
    """Call the node's function and write its outputs; nothing is raised, the report says it all.

    checked: refuses modules of the project that are not what the graph record saw
    inputs: as number_inputs gives them, for whoever has them already
    examine: is shown what the user's function raises, while its frames are there
    """
    try:
        inputs = number_inputs(node) if inputs is None else inputs
        names = dict(zip(inputs.values(), inputs, strict=True))
        if checked is None:
            return _run(node, job, names)
        with observe_files(checked.root) as observed:
            report = _run(node, job, names)
        if observed.imported:  # a function may import when it runs
            checked.check()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the border to the user's code
        if examine is not None and not isinstance(error, (FFTasksError, SystemExit)):
            examine(error)
        return describe_error(node.name, error)
    read, written = sorted(observed.read), sorted(observed.written)
    return report._replace(read=read, written=written)


def describe_error(node: str, error: BaseException) -> Report:
    """Return the report of a node that raised, or whose arguments or result cannot be read or stored."""
    if isinstance(error, FFTasksError):
        attempted = error.attempted.removeprefix(f"{node}: ").removeprefix(f"{node} ")
        found = "; ".join(text.strip().rpartition("\n")[2] for text in error.found)
        reason = getattr(error, "reason", "") or ": ".join(filter(None, (attempted, found)))
        return Report({}, error=str(error), reason=_shorten(reason))
    if isinstance(error, SystemExit):
        reason = _shorten(_describe_exit(error.code))
        return Report({}, error=f"{node} {reason}", reason=reason)
    shown = format_user_traceback(error)
    reason = _shorten(_describe_exception(error))
    return Report({}, error=f"{node} raised {type(error).__name__}\n{shown}", reason=reason)


def describe_timeout(node: str, timeout_s: int, where: str = "") -> Report:
    """Return the report of a node that was killed because one try took too long.

    Args:
        node: Its name.
        timeout_s: The limit.
        where: What it was doing, such as "while wf.py was imported".
    """
    error = f"{node} was killed after {timeout_s} s, with all that it had started"
    reason = f"took longer than timeout_s: {timeout_s}"
    if where:
        error, reason = f"{error}, {where}", f"{reason}, {where}"
    return Report({}, error=f"{error}\nhint: raise timeout_s of the node's settings", reason=reason)


def _describe_exit(code: object) -> str:
    """Return in words what sys.exit was called with; a text is an exit code of 1, as for Python."""
    if code is None or isinstance(code, int):
        return describe_end(abs(int(code or 0)))
    return f"{describe_end(1)}: {code}"


def _describe_exception(error: BaseException) -> str:
    kind = type(error)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001 - the user's __str__
        text = f"(its __str__ raised {type(another).__name__})"
    return f"{module}{kind.__qualname__}: {text}" if text else f"{module}{kind.__qualname__}"


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 1]}…"


def write_outputs(node: str, job: Job, report: Report) -> Report:
    """Write the outputs that a report has in itself, and return it without them.

    For a process that has written others before: it takes a new one a third of a millisecond.
    """
    if not report.unwritten:
        return report
    try:
        written = {
            name: _write(node, name, job.outputs[name], [stream])
            for name, stream in report.unwritten.items()
        }
    except FFTasksError as error:
        return Report({}, error=str(error))
    return report._replace(outputs={**report.outputs, **written}, unwritten={})


def preview_value(value: Any) -> str:
    """Return value as one short line; never raises."""
    if type(value) in _SHORT and len(text := repr(value)) <= _MAX_SHORT:
        return text
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return " ".join(short.repr(value).split())
    except Exception as error:  # noqa: BLE001 - the user's __repr__
        return f"<{type(value).__name__}: repr raised {type(error).__name__}>"


def describe_type(value: Any) -> dict[str, str]:
    """Return a value's Python type and, for what has one, its shape: "1797x64 float64", "3 items"."""
    kind = type(value)
    if kind in _SHORT:
        return {"python_type": kind.__name__}
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    described = {"python_type": f"{module}{kind.__qualname__}"}
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        dtype = getattr(value, "dtype", None)
        described["shape"] = f"{'x'.join(map(str, shape)) or 'scalar'} {dtype or ''}".strip()
    elif isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)):
        described["shape"] = (
            f"{len(value)} {'items' if not isinstance(value, (str, bytes)) else 'long'}"
        )
    return described


def describe_result(value: Any) -> dict[str, Any]:
    """Return a result for tools: its type, its repr, and itself where JSON gives it back as it is."""
    described = {**describe_type(value), "preview": preview_value(value), "repr": repr(value)}
    with contextlib.suppress(Exception):  # what JSON has no word for, and the user's own ==
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            described["value"] = value
    return described


def _run(node: Node, job: Job, names: Mapping[Input, str]) -> Report:
    def load(needed: Input) -> Any:
        # one object per input, not per file: equal results of two nodes are one file in the local store, and
        # two objects in Python
        name = names[needed]
        given = job.inputs[name]
        if not isinstance(given, str):
            return read_artifact(*given)
        return _read_pod_input(node, name, given) if job.foreign else read_artifact(given)

    begin = time.perf_counter()
    given = call_node(node, load, job.parameters, job.values)
    seconds = time.perf_counter() - begin
    outputs, unwritten, traits = {}, {}, {}
    for name in list_outputs(node):
        value = given[name]
        traits[name] = describe_type(value)
        parts = _dump(node, name, value)
        if len(parts) == 1 and len(parts[0]) <= job.reported_bytes:
            unwritten[name] = bytes(parts[0])
        else:
            outputs[name] = _write(node.name, name, job.outputs[name], parts)
    result = given["result"]
    return Report(
        outputs,
        _preview(result, job.items),
        seconds,
        traits=traits,
        pages=write_pages(result, job.pages) if job.pages else (),
        unwritten=unwritten,
    )


def _read_pod_input(node: Node, name: str, path: str) -> Any:
    """Return the value of an input of a pod, which may come from another component than ours."""
    from fftasks.runner.foreign_inputs import is_foreign, read_foreign  # no run here needs it

    if is_foreign(path):
        return read_foreign(node, name, path)
    try:
        return read_artifact(path)
    except FileNotFoundError as error:
        raise NodeError(
            f"{node.name}: its input {name!r} is missing",
            found=[f"nothing is at {path}"],
            tip="the component upstream has to write a file or folder to the path of its output",
        ) from error


def _preview(result: Any, items: Sequence[str]) -> dict[str, str]:
    previews = {"": preview_value(result)}
    for path in items:
        # the path was made by format_path from the user's own indices; one that needs more than
        # literals, such as an enum, is not shown
        with contextlib.suppress(Exception):
            previews[path] = preview_value(eval(f"result{path}", {"result": result}))  # noqa: S307
    return previews


def _dump(node: Node, output: str, value: Any) -> Sequence[bytes | memoryview]:
    try:
        return dump(value)
    except Exception as error:
        raise _describe_unstorable(node, output, value, error) from error


def _write(node: str, output: str, path: str, parts: Sequence[bytes | memoryview]) -> str:
    try:
        return write_parts(path, parts)
    except OSError as error:
        remove(path)
        raise NodeError(
            f"{node} ran, and its {output} cannot be written to {path}",
            found=[os.strerror(error.errno) if error.errno else str(error)],
            tip=_TIPS.get(error.errno or 0, "look at the folder .fftasks, and run again"),
        ) from error


def _describe_unstorable(node: Node, output: str, value: Any, error: Exception) -> NodeError:
    name, cause = f"a {type(value).__name__}", f"{type(error).__name__}: {error}"
    if output == "result" and node.kind != "object":
        return NodeError(
            f"{node.name} returned {name} that cannot be stored",
            found=[cause],
            tip="return plain data, and open files, connections and generators where they are used",
        )
    attribute = _find_unstorable(value)
    return NodeError(
        f"{node.name}: {node.qualname}() left {name} that cannot be stored for the next call",
        found=[f"attribute {attribute!r}: {cause}" if attribute else cause],
        tip="open files and connections where they are used, or leave them out of what is stored: "
        "def __getstate__(self): ...",
    )


def _find_unstorable(value: Any) -> str:
    """Return the first attribute of an object that cannot be stored by itself, or ""."""
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    names: list[str] = [*getattr(value, "__dict__", {}), *sorted(slots)]
    for name in names:
        try:
            dump(getattr(value, name, None))
        except Exception:  # noqa: BLE001, PERF203 - the border to the user's code
            return name
    return ""
