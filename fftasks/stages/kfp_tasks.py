"""Stage tasks: graph record -> the tasks of a workflow on Kubeflow Pipelines, without their images.

A task runs a node, or a group of nodes. The stages pins and pipeline work with the record; nothing in it
depends on the code of the nodes, so that an edit of a function does not make it again.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fftasks.errors import WorkflowError
from fftasks.record import Record, digest_json
from fftasks.runtime.executor_input import BARE, NAME_ONLY, NO_VALUE, PREVIEW, name_object
from fftasks.runtime.task import MAX_DESCRIBED, MAX_DIGESTED
from fftasks.stages.document import Document
from fftasks.stages.group_task import (
    ARTIFACT,
    Plan,
    define,
    define_shown,
    make_component,
    make_group_task,
    make_plan,
)
from fftasks.stages.groups import Group, Grouping
from fftasks.stages.image import COMMAND
from fftasks.stages.placeholder import REASON, is_carried, is_text_carried
from fftasks.workflow.instance import OUTPUTS

VERSION = 4

_MAX_CONSTANT_LENGTH = 2048  # characters of its JSON


def make(
    graph: Record, workflow: str, grouping: Grouping | None = None, *, preview: bool = True
) -> Record:
    """Return the record of a workflow's tasks.

    Args:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        grouping: Nodes that share a task; None gives each node a task of its own.
        preview: Whether the web UI of KFP may show values, shortened.

    Returns:
        Record with `tasks`, as make_tasks returns them, and `parameters`, the definitions of the run
        parameters by name.

    Raises:
        WorkflowError: A container could not run one of the nodes.
    """
    tasks = make_tasks(graph, workflow, grouping.groups if grouping else None)
    limit_previews(tasks, preview=preview)
    parameters = graph["workflows"][workflow]["parameters"]
    return {
        "stage": "tasks",
        "version": VERSION,
        "inputs": {
            "file": graph["file"],
            "workflow": workflow,
            **{f"node {task['name']}": digest_json(task) for task in tasks.values()},
            **{f"parameter {name}": digest_json(p) for name, p in parameters.items()},
        },
        "output": digest_json([tasks, parameters]),
        "workflow": workflow,
        "slug": graph["workflows"][workflow]["slug"],
        "tasks": tasks,
        "parameters": {name: define(p) for name, p in parameters.items()},
    }


def make_tasks(
    graph: Record, workflow: str, groups: Sequence[Group] | None = None
) -> dict[str, Document]:
    """Return the tasks of a workflow by their names.

    A task has a name that is shown, the ids of its nodes, component specification, command, args, env,
    artifacts (input -> upstream task and its output), parameters (constants), run_parameters (input -> run
    parameter), and upstream tasks.

    Raises WorkflowError for a node that a container could not run.
    """
    ids = graph["workflows"][workflow]["nodes"]
    for identity in ids:
        _check_node(graph["nodes"][identity], graph["file"], workflow)
    if groups is None:
        groups = [_make_single(graph, identity) for identity in ids]
    plan = make_plan(graph, workflow, groups, name_task)
    return {plan.names[group.name]: _make_any_task(plan, group) for group in groups}


def _make_single(graph: Record, identity: str) -> Group:
    node = graph["nodes"][identity]
    return Group(
        name=node["name"],
        nodes=(identity,),
        upstream=tuple(graph["nodes"][other]["name"] for other in node["upstream"]),
    )


def _make_any_task(plan: Plan, group: Group) -> Document:
    if not plan.is_plain(group):
        return make_group_task(plan, group, COMMAND)
    graph, (key,) = plan.graph, group.nodes
    names = {other: plan.names[plan.owner[other].name] for other in graph["nodes"][key]["upstream"]}
    return _make_task(graph["nodes"][key], key, names, graph["file"], plan.workflow)


def name_task(slug: str) -> str:
    """Return the name of a node's task in a pipeline: its slug, with one exception.

    Argo makes a step `<task>-driver` for each task, so a node "a_driver" beside a node "a" would be refused
    by the cluster. No slug contains "--": the names stay different.
    """
    return f"{slug}--n" if slug.endswith("-driver") else slug


def limit_previews(tasks: Mapping[str, Document], *, preview: bool) -> None:
    """Set in the environment of tasks how much of their results their containers may show.

    One argument of the container contains the metadata of all inputs of a task, so the sources of a task with
    many inputs write fewer metadata.

    Args:
        tasks: Tasks of one workflow; changed in place.
        preview: False hides the values of all tasks.
    """
    for task in tasks.values():
        if not preview:
            task["env"].setdefault(PREVIEW, NO_VALUE)
        inputs = len(task["artifacts"])
        for source in task["artifacts"].values() if inputs > MAX_DESCRIBED else ():
            env = tasks[source["task"]]["env"]
            if env.get(PREVIEW) != BARE:
                env[PREVIEW] = BARE if inputs > MAX_DIGESTED else NAME_ONLY


def _check_node(node: Record, file: str, workflow: str) -> None:
    attempted = f"tasks: node {node['name']!r} cannot run on Kubeflow Pipelines"
    for what, text in (("name", node["name"]), ("workflow's name", workflow), ("file", file)):
        if not is_text_carried(text):
            raise WorkflowError(
                attempted,
                found=[
                    f"its {what} {text!r} would not arrive as it is",
                    f"{REASON}; what is not Unicode text cannot be passed",
                ],
                tip=f"choose another {what}",
            )
    for parameter in node["parameters"].values():
        if not is_carried(parameter["default"]):
            raise WorkflowError(
                attempted,
                found=[
                    f"the default of parameter {parameter['name']!r} would not arrive as it is",
                    REASON,
                ],
                tip="choose another default",
            )


def _make_task(
    node: Record, key: str, names: Mapping[str, str], file: str, workflow: str
) -> Document:
    inputs = _name_inputs(node)
    parameters = {a["name"]: a for a in node["arguments"] if _is_parameter(a)}
    definitions = {
        **{n: {"type": a["type"], "default": a["value"]} for n, a in parameters.items()},
        **node["parameters"],
    }
    return {
        "name": node["name"],
        "nodes": [key],
        "slug": node["slug"],
        "component": make_component(node["slug"], inputs, definitions, _define_outputs(node)),
        "command": list(COMMAND),
        "args": [
            *("--file", file, "--workflow", workflow, "--node", node["name"]),
            *("--executor-input", "{{$}}"),
        ],
        "env": {"FFFUNCTION": node["name"]},
        "artifacts": {
            name: {"task": names[needed["node"]], "output": needed["output"]}
            for name, needed in inputs.items()
        },
        "parameters": {name: a["value"] for name, a in parameters.items()},
        "run_parameters": {name: p["name"] for name, p in node["parameters"].items()},
        "upstream": sorted({names[upstream] for upstream in node["upstream"]}),
    }


def _name_inputs(node: Record) -> dict[str, Record]:
    """Return the inputs of a node by the names that they have in its component."""
    inputs = {needed["input"]: needed for needed in node["inputs"]}
    if node["kind"] != "call":
        return inputs
    arguments = (argument["name"] for argument in node["arguments"])
    name = name_object({*inputs, *arguments, *node["parameters"]})
    return {name if n == "self" else n: needed for n, needed in inputs.items()}


def _is_parameter(argument: Record) -> bool:
    """Tell whether a constant travels as a parameter; any other comes from the graph in the image.

    What would be changed on its way does not travel, and what is long does not either: a task with all its
    constants is one argument of a process.
    """
    if "type" not in argument:
        return False
    value = argument["value"]
    return len(json.dumps(value)) <= _MAX_CONSTANT_LENGTH and is_carried(value)


def _define_outputs(node: Record) -> Document:
    """Return the definitions of a node's outputs: what it gives, and what the page shows of it."""
    return {**dict.fromkeys(OUTPUTS[node["kind"]], ARTIFACT), **define_shown(node["shows"])}
