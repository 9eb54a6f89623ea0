"""A drawing in Mermaid, which README files on many sites show as a picture."""

from __future__ import annotations

from collections.abc import Iterator

from fftasks.picture.drawing import Box, Drawing, Shape
from fftasks.state import STATES

_LONGEST = 60


def format_mermaid(drawing: Drawing) -> str:
    """Return the drawing in Mermaid; equal drawings give equal texts."""
    lines = ["flowchart LR", *(f"  {line}" for line in _list_box(drawing.box, drawing, "box"))]
    lines += (f"  {tail} --> {head}" for tail, head in drawing.arrows)
    for word in dict.fromkeys(shape.state for shape in drawing.shapes.values()):
        colour = STATES[word].colour
        lines.append(f"  classDef {_name_class(word)} stroke:{colour},fill:{colour}1a")
    return "\n".join([*lines, ""])


def _list_box(box: Box, drawing: Drawing, name: str) -> Iterator[str]:
    if box.kind:
        yield f"subgraph {name}[{_quote(box.title)}]"
    for number, inner in enumerate(box.boxes):
        yield from _list_box(inner, drawing, f"{name}_{number}")
    yield from (_format_shape(drawing.shapes[key]) for key in box.shapes)
    if box.kind:
        yield "end"


def _format_shape(shape: Shape) -> str:
    text = f"{STATES[shape.state].sign} {_shorten(shape.title)}\n{_shorten(shape.note)}"
    return f"{shape.key}[{_quote(text)}]:::{_name_class(shape.state)}"


def _name_class(word: str) -> str:
    return word.replace(" ", "_")


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _quote(text: str) -> str:
    """Return a text in quotes; what may mean something to Mermaid or HTML is one of its entities."""
    shown = (f"#{ord(c)};" if c in '"#&;<>\\`*_[](){}|~' else c for c in text)
    return (
        '"'
        + "".join("<br/>" if c == "\n" else c if c.isprintable() else " " for c in "".join(shown))
        + '"'
    )
