"""Which nodes a task runs, as one argument of its container: in the arguments, as KFP's cache looks at them.

{"nodes": […], "gives": [[0, "result"], …], "keeps": [1, …]}: JSON while it is short, and beyond
"zlib:" and the same, compressed, in base64.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

_MAX_PLAIN = 1000


@dataclass(frozen=True)
class Members:
    """The nodes of a task.

    nodes: their names, each behind those that it needs
    gives: node and output of each value that is needed elsewhere, or is a leaf
    keeps: nodes whose values are taken from what the task gave last time
    """

    nodes: tuple[str, ...]
    gives: tuple[tuple[str, str], ...]
    keeps: tuple[str, ...] = ()


def format_members(members: Members) -> str:
    """Return the argument."""
    numbers = {node: number for number, node in enumerate(members.nodes)}
    content = {
        "nodes": members.nodes,
        "gives": [(numbers[node], output) for node, output in members.gives],
        **({"keeps": [numbers[node] for node in members.keeps]} if members.keeps else {}),
    }
    text = json.dumps(content, separators=(",", ":"))
    if len(text) <= _MAX_PLAIN:
        return text
    return "zlib:" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def parse_members(argument: str) -> Members:
    """Return what format_members was given."""
    if argument.startswith("zlib:"):
        argument = zlib.decompress(base64.b64decode(argument.removeprefix("zlib:"))).decode()
    content = json.loads(argument)
    nodes = tuple(content["nodes"])
    return Members(
        nodes=nodes,
        gives=tuple((nodes[number], output) for number, output in content["gives"]),
        keeps=tuple(nodes[number] for number in content.get("keeps", ())),
    )
