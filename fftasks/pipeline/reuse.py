"""Reuse results of a group's last run, for a group in which only some nodes have changed.

A task with several nodes writes packs with their results. If most of its nodes are unchanged, the next run
passes these packs to the task by importers, KFP tasks that register an artifact which exists already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fftasks.cache.cluster_fingerprint import ClusterFingerprint
from fftasks.errors import FFTasksError
from fftasks.image.project_recipe import read_cluster_fingerprints
from fftasks.kfp.limits import count_importer_room, get_cluster_limits
from fftasks.pipeline.task_specs import ARTIFACT
from fftasks.project import Project
from fftasks.records import Record, read_record
from fftasks.runner.task import OUTPUT_PACKS, REUSED_PACKS, format_members, parse_members

Document = dict[str, Any]

_OUTPUT = "artifact"  # output of an importer
_MAX_KNOWN = 2000  # fingerprints in the record of stage pipeline
_SHORT = 23  # characters of a node's digest, enough to distinguish it from its earlier digests


@dataclass(frozen=True)
class ReusedPacks:
    """Results of the last run that a group reuses.

    Attributes:
        uris: Name of an input -> URI of the pack that it takes.
        nodes: Names of the nodes whose values are unchanged.
        key: Fingerprint of the task that wrote the packs.
    """

    uris: Mapping[str, str]
    nodes: tuple[str, ...]
    key: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with the arguments of the constructor."""
        return {"uris": dict(self.uris), "nodes": list(self.nodes), "key": self.key}


def add_reuse_inputs(task: Document, kept: ReusedPacks) -> Document:
    """Return the task of a group with inputs for the reused packs; add_importers adds their sources.

    Args:
        task: Task of a group, in the format of task_specs.make_tasks.
        kept: Packs that the task reuses.
    """
    args = list(task["args"])
    index = args.index("--nodes") + 1
    args[index] = format_members(replace(parse_members(args[index]), keeps=kept.nodes))
    component = dict(task["component"])
    definitions = dict(component.get("inputDefinitions", {}))
    definitions["artifacts"] = {
        **definitions.get("artifacts", {}),
        **dict.fromkeys(kept.uris, ARTIFACT),
    }
    importers = {name: _name_importer(task["slug"], name) for name in kept.uris}
    artifacts = {
        name: {"task": importer, "output": _OUTPUT} for name, importer in importers.items()
    }
    return {
        **task,
        "args": [*args, "--kept", kept.key],
        "component": {**component, "inputDefinitions": definitions},
        "artifacts": {**task["artifacts"], **artifacts},
        "upstream": sorted({*task["upstream"], *importers.values()}),
    }


def add_importers(document: Document, slug: str, kept: ReusedPacks) -> None:
    """Add the importers of a group's reused packs to a pipeline document.

    Args:
        document: Pipeline document; changed in place.
        slug: Slug of the group's component.
        kept: Packs that the group reuses.
    """
    for name, uri in kept.uris.items():
        importer = _name_importer(slug, name)
        document["components"][f"comp-{importer}"] = {
            "executorLabel": f"exec-{importer}",
            "inputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}},
            "outputDefinitions": {"artifacts": {_OUTPUT: ARTIFACT}},
        }
        document["deploymentSpec"]["executors"][f"exec-{importer}"] = {
            "importer": {
                "artifactUri": {"constant": uri},
                "typeSchema": ARTIFACT["artifactType"],
            }
        }
        document["root"]["dag"]["tasks"][importer] = {
            "cachingOptions": {},
            "componentRef": {"name": f"comp-{importer}"},
            "inputs": {"parameters": {"uri": {"runtimeValue": {"constant": uri}}}},
            "taskInfo": {"name": importer},
        }


def _name_importer(slug: str, name: str) -> str:
    return f"{slug}-{REUSED_PACKS.index(name)}-of-last-run"


