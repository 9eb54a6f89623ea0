"""What Kubernetes does for a pod: secrets, config maps, folders, a deadline, labels, pull secrets.

Read from the second document of a pipeline, as KFP's driver reads it: strictly, when the task begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services.launcher import LauncherError

Keys = Mapping[str, str]


@dataclass
class Objects:
    """The secrets and config maps of a namespace: name -> key -> value."""

    secrets: dict[str, Keys] = field(default_factory=dict)
    config_maps: dict[str, Keys] = field(default_factory=dict)

    def find(self, kind: str, name: str, *, optional: bool = False) -> Keys:
        """Return the keys of a secret or a config map; LauncherError if there is none."""
        known = self.secrets if kind == "secret" else self.config_maps
        if name in known:
            return known[name]
        if optional:
            return {}
        raise LauncherError(f'CreateContainerConfigError: {kind} "{name}" not found')


def read_config(executor: dict[str, Any]) -> Any:
    """Return the message of an executor; json_format.ParseError for what is not in the schema."""
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2 as schema

    return json_format.ParseDict(executor, schema.KubernetesExecutorConfig())


def list_env(config: Any, objects: Objects) -> dict[str, str]:
    """Return the environment that secrets and config maps give."""
    env = {}
    for source in config.secret_as_env:
        keys = objects.find("secret", _name(source), optional=source.optional)
        env |= {
            each.env_var: _take(keys, each.secret_key, _name(source)) for each in source.key_to_env
        }
    for source in config.config_map_as_env:
        keys = objects.find("configmap", _name(source), optional=source.optional)
        for each in source.key_to_env:
            env[each.env_var] = _take(keys, each.config_map_key, _name(source))
    return env


def fill_folders(config: Any, objects: Objects, folder: Path) -> None:
    """Make the files and folders that are mounted, below what stands for "/"."""
    for path, keys in _list_files(config, objects):
        target = folder / path.lstrip("/")
        target.mkdir(parents=True)
        for key, value in keys.items():
            (target / key).write_text(value)
    for mount in (*config.empty_dir_mounts, *config.pvc_mount):
        (folder / mount.mount_path.lstrip("/")).mkdir(parents=True)


def _list_files(config: Any, objects: Objects) -> Iterator[tuple[str, Keys]]:
    for kind, sources in (
        ("secret", config.secret_as_volume),
        ("configmap", config.config_map_as_volume),
    ):
        for source in sources:
            yield source.mount_path, objects.find(kind, _name(source), optional=source.optional)


def _name(source: Any) -> str:
    """Return the name by its parameter, which is what releases from 2.5 on read."""
    fields = [f.name for f in source.DESCRIPTOR.fields if f.name.endswith("_name_parameter")]
    return str(getattr(source, fields[0]).runtime_value.constant.string_value)


def _take(keys: Keys, key: str, name: str) -> str:
    if key not in keys:
        raise LauncherError(f"CreateContainerConfigError: couldn't find key {key} in {name}")
    return keys[key]
