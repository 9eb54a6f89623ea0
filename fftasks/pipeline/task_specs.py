"""Stage tasks: describe the KFP tasks of a workflow, without their images.

A task runs one node or a group of nodes. A task with several nodes takes packs of other groups and artifacts
of single nodes, and writes two packs: the values that other tasks need or that are leaves, and the rest; see
runner/task.py. Stages pins and pipeline read the record. Nothing in it depends on the code of the nodes, so
an edit of a function does not change it.

VERSION counts changes of what make_tasks_record returns for the same inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.api.display import DISPLAY_KINDS
from fftasks.api.names import make_slug
from fftasks.api.node import OUTPUTS_BY_KIND
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
    OUTPUT_PACKS,
    TaskNodes,
    format_members,
    name_group_input,
    name_input,
)

VERSION = 4

ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
# Number of readable characters in the name of a group's task: each edge of the group contains the name, in an
# argument of limited size.
_MAX_READABLE = 12
_MAX_CONSTANT_LENGTH = 2048  # characters of its JSON

GroupOutputs = Mapping[str, Sequence[tuple[str, str]]]  # name of a group -> id of a node and output


@dataclass(frozen=True)
class TaskPlan:
    """The groups of a workflow with the names and edges of their tasks.

    Attributes:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        groups: Groups of nodes, one for each task.
        owner: Id of a node -> its group.
        gives: Name of a group with several nodes -> the outputs that other groups or the user need.
        names: Name of a group -> name of its task.
    """

    graph: Record
    workflow: str
    groups: Sequence[NodeGroup]
    owner: Mapping[str, NodeGroup]
    gives: GroupOutputs
    names: Mapping[str, str]

    def is_plain(self, group: NodeGroup) -> bool:
        """Return whether a group has one node that takes no value from a group with several nodes."""
        if len(group.nodes) > 1:
            return False
        others = self.graph["nodes"][group.nodes[0]]["upstream"]
        return all(len(self.owner[other].nodes) == 1 for other in others)

    def name_slug(self, group: NodeGroup) -> str:
        """Return the slug of a group's component, which changes with the outputs of the group."""
        if len(group.nodes) == 1:
            return str(self.graph["nodes"][group.nodes[0]]["slug"])
        kinds = list_display_kinds([self.graph["nodes"][node] for node in group.nodes])
        outputs = [[group.name], list(self.gives[group.name]), *([kinds] if kinds else [])]
        digest = digest_json(outputs).removeprefix("sha256:")
        return f"{_shorten(group.name)}-{digest[:12]}"


