"""Run one node in this process: read its inputs, call its function, write its outputs, and report the result.

Local runs and pods use the same code.
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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from fftasks.api.node import (
    OUTPUTS_BY_KIND,
    CallNode,
    Node,
    NodeInput,
    Result,
    UnresolvedValue,
    _get_object_input,
    format_path,
    name_inputs,
    replace_unresolved,
)
from fftasks.api.parameter import Parameter, find_parameters
from fftasks.api.plugin import initialize
from fftasks.api.workflow_graph import calling
from fftasks.errors import FFTasksError, NodeError
from fftasks.runner.artifact import read_artifact, serialize, write_parts
from fftasks.runner.display_files import write_pages
from fftasks.runner.process import describe_end
from fftasks.runner.source import (
    CheckedModules,
    find_user_traceback,
    format_user_traceback,
    trace_files,
)
from fftasks.state_folder import remove

LoadInput = Callable[[NodeInput], Any]  # reads an upstream artifact
OnError = Callable[[Exception], None]  # called with an error of the user's function
_ERRNO_HINTS = {
    errno.ENOSPC: "free space on the disk, and run again",
    errno.ENOENT: "the folder was deleted while the node ran: run again",
}
_MAX_REASON = 500
_SHORT, _MAX_SHORT = (
    (int, float, bool, type(None)),
    40,
)  # reprlib returns the repr of these unchanged


def name_parameters(node: Node) -> dict[str, Parameter]:
    """Return the run parameters in a node's arguments, under the names that the node's component uses.

    The names are the same in every process, and differ from those of name_inputs:

    name           call
    rate           f(rate=Parameter("alpha", 1)): name of the argument
    alpha          f(rates=[Parameter("alpha", 1), 2]): name of the parameter, also if it occurs twice
    alpha_         the same, if the function has an argument alpha or the node an input alpha
    """
    if not find_parameters((node.args, node.kwargs)):
        return {}
    arguments = node.arguments
    found = {name: value for name, value in arguments.items() if isinstance(value, Parameter)}
    inside = [v for v in arguments.values() if not isinstance(v, UnresolvedValue)]
    taken = {*name_inputs(node), *arguments}
    for parameter in {p.name: p for p in find_parameters(inside)}.values():
        name = parameter.name
        while name in taken:
            name += "_"
        taken.add(name)
        found[name] = parameter
    return found


def list_outputs(node: Node) -> tuple[str, ...]:
    """Return the names of a node's outputs: its result and, for a method call, the object after the call."""
    return OUTPUTS_BY_KIND[node.kind]


