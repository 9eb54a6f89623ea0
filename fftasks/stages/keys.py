"""The keys under which Kubeflow Pipelines keeps what tasks gave, as far as they are known before a run.

A backend before 2.18 makes its key of the image, the command, the parameters and the *ids* of the inputs:
results of an upstream task that is computed again have new ids, also if they are equal. A later one takes
`cacheKey` instead of all of these, where a task has one.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fftasks.record import digest_json

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """What a task's results are kept under.

    name: holds all that is known of the key beforehand, the names of the tasks upstream among it
    asked: whether the cache is to be asked, and told, at all
    given: whether it is the task's cacheKey, so that it does not matter how its inputs were made
    image: what the task runs; upstream: the tasks that it needs, and that have a container
    """

    name: str
    asked: bool
    given: bool
    image: str
    upstream: tuple[str, ...]


def list_keys(document: Json, values: Json, *, takes_given: bool) -> dict[str, Key]:
    """Return the key of each task of a pipeline document that has a container, upstream first.

    values: of run parameters, by name; one that is not there has its default
    takes_given: whether the backend heeds cacheKey
    """
    root = document.get("root", {})
    defined = root.get("inputDefinitions", {}).get("parameters", {})
    known = {name: one.get("defaultValue") for name, one in defined.items()} | dict(values)
    tasks = root.get("dag", {}).get("tasks", {})
    needs = {  # a sketch has no importers, and they have no keys
        name: sorted(tasks.keys() & task.get("dependentTasks", ()))
        for name, task in sorted(tasks.items())
    }
    found: dict[str, Key] = {}
    for name in graphlib.TopologicalSorter(needs).static_order():
        container = _find_container(document, tasks[name])
        if container:
            # what an importer brings in has the same id each time
            upstream = {other: found[other].name for other in needs[name] if other in found}
            found[name] = _make_key(tasks[name], container, known, upstream, takes_given)
    return found


def _find_container(document: Json, task: Json) -> Json:
    component = document["components"][task["componentRef"]["name"]]
    executors = document.get("deploymentSpec", {}).get("executors", {})
    container: Json = executors.get(component.get("executorLabel"), {}).get("container", {})
    return container


def _make_key(
    task: Json,
    container: Json,
    values: Json,
    upstream: Mapping[str, str],
    takes_given: bool,  # noqa: FBT001 - handed down
) -> Key:
    options = task.get("cachingOptions", {})
    given = options.get("cacheKey", "") if takes_given else ""
    command = [*container.get("command", ()), *container.get("args", ())]
    parameters = task.get("inputs", {}).get("parameters", {})
    resolved = {name: _resolve(source, values) for name, source in parameters.items()}
    parts = [container["image"], command, resolved, upstream]
    return Key(
        name=digest_json([task["componentRef"]["name"], given] if given else parts),
        asked=bool(options.get("enableCache")),
        given=bool(given),
        image=container["image"],
        upstream=tuple(upstream),
    )


def _resolve(source: Json, values: Json) -> Any:
    if "componentInputParameter" in source:
        return _even_out(values.get(source["componentInputParameter"]))
    return _even_out(source.get("runtimeValue", {}).get("constant"))


def _even_out(value: Any) -> Any:
    """Return a value as it comes back from the server, where all numbers are floats."""
    if isinstance(value, Mapping):
        return {name: _even_out(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_even_out(one) for one in value]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_number else value
