"""Translate the settings of nodes to pipeline documents: resources, retries, and settings for Kubernetes.

The settings for Kubernetes are the second document of a pipeline. KFP parses it as strictly as the pipeline;
its schema is the message of the package kfp-kubernetes.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from fftasks.config.node_settings import NodeSettings
from fftasks.errors import SettingsError
from fftasks.pipeline.ir_yaml import load_pipeline_spec_module, locate_module
from fftasks.runner.scheduler import RESOURCES_VARIABLE, PodResources, format_pod_resources

Document = dict[str, Any]

_TEN_YEARS_S = 10 * 365 * 24 * 3600
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}  # powers of 1000, or of 1024 with an i
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


def make_pod_settings(settings: NodeSettings, nodes: int) -> NodeSettings:
    """Return the settings of a pod: those of its nodes, with an environment variable for the entry point.

    Timeout and retries apply to each node, not to the pod, so the entry point handles them.

    Args:
        settings: Settings of the nodes in the pod; all of them have the same.
        nodes: Number of nodes in the pod.
    """
    means = make_pod_resources(settings)
    is_group = nodes > 1
    text = format_pod_resources(means if is_group else replace(means, cpu=1))
    env = {**settings.env, **({RESOURCES_VARIABLE: text} if text else {})}
    return replace(settings, env=env, display_name="" if is_group else settings.display_name)


def make_pod_resources(settings: NodeSettings) -> PodResources:
    """Return the settings of nodes that the entry point of their pod applies."""
    means = PodResources(cpu=count_parallel_nodes(settings), timeout_s=settings.timeout_s)
    if not settings.retries:
        return means
    return replace(
        means,
        retries=settings.retries,
        wait_s=settings.retry_wait_s,
        factor=settings.retry_factor,
        max_wait_s=settings.retry_max_wait_s,
    )


def count_parallel_nodes(settings: NodeSettings) -> int:
    """Return how many nodes a pod runs at a time: its CPU request, rounded down, at least one."""
    return max(math.floor(_parse_cpu(settings.cpu or settings.cpu_limit or "1")), 1)


def apply_settings(task: Document, container: Document, settings: NodeSettings) -> None:
    """Write the settings of a pod into its task and container.

    Args:
        task: Task of a pipeline document; changed in place.
        container: Container of the task's executor; changed in place.
        settings: Settings of the pod.
    """
    resources, retry_policy = make_resources(settings), make_retry_policy(settings)
    if resources:
        container["resources"] = resources
    if settings.env:
        own = {variable["name"]: variable["value"] for variable in container["env"]}
        env = {**settings.env, **own}
        container["env"] = [{"name": name, "value": env[name]} for name in sorted(env)]
    if retry_policy:
        task["retryPolicy"] = retry_policy
    if not settings.cache:
        task["cachingOptions"] = {}


def make_resources(settings: NodeSettings) -> Document:
    """Return the resources of a container, {} if no resource is set.

    Backends before 2.4 read the numbers, later ones the strings. Both are written, as the KFP SDK does.
    """
    resources: Document = {}
    for kind, parse in (("Cpu", _parse_cpu), ("Memory", _parse_memory)):
        for bound in ("Request", "Limit"):
            suffix = "_limit" if bound == "Limit" else ""
            text = getattr(settings, f"{kind.lower()}{suffix}")
            if text:
                resources[f"{kind.lower()}{bound}"] = parse(text)
                resources[f"resource{kind}{bound}"] = text
    if settings.gpu:
        count = str(settings.gpu)
        kind = settings.gpu_type
        resources["accelerator"] = {
            "type": kind, "count": count, "resourceType": kind, "resourceCount": count
        }  # fmt: skip
    return resources


def make_retry_policy(settings: NodeSettings) -> Document:
    """Return the retryPolicy of a task, {} if the cluster shall not restart its pod.

    The policy does not contain the retries of a failed node, which the entry point of the pod makes.

    The two durations are set because KFP's compiler writes 0 for a missing duration, and Argo makes no retry
    when backoffMaxDuration has passed since the first start.

    Source: addContainerExecutorTemplate in backend/src/v2/compiler/argocompiler/container.go of KFP (2.5 to
    2.17), and processNodeRetries in workflow/controller/operator.go of Argo.
    """
    if not settings.pod_retries:
        return {}
    return {
        "maxRetryCount": settings.pod_retries,
        "backoffDuration": "0s",
        "backoffFactor": 2,  # the SDK's value; no effect, because backoffDuration is 0
        "backoffMaxDuration": f"{_TEN_YEARS_S}s",
    }


def _parse_cpu(text: str) -> float:
    """Return a number of processors, given a Kubernetes quantity such as "500m"."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _parse_memory(text: str) -> float:
    """Return a number of gigabytes (10^9 bytes), given a Kubernetes quantity such as "2Gi"."""
    number = text.rstrip("KMGTPEi")
    unit = text[len(number) :]
    base = 1024 if unit.endswith("i") else 1000
    return float(number) * (base ** _UNITS[unit[0]] if unit else 1) / 1000**3