def call_node(
    node: Node,
    load: LoadInput,
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
    loaded: dict[NodeInput, Any] = {}

    def load_once(needed: NodeInput) -> Any:
        if needed not in loaded:
            loaded[needed] = load(needed)
        return loaded[needed]

    def resolve(pending: UnresolvedValue) -> Any:
        if isinstance(pending, Parameter):  # a copy, because the function may change it
            return copy.deepcopy((values or {}).get(pending.name, pending.default))
        result = cast("Result", pending)
        return _find_item(result, load_once(NodeInput(result.node, "result")))

    args: Sequence[Any]
    if parameters:
        given = {**node.arguments, **parameters}
        args, kwargs = node.replace_arguments(
            {name: replace_unresolved(value, resolve) for name, value in given.items()}
        )
    else:
        args = [replace_unresolved(value, resolve) for value in node.args]
        kwargs = {name: replace_unresolved(value, resolve) for name, value in node.kwargs.items()}
    if node.after is None:
        with calling():
            if node.plugin is not None:
                initialize(node.plugin, node.name)
            return {"result": node.func(*args, **kwargs)}
    state = load_once(_get_object_input(node.after))
    with calling():
        if node.plugin is not None:
            initialize(node.plugin, node.name)
        result = getattr(state, cast("CallNode", node).method)(*args, **kwargs)
    return {"result": result, "state": state}


def _find_item(result: Result, value: Any) -> Any:
    """Return the item of an upstream value that a result such as x[0]["a"] means."""
    for depth, index in enumerate(result.path):
        try:
            value = value[index]
        except (LookupError, TypeError) as error:  # noqa: PERF203 - the message names the depth
            place = f"{result.node!r}{format_path(result.path[:depth])}"
            raise NodeError(
                f"cannot take {result!r}: {place} is a {type(value).__name__}",
                found=[f"{type(error).__name__}: {error}"],
            ) from error
    return value


def start_debugger(error: Exception) -> None:
    """Print the traceback of an error, and start Python's debugger at the frame that raised it."""
    import pdb  # noqa: T100 - the user has asked for it

    print(format_user_traceback(error), file=sys.stderr, flush=True)
    pdb.post_mortem(find_user_traceback(error))


class Job(NamedTuple):
    """The node to run, its inputs, and the paths of its outputs.

    Job and Report are tuples because a process that lives a millisecond creates a tuple faster than another
    object.

    Attributes:
        workflow: Name of the workflow; "" where the node is known already.
        node: Name of the node.
        inputs: Input name -> path of an artifact, or the Place of an artifact in a pack.
        outputs: Output name -> path to write.
        parameters: Argument name -> value that replaces the constant in the graph.
        items: Items of the result to preview, such as "[0]".
        log: File for the output of the node; "" leaves the standard streams as they are.
        env: Environment variables of the process that runs the node.
        timeout_s: Time limit in seconds; 0 for no limit.
        is_retry: Whether the node has failed before, so that its log is continued.
        values: Run parameter -> value, where it differs from the default.
        pages: Folder for the files that display the result, see display_files.py; "" for no files.
        reported_bytes: An output of up to this many bytes is not written, but returned in the report.
        foreign: Whether inputs may be files or folders that no node wrote, see foreign_inputs.py.
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
    """The result of a job: the digests of the outputs, or the error.

    Attributes:
        outputs: Output name -> digest of its artifact; empty if the node failed.
        previews: Item ("" for the whole result) -> short text that shows it.
        seconds: Duration of the function call in seconds, without reading and writing.
        error: Message for the user, in several lines; "" if the node succeeded.
        read: Files of the project that the function opened for reading, as far as they were observed.
        written: Files of the project that the function opened for writing, as far as they were observed.
        traits: Output name -> "python_type", and "shape" if the value has one.
        pages: Names of the files that display the result.
        unwritten: Output name -> its artifact, which the receiver writes; see write_outputs.
        reason: The error in one line, without the node's name: "ValueError: bad value".
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
    inputs: Mapping[str, NodeInput] | None = None,
    on_error: OnError | None = None,
) -> Report:
    """Call the node's function and write its outputs. Errors are returned in the report, not raised.

    Args:
        node: Node to run.
        job: Its inputs and outputs.
        checked: Checks that the project's modules have not changed since the graph record was made. None
            skips the check, and does not observe which files the function opens.
        inputs: Result of name_inputs(node), if the caller has it already.
        on_error: Called with an error of the user's function before it is reported, for a debugger.

    Returns:
        The report.
    """
    try:
        inputs = name_inputs(node) if inputs is None else inputs
        names = dict(zip(inputs.values(), inputs, strict=True))
        if checked is None:
            return _run(node, job, names)
        with trace_files(checked.root) as observed:
            report = _run(node, job, names)
        if observed.imported:  # a function may import when it runs
            checked.check()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - any error of the user's code is reported
        if on_error is not None and not isinstance(error, (FFTasksError, SystemExit)):
            on_error(error)
        return describe_error(node.name, error)
    read, written = sorted(observed.read), sorted(observed.written)
    return report._replace(read=read, written=written)


def describe_error(node: str, error: BaseException) -> Report:
    """Return the report of an error: of the node's function, or in reading inputs or storing results."""
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
    """Return the report of a node that was killed because one try exceeded the time limit.

    Args:
        node: Name of the node.
        timeout_s: Time limit in seconds.
        where: What the process was doing, such as "while wf.py was imported"; "" for the node's function.
    """
    error = f"{node} was killed after {timeout_s} s, with all that it had started"
    reason = f"took longer than timeout_s: {timeout_s}"
    if where:
        error, reason = f"{error}, {where}", f"{reason}, {where}"
    return Report({}, error=f"{error}\nhint: raise timeout_s of the node's settings", reason=reason)


