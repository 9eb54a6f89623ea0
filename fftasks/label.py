"""The labels of nodes: names that are unique in a project, by which doit and the user know them.

A label is the node's name; where two files use a name, "<workflow>/<name>".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.record import Record
from fftasks.workflow.slug import make_slug

Choose = Callable[[str, Any], Any]  # gives a run parameter's value: name, default -> value


@dataclass
class Node:
    """A node as doit sees it.

    label: unique in the project
    content: as the graph record has it, with its id there, a slug that is unique in the project, and the
        values of its run parameters
    graph: that record
    upstream: labels of the nodes that it needs
    workflow: the name of a workflow that has the node
    items: the items of its result that are leaves
    """

    label: str
    content: Mapping[str, Any]
    graph: Record
    upstream: tuple[str, ...]
    workflow: str
    items: tuple[str, ...]

    @property
    def is_workflow_written(self) -> bool:
        """Whether the workflow's name is a literal in the code, not computed."""
        return bool(self.graph["workflows"][self.workflow]["is_written"])

    @property
    def pieces(self) -> dict[str, str]:
        """What its code consists of: "features.py: function clean()" -> digest."""
        return dict(self.graph["codes"][self.content["code"]])


def label_nodes(graphs: list[Record], choose: Choose) -> list[Node]:
    """Return the nodes of all graphs, upstream first."""
    holders: dict[str, int] = {}
    for graph in graphs:
        for identity in graph["nodes"]:
            holders[identity] = holders.get(identity, 0) + 1
    return [node for graph in graphs for node in _label_graph(graph, holders, choose)]


def describe_node(node: Node, labels: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return what the history keeps of a node; labels: by file and id in the graph record."""
    content, function = node.content, node.content["function"]
    made = node.label if content["kind"] == "object" else ""
    return {
        "function": function["qualname"],
        "is_function_written": content["is_function_written"],
        "place": f"{function['file']}:{function['line']}" if function["file"] else "",
        "line": f"{node.graph['file']}:{content['line']}",
        "slug": content["slug"],
        "workflow": node.workflow,
        "upstream": list(node.upstream),
        "arguments": {a["name"]: a["repr"] for a in content["arguments"]},
        "extra": [a["name"] for a in content["arguments"] if a.get("is_extra")],
        "is_written": content["is_written"]
        and (node.label == content["name"] or node.is_workflow_written),
        "is_workflow_written": node.is_workflow_written,
        "chain": labels.get((node.graph["file"], content.get("object", "")), made),
    }


def _label_graph(graph: Record, holders: Mapping[str, int], choose: Choose) -> list[Node]:
    owner = {n: name for name, w in reversed(graph["workflows"].items()) for n in w["nodes"]}
    labels = {n: n if holders[n] == 1 else f"{owner[n]}/{n}" for n in graph["nodes"]}
    items: dict[str, set[str]] = {}
    for leaf in (leaf for w in graph["workflows"].values() for leaf in w["leaves"]):
        items.setdefault(leaf["node"], set()).update({leaf["path"]} - {""})
    nodes = []
    # a record's keys are sorted; the order of the nodes is that of the workflows' lists, upstream first
    for identity in dict.fromkeys(n for w in graph["workflows"].values() for n in w["nodes"]):
        content = graph["nodes"][identity]
        values = {
            each["name"]: choose(each["name"], each["default"])
            for each in content["parameters"].values()
        }
        slug = make_slug(labels[identity])
        known = {**content, "id": identity, "slug": slug, "values": values}
        upstream = tuple(labels[other] for other in content["upstream"])
        shown = tuple(sorted(items.get(identity, ())))
        nodes.append(Node(labels[identity], known, graph, upstream, owner[identity], shown))
    return nodes