def make_platform(executors: Mapping[str, NodeSettings]) -> Document:
    """Return the document with the settings for Kubernetes, {} if no executor has such settings.

    Args:
        executors: Label of an executor -> settings of its pod.
    """
    made = {label: make_executor(settings) for label, settings in executors.items()}
    nonempty = {label: executor for label, executor in made.items() if executor}
    if not nonempty:
        return {}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": nonempty}}}}


def make_executor(settings: NodeSettings) -> Document:
    """Return the configuration of a pod for Kubernetes, {} if all settings have their defaults."""
    config = {**_list_sources(settings), **_list_volumes(settings), **_list_places(settings)}
    metadata = {"labels": settings.labels, "annotations": settings.annotations}
    if any(metadata.values()):
        config["podMetadata"] = {kind: values for kind, values in metadata.items() if values}
    if settings.pull_secrets:
        config["imagePullSecret"] = [_refer("secretName", name) for name in settings.pull_secrets]
    if settings.pull_policy:
        config["imagePullPolicy"] = settings.pull_policy
    return {key: value for key, value in config.items() if value}


def check_mounts(node: str, settings: NodeSettings) -> None:
    """Check that no two settings of a node mount the same folder, which Kubernetes rejects at the start.

    Args:
        node: Name of the node, for the message.
        settings: Settings of the node.

    Raises:
        SettingsError: Two settings mount the same folder.
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
    """Parse the document for Kubernetes as strictly as KFP's server and driver do.

    Raises:
        google.protobuf.json_format.ParseError: fftasks wrote an invalid document; this is a bug of fftasks.
    """
    from google.protobuf import json_format

    json_format.ParseDict(document, load_pipeline_spec_module().PlatformSpec())
    for platform in document.get("platforms", {}).values():
        for executor in platform["deploymentSpec"]["executors"].values():
            json_format.ParseDict(executor, _load_config()())


def _list_sources(settings: NodeSettings) -> Document:
    """Return environment variables and files from secrets and config maps."""
    return {
        "secretAsEnv": [
            {
                **_refer("secretName", secret),
                "keyToEnv": [{"secretKey": key, "envVar": name} for name, key in keys],
                "optional": False,
            }
            for secret, keys in _group(settings.secret_env)
        ],
        "configMapAsEnv": [
            {
                **_refer("configMapName", config_map),
                "keyToEnv": [{"configMapKey": key, "envVar": name} for name, key in keys],
                "optional": False,
            }
            for config_map, keys in _group(settings.config_map_env)
        ],
        "secretAsVolume": [
            {**_refer("secretName", secret), "mountPath": path, "optional": False}
            for path, secret in sorted(settings.secret_files.items())
        ],
        "configMapAsVolume": [
            {**_refer("configMapName", config_map), "mountPath": path, "optional": False}
            for path, config_map in sorted(settings.config_map_files.items())
        ],
    }


def _list_volumes(settings: NodeSettings) -> Document:
    """Return the mounts of volume claims and empty folders, shared memory among them."""
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
        # KFP's schema has enabledSharedMemory, but no backend from 2.0.5 to 2.17 reads it.
        shared = {"volumeName": "shm", "mountPath": _SHARED_MEMORY, "medium": "Memory"}
        empty.append({**shared, "sizeLimit": settings.shared_memory})
    return {"pvcMount": mounts, "emptyDirMounts": empty}


def _read_size(text: str) -> Document:
    """Return medium and size limit of an empty folder, given "10Gi", "memory 1Gi" or "memory"."""
    medium, _, size = text.partition(" ") if text.startswith("memory") else ("", "", text)
    return {
        **({"medium": "Memory"} if medium else {}),
        **({"sizeLimit": size.strip()} if size.strip() else {}),
    }


def _list_places(settings: NodeSettings) -> Document:
    """Return the settings that select the Kubernetes nodes on which a pod may run."""
    labels = settings.node_selector
    selector: Document = {"labels": labels} if labels else {}
    return {
        "nodeSelector": selector,
        "nodeAffinity": [_read_affinity(text) for text in settings.node_affinity],
        "tolerations": [_read_toleration(text) for text in settings.tolerations],
    }


def _read_affinity(text: str) -> Document:
    """Return one affinity term, given a label selector in kubectl's syntax, required or with a weight."""
    preference = _PREFERENCE.match(text)
    rest = text[preference.end() :] if preference else text
    # A comma inside parentheses separates values, not requirements.
    requirements = [_read_requirement(part) for part in re.split(r",(?![^(]*\))", rest)]
    weight = {"weight": int(preference[1])} if preference else {}
    return {"matchExpressions": requirements, **weight}


