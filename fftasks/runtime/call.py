"""Call a node's function with the values that its arguments stand for."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, cast

from fftasks.errors import NodeError
from fftasks.workflow.guard import calling
from fftasks.workflow.instance import OUTPUTS, CallNode
from fftasks.workflow.node import Node
from fftasks.workflow.parameter import Parameter, find_parameters
from fftasks.workflow.pending import Pending, Result, find_results, format_path, replace_pending
from fftasks.workflow.plugin import initialize

_PACKAGE = str(Path(__file__).resolve().parents[1])


class Input(NamedTuple):
    """An upstream value that a node needs: what `node` gives under `output`.

    output: "result", or "state" for the object behind a method call
    """

    node: Node
    output: str


Load = Callable[[Input], Any]


def number_inputs(node: Node) -> dict[str, Input]:
    """Return the inputs of a node by name: one for each upstream artifact that its arguments use.

    An artifact that several arguments use, or that one argument uses several times, whole or by its items, is
    a single input, named after its first use. ML Metadata, which Kubeflow Pipelines records a run in, refuses
    a task that takes one artifact in two inputs.

    call                        inputs
    f(b=node)                   b
    f(models=[n1, n2])          models_0 (n1), models_1 (n2)
    f(a=node[0], b=node[1])     a
    f(parts=[n1, n1, n2])       parts_0 (n1), parts_2 (n2): the number is the place of the first use
    thing.method(node)          self (the object), node

    Args:
        node: Node whose arguments are searched, sets in the order in which their nodes were made.

    Returns:
        Input name -> upstream artifact. The names are unique within the node, differ from the names of its
        arguments unless the argument is the artifact, and are the same in every process.
    """
    names: dict[Input, str] = {}
    if node.after is not None:
        names[_find_object(node.after)] = "self"
    taken = set(names.values())
    arguments = node.arguments
    for argument, value in arguments.items():
        for number, result in enumerate(find_results(value)):
            needed = Input(result.node, "result")
            if needed in names:
                continue
            whole = isinstance(value, Result)
            name = argument.lower() if whole else f"{argument.lower()}_{number}"
            # KFP's SDK cannot pass an artifact and a parameter of the same name
            while name in taken or (name in arguments and not (whole and name == argument)):
                name += "_"
            taken.add(name)
            names[needed] = name
    return {name: needed for needed, name in names.items()}


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


def _find_object(after: Node) -> Input:
    return Input(after, "result" if after.kind == "object" else "state")


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
