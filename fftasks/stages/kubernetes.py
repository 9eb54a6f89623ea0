"""The second document of a pipeline: what Kubernetes is to do for each task.

KFP takes it as it takes the pipeline, strictly; its schema is the message of the package kfp-kubernetes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fftasks.errors import SettingsError
from fftasks.settings.nodes import NodeSettings
from fftasks.stages.messages import load_messages, locate_module

Document = dict[str, Any]

_OPERATORS = {
    "=": "In",
    "==": "In",
    "!=": "NotIn",
    ">": "Gt",
    "<": "Lt",
    "in": "In",
    "notin": "NotIn",
}
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount point in the container
_PREFERENCE = re.compile(r"prefer\s+([0-9]+):\s*")
_REQUIREMENT = re.compile(
    r"\s*(?P<no>!)?(?P<key>[\w./-]+)\s*((?P<operator>==|!=|=|>|<|notin\b|in\b)\s*(?P<value>\([^()]*\)|[\w.-]+))?\s*"
)


def make_platform(executors: Mapping[str, NodeSettings]) -> Document:
    """Return the document for the executors with settings for Kubernetes, {} if there are none.

    executors: executor label -> settings
    """
    made = {label: make_executor(settings) for label, settings in executors.items()}
    found = {label: executor for label, executor in made.items() if executor}
    if not found:
        return {}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": found}}}}


def make_executor(settings: NodeSettings) -> Document:
    """Return what Kubernetes is to do for a task, {} for nothing out of the ordinary."""
    found = {**_list_sources(settings), **_list_volumes(settings), **_list_places(settings)}
    metadata = {"labels": settings.labels, "annotations": settings.annotations}
    if any(metadata.values()):
        found["podMetadata"] = {kind: values for kind, values in metadata.items() if values}
    if settings.pull_secrets:
        found["imagePullSecret"] = [_name("secretName", name) for name in settings.pull_secrets]
    if settings.pull_policy:
        found["imagePullPolicy"] = settings.pull_policy
    return {key: value for key, value in found.items() if value}


def check_mounts(node: str, settings: NodeSettings) -> None:
    """Check that nothing else is mounted where another setting mounts something.

    Kubernetes refuses such a pod when it is to be started.

    Args:
        node: Name of the node, for the message.
        settings: Settings of the node.

    Raises:
        SettingsError: Two settings have the same folder.
    """
    taken: dict[str, str] = {}
    if settings.shared_memory:
        taken[_SHARED_MEMORY] = "shared_memory"
    for key in ("secret_files", "config_map_files", "volumes", "empty_dirs"):
        for path in getattr(settings, key):
            name = f"{key}.{path}"
            other = taken.setdefault(posixpath.normpath(path), name)
            if other != name:
                places = {settings.origins.get(each, "") for each in (name, other)} - {""}
                raise SettingsError(
                    f"node {node!r}: {other} and {name} mount the same folder",
                    found=[f"set at {', '.join(sorted(places))}"] if places else [],
                    tip="mount one of them elsewhere",
                )


def check_platform(document: Document) -> None:
    """Parse the document as strictly as KFP's server does, and its driver.

    Raises google.protobuf.json_format.ParseError; that is a bug of ours, not the user's.
    """
    from google.protobuf import json_format

    json_format.ParseDict(document, load_messages().PlatformSpec())
    for platform in document.get("platforms", {}).values():
        for executor in platform["deploymentSpec"]["executors"].values():
            json_format.ParseDict(executor, _load_config()())


def _list_sources(settings: NodeSettings) -> Document:
    """Return environment and files from secrets and config maps."""
    return {
        "secretAsEnv": [
            {
                **_name("secretName", secret),
                "keyToEnv": [{"secretKey": key, "envVar": name} for name, key in keys],
                "optional": False,
            }
            for secret, keys in _group(settings.secret_env)
        ],
        "configMapAsEnv": [
            {
                **_name("configMapName", config_map),
                "keyToEnv": [{"configMapKey": key, "envVar": name} for name, key in keys],
                "optional": False,
            }
            for config_map, keys in _group(settings.config_map_env)
        ],
        "secretAsVolume": [
            {**_name("secretName", secret), "mountPath": path, "optional": False}
            for path, secret in sorted(settings.secret_files.items())
        ],
        "configMapAsVolume": [
            {**_name("configMapName", config_map), "mountPath": path, "optional": False}
            for path, config_map in sorted(settings.config_map_files.items())
        ],
    }


def _list_volumes(settings: NodeSettings) -> Document:
    mounts: list[Document] = []
    for path, source in sorted(settings.volumes.items()):
        claim, _, folder = source.partition("/")
        mount: Document = {"constant": claim, "mountPath": path, "subPath": folder}
        mounts.append({**mount, "pvcNameParameter": {"runtimeValue": {"constant": claim}}})
    empty: list[Document] = [
        {"volumeName": f"empty-{number}", "mountPath": path, **_read_size(size)}
        for number, (path, size) in enumerate(sorted(settings.empty_dirs.items()))
    ]
    if settings.shared_memory:
        # KFP's schema has enabledSharedMemory, and no backend from 2.0.5 to 2.17 reads it
        shared = {"volumeName": "shm", "mountPath": _SHARED_MEMORY, "medium": "Memory"}
        empty.append({**shared, "sizeLimit": settings.shared_memory})
    return {"pvcMount": mounts, "emptyDirMounts": empty}


def _read_size(text: str) -> Document:
    """Return medium and size of an empty folder: "10Gi", "memory 1Gi", "memory"."""
    medium, _, size = text.partition(" ") if text.startswith("memory") else ("", "", text)
    return {
        **({"medium": "Memory"} if medium else {}),
        **({"sizeLimit": size.strip()} if size.strip() else {}),
    }


def _list_places(settings: NodeSettings) -> Document:
    labels = settings.node_selector
    selector: Document = {"labels": labels} if labels else {}
    return {
        "nodeSelector": selector,
        "nodeAffinity": [_read_affinity(text) for text in settings.node_affinity],
        "tolerations": [_read_toleration(text) for text in settings.tolerations],
    }


def _read_affinity(text: str) -> Document:
    """Return one term: a label selector as kubectl has them, required or with a weight."""
    preference = _PREFERENCE.match(text)
    rest = text[preference.end() :] if preference else text
    # a comma inside brackets separates values, not requirements
    requirements = [_read_requirement(part) for part in re.split(r",(?![^(]*\))", rest)]
    weight = {"weight": int(preference[1])} if preference else {}
    return {"matchExpressions": requirements, **weight}


def _read_requirement(text: str) -> Document:
    """Return one requirement of a selector.

    text                        operator, values
    disk = ssd, disk == ssd     In [ssd]
    disk != ssd                 NotIn [ssd]
    zone in (a, b)              In [a, b]
    zone notin (a, b)           NotIn [a, b]
    cores > 8, cores < 8        Gt [8], Lt [8]
    gpu, !gpu                   Exists, DoesNotExist
    """
    found = _REQUIREMENT.fullmatch(text)
    if found is None:  # pragma: no cover - the setting's form lets nothing else through
        raise ValueError(text)
    if not found["operator"]:
        return {"key": found["key"], "operator": "DoesNotExist" if found["no"] else "Exists"}
    values = [value.strip() for value in found["value"].strip("()").split(",")]
    return {"key": found["key"], "operator": _OPERATORS[found["operator"]], "values": values}


def _read_toleration(text: str) -> Document:
    """Return one toleration: KEY[=VALUE][:EFFECT[:SECONDS]], or * for any taint."""
    taint, _, rest = text.partition(":")
    effect, _, seconds = rest.partition(":")
    key, equals, value = taint.partition("=")
    return {
        **({"key": key} if key != "*" else {}),
        **({"operator": "Equal", "value": value} if equals else {"operator": "Exists"}),
        **({"effect": effect} if effect else {}),
        **({"tolerationSeconds": seconds} if seconds else {}),
    }


def _name(field: str, name: str) -> Document:
    # backends before 2.5 read the name, later ones the parameter: both are written, as kfp does
    return {field: name, f"{field}Parameter": {"runtimeValue": {"constant": name}}}


def _group(sources: Mapping[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each secret with the variables that it gives, and the keys."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reference in sorted(sources.items()):
        source, _, key = reference.partition("/")
        groups.setdefault(source, []).append((name, key))
    yield from sorted(groups.items())


@cache
def _load_config() -> type[Any]:
    """Load the message class of kfp-kubernetes without kfp, which its module would import.

    The schema stands in the module, as the one bytes literal that it registers.
    """
    import ast

    from google.protobuf import descriptor_pool, message_factory

    load_messages()  # the schema refers to that of the pipeline
    path = locate_module("kfp-kubernetes", "kfp/kubernetes/kubernetes_executor_config_pb2.py")
    tree = ast.parse(path.read_text("utf-8"))
    schema = next(
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "AddSerializedFile"
        and isinstance(node.args[0], ast.Constant)
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(schema)
    descriptor = pool.FindMessageTypeByName("kfp_kubernetes.KubernetesExecutorConfig")
    message: type[Any] = message_factory.GetMessageClass(descriptor)
    return message
