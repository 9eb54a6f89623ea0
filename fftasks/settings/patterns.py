"""What is set for nodes by patterns of their names: in `nodes:` of a file, or in the user's code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fftasks.errors import SettingsError
from fftasks.settings.config import NODES
from fftasks.settings.document import Node, is_nothing, list_items, read_value
from fftasks.settings.nodes import DEFAULT_PATTERN, NODE_RULES, Layer
from fftasks.settings.rule import Spot, Value, suggest

# what is set by whoever starts the node
_RESERVED = ("FFFUNCTION", "FFWORKFLOWS", "PYTHONHASHSEED")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL = r"(?a:[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)"
_PREFIX = r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
# what KFP has no place for at a task, and where it is set for a whole run
_OF_THE_RUN = {
    "service_account": "kfp.service_account is for the whole run: KFP has none for single nodes",
    "namespace": "kfp.namespace is for the whole run",
}
_SECRET = re.compile(r"(?i)passw|secret|token|api_?key|private_?key|credential|access_?key")


def read_layers(root: Node, name: str, environ: Mapping[str, str]) -> Iterator[Layer]:
    """Yield what a file sets for nodes, in its order.

    root: the file as read_tree gives it; name: relative to the project's folder
    Raises SettingsError with file, line, key, what is allowed and the nearest name.
    """
    for key, _, section in list_items(root, name, "the file"):
        if key != NODES or is_nothing(section):
            continue
        for pattern, origin, values in list_items(section, name, NODES):
            check_pattern(pattern, origin)
            if not is_nothing(values):
                yield Layer(pattern, _read_values(pattern, values, name, environ), origin)


def check_layer(pattern: str, values: Mapping[str, Any], origin: str) -> Layer:
    """Return what the user's code sets for nodes: `query(pattern).set(cpu=2)` at a line of it.

    Raises SettingsError with the line, what is allowed and the nearest name.
    """
    checked = {
        key: Value(_check_value(key, value, origin), origin) for key, value in values.items()
    }
    return Layer(pattern, checked, origin)


def make_layer(recorded: Mapping[str, Any]) -> Layer:
    """Return the layer of what the user's code sets, as the graph record has it."""
    origin = recorded["origin"]
    values = {
        key: Value(tuple(value) if isinstance(value, list) else value, origin)
        for key, value in recorded["values"].items()
    }
    return Layer(recorded["pattern"], values, origin)


def check_pattern(pattern: str, origin: str) -> None:
    """Raise SettingsError if a pattern is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"{origin}: {pattern!r} is no regular expression",
            found=[str(error)],
            tip=f"write {DEFAULT_PATTERN} for all nodes, and a backslash before ( [ * + ? of a name",
        ) from None


def warn_of_secrets(layers: Iterable[Layer]) -> list[str]:
    """Return a sentence for each plain value that looks like a secret: it would stand in the pipeline."""
    return [
        f"{origin}: env.{name} looks like a secret, and everybody can read it in the pipeline: "
        f"better secret_env: {{{name}: secret/key}}"
        for layer in layers
        for name, text, origin in _list_env(layer)
        if text and _SECRET.search(name)
    ]


def _list_env(layer: Layer) -> Iterator[tuple[str, str, str]]:
    if "env" in layer.values:
        env = layer.values["env"]
        yield from zip(env.value, env.value.values(), env.list_origins(), strict=True)


def _read_values(
    pattern: str, node: Node, name: str, environ: Mapping[str, str]
) -> dict[str, Value]:
    values = {}
    for key, origin, value in list_items(node, name, f"{NODES}.{pattern}"):
        spot = _find_spot(key, origin)
        values[key] = read_value(Spot(spot.key, spot.rule, origin, environ), value)
        _check_names(key, values[key].value, values[key].items or (origin,))
    return values


def _find_spot(key: str, origin: str) -> Spot:
    if key not in NODE_RULES:
        raise SettingsError(
            f"{origin}: there is no setting {key} for nodes",
            found=[f"there are: {', '.join(NODE_RULES)}"],
            tip=_OF_THE_RUN.get(key) or suggest(key, list(NODE_RULES), cutoff=0.5),
        )
    return Spot(key, NODE_RULES[key], origin)


def _check_value(key: str, value: Any, origin: str) -> Any:
    """Return a value of the user's code as the file would give it."""
    spot = _find_spot(key, origin)
    kind = type(spot.rule.default)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(_check_text(spot.narrow(f"[{i}]", origin), v) for i, v in enumerate(value))
    if kind is dict and isinstance(value, Mapping):
        texts = {str(n): _check_text(spot.narrow(f".{n}", origin), v) for n, v in value.items()}
        _check_names(key, texts, (origin,) * len(texts))
        return texts
    if kind is str:
        return _check_text(spot, value)
    is_fit = isinstance(value, kind) or (kind is float and type(value) is int)
    if not is_fit or (kind is int and isinstance(value, bool)):
        raise spot.refuse(repr(value))
    return spot.check(kind(value))


def _check_text(spot: Spot, value: Any) -> str:
    if not isinstance(value, str) and not (spot.rule.form and isinstance(value, int | float)):
        raise spot.refuse(repr(value))
    return str(spot.check(str(value)))


def _check_names(key: str, value: Any, origins: Sequence[str]) -> None:
    """Raise SettingsError for the name of a variable, a folder or a label that cannot be one."""
    if not isinstance(value, dict):
        return
    for name, origin in zip(value, origins, strict=False):
        if key.endswith("env") and (name in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name)):
            problem = "is set by fftasks" if name in _RESERVED else "is no name of a variable"
            raise SettingsError(f"{origin}: {key}.{name} {problem}", tip="choose another name")
        if key in ("secret_files", "config_map_files", "volumes", "empty_dirs") and name[:1] != "/":
            raise SettingsError(
                f"{origin}: {key}.{name} must be an absolute path in the container",
                found=[NODE_RULES[key].says],
                tip=f"write {NODE_RULES[key].example}",
            )
        if key in ("labels", "node_selector", "annotations"):
            _check_label(key, name, "" if key == "annotations" else value[name], origin)


def _check_label(key: str, name: str, value: str, origin: str) -> None:
    """Raise SettingsError for what Kubernetes would refuse when the pod is to be made."""
    prefix, slash, last = name.rpartition("/")
    if not re.fullmatch(_LABEL, last) or (slash and not re.fullmatch(_PREFIX, prefix)):
        found = "letters, digits, '-', '_' and '.', at most 63; before them a domain and '/', or nothing"
        raise SettingsError(f"{origin}: {key}.{name} is no name in Kubernetes", found=[found])
    if value and not re.fullmatch(_LABEL, value):
        found = "letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends"
        raise SettingsError(f"{origin}: {key}.{name} cannot be {value!r}", found=[found])
