"""Port graphviz: a picture from DOT, by the Graphviz that the package pygraphviz carries.

It draws in a process of its own, so that what the library writes to the terminal, or how it ends, is not
our command's.
"""

from __future__ import annotations

import re
import subprocess
import sys

from fftasks.errors import ToolError
from fftasks.runtime.start import make_command

_TIMEOUT_S = 120
_NO_MODULE = 9


def render(dot: str, kind: str) -> bytes:
    """Return the picture as "svg" or "png"; raise ToolError if it cannot be drawn."""
    attempted = f"graph: the picture cannot be drawn as {kind}"
    command = [*make_command("fftasks.ports.graphviz"), kind]
    try:
        done = subprocess.run(
            command, input=dot.encode(), capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        tip = "`--kind dot` gives the text, for a program that has more time"
        raise ToolError(attempted, found=[f"not done in {_TIMEOUT_S} s"], tip=tip) from error
    if done.returncode == _NO_MODULE:
        raise ToolError(
            attempted,
            found=["the Python package pygraphviz is not installed, or cannot be loaded"],
            tip="pip install pygraphviz: it brings Graphviz along; `--kind mermaid` needs neither",
        )
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").splitlines()[-5:]
        raise ToolError(attempted, found=[f"Graphviz ended with {done.returncode}", *lines])
    return _tidy(done.stdout.decode()).encode() if kind == "svg" else done.stdout


def _tidy(svg: str) -> str:
    """Take away what differs between versions of Graphviz, and titles, which show names of ours as tips."""
    return re.sub(r"<!--.*?-->\n?|<title>.*?</title>\n?", "", svg, flags=re.DOTALL)


def main(kind: str) -> int:
    """Read DOT from stdin, and write a picture to stdout."""
    try:
        from pygraphviz import AGraph
    except ImportError:
        return _NO_MODULE
    graph = AGraph(string=sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(graph.draw(format=kind, prog="dot"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
