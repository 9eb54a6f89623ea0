"""What groups take from the run that was submitted last, where only some of their nodes have changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.record import Record, read_record
from fftasks.runtime.task import KEPT, PACKS
from fftasks.stages.fingerprint import Fingerprint
from fftasks.stages.fit import count_room
from fftasks.stages.kept import Kept
from fftasks.stages.limits import choose_cluster
from fftasks.steps.recipe import read_fingerprints

_MAX_KNOWN = 2000
_SHORT = 23  # of a node's fingerprint: as much as tells it from its earlier ones


def name_members(
    project: Project,
    workflow: str,
    components: Record,
    pins: Record,
    found: Mapping[str, Fingerprint] | None = None,
) -> Record:
    """Return what is submitted: task of several nodes -> its fingerprint, and those of its nodes.

    found: the fingerprints of all nodes; those of the last image if there are none
    """
    found = read_fingerprints(project, workflow) if found is None else found
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


def find_kept(
    project: Project,
    workflow: str,
    components: Record,
    members: Mapping[str, Record],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what is kept for each fingerprint of a task of several nodes, None for nothing.

    members: as name_members gives them
    known: the same, as it was found before: it stays, as KFP's cache would not know the task otherwise
    """
    last = read_record(project.record_path("submit", workflow)) or {}
    nodes = project.workflows[workflow]["nodes"]
    durations = (components.get("grouping") or {}).get("seconds", {})
    seconds = {nodes[i]["name"]: one for i, one in durations.items() if i in nodes}
    room = count_room(components["tasks"], choose_cluster(project.settings.kfp.version))
    found: dict[str, Any] = {}
    for task, own in members.items():
        key = own["key"]
        if not key:
            continue
        found[key] = known.get(key)
        if key not in known and task in last.get("groups", {}) and room:
            kept = _keep(project, last, task, own, seconds)
            found[key] = kept.to_json() if kept else None
        room -= found[key] is not None
    others = {key: kept for key, kept in known.items() if key not in found}
    return dict([*found.items(), *others.items()][:_MAX_KNOWN])


def _keep(
    project: Project, last: Record, task: str, members: Record, seconds: Mapping[str, float]
) -> Kept | None:
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
    return Kept(uris, tuple(same), before["key"]) if uris else None


def _find_packs(project: Project, run_id: str, task: str) -> dict[str, str]:
    from fftasks.cluster.bring import find_output
    from fftasks.cluster.evidence import read_cluster_run
    from fftasks.ports.object_store import ObjectStore

    run = read_cluster_run(project.settings.kfp, run_id)
    found = {one.name: one for one in run.tasks}.get(task)
    if found is None or found.state not in ("SUCCEEDED", "CACHED"):
        return {}
    store = ObjectStore(project.settings.object_store)
    return {
        name: str(find_output(project, store, run, found, output))
        for name, output in zip(KEPT, PACKS, strict=True)
    }
