"""What the settings of nodes say to the entry point of their pod, in its environment.

What a node's settings say in the pipeline document: of its container, and of its task.

The second document of a pipeline: what Kubernetes is to do for each task.

KFP takes it as it takes the pipeline, strictly; its schema is the message of the package kfp-kubernetes.
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
from fftasks.runner.scheduler import VARIABLE, PodResources, format_pod_resources


def make_pod_settings(settings: NodeSettings, nodes: int) -> NodeSettings:
    """Return the settings of a pod, with what its entry point has to know in the environment.

    Time limit and retries hold for each node, not for the pod, and are the business of the entry point.

    Args:
        settings: Those of its nodes, which have the same.
        nodes: How many nodes run in it.
    """
    means = make_pod_resources(settings)
    is_group = nodes > 1
    text = format_pod_resources(means if is_group else replace(means, cpu=1))
    env = {**settings.env, **({VARIABLE: text} if text else {})}
    return replace(settings, env=env, display_name="" if is_group else settings.display_name)


def make_pod_resources(settings: NodeSettings) -> PodResources:
    """Return what the entry point has to know of the settings of its nodes."""
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
    """Return how many nodes a pod runs at a time: as many as its CPU request has whole ones, at least one."""
    text = settings.cpu or settings.cpu_limit or "1"
    amount = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return max(math.floor(amount), 1)


Document = dict[str, Any]

_TEN_YEARS_S = 10 * 365 * 24 * 3600
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}  # powers of 1000, or of 1024 with an i


def apply_settings(task: Document, container: Document, settings: NodeSettings) -> None:
    """Write settings into a task and its container, which are changed."""
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
    """Return a container's resources, {} without any.

    Backends before 2.4 read the numbers, later ones the texts: both are written, as kfp does.
    """
    found: Document = {}
    for kind, parse in (("Cpu", _parse_cpu), ("Memory", _parse_memory)):
        for what in ("Request", "Limit"):
            suffix = "_limit" if what == "Limit" else ""
            text = getattr(settings, f"{kind.lower()}{suffix}")
            if text:
                found[f"{kind.lower()}{what}"] = parse(text)
                found[f"resource{kind}{what}"] = text
    if settings.gpu:
        count = str(settings.gpu)
        kind = settings.gpu_type
        found["accelerator"] = {
            "type": kind, "count": count, "resourceType": kind, "resourceCount": count
        }  # fmt: skip
    return found


def make_retry_policy(settings: NodeSettings) -> Document:
    """Return a task's retryPolicy, {} if the cluster is not asked to start its pod again.

    Retries of a node that fails are not in it: the entry point makes them.

    The two durations are there because KFP's compiler puts 0 for what is missing, and Argo takes
    backoffMaxDuration for the time from the first start after which there is no retry any more:
    addContainerExecutorTemplate in backend/src/v2/compiler/argocompiler/container.go (2.5 to 2.17), and
    processNodeRetries in workflow/controller/operator.go of Argo.
    """
    if not settings.pod_retries:
        return {}
    return {
        "maxRetryCount": settings.pod_retries,
        "backoffDuration": "0s",
        "backoffFactor": 2,  # as the SDK has it; of no effect
        "backoffMaxDuration": f"{_TEN_YEARS_S}s",
    }


def _parse_cpu(text: str) -> float:
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _parse_memory(text: str) -> float:
    """Return gigabytes."""
    number = text.rstrip("KMGTPEi")
    unit = text[len(number) :]
    base = 1024 if unit.endswith("i") else 1000
    return float(number) * (base ** _UNITS[unit[0]] if unit else 1) / 1000**3


DocumentKubernetes = dict[str, Any]

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


def make_platform(executors: Mapping[str, NodeSettings]) -> DocumentKubernetes:
    """Return the document for the executors with settings for Kubernetes, {} if there are none.

    executors: executor label -> settings
    """
    made = {label: make_executor(settings) for label, settings in executors.items()}
    found = {label: executor for label, executor in made.items() if executor}
    if not found:
        return {}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": found}}}}


def make_executor(settings: NodeSettings) -> DocumentKubernetes:
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


def check_platform(document: DocumentKubernetes) -> None:
    """Parse the document as strictly as KFP's server does, and its driver.

    Raises google.protobuf.json_format.ParseError; that is a bug of ours, not the user's.
    """
    from google.protobuf import json_format

    json_format.ParseDict(document, load_pipeline_spec_module().PlatformSpec())
    for platform in document.get("platforms", {}).values():
        for executor in platform["deploymentSpec"]["executors"].values():
            json_format.ParseDict(executor, _load_config()())


def _list_sources(settings: NodeSettings) -> DocumentKubernetes:
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


def _list_volumes(settings: NodeSettings) -> DocumentKubernetes:
    mounts: list[DocumentKubernetes] = []
    for path, source in sorted(settings.volumes.items()):
        claim, _, folder = source.partition("/")
        mount: DocumentKubernetes = {"constant": claim, "mountPath": path, "subPath": folder}
        mounts.append({**mount, "pvcNameParameter": {"runtimeValue": {"constant": claim}}})
    empty: list[DocumentKubernetes] = [
        {"volumeName": f"empty-{number}", "mountPath": path, **_read_size(size)}
        for number, (path, size) in enumerate(sorted(settings.empty_dirs.items()))
    ]
    if settings.shared_memory:
        # KFP's schema has enabledSharedMemory, and no backend from 2.0.5 to 2.17 reads it
        shared = {"volumeName": "shm", "mountPath": _SHARED_MEMORY, "medium": "Memory"}
        empty.append({**shared, "sizeLimit": settings.shared_memory})
    return {"pvcMount": mounts, "emptyDirMounts": empty}


def _read_size(text: str) -> DocumentKubernetes:
    """Return medium and size of an empty folder: "10Gi", "memory 1Gi", "memory"."""
    medium, _, size = text.partition(" ") if text.startswith("memory") else ("", "", text)
    return {
        **({"medium": "Memory"} if medium else {}),
        **({"sizeLimit": size.strip()} if size.strip() else {}),
    }


def _list_places(settings: NodeSettings) -> DocumentKubernetes:
    labels = settings.node_selector
    selector: DocumentKubernetes = {"labels": labels} if labels else {}
    return {
        "nodeSelector": selector,
        "nodeAffinity": [_read_affinity(text) for text in settings.node_affinity],
        "tolerations": [_read_toleration(text) for text in settings.tolerations],
    }


def _read_affinity(text: str) -> DocumentKubernetes:
    """Return one term: a label selector as kubectl has them, required or with a weight."""
    preference = _PREFERENCE.match(text)
    rest = text[preference.end() :] if preference else text
    # a comma inside brackets separates values, not requirements
    requirements = [_read_requirement(part) for part in re.split(r",(?![^(]*\))", rest)]
    weight = {"weight": int(preference[1])} if preference else {}
    return {"matchExpressions": requirements, **weight}


def _read_requirement(text: str) -> DocumentKubernetes:
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


def _read_toleration(text: str) -> DocumentKubernetes:
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


def _name(field: str, name: str) -> DocumentKubernetes:
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

    load_pipeline_spec_module()  # the schema refers to that of the pipeline
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
