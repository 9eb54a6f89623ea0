"""Stage components: graph record -> one Kubeflow Pipelines component per task, without the image.

A task runs a node, or a group of nodes.

VERSION counts changes of what `make` gives for the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from fftasks.errors import WorkflowError
from fftasks.record import Record, digest_bytes, digest_json
from fftasks.runtime.executor_input import NAME_ONLY, NO_VALUE, PREVIEW, name_object
from fftasks.runtime.task import MAX_DESCRIBED
from fftasks.stages.document import Document, check_document, format_document
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
    graph: Record,
    workflow: str,
    image: str,
    grouping: Grouping | None = None,
    *,
    preview: bool = True,
) -> tuple[Record, dict[str, str]]:
    """Return the record of a workflow's components and their files, file name -> YAML.

    graph: the graph record of the file that builds the workflow
    workflow: the workflow's name
    image: repository:tag, what a component runs in somebody else's pipeline; our own pipeline runs a digest
    grouping: which nodes share a task; none do without it
    preview: whether values are shown, shortened, in the page of a run

    The record's `files` gives each file's digest. Its `tasks` is what the pipeline stage works with, see
    make_tasks. Its `parameters` are the definitions of the run parameters, by name.

    Raises WorkflowError for a node that a container could not run.
    """
    tasks = make_tasks(graph, workflow, grouping.groups if grouping else None)
    files = {}
    for task in tasks.values():
        document = _make_document(task["slug"], task, image)
        check_document(document)
        files[f"{task['slug']}.yaml"] = format_document(document, _describe(task, graph, workflow))
    inputs = {"file": graph["file"], "workflow": workflow, "image": image}
    digests = {name: digest_bytes(text.encode()) for name, text in files.items()}
    _limit_previews(tasks, preview=preview)
    parameters = graph["workflows"][workflow]["parameters"]
    record = {
        "stage": "components",
        "version": VERSION,
        "inputs": {
            **inputs,
            **{f"node {task['name']}": digest_json(task) for task in tasks.values()},
            **{f"parameter {name}": digest_json(p) for name, p in parameters.items()},
        },
        "output": digest_json([tasks, digests, parameters]),
        "workflow": workflow,
        "slug": graph["workflows"][workflow]["slug"],
        "files": digests,
        "tasks": tasks,
        "parameters": {name: define(p) for name, p in parameters.items()},
    }
    return record, files


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


def _limit_previews(tasks: Mapping[str, Document], *, preview: bool) -> None:
    """Say to the containers what to tell of their results; nothing is to be said to those that tell all."""
    for task in tasks.values():
        if not preview:
            task["env"].setdefault(PREVIEW, NO_VALUE)
        if len(task["artifacts"]) > MAX_DESCRIBED:
            for source in task["artifacts"].values():
                tasks[source["task"]]["env"][PREVIEW] = NAME_ONLY


def _check_node(node: Record, file: str, workflow: str) -> None:
    attempted = f"components: node {node['name']!r} cannot run on Kubeflow Pipelines"
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


def _make_document(slug: str, task: Document, image: str) -> Document:
    """Return a component as a pipeline of one task.

    No env here: kfp's compiler (2.17 at least) fails on a loaded component that has one. The node's name in
    args is enough for the entry point; our own pipeline sets FFFUNCTION as well.
    """
    component = task["component"]
    definitions = component.get("inputDefinitions", {})
    kinds = {"artifacts": "componentInputArtifact", "parameters": "componentInputParameter"}
    inputs = {k: {n: {kinds[k]: n} for n in names} for k, names in definitions.items()}
    outputs = {
        name: {"artifactSelectors": [{"outputArtifactKey": name, "producerSubtask": slug}]}
        for name in component["outputDefinitions"]["artifacts"]
    }
    return {
        "pipelineInfo": {"name": slug},
        "schemaVersion": "2.1.0",
        "components": {f"comp-{slug}": component},
        "deploymentSpec": {
            "executors": {
                f"exec-{slug}": {
                    "container": {"image": image, "command": task["command"], "args": task["args"]}
                }
            }
        },
        "root": {
            "dag": {
                "outputs": {"artifacts": outputs},
                "tasks": {
                    slug: {
                        "cachingOptions": {"enableCache": True},
                        "componentRef": {"name": f"comp-{slug}"},
                        **({"inputs": inputs} if inputs else {}),
                        "taskInfo": {"name": slug},
                    }
                },
            },
            **({"inputDefinitions": definitions} if definitions else {}),
            "outputDefinitions": component["outputDefinitions"],
        },
    }


def _describe(task: Document, graph: Record, workflow: str) -> str:
    node = graph["nodes"][task["nodes"][0]]
    function = node["function"]
    where = f"{function['qualname']} in {function['file']}"
    if len(task["nodes"]) > 1:
        return f"{len(task['nodes'])} nodes of workflow {workflow!r}, the first is {node['name']!r}: {where}"
    return f"node {node['name']!r} of workflow {workflow!r}: {where}"
