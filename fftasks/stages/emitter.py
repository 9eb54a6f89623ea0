"""JSON values as YAML, in blocks, sorted: what PyYAML writes, in a tenth of its time.

A pipeline of a thousand nodes is 70,000 scalars, and PyYAML's emitter, also the one in C, looks at each for
all that YAML can be. Here a text is plain if it can be nothing else in YAML 1.1 (PyYAML) and 1.2 (KFP's
server), and else in double quotes, as in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_PLAIN = re.compile(r"(?:--?[A-Za-z]|[A-Za-z_/])[\w./@+-]*(?::[\w./@+-]+)*", re.ASCII)
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
# what YAML does not take as it is: controls, line and paragraph separators, byte order marks, no characters
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def format_yaml(value: Mapping[str, Any]) -> str:
    """Return a JSON object as a YAML document that every YAML parser reads alike.

    Raises ValueError for a number that JSON has not.
    """
    lines: list[str] = []
    _write_mapping(value, "", "", lines)
    return "\n".join([*(lines or ["{}"]), ""])


def _write_mapping(value: Mapping[str, Any], first: str, indent: str, lines: list[str]) -> None:
    """Write the items of a mapping; first: what stands before the first one, instead of the indent."""
    for key in sorted(value):
        _write(f"{first}{_format_text(key)}:", value[key], indent, lines)
        first = indent


def _write(head: str, value: Any, indent: str, lines: list[str]) -> None:
    if isinstance(value, str):
        lines.append(f"{head} {_format_text(value)}")
    elif isinstance(value, Mapping) and value:
        lines.append(head)
        _write_mapping(value, f"{indent}  ", f"{indent}  ", lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _write_list(value, indent, indent, lines)
    else:
        lines.append(f"{head} {_format_other(value)}")


def _write_list(value: list[Any], first: str, indent: str, lines: list[str]) -> None:
    for item in value:
        if isinstance(item, Mapping) and item:
            _write_mapping(item, f"{first}- ", f"{indent}  ", lines)
        elif isinstance(item, list) and item:
            _write_list(item, f"{first}- ", f"{indent}  ", lines)
        else:
            text = _format_text(item) if isinstance(item, str) else _format_other(item)
            lines.append(f"{first}- {text}")
        first = indent


@lru_cache(maxsize=4096)  # a document has few texts, often
def _format_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return _UNPRINTABLE.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _format_other(value: Any) -> str:
    if not isinstance(value, float):
        return json.dumps(value)
    text = json.dumps(value, allow_nan=False)
    # without a point it is a text in YAML 1.1
    return text if "." in text else text.replace("e", ".0e", 1)
