"""Declares the settings of single nodes, combines them, and suggests fixes for patterns without a match.

They are set in `nodes:` of config/, below patterns of node names, or in the code:
`query("train.*").set(cpu=2)`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fftasks.config.specification import SettingValue
from fftasks.config.specification import make_setting as _setting
from fftasks.records import digest_json

DEFAULT_PATTERN = "__default__"

_QUANTITY = r"[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?"
_CPU: dict[str, Any] = {"form": r"[0-9]+(\.[0-9]+)?|[0-9]+m", "example": "2, 0.5 or 500m"}
_MEMORY: dict[str, Any] = {"form": r"[0-9]+([KMGTPE]i?)?", "example": "500M or 2Gi"}
_KEY = r"[^/\s]+/[^/\s]+"
_REFERENCE: dict[str, Any] = {"form": _KEY, "example": "{NAME: secret/key}"}
_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_REQUIREMENT = r"!?[\w./-]+(\s*(=|==|!=|>|<)\s*[\w.-]+|\s+(in|notin)\s+\([^()]+\))?"


@dataclass(frozen=True)
class NodeSettings:
    """Resources, retries, environment and placement of a node.

    All settings apply to the cluster; those for which the help text says so also to local runs.

    Attributes:
        origins: Setting, or setting and key of a mapping ("env.ALPHA") -> where it was set.
    """

    cpu: str = _setting("", "CPU request, such as 2 or 500m", **_CPU)
    cpu_limit: str = _setting("", "CPU limit", **_CPU)
    memory: str = _setting("", "memory request, such as 2Gi", **_MEMORY)
    memory_limit: str = _setting("", "memory limit; a node that exceeds it is killed", **_MEMORY)
    gpu: int = _setting(0, "number of GPUs or other accelerators", minimum=0)
    gpu_type: str = _setting("nvidia.com/gpu", "name of the accelerator resource on the cluster")
    retries: int = _setting(0, "number of retries after a failure; also in local runs", minimum=0)
    retry_wait_s: float = _setting(
        0.0, "seconds to wait before the first retry; also in local runs", minimum=0
    )
    retry_factor: float = _setting(
        2.0, "factor by which each further wait is longer; also in local runs", minimum=1
    )
    retry_max_wait_s: float = _setting(
        3600.0, "longest wait before a retry in seconds; also in local runs", minimum=0
    )
    timeout_s: int = _setting(
        0, "time limit of each attempt in seconds; 0: none; also in local runs",
        minimum=0,
    )  # fmt: skip
    pod_retries: int = _setting(
        0, "number of new pods if a pod is deleted or its machine is lost; 0: default of KFP",
        minimum=0,
    )  # fmt: skip
    env: dict[str, str] = _setting(
        {}, "environment variables (no secrets); also in local runs", form=r"(?s).*"
    )
    secret_env: dict[str, str] = _setting({}, "environment variables from Secrets", **_REFERENCE)
    secret_files: dict[str, str] = _setting(
        {}, "mount paths of Secrets; each key is a file", form=_NAME, example="{/etc/db: secret}"
    )
    config_map_env: dict[str, str] = _setting(
        {}, "environment variables from ConfigMaps", form=_KEY, example="{NAME: config-map/key}"
    )
    config_map_files: dict[str, str] = _setting(
        {}, "mount paths of ConfigMaps; each key is a file", form=_NAME, example="{/etc/app: map}"
    )
    volumes: dict[str, str] = _setting(
        {}, "mount paths of persistent volume claims", form=r"[^/\s]+(/\S+)?",
        example="{/data: claim} or {/data: claim/folder}",
    )  # fmt: skip
    empty_dirs: dict[str, str] = _setting(
        {}, "mount paths of empty writable volumes, with their size limit",
        form=rf"(memory\s+)?{_QUANTITY}|memory", example='{/scratch: 10Gi} or {/scratch: "memory 1Gi"}',
    )  # fmt: skip
    shared_memory: str = _setting(
        "", "size of /dev/shm, which the data loaders of PyTorch need", **_MEMORY
    )
    node_selector: dict[str, str] = _setting({}, "labels that the machine must have")
    node_affinity: tuple[str, ...] = _setting(
        (), "required or preferred node affinity, as label selectors",
        form=rf"(prefer\s+[0-9]+:\s*)?{_REQUIREMENT}(\s*,\s*{_REQUIREMENT})*",
        example='["zone in (a, b), !spot"] or ["prefer 10: disk=ssd"]',
    )  # fmt: skip
    tolerations: tuple[str, ...] = _setting(
        (), "tolerations, in the syntax of kubectl taint",
        form=r"(\*|[\w./-]+(=[\w.-]*)?)(:(NoSchedule|PreferNoSchedule|NoExecute(:[0-9]+)?))?",
        example='["gpu=true:NoSchedule"], ["spot"] or ["*"]',
    )  # fmt: skip
    labels: dict[str, str] = _setting({}, "labels of the pod")
    annotations: dict[str, str] = _setting({}, "annotations of the pod")
    pull_policy: str = _setting(
        "",
        "image pull policy; empty: default of Kubernetes",
        choices=("", "Always", "IfNotPresent", "Never"),
    )
    pull_secrets: tuple[str, ...] = _setting(
        (), "image pull secrets", form=_NAME, example="[regcred]"
    )
    cache: bool = _setting(True, "allow KFP to reuse the result of an earlier run")
    display_name: str = _setting("", "display name in the KFP web UI")
    fuse: bool = _setting(True, "allow the node to share a pod with other nodes")
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults as JSON; equal settings give equal JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, rule in NODE_SETTING_SPECS.items()
            if (value := getattr(self, name)) != rule.default
        }

    def describe(self) -> Iterator[str]:
        """Yield each setting that was set, with its origin: "env.ALPHA: 3 (config/default.yaml:4)"."""
        for key, origin in sorted(self.origins.items()):
            name, _, item = key.partition(".")
            value = getattr(self, name)
            if not item or item in value:
                shown = value[item] if item else _format_value(value)
                yield f"{key}: {shown} ({origin})"


NODE_SETTING_SPECS = {
    leaf.name: leaf.metadata["rule"]
    for leaf in dataclasses.fields(NodeSettings)
    if "rule" in leaf.metadata
}


class SettingOverride(NamedTuple):
    """The settings for the nodes that match one pattern, from one place.

    Attributes:
        pattern: Regular expression for whole names of nodes, or "__default__" for all nodes.
        values: Values by setting. That of a mapping has the origins of its items in their order.
        origin: File and line of the pattern.
    """

    pattern: str
    values: Mapping[str, SettingValue]
    origin: str

    def matches(self, name: str) -> bool:
        """Return whether the settings apply to the node with a name."""
        return self.pattern == DEFAULT_PATTERN or bool(re.fullmatch(self.pattern, name))


def combine_overrides(layers: Iterable[SettingOverride]) -> NodeSettings:
    """Return the settings of a node from all layers that match it; later ones win, mappings are merged."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            if isinstance(value.value, dict) and value.value:
                values[key] = {**values.get(key, {}), **value.value}
                names = [f"{key}.{name}" for name in value.value]
                origins |= dict(zip(names, value.list_origins(), strict=True))
            else:  # an empty mapping removes all earlier items
                values[key] = value.value
                origins[key] = value.origin
    return NodeSettings(**values, origins=origins)