def _describe_exit(code: object) -> str:
    """Describe the argument of sys.exit; a string means exit code 1, as in Python."""
    if code is None or isinstance(code, int):
        return describe_end(abs(int(code or 0)))
    return f"{describe_end(1)}: {code}"


def _describe_exception(error: BaseException) -> str:
    """Return "ValueError: bad value", with the module of a class that is not a builtin."""
    kind = _name_type(error)
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001 - the user's __str__
        text = f"(its __str__ raised {type(another).__name__})"
    return f"{kind}: {text}" if text else kind


def _name_type(value: object) -> str:
    """Return the name of a value's type, with its module unless it is a builtin or of the main module."""
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 1]}…"


def write_artifacts(node: str, job: Job, report: Report) -> Report:
    """Write the outputs that a report contains, and return the report with their digests instead.

    A process that has written files before does this faster: the first file costs a new process a third of a
    millisecond.

    Args:
        node: Name of the node.
        job: The job, with the paths of the outputs.
        report: The report.

    Returns:
        The report without unwritten outputs; a report with the error if an output cannot be written.
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
    """Return a short text for a value, in one line. An error of the value's repr is shown in the text."""
    if type(value) in _SHORT and len(text := repr(value)) <= _MAX_SHORT:
        return text
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return " ".join(short.repr(value).split())
    except Exception as error:  # noqa: BLE001 - the user's __repr__
        return f"<{type(value).__name__}: repr raised {type(error).__name__}>"


def describe_type(value: Any) -> dict[str, str]:
    """Return a value's "python_type" and, if it has one, its "shape": "1797x64 float64", "3 items"."""
    kind = type(value)
    if kind in _SHORT:
        return {"python_type": kind.__name__}
    described = {"python_type": _name_type(value)}
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
    """Describe a result as JSON: type, shape, preview, repr, and "value" if JSON can represent it exactly."""
    described = {**describe_type(value), "preview": preview_value(value), "repr": repr(value)}
    with contextlib.suppress(
        Exception
    ):  # values that JSON cannot represent, and errors of the user's ==
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            described["value"] = value
    return described


def _run(node: Node, job: Job, names: Mapping[NodeInput, str]) -> Report:
    """Call the node's function and write its outputs; `names` are the names of the node's inputs."""

    def load(needed: NodeInput) -> Any:
        # one object per input, not per file: equal results of two nodes are one file in the local store, but
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
        parts = _serialize_output(node, name, value)
        if len(parts) == 1 and len(parts[0]) <= job.reported_bytes:
            unwritten[name] = bytes(parts[0])
        else:
            outputs[name] = _write(node.name, name, job.outputs[name], parts)
    result = given["result"]
    previews = {"": preview_value(result)}
    for path in job.items:
        # format_path made the path from the user's indices; one that needs more than literals, such as an
        # enum, is not shown
        with contextlib.suppress(Exception):
            previews[path] = preview_value(eval(f"result{path}", {"result": result}))  # noqa: S307
    return Report(
        outputs,
        previews,
        seconds,
        traits=traits,
        pages=write_pages(result, job.pages) if job.pages else (),
        unwritten=unwritten,
    )


def _read_pod_input(node: Node, name: str, path: str) -> Any:
    """Return the value of an input in a pod; it may come from a component that is not of fftasks."""
    from fftasks.runner.foreign_inputs import is_foreign, read_foreign  # local runs do not need it

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


def _serialize_output(node: Node, output: str, value: Any) -> Sequence[bytes | memoryview]:
    try:
        return serialize(value)
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
            tip=_ERRNO_HINTS.get(error.errno or 0, "check the folder .fftasks, and run again"),
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
    """Return the name of the first attribute of an object that cannot be stored by itself; "" if none."""
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    names: list[str] = [*getattr(value, "__dict__", {}), *sorted(slots)]
    for name in names:
        try:
            serialize(getattr(value, name, None))
        except Exception:  # noqa: BLE001, PERF203 - any error of the user's code
            return name
    return ""
