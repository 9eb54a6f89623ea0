"""The task of a group of nodes: what its container is told, and which values go in and out.

A task of several nodes takes packs of other groups and artifacts of single nodes, and gives two packs: what
is needed elsewhere or is a leaf, and the rest; see runtime/task.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fftasks.record import Record, digest_json
from fftasks.runtime.members import Members, format_members
from fftasks.runtime.task import PACKS, name_group_input, name_input
from fftasks.stages.groups import Group
from fftasks.workflow.instance import OUTPUTS
from fftasks.workflow.page import KINDS
from fftasks.workflow.slug import make_slug

ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
_MAX_READABLE = (
    12  # of a group's slug: it stands at each of its edges in an argument of limited size
)

Gives = Mapping[str, Sequence[tuple[str, str]]]  # name of a group -> id of a node and output


@dataclass(frozen=True)
class Plan:
    """The groups of a workflow, and what is needed to make their tasks.

    owner: id of a node -> its group; gives: what each group of several nodes gives to others
    names: name of a group -> name of its task
    """

    graph: Record
    workflow: str
    groups: Sequence[Group]
    owner: Mapping[str, Group]
    gives: Gives
    names: Mapping[str, str]

    def is_plain(self, group: Group) -> bool:
        """Tell whether a group is a node alone that takes nothing from groups of several nodes."""
        if len(group.nodes) > 1:
            return False
        others = self.graph["nodes"][group.nodes[0]]["upstream"]
        return all(len(self.owner[other].nodes) == 1 for other in others)

    def name_slug(self, group: Group) -> str:
        """Return the slug of a group's component: another one, if it has other outputs."""
        if len(group.nodes) == 1:
            return str(self.graph["nodes"][group.nodes[0]]["slug"])
        shown = list_shown([self.graph["nodes"][node] for node in group.nodes])
        outputs = [[group.name], list(self.gives[group.name]), *([shown] if shown else [])]
        given = digest_json(outputs).removeprefix("sha256:")
        return f"{_shorten(group.name)}-{given[:12]}"


def make_plan(graph: Record, workflow: str, groups: Sequence[Group], name_task: Any) -> Plan:
    """Return the plan of a workflow's tasks; name_task: gives the name of a task for a slug."""
    owner = {node: group for group in groups for node in group.nodes}
    names = {
        group.name: name_task(
            graph["nodes"][group.nodes[0]]["slug"] if len(group.nodes) == 1 else _name(group.name)
        )
        for group in groups
    }
    return Plan(graph, workflow, groups, owner, _list_gives(graph, workflow, owner), names)


def make_group_task(plan: Plan, group: Group, command: Sequence[str]) -> dict[str, Any]:
    """Return the task of a group, as kfp_tasks.make has it.

    Constants do not travel with it: they come from the graph in the image.
    """
    nodes = [plan.graph["nodes"][node] for node in group.nodes]
    is_single = len(group.nodes) == 1
    artifacts = dict(_list_artifacts(plan, group))
    parameters = {p["name"]: p for node in nodes for p in node["parameters"].values()}
    outputs = {
        **dict.fromkeys(OUTPUTS[nodes[0]["kind"]] if is_single else PACKS, ARTIFACT),
        **define_shown(list_shown(nodes)),
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


def list_shown(nodes: Sequence[Record]) -> list[str]:
    """Return the kinds of pages that a task shows: one of each, whatever the number of its nodes."""
    shown = {kind for node in nodes for kind in node["shows"]}
    if sum("classification" in node["shows"] for node in nodes) > 1:
        shown.add("html")  # which has what there is no room for
    return [kind for kind in KINDS if kind in shown]


def define_shown(kinds: Sequence[str]) -> dict[str, Any]:
    """Return the definitions of outputs that Kubeflow Pipelines' page shows."""
    return {
        kind: {"artifactType": {"schemaTitle": KINDS[kind], "schemaVersion": "0.0.1"}}
        for kind in kinds
    }


def _list_artifacts(plan: Plan, group: Group) -> Iterator[tuple[str, dict[str, str]]]:
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


def _list_gives(graph: Record, workflow: str, owner: Mapping[str, Group]) -> Gives:
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
        definitions["parameters"] = {name: define(p) for name, p in parameters.items()}
    return {
        "executorLabel": f"exec-{slug}",
        **({"inputDefinitions": definitions} if definitions else {}),
        "outputDefinitions": {"artifacts": dict(outputs)},
    }


def define(parameter: Record) -> dict[str, Any]:
    """Return the definition of an input: its type, its default, and what it is for."""
    return {
        "parameterType": parameter["type"],
        "defaultValue": parameter["default"],
        "isOptional": True,
        **({"description": parameter["help"]} if parameter.get("help") else {}),
    }


def _name(group: str) -> str:
    digest = hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_shorten(group)}-{digest}"


def _shorten(group: str) -> str:
    return make_slug(group)[:_MAX_READABLE].strip("-")
