"""What a group takes from its last run: the packs that it gave then, brought in by importers.

An importer is a task of Kubeflow Pipelines that names an artifact which is there already.

What groups take from the run that was submitted last, where only some of their nodes have changed.
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
from fftasks.runner.task import KEPT, PACKS, format_members, parse_members

Document = dict[str, Any]

_OUTPUT = "artifact"


@dataclass(frozen=True)
class ReusedPacks:
    """What is kept of a group.

    uris: of its packs, by the input that takes them; nodes: names of those whose values are unchanged
    key: what the packs were made for
    """

    uris: Mapping[str, str]
    nodes: tuple[str, ...]
    key: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"uris": dict(self.uris), "nodes": list(self.nodes), "key": self.key}


def add_reuse_inputs(task: Document, kept: ReusedPacks) -> Document:
    """Return the task of a group that takes what is kept; see add_importers."""
    args = list(task["args"])
    at = args.index("--nodes") + 1
    args[at] = format_members(replace(parse_members(args[at]), keeps=kept.nodes))
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
    """Add the tasks that bring in what a group's task takes to a pipeline document."""
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
    return f"{slug}-{KEPT.index(name)}-of-last-run"


_MAX_KNOWN = 2000
_SHORT = 23  # of a node's fingerprint: as much as tells it from its earlier ones


def list_member_fingerprints(
    project: Project,
    workflow: str,
    components: Record,
    pins: Record,
    found: Mapping[str, ClusterFingerprint] | None = None,
) -> Record:
    """Return what is submitted: task of several nodes -> its fingerprint, and those of its nodes.

    found: the fingerprints of all nodes; those of the last image if there are none
    """
    found = read_cluster_fingerprints(project, workflow) if found is None else found
    names = {i: project.workflows[workflow]["nodes"][i]["name"] for i in found}
    return {
        task: {
            "key": pins["tasks"][task]["fingerprint"],
            "nodes": {
                names[node]: found[node].digest[:_SHORT]
                for node in content["nodes"]
                if not found[node].parameters  # a run parameter decides as well
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
    """Return what is kept for each fingerprint of a task of several nodes, None for nothing.

    members: as list_member_fingerprints gives them
    known: the same, as it was found before: it stays, as KFP's cache would not know the task otherwise
    """
    last = read_record(project.record_path("submit", workflow)) or {}
    nodes = project.workflows[workflow]["nodes"]
    durations = (components.get("grouping") or {}).get("seconds", {})
    seconds = {nodes[i]["name"]: one for i, one in durations.items() if i in nodes}
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
    except FFTasksError:  # the store or the run is not within reach: all is computed
        return None
    return ReusedPacks(uris, tuple(same), before["key"]) if uris else None


def _find_packs(project: Project, run_id: str, task: str) -> dict[str, str]:
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
        for name, output in zip(KEPT, PACKS, strict=True)
    }
