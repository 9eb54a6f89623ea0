"""The key under which KFP's backend caches a task's outputs (release 2.17 and before).

Source: backend/src/v2/cacheutils/cache.go and backend/src/v2/driver/cache.go of kubeflow/pipelines.
Not in it: environment variables, resources, names of tasks and components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tests.services.protojson import format_value, to_value


def make_fingerprint(
    executor_input: Any, output_types: dict[str, str], container: Any, claims: Sequence[str] = ()
) -> str:
    """Return the key of a task as 64 hex digits.

    executor_input: the message; output_types: type name by output parameter.
    container: its image, command and args count as written, placeholders unresolved.
    claims: the names of the claims that the pod mounts.
    """
    key = make_key(
        executor_input, output_types, container.image, [*container.command, *container.args]
    )
    if claims:
        key["containerSpec"]["pvcNames"] = sorted(set(claims))
    return hash_key(key)


def make_custom_fingerprint(component: str, cache_key: str) -> str:
    """Return the key of a task with a cacheKey of its own, from release 2.18 on: it replaces all else."""
    head = component.encode() + b"\0" if component else b""
    return hashlib.sha256(head + cache_key.encode()).hexdigest()


def make_key(
    executor_input: Any, output_types: dict[str, str], image: str, command: Sequence[str]
) -> dict[str, Any]:
    """Return the CacheKey message in protobuf's JSON form."""
    inputs, outputs = executor_input.inputs, executor_input.outputs
    key = {
        "inputArtifactNames": {
            name: {"artifactNames": [artifact.name for artifact in items.artifacts]}
            for name, items in inputs.artifacts.items()
        },
        "inputParameterValues": {
            name: to_value(value) for name, value in inputs.parameter_values.items()
        },
        "outputArtifactsSpec": {
            name: _forget_uri(to_value(items.artifacts[0]))
            for name, items in outputs.artifacts.items()
            if items.artifacts
        },
        "outputParametersSpec": {name: output_types[name] for name in outputs.parameters},
        "containerSpec": {"image": image, "cmdArgs": list(command)},
    }
    return {name: value for name, value in key.items() if value}


def hash_key(key: dict[str, Any]) -> str:
    """Return the sha256 of a CacheKey as Go's encoding/json writes it: sorted, safe inside HTML."""
    text = format_value(key)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return hashlib.sha256(text.encode()).hexdigest()


def _forget_uri(artifact: dict[str, Any]) -> dict[str, Any]:
    return {name: artifact[name] for name in ("name", "type", "metadata") if name in artifact}
