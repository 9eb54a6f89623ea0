"""Find secrets in Kubernetes manifests: the values of Secrets, and credentials in kubeconfigs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from fftasks.settings.secrets import is_secret_name
from fftasks.stages.secret_rules import has_url_password
from fftasks.stages.secret_values import LITERAL, PROGRAM, SETTING, decode, is_password

_KIND = re.compile(rb"[\"']?kind[\"']?\s*:\s*[\"']?(?:Secret|SealedSecret|Config|List)\b")
_LOGINS = {"token", "password", "client-key-data", "client-secret", "refresh-token", "id-token"}
_SHORTEST = 8
_LONGEST = 200  # a longer value is a file

Check = Callable[[str, bytes], bool]


def is_manifest(data: bytes) -> bool:
    """Return whether a file may contain a Secret or a kubeconfig."""
    return b"kind" in data and _KIND.search(data) is not None


def find_in_manifests(
    data: bytes, *, is_kubeconfig: bool, check: Check
) -> Iterator[tuple[int, str]]:
    """Find the secrets in YAML or JSON documents of Kubernetes.

    Args:
        data: The documents. Text after a syntax error is not searched.
        is_kubeconfig: Whether the name of the file is that of a kubeconfig.
        check: Function that returns whether a file of some name contains a secret; a Secret may contain
            files.

    Yields:
        The line of each value of a Secret and each credential of a kubeconfig, and the rule. The rule is ""
        if the value is not a secret although its name suggests it.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for root in yaml.compose_all(data, loader):
            yield from _find_in_manifest(root, is_kubeconfig=is_kubeconfig, check=check)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return  # a template, or invalid YAML


def _find_in_manifest(root: Any, *, is_kubeconfig: bool, check: Check) -> Iterator[tuple[int, str]]:
    fields = _list_fields(root)
    kind = getattr(fields.get("kind"), "value", "")
    if kind == "List":
        for item in _list_items(fields.get("items")):
            yield from _find_in_manifest(item, is_kubeconfig=False, check=check)
    if kind == "Secret":
        for section in ("data", "stringData"):
            for name, node in _list_fields(fields.get(section)).items():
                text = node.value.encode() if isinstance(node.value, str) else b""
                value = decode(text) if section == "data" else text
                is_secret = _is_secret(name, value.strip(), check)
                yield node.start_mark.line + 1, "kubernetes-secret" if is_secret else ""
    if kind == "SealedSecret":  # encrypted, so that it may be public
        for _, node in _walk(_list_fields(fields.get("spec")).get("encryptedData")):
            yield node.start_mark.line + 1, ""
    if kind == "Config" or is_kubeconfig:
        yield from _find_logins(fields)


def _find_logins(fields: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for entry in _list_items(fields.get("users")):
        for name, node in _walk(_list_fields(entry).get("user")):
            if name in _LOGINS and is_password(node.value.encode(), LITERAL):
                yield node.start_mark.line + 1, "kubernetes-login"


def _is_secret(name: str, value: bytes, check: Check) -> bool:
    if b"\n" in value or value.startswith(b"{") or len(value) > _LONGEST:
        return check(".dockerconfigjson" if "docker" in name else "secret.conf", value)
    if b"://" in value:
        return has_url_password(value)
    strictness = SETTING if is_secret_name(name) else PROGRAM
    return is_password(value, strictness._replace(length=_SHORTEST))


def _list_fields(node: Any) -> dict[str, Any]:
    if type(node).__name__ != "MappingNode":
        return {}
    return {str(key.value): value for key, value in node.value}


def _list_items(node: Any) -> list[Any]:
    return node.value if type(node).__name__ == "SequenceNode" else []


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the YAML node of each string in a mapping and in nested mappings."""
    for name, value in _list_fields(node).items():
        if isinstance(value.value, str):
            yield name, value
        yield from _walk(value)
