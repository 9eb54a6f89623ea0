"""What nodes that share a task show, told apart again; the other way of runtime/shared_pages.py."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_FRAME = re.compile(r'<h2>([^<]*)</h2>\n<iframe [^>]*?srcdoc="([^"]*)"></iframe>')


def part_numbers(nodes: Sequence[str], numbers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics of each node; numbers: "<node> <name>" -> value."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in numbers.items():
        owners = [node for node in nodes if key.startswith(f"{node} ")]
        if owners:  # of "a" and "a b", it is the longer one's
            node = max(owners, key=len)
            found.setdefault(node, {})[key[len(node) + 1 :]] = value
    return found


def part_markdown(nodes: Sequence[str], text: str) -> dict[str, str]:
    """Return the text of each node."""
    heads = {f"## {node}": node for node in nodes}
    found: dict[str, list[str]] = {}
    now: list[str] = []
    for line in text.split("\n"):
        if line in heads and heads[line] not in found:
            now = found[heads[line]] = []
        else:
            now.append(line)
    return {node: "\n".join(lines).strip("\n") for node, lines in found.items()}


def part_html(nodes: Sequence[str], page: str) -> dict[str, list[str]]:
    """Return the pages of each node: its own, and what is drawn of its classification."""
    found: dict[str, list[str]] = {}
    for node, document in _list_frames(page):
        if node in nodes:
            found.setdefault(node, []).append(document)
    return found


def _list_frames(page: str) -> Iterator[tuple[str, str]]:
    for name, document in _FRAME.findall(page):
        yield html.unescape(name), html.unescape(document)