def list_member_fingerprints(
    project: Project,
    workflow: str,
    components: Record,
    pins: Record,
    found: Mapping[str, ClusterFingerprint] | None = None,
) -> Record:
    """Return the fingerprints of each task with several nodes, to compare them with those of a later run.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        components: Record of stage tasks.
        pins: Record of stage pins.
        found: Id of a node -> its fingerprint; None for the fingerprints in the last image.

    Returns:
        Name of a task -> {"key": its fingerprint, "nodes": {name of a node: beginning of its digest}}. Nodes
        that a run parameter reaches are left out, because their digest does not determine their result.
    """
    found = read_cluster_fingerprints(project, workflow) if found is None else found
    names = {i: project.workflows[workflow]["nodes"][i]["name"] for i in found}
    return {
        task: {
            "key": pins["tasks"][task]["fingerprint"],
            "nodes": {
                names[node]: found[node].digest[:_SHORT]
                for node in content["nodes"]
                if not found[node].parameters
            },
        }
        for task, content in components["tasks"].items()
        if len(content["nodes"]) > 1
    }


def find_reuse(
    project: Project,
    workflow: str,
    components: Record,
    members: Mapping[str, Record],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the reused packs of each task with several nodes.

    A choice that was made once stays: with other packs, the task would have another key in KFP's cache.

    Args:
        project: The current project.
        workflow: Name of the workflow.
        components: Record of stage tasks.
        members: Fingerprints of tasks, as list_member_fingerprints returns them.
        known: What this function returned for the pipeline before.

    Returns:
        Fingerprint of a task -> JSON of its ReusedPacks, or None if it reuses nothing.
    """
    last = read_record(project.record_path("submit", workflow)) or {}
    nodes = project.workflows[workflow]["nodes"]
    durations = (components.get("grouping") or {}).get("seconds", {})
    seconds = {nodes[i]["name"]: duration for i, duration in durations.items() if i in nodes}
    room = count_importer_room(
        components["tasks"], get_cluster_limits(project.settings.kfp.version)
    )
    found: dict[str, Any] = {}
    for task, own in members.items():
        key = own["key"]
        if not key:
            continue
        found[key] = known.get(key)
        if key not in known and task in last.get("groups", {}) and room:
            kept = _find_group_reuse(project, last, task, own, seconds)
            found[key] = kept.to_json() if kept else None
        room -= found[key] is not None
    others = {key: kept for key, kept in known.items() if key not in found}
    return dict([*found.items(), *others.items()][:_MAX_KNOWN])


def _find_group_reuse(
    project: Project, last: Record, task: str, members: Record, seconds: Mapping[str, float]
) -> ReusedPacks | None:
    """Return the packs that a task can reuse; None if it saves less time than a pod costs.

    Args:
        project: The current project.
        last: Record of stage submit of the last run.
        task: Name of the task.
        members: Fingerprints of the task, as list_member_fingerprints returns them.
        seconds: Name of a node -> its duration in seconds; 1 s is assumed for other nodes.
    """
    before = last["groups"][task]
    same = [
        node
        for node, digest in members["nodes"].items()
        if digest and before["nodes"].get(node) == digest
    ]
    saved_s = sum(seconds.get(node, 1.0) for node in same)
    if (
        not before["key"]
        or before["key"] == members["key"]
        or saved_s <= project.settings.kfp.pod_overhead_s
    ):
        return None
    try:
        uris = _find_packs(project, last["run_id"], task)
    except FFTasksError:  # The object store or KFP cannot be reached, so all nodes are computed.
        return None
    return ReusedPacks(uris, tuple(same), before["key"]) if uris else None


def _find_packs(project: Project, run_id: str, task: str) -> dict[str, str]:
    """Return the URIs of the packs that a task of a run has written, {} if it did not succeed."""
    from fftasks.kfp.diagnostics import read_cluster_run
    from fftasks.kfp.object_store import ObjectStore
    from fftasks.pipeline.download import find_output_uri

    run = read_cluster_run(project.settings.kfp, run_id)
    found = {one.name: one for one in run.tasks}.get(task)
    if found is None or found.state not in ("SUCCEEDED", "CACHED"):
        return {}
    store = ObjectStore(project.settings.object_store)
    return {
        name: str(find_output_uri(project, store, run, found, output))
        for name, output in zip(REUSED_PACKS, OUTPUT_PACKS, strict=True)
    }
