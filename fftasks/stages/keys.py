"""The keys under which Kubeflow Pipelines keeps what tasks gave, as far as they are known before a run.

A backend before 2.18 makes its key of the image, the command, the parameters and the *ids* of the inputs:
results of an upstream task that is computed again have new ids, also if they are equal. A later one takes
`cacheKey` instead of all of these, where a task has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fftasks.record import digest_json

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """What a task's results are kept under.

    asked: whether the cache is to be asked, and told, at all
    fingerprint: of the task, "" if it has none; image: what it runs
    own: name for image, command and parameters; given: name for its cacheKey, "" if it has none
    upstream: the tasks that it needs, and that have a container
    """

    asked: bool
    fingerprint: str
    image: str
    own: str
    given: str
    upstream: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which a finished task is known; none if the cache does not hear of it."""
        return tuple(name for name in (self.own, self.given) if name) if self.asked else ()

    def choose_name(self, *, takes_given: bool) -> str:
        """Return the name that counts; takes_given: whether the backend heeds cacheKey."""
        return self.given if takes_given and self.given else self.own


def list_keys(document: Json, values: Json) -> dict[str, Key]:
    """Return the key of each task of a pipeline document that has a container.

    values: of run parameters, by name; one that is not there has its default
    """
    root = document.get("root", {})
    defined = root.get("inputDefinitions", {}).get("parameters", {})
    known = {name: one.get("defaultValue") for name, one in defined.items()} | dict(values)
    executors = document.get("deploymentSpec", {}).get("executors", {})
    found: dict[str, Key] = {}
    for name, task in root.get("dag", {}).get("tasks", {}).items():
        component = task["componentRef"]["name"]
        label = document["components"][component].get("executorLabel", "")
        container = executors.get(label, {}).get("container")
        if container:
            found[name] = _make_key(task, component, container, known)
    # what an importer brings in has the same id each time
    return {
        name: replace(key, upstream=tuple(other for other in key.upstream if other in found))
        for name, key in found.items()
    }


def _make_key(task: Json, component: str, container: Json, values: Json) -> Key:
    options, args = task.get("cachingOptions", {}), list(container.get("args", ()))
    given = options.get("cacheKey", "")
    command = [*container.get("command", ()), *args]
    parameters = task.get("inputs", {}).get("parameters", {})
    resolved = {name: _resolve(source, values) for name, source in parameters.items()}
    return Key(
        asked=bool(options.get("enableCache")),
        fingerprint=_read_option(args, "--fingerprint"),
        image=container["image"],
        own=digest_json([container["image"], command, resolved]),
        given=digest_json([component, given]) if given else "",
        upstream=tuple(task.get("dependentTasks", ())),
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


def _read_option(args: list[str], name: str) -> str:
    return args[args.index(name) + 1] if name in args[:-1] else ""