def _read_requirement(text: str) -> Document:
    """Return one requirement of a label selector.

    text                        operator, values
    disk = ssd, disk == ssd     In [ssd]
    disk != ssd                 NotIn [ssd]
    zone in (a, b)              In [a, b]
    zone notin (a, b)           NotIn [a, b]
    cores > 8, cores < 8        Gt [8], Lt [8]
    gpu, !gpu                   Exists, DoesNotExist
    """
    found = _REQUIREMENT.fullmatch(text)
    if found is None:  # pragma: no cover - the schema of the setting rejects other texts
        raise ValueError(text)
    if not found["operator"]:
        return {"key": found["key"], "operator": "DoesNotExist" if found["no"] else "Exists"}
    values = [value.strip() for value in found["value"].strip("()").split(",")]
    return {"key": found["key"], "operator": _OPERATORS[found["operator"]], "values": values}


def _read_toleration(text: str) -> Document:
    """Return one toleration, given KEY[=VALUE][:EFFECT[:SECONDS]], where KEY * tolerates any taint."""
    taint, _, rest = text.partition(":")
    effect, _, seconds = rest.partition(":")
    key, equals, value = taint.partition("=")
    return {
        **({"key": key} if key != "*" else {}),
        **({"operator": "Equal", "value": value} if equals else {"operator": "Exists"}),
        **({"effect": effect} if effect else {}),
        **({"tolerationSeconds": seconds} if seconds else {}),
    }


def _refer(field: str, name: str) -> Document:
    """Return the fields that refer to a secret or config map by name."""
    # Backends before 2.5 read the name, later ones the parameter. Both are written, as the KFP SDK does.
    return {field: name, f"{field}Parameter": {"runtimeValue": {"constant": name}}}


def _group(sources: Mapping[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each secret or config map with its pairs of variable and key.

    Args:
        sources: Name of an environment variable -> "SOURCE/KEY".
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reference in sorted(sources.items()):
        source, _, key = reference.partition("/")
        groups.setdefault(source, []).append((name, key))
    yield from sorted(groups.items())


@cache
def _load_config() -> type[Any]:
    """Load the message class of kfp-kubernetes without its module, which would import all of kfp.

    The schema is read from the module's source: it is the only bytes literal that the module registers.
    """
    import ast

    from google.protobuf import descriptor_pool, message_factory

    load_pipeline_spec_module()  # The schema imports the one of the pipeline.
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
