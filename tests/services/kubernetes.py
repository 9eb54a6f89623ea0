"""What Kubernetes does for a pod: secrets, config maps, claims, folders, a deadline, labels, machines.

Read from the second document of a pipeline, as KFP's driver reads it: strictly, when the task begins
(backend/src/v2/driver/k8s.go, 2.17.0). `enabledSharedMemory` is in the schema, and no release reads it.

KFP 2.17.0 seen on a real installation: a pod whose secret, config map, claim or machine is missing waits
until its run is terminated, and KFP says nothing about the reason. Kubernetes has it in the pod and in the
pod's events.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Keys = Mapping[str, str]
_TAIL = "preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."


class WaitError(Exception):
    """A pod cannot start; it waits.

    Attributes:
        place: Where Kubernetes notes the reason: "scheduling", "mount", "config" or "image".
        reason: Kubernetes' reason, such as CreateContainerConfigError.
    """

    def __init__(self, place: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Machine:
    """One machine of a cluster: its labels, processors and bytes of memory."""

    labels: Keys = field(default_factory=dict)
    cpu: float = 8.0
    memory: float = 32 * 2.0**30


@dataclass
class Objects:
    """The objects of a namespace.

    Attributes:
        secrets, config_maps: Name -> key -> value.
        claims: The names of the claims; None: every claim that a pipeline names exists.
    """

    secrets: dict[str, Keys] = field(default_factory=dict)
    config_maps: dict[str, Keys] = field(default_factory=dict)
    claims: frozenset[str] | None = None

    def find(self, kind: str, name: str, *, optional: bool = False, place: str = "config") -> Keys:
        """Return the keys of a secret or a config map; WaitError if there is none."""
        known = self.secrets if kind == "secret" else self.config_maps
        if name in known:
            return known[name]
        if optional:
            return {}
        problem = f'{kind} "{name}" not found'
        if place == "mount":
            problem = f'MountVolume.SetUp failed for volume "{name}" : {problem}'
            raise WaitError("mount", "FailedMount", problem)
        raise WaitError("config", "CreateContainerConfigError", problem)


def read_config(executor: dict[str, Any]) -> Any:
    """Return the message of an executor; json_format.ParseError for what is not in the schema."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as schema

    return json_format.ParseDict(executor, schema.KubernetesExecutorConfig())


def check_machines(
    config: Any, resources: Any, objects: Objects, machines: tuple[Machine, ...] | None
) -> None:
    """Raise WaitError for a pod that the scheduler cannot place: no such claim, no such machine."""
    count = len(machines) if machines is not None else 1
    tail = _TAIL.format(count)
    for name in list_claims(config):
        if objects.claims is not None and name not in objects.claims:
            problem = f'persistentvolumeclaim "{name}" not found. {tail}'
            message = f"0/{count} nodes are available: {problem}"
            raise WaitError("scheduling", "Unschedulable", message)
    if machines is None:
        return
    reasons: dict[str, int] = {}
    for machine in machines:
        reason = _find_obstacle(machine, config, resources)
        if not reason:
            return
        reasons[reason] = reasons.get(reason, 0) + 1
    words = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    message = f"0/{count} nodes are available: {words}. {tail}"
    raise WaitError("scheduling", "Unschedulable", message)


def list_claims(config: Any) -> list[str]:
    """Return the names of the claims that a pod mounts, sorted; they are a part of the cache key."""
    return sorted({_name(mount) for mount in config.pvc_mount})


def list_env(config: Any, objects: Objects) -> dict[str, str]:
    """Return the environment that secrets and config maps give."""
    env = {}
    for source in config.secret_as_env:
        keys = objects.find("secret", _name(source), optional=source.optional)
        for each in source.key_to_env:
            env[each.env_var] = _take(keys, each.secret_key, f"Secret {_name(source)}")
    for source in config.config_map_as_env:
        keys = objects.find("configmap", _name(source), optional=source.optional)
        for each in source.key_to_env:
            env[each.env_var] = _take(keys, each.config_map_key, f"ConfigMap {_name(source)}")
    return env


def fill_folders(config: Any, objects: Objects, folder: Path, claims: Path) -> None:
    """Make the files and folders that are mounted, below what stands for "/"; claims have their files."""
    for path, keys in _list_files(config, objects):
        target = folder / path.lstrip("/")
        target.mkdir(parents=True)
        for key, value in keys.items():
            (target / key).write_text(value)
    for mount in config.empty_dir_mounts:
        (folder / mount.mount_path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, source in list_mounts(config, claims):
        source.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, folder / path.lstrip("/"), dirs_exist_ok=True)


def keep_claims(config: Any, folder: Path, claims: Path) -> None:
    """Bring what a pod changed in its claims back: later pods that mount them see it."""
    for path, target in list_mounts(config, claims):
        source = folder / path.lstrip("/")
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True)


def list_mounts(config: Any, claims: Path) -> list[tuple[str, Path]]:
    """Return where a pod mounts claims, and the folders with their files; `subPath` leads to a sub-folder."""
    return [(one.mount_path, claims / _name(one) / one.sub_path) for one in config.pvc_mount]


def _list_files(config: Any, objects: Objects) -> Iterator[tuple[str, Keys]]:
    for kind, sources in (
        ("secret", config.secret_as_volume),
        ("configmap", config.config_map_as_volume),
    ):
        for source in sources:
            keys = objects.find(kind, _name(source), optional=source.optional, place="mount")
            yield source.mount_path, keys


def _find_obstacle(machine: Machine, config: Any, resources: Any) -> str:
    """Return why a pod does not fit on a machine, in the scheduler's words; "" if it does."""
    wanted = dict(config.node_selector.labels)
    if any(machine.labels.get(key) != value for key, value in wanted.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    if resources is None:
        return ""
    if read_quantity(resources.resource_cpu_request) > machine.cpu:
        return "Insufficient cpu"
    if read_quantity(resources.resource_memory_request) > machine.memory:
        return "Insufficient memory"
    return ""


def read_quantity(text: str) -> float:
    """Return a quantity of Kubernetes: 500m, 2, 256Mi, 1G."""
    if not text:
        return 0.0
    if text.endswith("m"):
        return float(text[:-1]) / 1000
    number = text.rstrip("KMGTi")
    suffix = text[len(number) :]
    power = "KMGT".index(suffix[0]) + 1 if suffix else 0
    return float(number) * (1024.0 if suffix.endswith("i") else 1000.0) ** power


def _name(source: Any) -> str:
    """Return the name by its parameter, which is what releases from 2.5 on read."""
    fields = [f.name for f in source.DESCRIPTOR.fields if f.name.endswith("_name_parameter")]
    return str(getattr(source, fields[0]).runtime_value.constant.string_value)


def _take(keys: Keys, key: str, name: str) -> str:
    if key not in keys:
        raise WaitError(
            "config", "CreateContainerConfigError", f"couldn't find key {key} in {name}"
        )
    return keys[key]
