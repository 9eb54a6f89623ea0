"""Read YAML files with the line number of each value. Messages never contain the value of a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fftasks.config.specification import SettingLocation, SettingValue, has_variable
from fftasks.errors import SettingsError

YAMLNode = Any  # of yaml; what tells its kinds apart, `id`, is not in its types

_STRING_TAG, _NULL_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_YAML_INDICATORS = ("'-'", "','", "':'", "']'", "'}'")
# YAML gives these characters a special meaning at the beginning of a string; passwords often contain them
_HINT = "indent with spaces, and put what begins with * & ! % @ ` { [ into quotes"


def parse_yaml(text: str, name: str) -> YAMLNode | None:
    """Return the root node of a YAML document, or None if it is empty. Nodes have line numbers.

    Args:
        text: The document.
        name: Path of the file, relative to the project's folder, or "environment <variable>".

    Raises:
        SettingsError: The document is not valid YAML; the message has the line.
    """
    import yaml

    try:
        return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        problem = str(getattr(error, "problem", None) or getattr(error, "reason", "it is too deep"))
        # a quoted part of the message may be a password, unless it is an indicator of YAML
        problem = re.sub(
            r"'[^']*'|\"[^\"]*\"", lambda m: m[0] if m[0] in _YAML_INDICATORS else "...", problem
        )
        raise SettingsError(
            f"{_format_position(_find_line(error, text), name)}: invalid YAML",
            found=[problem],
            tip=_HINT,
        ) from None


def list_mapping_items(node: YAMLNode, name: str, what: str) -> Iterator[tuple[str, str, YAMLNode]]:
    """Yield the key, "<file>:<line>" of the key, and the value of each item of a mapping.

    Args:
        node: The mapping.
        name: Path of the file.
        what: Description of the mapping, for messages.

    Raises:
        SettingsError: The node is not a mapping, or a key occurs twice.
    """
    if node.id != "mapping":
        origin = _format_position(node.start_mark.line, name)
        raise SettingsError(f"{origin}: {what} must hold `key: value` lines")
    seen: dict[str, str] = {}
    for key_node, value_node in node.value:
        origin = _format_position(key_node.start_mark.line, name)
        if key_node.id != "scalar":
            raise SettingsError(f"{origin}: a key in {what} must be a string")
        key = key_node.value
        if key in seen:
            full = key if what == "the file" else f"{what}.{key}"
            raise SettingsError(f"{origin}: {full} is set twice", found=[f"before: {seen[key]}"])
        seen[key] = origin
        yield key, origin, value_node


def is_null(node: YAMLNode) -> bool:
    """Return whether a key has no value."""
    return bool(node.tag == _NULL_TAG)


def read_setting_value(spot: SettingLocation, node: YAMLNode) -> SettingValue:
    """Return the value of a setting; a key without a value has the default."""
    if is_null(node):
        return SettingValue(type(spot.rule.default)(spot.rule.default), spot.origin)
    kind = type(spot.rule.default)
    if kind is tuple:
        return _read_list(spot, node)
    if kind is dict:
        return _read_mapping(spot, node)
    if kind is str:
        text = _read_text(spot, node)
        is_plaintext_secret = spot.rule.secret and bool(text) and not has_variable(node.value)
        return SettingValue(spot.check(text), spot.origin, is_plaintext_secret=is_plaintext_secret)
    # a number in quotes is a string, but ${NAME} may be in quotes
    if node.id != "scalar" or (node.style in ("'", '"') and not has_variable(node.value)):
        raise spot.refuse(_format_node(node))
    return SettingValue(spot.check(spot.parse(spot.expand(node.value))), spot.origin)


def _read_list(spot: SettingLocation, node: YAMLNode) -> SettingValue:
    if node.id != "sequence":
        raise spot.refuse(
            _format_node(node), f"write [{node.value}]" if node.id == "scalar" else ""
        )
    origins = tuple(
        _format_position(item.start_mark.line, _get_file_name(spot)) for item in node.value
    )
    texts = tuple(
        _read_checked(spot.narrow(f"[{index}]", origin), item)
        for index, (origin, item) in enumerate(zip(origins, node.value, strict=True))
    )
    return SettingValue(texts, spot.origin, items=origins)


def _read_mapping(spot: SettingLocation, node: YAMLNode) -> SettingValue:
    if node.id != "mapping":
        raise spot.refuse(_format_node(node), "write {NAME: value}")
    items = list(list_mapping_items(node, _get_file_name(spot), spot.key))
    texts = {
        name: _read_checked(spot.narrow(f".{name}", origin), value) for name, origin, value in items
    }
    # the URL of an index is not secret, but a password in it is
    is_plaintext_secret = spot.rule.secret and any(
        re.search(r"://[^/@\s]+@", value.value) and not has_variable(value.value)
        for _, _, value in items
    )
    origins = tuple(origin for _, origin, _ in items)
    return SettingValue(texts, spot.origin, origins, is_plaintext_secret=is_plaintext_secret)


def _read_checked(spot: SettingLocation, node: YAMLNode) -> str:
    return str(spot.check(_read_text(spot, node)))


def _read_text(spot: SettingLocation, node: YAMLNode) -> str:
    is_plain = spot.rule.form and node.id == "scalar" and not is_null(node)
    if not is_plain and (node.id != "scalar" or node.tag != _STRING_TAG):
        raise spot.refuse(_format_node(node), "write it in quotes" if node.id == "scalar" else "")
    return spot.expand(node.value)


def _get_file_name(spot: SettingLocation) -> str:
    return spot.origin if _is_variable(spot.origin) else spot.origin.rpartition(":")[0]


def _format_node(node: YAMLNode) -> str:
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    return repr(node.value) if node.tag == _STRING_TAG else node.value or "nothing"


def _find_line(error: Exception, text: str) -> int:
    """Return the line of an error of yaml, from 0."""
    mark = getattr(error, "problem_mark", None)
    return int(mark.line) if mark else text.count("\n", 0, getattr(error, "position", 0))


def _format_position(line: int, name: str) -> str:
    return name if _is_variable(name) else f"{name}:{line + 1}"


def _is_variable(name: str) -> bool:
    return name.startswith("environment ")