def make_plan(graph: Record, workflow: str, groups: Sequence[NodeGroup]) -> TaskPlan:
    """Return the plan for the tasks of a workflow.

    Args:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        groups: Groups that contain each node of the workflow once.
    """
    owner = {node: group for group in groups for node in group.nodes}
    names = {}
    for group in groups:
        slug = graph["nodes"][group.nodes[0]]["slug"]
        if len(group.nodes) > 1:
            digest = hashlib.sha256(group.name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            slug = f"{_shorten(group.name)}-{digest}"
        names[group.name] = name_kfp_task(slug)
    return TaskPlan(graph, workflow, groups, owner, _list_gives(graph, workflow, owner), names)


def make_group_task(plan: TaskPlan, group: NodeGroup, command: Sequence[str]) -> dict[str, Any]:
    """Return the task of a group, in the format of make_tasks.

    The task has no constants as parameters: the pod reads them from the graph in the image.

    Args:
        plan: Plan of the workflow's tasks.
        group: A group with several nodes, or a node that takes values from such a group.
        command: Command of the container.
    """
    nodes = [plan.graph["nodes"][node] for node in group.nodes]
    is_single = len(group.nodes) == 1
    artifacts = dict(_list_artifacts(plan, group))
    parameters = {p["name"]: p for node in nodes for p in node["parameters"].values()}
    outputs = {
        **dict.fromkeys(OUTPUTS_BY_KIND[nodes[0]["kind"]] if is_single else OUTPUT_PACKS, ARTIFACT),
        **define_display_outputs(list_display_kinds(nodes)),
    }
    members = TaskNodes(
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
    """Return the kinds of display outputs of a task with these nodes; at most one output of each kind."""
    shown = {kind for node in nodes for kind in node["shows"]}
    if sum("classification" in node["shows"] for node in nodes) > 1:
        shown.add("html")  # It shows the classification metrics of all nodes except one.
    return [kind for kind in DISPLAY_KINDS if kind in shown]


def define_display_outputs(kinds: Sequence[str]) -> dict[str, Any]:
    """Return the definitions of the outputs that the web UI of KFP displays."""
    return {
        kind: {"artifactType": {"schemaTitle": DISPLAY_KINDS[kind], "schemaVersion": "0.0.1"}}
        for kind in kinds
    }


def _list_artifacts(plan: TaskPlan, group: NodeGroup) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each input of a group's task, and the task and output that it comes from."""
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
    """Return the outputs of each group with several nodes that are leaves or that other groups need."""
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
    """Return a component of a pipeline document.

    Args:
        slug: Slug of the component, also the end of its executor's label.
        artifacts: Mapping whose keys are the names of the input artifacts.
        parameters: Name of an input parameter -> its "type", "default" and optional "help".
        outputs: Name of an output -> its definition.
    """
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
    """Return the definition of an input parameter, given its "type", "default" and optional "help"."""
    return {
        "parameterType": parameter["type"],
        "defaultValue": parameter["default"],
        "isOptional": True,
        **({"description": parameter["help"]} if parameter.get("help") else {}),
    }


def _shorten(group: str) -> str:
    return make_slug(group)[:_MAX_READABLE].strip("-")


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

    A task is a dictionary with these keys:

        name              name in the web UI of KFP
        nodes             ids of its nodes
        slug, component   name and specification of its component
        command, args     command line of its container
        env               environment variables of its container
        artifacts         input -> upstream task and its output
        parameters        input -> constant
        run_parameters    input -> name of the run parameter
        upstream          names of the tasks that run before it

    Args:
        graph: Graph record of the file that builds the workflow.
        workflow: Name of the workflow.
        groups: Nodes that share a task; None gives each node a task of its own.

    Raises:
        WorkflowError: A container could not run one of the nodes.
    """
    nodes, ids = graph["nodes"], graph["workflows"][workflow]["nodes"]
    for identity in ids:
        _check_node(nodes[identity], graph["file"], workflow)
    if groups is None:
        groups = [
            NodeGroup(
                name=nodes[identity]["name"],
                nodes=(identity,),
                upstream=tuple(nodes[other]["name"] for other in nodes[identity]["upstream"]),
            )
            for identity in ids
        ]
    plan = make_plan(graph, workflow, groups)
    return {
        plan.names[group.name]: _make_single_task(plan, group.nodes[0])
        if plan.is_plain(group)
        else make_group_task(plan, group, CONTAINER_COMMAND)
        for group in groups
    }


def name_kfp_task(slug: str) -> str:
    """Return the name of a task in a pipeline: its slug, except if the slug ends with "-driver".

    Argo makes a step `<task>-driver` for each task, so the cluster would reject a node "a_driver" beside a
    node "a". No slug contains "--", so the names of tasks stay different.
    """
    return f"{slug}--n" if slug.endswith("-driver") else slug


def limit_previews(tasks: Mapping[str, Document], *, preview: bool) -> None:
    """Limit how much metadata the containers of tasks write about their results.

    One argument of a container contains the metadata of all inputs of its task, so the upstream tasks of a
    task with many inputs write less metadata. The limit is an environment variable.

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
    """Raise WorkflowError if KFP or Kubernetes would change a text on its way into the container."""
    attempted = f"tasks: node {node['name']!r} cannot run on Kubeflow Pipelines"
    for what, text in (("name", node["name"]), ("workflow's name", workflow), ("file", file)):
        if not is_text_passed_unchanged(text):
            raise WorkflowError(
                attempted,
                found=[
                    f"its {what} {text!r} would not arrive as it is",
                    f"{PLACEHOLDER_REASON}; text that is not Unicode cannot be passed",
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


def _make_single_task(plan: TaskPlan, identity: str) -> Document:
    """Return the task of one node whose upstream tasks have one node each."""
    node = plan.graph["nodes"][identity]
    names = {other: plan.names[plan.owner[other].name] for other in node["upstream"]}
    inputs = _name_inputs(node)
    parameters = {a["name"]: a for a in node["arguments"] if _is_parameter(a)}
    definitions = {
        **{n: {"type": a["type"], "default": a["value"]} for n, a in parameters.items()},
        **node["parameters"],
    }
    outputs = {
        **dict.fromkeys(OUTPUTS_BY_KIND[node["kind"]], ARTIFACT),
        **define_display_outputs(node["shows"]),
    }
    return {
        "name": node["name"],
        "nodes": [identity],
        "slug": node["slug"],
        "component": make_component(node["slug"], inputs, definitions, outputs),
        "command": list(CONTAINER_COMMAND),
        "args": [
            *("--file", plan.graph["file"], "--workflow", plan.workflow, "--node", node["name"]),
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
    """Return the inputs of a node by their names in its component, where `self` is renamed."""
    inputs = {needed["input"]: needed for needed in node["inputs"]}
    if node["kind"] != "call":
        return inputs
    arguments = (argument["name"] for argument in node["arguments"])
    name = name_object({*inputs, *arguments, *node["parameters"]})
    return {name if n == "self" else n: needed for n, needed in inputs.items()}


def _is_parameter(argument: Record) -> bool:
    """Return whether a constant is passed as a parameter; the pod reads others from the graph in the image.

    Constants that KFP or Kubernetes would change are not passed. Long ones are not passed either, because a
    task with all its constants is one argument of a process.
    """
    if "type" not in argument:
        return False
    value = argument["value"]
    return len(json.dumps(value)) <= _MAX_CONSTANT_LENGTH and is_passed_unchanged(value)
