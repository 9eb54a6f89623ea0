"""A drawing in DOT, the language of Graphviz."""

from __future__ import annotations

import html
from collections.abc import Iterator

from fftasks.picture.drawing import Box, Drawing, Shape
from fftasks.state import STATES

_HEAD = """\
  graph [rankdir=LR, bgcolor="white", fontname="sans-serif", fontsize=11, fontcolor="#455a64"]
  graph [ranksep=0.45, nodesep=0.22, pad=0.2]
  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=12, fontcolor="#1b1f23"]
  node [penwidth=1.4, margin="0.14,0.07"]
  edge [color="#78909c", arrowsize=0.7]"""
_FRAMES = {"workflow": "solid", "chain": "rounded,dashed", "group": "rounded,solid"}
_TITLES = {"workflow": "workflow", "chain": "calls of", "group": "one pod:"}
_LONGEST = 44


def format_dot(drawing: Drawing) -> str:
    """Return the drawing in DOT; equal drawings give equal texts."""
    lines = ["digraph fftasks {", _HEAD]
    lines += (f"  {line}" for line in _list_box(drawing.box, drawing, "cluster"))
    lines += (f"  {tail} -> {head};" for tail, head in drawing.arrows)
    return "\n".join([*lines, "}", ""])


def _list_box(box: Box, drawing: Drawing, name: str) -> Iterator[str]:
    if box.kind:
        yield f"subgraph {name} {{"
        title = _quote(f"{_TITLES[box.kind]} {_shorten(box.title)}")
        yield f'label={title}; class={box.kind}; style="{_FRAMES[box.kind]}"; color="#90a4ae";'
    for number, inner in enumerate(box.boxes):
        yield from _list_box(inner, drawing, f"{name}_{number}")
    yield from (_format_shape(drawing.shapes[key]) for key in box.shapes)
    if box.kind:
        yield "}"


def _format_shape(shape: Shape) -> str:
    state = STATES[shape.state]
    label = _quote(f"{state.sign} {_shorten(shape.title)}\n{_shorten(shape.note)}")
    stack = ", peripheries=2" if len(shape.names) > 1 else ""
    kind = shape.state.replace(" ", "-")
    return (
        f'{shape.key} [id={shape.key}, class="{kind}", label={label}, color="{state.colour}",'
        f' fillcolor="{state.colour}1a"{stack}];'
    )


def _shorten(text: str) -> str:
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: 2 * _LONGEST])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _quote(text: str) -> str:
    """Return a text as DOT has it: Graphviz reads escapes with a backslash, and entities of HTML."""
    escaped = html.escape(text.replace("\\", "\\\\"), quote=True).replace("\n", "\\n")
    return f'"{escaped}"'
