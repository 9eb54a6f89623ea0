"""What nodes gave before: is it there, is it still right, what was it made with. It changes nothing."""

from __future__ import annotations

from typing import Any

from fftasks.errors import StoreError
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.stages import node as node_stage


def is_current(project: Project, label: str) -> bool:
    """Tell whether a node and all that it needs are up to date."""
    try:
        wanted = project.list_needed({label})
        return all(project.read_node(one)["inputs"] == project.list_inputs(one) for one in wanted)
    except StoreError:
        return False


def recall_node(project: Project, label: str) -> Record | None:
    """Return the record of a node if a run would run nothing for it."""
    records: dict[str, Record] = {}
    for one in project.list_needed({label}):
        node = project.nodes[one]
        pairs = zip(node.content["upstream"], node.upstream, strict=True)
        upstream = {identity: records[other] for identity, other in pairs}
        settings = project.settings_of(node.content)
        inputs = node_stage.list_inputs(node.content, upstream, project.data, settings)
        record = node_stage.find_record(node.content, inputs, project.store, keep=False)
        if record is None:
            return None
        records[one] = record
    return records[label]


def list_chosen(project: Project, label: str) -> dict[str, Any]:
    """Return the run parameters that a result was made with, where they are others now: name -> value."""
    chosen: dict[str, Any] = {}
    for one in project.list_needed({label}):
        content = project.nodes[one].content
        record = read_record(project.store.node_path(content["slug"]))
        now = node_stage.show_values(content["values"])
        made = record.get("values", {}) if record else {}
        chosen |= {name: v for name, v in made.items() if name in now and v != now[name]}
    return chosen
