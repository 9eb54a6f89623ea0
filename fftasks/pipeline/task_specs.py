"""The task of a group of nodes: what its container is told, and which values go in and out.

A task of several nodes takes packs of other groups and artifacts of single nodes, and gives two packs: what
is needed elsewhere or is a leaf, and the rest; see runtime/task.py.

Stage tasks: graph record -> the tasks of a workflow on Kubeflow Pipelines, without their images.

A task runs a node, or a group of nodes. The stages pins and pipeline work with the record; nothing in it
depends on the code of the nodes, so that an edit of a function does not make it again.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.api.display import KINDS
from fftasks.api.names import make_slug
from fftasks.api.node import OUTPUTS
from fftasks.errors import WorkflowError
from fftasks.fusion.grouping import Grouping, NodeGroup
from fftasks.image.recipe import CONTAINER_COMMAND
from fftasks.pipeline.ir_yaml import (
    PLACEHOLDER_REASON,
    Document,
    is_passed_unchanged,
    is_text_passed_unchanged,
)
from fftasks.records import Record, digest_json
from fftasks.runner.executor_input import BARE, NAME_ONLY, NO_VALUE, PREVIEW, name_object
from fftasks.runner.task import (
    MAX_DESCRIBED,
    MAX_DIGESTED,
    PACKS,
    Members,
    format_members,
    name_group_input,
    name_input,
)

ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
_MAX_READABLE = (
    12  # of a group's slug: it stands at each of its edges in an argument of limited size
)

GroupOutputs = Mapping[str, Sequence[tuple[str, str]]]  # name of a group -> id of a node and output


@dataclass(frozen=True)
class TaskPlan:
    """The groups of a workflow, and what is needed to make their tasks.

    owner: id of a node -> its group; gives: what each group of several nodes gives to others
    names: name of a group -> name of its task
    """

    graph: Record
    workflow: str
    groups: Sequence[NodeGroup]
    owner: Mapping[str, NodeGroup]
    gives: GroupOutputs
    names: Mapping[str, str]

    def is_plain(self, group: NodeGroup) -> bool:
        """Tell whether a group is a node alone that takes nothing from groups of several nodes."""
        if len(group.nodes) > 1:
            return False
        others = self.graph["nodes"][group.nodes[0]]["upstream"]
        return all(len(self.owner[other].nodes) == 1 for other in others)

    def name_slug(self, group: NodeGroup) -> str:
        """Return the slug of a group's component: another one, if it has other outputs."""
        if len(group.nodes) == 1:
            return str(self.graph["nodes"][group.nodes[0]]["slug"])
        shown = list_display_kinds([self.graph["nodes"][node] for node in group.nodes])
        outputs = [[group.name], list(self.gives[group.name]), *([shown] if shown else [])]
        given = digest_json(outputs).removeprefix("sha256:")
        return f"{_shorten(group.name)}-{given[:12]}"


def make_plan(
    graph: Record, workflow: str, groups: Sequence[NodeGroup], name_task: Any
) -> TaskPlan:
    """Return the plan of a workflow's tasks; name_task: gives the name of a task for a slug."""
    owner = {node: group for group in groups for node in group.nodes}
    names = {
        group.name: name_task(
            graph["nodes"][group.nodes[0]]["slug"]
            if len(group.nodes) == 1
            else _name_group_task(group.name)
        )
        for group in groups
    }
    return TaskPlan(graph, workflow, groups, owner, _list_gives(graph, workflow, owner), names)


def make_group_task(plan: TaskPlan, group: NodeGroup, command: Sequence[str]) -> dict[str, Any]:
    """Return the task of a group, as kfp_tasks.make has it.

    Constants do not travel with it: they come from the graph in the image.
    """
    nodes = [plan.graph["nodes"][node] for node in group.nodes]
    is_single = len(group.nodes) == 1
    artifacts = dict(_list_artifacts(plan, group))
    parameters = {p["name"]: p for node in nodes for p in node["parameters"].values()}
    outputs = {
        **dict.fromkeys(OUTPUTS[nodes[0]["kind"]] if is_single else PACKS, ARTIFACT),
        **define_display_outputs(list_display_kinds(nodes)),
    }
    members = Members(
        nodes=tuple(node["name"] for node in nodes),
        gives=tuple(
            (plan.graph["nodes"][node]["name"], output)
            for node, output in plan.gives.get(group.name, ())
        ),
    )
    slug = plan.name_slug(group)
    return {
        "name": group.name,
        "nodes": list(group.nodes),
        "slug": slug,
        "component": make_component(slug, artifacts, parameters, outputs),
        "command": list(command),
        "args": [
            *("--file", plan.graph["file"], "--workflow", plan.workflow, "--node", group.name),
            *("--nodes", format_members(members), "--executor-input", "{{$}}"),
        ],
        "env": {"FFFUNCTION": group.name},
        "artifacts": artifacts,
        "parameters": {},
        "run_parameters": {name: name for name in parameters},
        "upstream": sorted({plan.names[other] for other in group.upstream}),
    }


def list_display_kinds(nodes: Sequence[Record]) -> list[str]:
    """Return the kinds of pages that a task shows: one of each, whatever the number of its nodes."""
    shown = {kind for node in nodes for kind in node["shows"]}
    if sum("classification" in node["shows"] for node in nodes) > 1:
        shown.add("html")  # which has what there is no room for
    return [kind for kind in KINDS if kind in shown]


