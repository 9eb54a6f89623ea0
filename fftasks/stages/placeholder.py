"""Placeholders of Kubeflow Pipelines and Kubernetes: what seems to hold one does not arrive as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REASON = "Kubernetes and KFP replace {{, $( and $$"

# KFP's launcher replaces {{...}} wherever it stands, and Kubernetes reads $(NAME) and $$ in everything that
# becomes an argument of a container, which a task with all its constants does (it is the driver's --task)
_PLACEHOLDER = re.compile(r"\{\{|\$\(|\$\$")


def is_carried(value: Any) -> bool:
    """Tell whether a value reaches a container as it is, with all texts in it."""
    return is_text_carried(_flatten(value))


def is_text_carried(text: str) -> bool:
    """Tell whether a text reaches a container as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text and not _PLACEHOLDER.search(text)


def _flatten(value: Any) -> str:
    # not the JSON: it escapes what is no text, and "{{" are also the braces of an empty dict in a dict
    if isinstance(value, Mapping):
        return "\n".join([*value, *map(_flatten, value.values())])
    if isinstance(value, list):
        return "\n".join(map(_flatten, value))
    return value if isinstance(value, str) else ""
