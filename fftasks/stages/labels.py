"""The keys of components and executors in a pipeline document, chosen so that KFP's SDK can load it.

The SDK (2.17) takes `comp-<pipeline name>` for the interface of the whole pipeline and
`exec-<pipeline name>` for its container.

Where it puts the pipeline into another one, it gives executors whose labels are taken the numbers -2, -3, …,
one executor after the other. An executor `a` that becomes `a-2` would, beside an executor `a-2` of the same
document, be renamed once more and lose its container.

A key that the SDK would confuse gets a suffix that no slug has. From release 2.18 on, KFP's cache counts the
keys of components, so these change for the pipeline's own name only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Document = dict[str, Any]

_SUFFIX = "--n"  # of no slug: these have no double dash
_NUMBERED = re.compile(r"(.+)-([2-9]|[1-9][0-9]+)")


def relabel(document: Document, platform: Document) -> None:
    """Rename the keys of a pipeline document that KFP's SDK would confuse; both documents are changed.

    Args:
        document: Pipeline document whose keys are comp-<slug> and exec-<slug>.
        platform: Second document, with the settings for Kubernetes; {} if there are none.
    """
    name = document["pipelineInfo"]["name"]
    components = document["components"]
    renamed = {f"comp-{name}": f"comp-{name}{_SUFFIX}"}
    _rename_keys(components, renamed)
    for task in document["root"]["dag"]["tasks"].values():
        reference = task["componentRef"]
        reference["name"] = renamed.get(reference["name"], reference["name"])
    executors = document["deploymentSpec"]["executors"]
    labels = {label: f"{label}{_SUFFIX}" for label in _list_confused(executors, f"exec-{name}")}
    _rename_keys(executors, labels)
    for key, component in components.items():
        label = component["executorLabel"]
        if label in labels:  # a copy, as the record of the tasks has the same one
            components[key] = {**component, "executorLabel": labels[label]}
    if platform:
        _rename_keys(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"], labels)


def _list_confused(labels: Iterable[str], pipeline: str) -> list[str]:
    known = set(labels)
    return [
        label
        for label in sorted(known)
        if label == pipeline or ((found := _NUMBERED.fullmatch(label)) and found[1] in known)
    ]


def _rename_keys(values: dict[str, Any], names: Mapping[str, str]) -> None:
    for old, new in names.items():
        if old in values:
            values[new] = values.pop(old)