def define_display_outputs(kinds: Sequence[str]) -> dict[str, Any]:
    """Return the definitions of outputs that Kubeflow Pipelines' page shows."""
    return {
        kind: {"artifactType": {"schemaTitle": KINDS[kind], "schemaVersion": "0.0.1"}}
        for kind in kinds
    }


def _list_artifacts(plan: TaskPlan, group: NodeGroup) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the inputs of a group's task: from which task, and which of its outputs."""
    for node in group.nodes:
        for needed in plan.graph["nodes"][node]["inputs"]:
            other = plan.owner[needed["node"]]
            if other is group:
                continue
            task = plan.names[other.name]
            if len(other.nodes) > 1:
                yield name_group_input(other.name), {"task": task, "output": "values"}
            else:
                name = plan.graph["nodes"][needed["node"]]["name"]
                source = {"task": task, "output": needed["output"]}
                yield name_input(name, needed["output"]), source


def _list_gives(graph: Record, workflow: str, owner: Mapping[str, NodeGroup]) -> GroupOutputs:
    gives: dict[str, dict[tuple[str, str], None]] = {}
    for leaf in graph["workflows"][workflow]["leaves"]:
        gives.setdefault(owner[leaf["node"]].name, {})[leaf["node"], "result"] = None
    for identity, group in owner.items():
        for needed in graph["nodes"][identity]["inputs"]:
            other = owner[needed["node"]]
            if other is not group:
                gives.setdefault(other.name, {})[needed["node"], needed["output"]] = None
    return {
        group.name: sorted(gives.get(group.name, ()))
        for group in set(owner.values())
        if len(group.nodes) > 1
    }


def make_component(
    slug: str,
    artifacts: Mapping[str, Any],
    parameters: Mapping[str, Record],
    outputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a component: the names of its artifacts, its parameters as `define` takes them, its outputs."""
    definitions: dict[str, Any] = {}
    if artifacts:
        definitions["artifacts"] = dict.fromkeys(artifacts, ARTIFACT)
    if parameters:
        definitions["parameters"] = {name: define_parameter(p) for name, p in parameters.items()}
    return {
        "executorLabel": f"exec-{slug}",
        **({"inputDefinitions": definitions} if definitions else {}),
        "outputDefinitions": {"artifacts": dict(outputs)},
    }


def define_parameter(parameter: Record) -> dict[str, Any]:
    """Return the definition of an input: its type, its default, and what it is for."""
    return {
        "parameterType": parameter["type"],
        "defaultValue": parameter["default"],
        "isOptional": True,
        **({"description": parameter["help"]} if parameter.get("help") else {}),
    }


def _name_group_task(group: str) -> str:
    digest = hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_shorten(group)}-{digest}"


def _shorten(group: str) -> str:
    return make_slug(group)[:_MAX_READABLE].strip("-")


VERSION = 4

_MAX_CONSTANT_LENGTH = 2048  # characters of its JSON


def make_tasks_record(
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
        "parameters": {name: define_parameter(p) for name, p in parameters.items()},
    }


def make_tasks(
    graph: Record, workflow: str, groups: Sequence[NodeGroup] | None = None
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
    plan = make_plan(graph, workflow, groups, name_kfp_task)
    return {plan.names[group.name]: _make_any_task(plan, group) for group in groups}


def _make_single(graph: Record, identity: str) -> NodeGroup:
    node = graph["nodes"][identity]
    return NodeGroup(
        name=node["name"],
        nodes=(identity,),
        upstream=tuple(graph["nodes"][other]["name"] for other in node["upstream"]),
    )


def _make_any_task(plan: TaskPlan, group: NodeGroup) -> Document:
    if not plan.is_plain(group):
        return make_group_task(plan, group, CONTAINER_COMMAND)
    graph, (key,) = plan.graph, group.nodes
    names = {other: plan.names[plan.owner[other].name] for other in graph["nodes"][key]["upstream"]}
    return _make_task(graph["nodes"][key], key, names, graph["file"], plan.workflow)


def name_kfp_task(slug: str) -> str:
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
        if not is_text_passed_unchanged(text):
            raise WorkflowError(
                attempted,
                found=[
                    f"its {what} {text!r} would not arrive as it is",
                    f"{PLACEHOLDER_REASON}; what is not Unicode text cannot be passed",
                ],
                tip=f"choose another {what}",
            )
    for parameter in node["parameters"].values():
        if not is_passed_unchanged(parameter["default"]):
            raise WorkflowError(
                attempted,
                found=[
                    f"the default of parameter {parameter['name']!r} would not arrive as it is",
                    PLACEHOLDER_REASON,
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
        "command": list(CONTAINER_COMMAND),
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
    return len(json.dumps(value)) <= _MAX_CONSTANT_LENGTH and is_passed_unchanged(value)


def _define_outputs(node: Record) -> Document:
    """Return the definitions of a node's outputs: what it gives, and what the page shows of it."""
    return {
        **dict.fromkeys(OUTPUTS[node["kind"]], ARTIFACT),
        **define_display_outputs(node["shows"]),
    }
