"""Which nodes a task runs, as one argument of its container: in the arguments, as KFP's cache looks at them.

{"nodes": […], "gives": [[0, "result"], …], "keeps": [1, …]}: JSON while it is short, and beyond
"zlib:" and the same, compressed, in base64.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass

from fftasks.errors import WorkflowError

_MAX_PLAIN = 1000
_MAX_BYTES = 1 << 24  # a workflow of 100,000 nodes needs less


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
    """Parse the argument that format_members wrote.

    Raises:
        WorkflowError: The argument is invalid, as it can be in the document of another program's run.
    """
    try:
        if argument.startswith("zlib:"):
            argument = _decompress(base64.b64decode(argument.removeprefix("zlib:"))).decode()
        content = json.loads(argument)
        nodes = tuple(map(str, content["nodes"]))
        return Members(
            nodes=nodes,
            gives=tuple((nodes[number], str(output)) for number, output in content["gives"]),
            keeps=tuple(nodes[number] for number in content.get("keeps", ())),
        )
    except (
        *(ValueError, LookupError, TypeError, AttributeError),
        *(RecursionError, zlib.error),
    ) as error:
        raise WorkflowError("--nodes: invalid list of nodes", found=[str(error)]) from error


def _decompress(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(content, _MAX_BYTES)
    if not decompressor.eof:
        raise ValueError(f"it is truncated, or has more than {_MAX_BYTES} bytes")
    return text
