"""What a group takes from its last run: the packs that it gave then, brought in by importers.

An importer is a task of Kubeflow Pipelines that names an artifact which is there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fftasks.runtime.members import format_members, parse_members
from fftasks.runtime.task import KEPT
from fftasks.stages.group_task import ARTIFACT

Document = dict[str, Any]

_OUTPUT = "artifact"


@dataclass(frozen=True)
class Kept:
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


def take_kept(task: Document, kept: Kept) -> Document:
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
    importers = {name: _name(task["slug"], name) for name in kept.uris}
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


def add_importers(document: Document, slug: str, kept: Kept) -> None:
    """Add the tasks that bring in what a group's task takes to a pipeline document."""
    for name, uri in kept.uris.items():
        importer = _name(slug, name)
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


def _name(slug: str, name: str) -> str:
    return f"{slug}-{KEPT.index(name)}-of-last-run"
