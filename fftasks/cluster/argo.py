"""The names of Argo's nodes and of their pods, which the answers of Kubeflow Pipelines leave out.

Kubeflow Pipelines executes a run as a workflow of Argo. A row of `task_details` holds the ids of a node's
children but not its own. An id is `<workflow>-<hash of the node's full name>`, so a full name that can be
guessed is found among the ids or not. With stock Kubeflow Pipelines 2.17, Argo retries every node, and the
tries are nodes of their own whose names end in `(0)`, `(1)`, ...:

    digits.root.load.executor                        without tries
    digits(0).root(0).load(0).executor(0)            with tries

A pod is named `<workflow>-<template>-<hash of the node's full name>`.

Source: backend/src/v2/compiler/argocompiler/ (container.go, dag.go, importer.go) of kubeflow/pipelines 2.14.0
to 2.17.0, and workflow/util/pod_name.go of argoproj/argo-workflows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

Json = Mapping[str, Any]

DRIVER_TEMPLATE = "system-container-driver"
ROOT_DRIVER_TEMPLATE = "system-dag-driver"
IMPORTER_TEMPLATE = "system-importer"
_POD_TEMPLATE = "system-container-impl"


def number_step(name: str) -> str:
    """Return the hash of a node's full name in Argo's ids: FNV-1a with 32 bits, in decimal digits."""
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(number)


def list_children(row: Json) -> list[str]:
    """Return the ids of the children of a row of `task_details`."""
    return [str(child.get("pod_name", "")) for child in row.get("child_tasks") or ()]


class Steps:
    """The full names of the nodes of one workflow, as far as its ids tell them.

    Attributes:
        workflow: The name of the workflow; "" if no row has a child.
        root: The full name of the last try of the node that holds the tasks.
        root_driver: The full name of the last try of the driver of the run.
    """

    def __init__(self, rows: Iterable[Json]) -> None:
        ids = {child for row in rows for child in list_children(row)}
        self.workflow = next((one.rpartition("-")[0] for one in sorted(ids) if "-" in one), "")
        self._numbers = {one.rpartition("-")[2] for one in ids}
        whole = self.find_last(self.workflow)
        self.root = self.find_last(f"{whole}.root")
        self.root_driver = self.find_last(f"{whole}.root-driver")

    def has(self, name: str) -> bool:
        """Tell whether the workflow has a node of this full name."""
        return number_step(name) in self._numbers

    def list_tries(self, name: str) -> list[str]:
        """Return the full names of the tries of a node; [] if Argo does not retry it."""
        tries = (f"{name}({number})" for number in itertools.count())
        return list(itertools.takewhile(self.has, tries)) if self.workflow else []

    def find_last(self, name: str) -> str:
        """Return the full name of the last try of a node; its own name if Argo does not retry it."""
        return (self.list_tries(name) or [name])[-1]

    def name_pod(self, template: str, name: str) -> str:
        """Return the name of the pod of a node; "" if the workflow is not known to have the node."""
        if not (self.workflow and self.has(name)):
            return ""
        return f"{self.workflow}-{template}-{number_step(name)}"

    def is_child(self, row: Json, name: str) -> bool:
        """Tell whether a row has the node of this full name as a child."""
        return f"{self.workflow}-{number_step(name)}" in list_children(row)


def name_template(document: Json, platform: Json, task: str) -> str:
    """Return the name of the template of a task's pod.

    Args:
        document: The pipeline document.
        platform: The settings for Kubernetes, by executor label.
        task: The name of the task in the document.
    """
    step = document["root"]["dag"]["tasks"][task]
    component = document.get("components", {}).get(step["componentRef"]["name"], {})
    metadata = platform.get(component.get("executorLabel"), {}).get("podMetadata")
    name = f"retry-{_POD_TEMPLATE}" if "retryPolicy" in step else _POD_TEMPLATE
    if metadata is None:
        return name
    counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
    return f"metadata-{'-'.join(map(str, counts))}-{name}"
