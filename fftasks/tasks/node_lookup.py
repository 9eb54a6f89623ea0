"""Names of nodes on doit's command line, and lookup of existing results without running anything."""

from __future__ import annotations

from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.cache.fingerprint import find_cached_record, list_fingerprint_inputs, redact_values
from fftasks.errors import StoreError, suggest_or_list
from fftasks.project import Project
from fftasks.records import Record, read_record


def parse_node_name(project: Project, name: str) -> str:
    """Return the label of a node; for an unknown name, raise InvalidCommand with the nearest name."""
    label = project.find_label(name)
    if label is None:
        hint = suggest_or_list(name, project.nodes, "nodes")
        raise InvalidCommand(f"there is no node {name!r}; {hint}")
    return label


def is_node_up_to_date(project: Project, label: str) -> bool:
    """Return whether a node and all its upstream nodes are up to date."""
    try:
        wanted = project.list_needed({label})
        return all(project.read_node(one)["inputs"] == project.list_inputs(one) for one in wanted)
    except StoreError:
        return False


def look_up_node(project: Project, label: str) -> Record | None:
    """Return the record of a node if a run would not run it or an upstream node; else None."""
    records: dict[str, Record] = {}
    for one in project.list_needed({label}):
        node = project.nodes[one]
        pairs = zip(node.content["upstream"], node.upstream, strict=True)
        upstream = {identity: records[other] for identity, other in pairs}
        settings = project.find_node_settings(node.content)
        inputs = list_fingerprint_inputs(node.content, upstream, project.data, settings)
        record = find_cached_record(node.content, inputs, project.store, keep=False)
        if record is None:
            return None
        records[one] = record
    return records[label]


def list_differing_parameters(project: Project, label: str) -> dict[str, Any]:
    """Return the run parameters whose values differ from those of the existing result.

    Args:
        project: Project of the node.
        label: Name of the node.

    Returns:
        Name of each such parameter -> value with which the existing result was computed.
    """
    chosen: dict[str, Any] = {}
    for one in project.list_needed({label}):
        content = project.nodes[one].content
        record = read_record(project.store.node_path(content["slug"]))
        now = redact_values(content["values"])
        made = record.get("values", {}) if record else {}
        chosen |= {name: v for name, v in made.items() if name in now and v != now[name]}
    return chosen