def list_env_inputs(settings: NodeSettings) -> dict[str, str]:
    """Return the named inputs of a fingerprint for a node's settings: name -> digest.

    Only environment variables can change the result. Resources, placement and retries cannot.
    """
    return {f"env {name}": digest_json(value) for name, value in settings.env.items()}


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) or "nothing" if isinstance(value, tuple | dict) else str(value)


_MAX_NAMES = 3
_REGEX_SYNTAX = re.compile(r"\\(.)|[\\^$.*+?()\[\]{}|]")


def find_unmatched_patterns(
    layers: Sequence[SettingOverride], names: Iterable[str]
) -> Iterator[str]:
    """Yield a warning for each layer that matches no node, with the pattern or names that may be meant.

    Args:
        layers: Settings of nodes.
        names: Names of all nodes.
    """
    known = list(names)
    for layer in layers:
        if not any(map(layer.matches, known)):
            what = f"{layer.origin}: no node's name matches {layer.pattern!r}"
            yield f"{what}; {_suggest_pattern(layer.pattern, known)}"


def _suggest_pattern(pattern: str, names: Sequence[str]) -> str:
    """Return a hint for a pattern that matches no node.

    train     names: train 1, train 2   did you mean 'train.*'? It matches 'train 1', 'train 2'
    train*    the same                  the same: it was written like a glob pattern
    Train 1   the same                  did you mean 'train 1'?
    trian.*   the same                  did you mean 'train 1' or 'train 2'?
    x         the same                  the nodes are 'train 1', 'train 2'
    """
    longer = f"({pattern}).*" if "|" in pattern else f"{pattern}.*"
    for wider in (re.sub(r"(?<![.\\)\]])\*", ".*", pattern), longer):
        matched = _match(wider, names)
        if matched:
            return f"did you mean {wider!r}? It matches {_join_quoted(matched, 'and')}"
    near = _find_near(_REGEX_SYNTAX.sub(r"\1", pattern), names)
    if near:
        return f"did you mean {_join_quoted(near, 'or')}?"
    return f"the nodes are {_join_quoted(names, 'and')}" if names else "there are no nodes"


def _match(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        return [name for name in names if re.fullmatch(pattern, name)]
    except re.error:  # the modified pattern may be invalid
        return []


def _find_near(text: str, names: Sequence[str]) -> list[str]:
    """Return names that are similar to a text, or begin like it, regardless of case."""
    import difflib  # see fftasks.errors.find_near

    text = text.lower()
    whole = {name.lower(): name for name in reversed(names)}
    begins = {name[: len(text)]: full for name, full in whole.items()}
    if text in whole:
        return [whole[text]]
    for known in (whole, begins):
        near = difflib.get_close_matches(text, known, n=_MAX_NAMES)
        if near:  # difflib sorts equally similar names backwards
            likeness = {one: difflib.SequenceMatcher(None, one, text).ratio() for one in near}
            return [known[one] for one in sorted(near, key=lambda one: (-likeness[one], one))]
    return []


def _join_quoted(names: Sequence[str], word: str) -> str:
    shown = [repr(name) for name in names[:_MAX_NAMES]]
    if len(names) > _MAX_NAMES:
        return f"{', '.join(shown)} and {len(names) - _MAX_NAMES} more"
    return f" {word} ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
