"""Draw graphs of nodes: the diagram as data, its text in DOT and Mermaid, and pictures by Graphviz.

In a large graph, nodes of the same function (a family) are folded into one shape. Graphviz (package
pygraphviz) runs in its own process, so that its output and its crashes do not affect the command.
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fftasks.errors import ToolError
from fftasks.runner.start import make_command
from fftasks.task_states import STATES

MAX_SHAPES = 40  # a drawing with more shapes is not readable
# A family is drawn in the first of these states that one of its members has.
_STATES_BY_SEVERITY = (
    "failed", "canceled", "unknown", "running", "will run", "waiting", "skipped", "ran", "cached",
    "up to date",
)  # fmt: skip

NodeFamily = tuple[str, str, frozenset[str], str, str]


@dataclass(frozen=True)
class DiagramNode:
    """A node of the graph.

    Attributes:
        name: Name of the node.
        function: Name of its function.
        upstream: Names of the upstream nodes.
        workflow: Name of the workflow.
        state: Key of task_states.STATES.
        chain: Name of the node whose object's methods are called in order; "" for none.
        group: Name of the task that the node shares with other nodes; "" for none.
    """

    name: str
    function: str
    upstream: tuple[str, ...]
    workflow: str
    state: str
    chain: str = ""
    group: str = ""


@dataclass(frozen=True)
class Shape:
    """A node, or a family of nodes.

    Attributes:
        key: "n0", "n1", ...
        title: First line of the label.
        note: Second line of the label: function and state, or the number of members in each state.
        state: Key of task_states.STATES.
        names: Names of the members.
    """

    key: str
    title: str
    note: str
    state: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """A frame around shapes and smaller boxes.

    Attributes:
        kind: "workflow", "chain" or "group"; "" for the outermost box, which is not drawn.
        title: Name of the workflow, chain or group.
        shapes: Keys of the shapes directly in the box.
        boxes: Smaller boxes.
    """

    kind: str
    title: str
    shapes: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Diagram:
    """A drawing.

    Attributes:
        shapes: Key -> shape.
        arrows: Pairs of keys: upstream shape, downstream shape.
        box: Outermost box, which contains everything.
    """

    shapes: Mapping[str, Shape]
    arrows: tuple[tuple[str, str], ...]
    box: Box


def make_diagram(items: Sequence[DiagramNode], limit: int = MAX_SHAPES) -> Diagram:
    """Return the drawing of nodes.

    Args:
        items: The nodes.
        limit: Maximum number of shapes. If there are more nodes, the largest families are folded.
    """
    by_name = {item.name: item for item in items}
    families = _fold_families(items, by_name, limit)
    shapes: dict[str, Shape] = {}
    key_of: dict[str, str] = {}
    for number, members in enumerate(families):
        key = f"n{number}"
        shapes[key] = _make_shape(key, members)
        key_of |= {item.name: key for item in members}
    arrows = dict.fromkeys(
        (key_of[other], key_of[item.name])
        for item in items
        for other in item.upstream
        if other in key_of
    )
    first = {key_of[members[0].name]: members[0] for members in families}
    return Diagram(shapes, tuple(arrows), _make_boxes(first, len(families) < len(items)))


def _fold_families(
    items: Sequence[DiagramNode], by_name: Mapping[str, DiagramNode], limit: int
) -> list[tuple[DiagramNode, ...]]:
    """Return groups of nodes that are one shape each, in the order of their first members."""
    families: dict[NodeFamily, list[DiagramNode]] = {}
    for item in items:
        families.setdefault(_find_family(item, by_name), []).append(item)
    over = len(items) - limit
    folded: set[NodeFamily] = set()
    for family in sorted(families, key=lambda family: -len(families[family])):
        if over <= 0 or len(families[family]) == 1:
            break
        folded.add(family)
        over -= len(families[family]) - 1
    shapes: dict[object, list[DiagramNode]] = {}
    for item in items:
        family = _find_family(item, by_name)
        shapes.setdefault(family if family in folded else item.name, []).append(item)
    return [tuple(members) for members in shapes.values()]


def _find_family(item: DiagramNode, by_name: Mapping[str, DiagramNode]) -> NodeFamily:
    """Return the key of a family: equal functions, equal functions of the upstream nodes, equal frames."""
    needs = frozenset(by_name[other].function for other in item.upstream if other in by_name)
    chain = by_name[item.chain].function if item.chain in by_name else item.chain
    return item.workflow, item.function, needs, chain, item.group


def _make_shape(key: str, members: Sequence[DiagramNode]) -> Shape:
    names = tuple(item.name for item in members)
    counts = Counter(item.state for item in members)
    state = min(counts, key=_STATES_BY_SEVERITY.index)
    function = members[0].function
    if len(members) == 1:
        return Shape(key, names[0], f"{function}() · {state}", state, names)
    ordered = sorted(counts, key=_STATES_BY_SEVERITY.index)
    note = ", ".join(f"{counts[word]:,} {word}" for word in ordered)
    return Shape(key, f"{function}() \N{MULTIPLICATION SIGN} {len(members):,}", note, state, names)


def _make_boxes(first: Mapping[str, DiagramNode], is_folded: bool) -> Box:  # noqa: FBT001
    """Return the outermost box, from the first member of each shape."""
    workflows = dict.fromkeys(item.workflow for item in first.values())
    if len(workflows) == 1:
        return _fill_box(Box("", "", ()), first, is_folded)
    boxes = []
    for name in workflows:
        inside = {key: item for key, item in first.items() if item.workflow == name}
        boxes.append(_fill_box(Box("workflow", name, ()), inside, is_folded))
    return Box("", "", (), tuple(boxes))


def _fill_box(box: Box, inside: Mapping[str, DiagramNode], is_folded: bool) -> Box:  # noqa: FBT001
    """Return a box with the boxes of groups and chains, and the shapes outside of them."""
    boxes: list[Box] = []
    taken: set[str] = set()
    for kind, name in dict.fromkeys(_find_frame(item) for item in inside.values()):
        if not kind:
            continue
        keys = tuple(key for key, item in inside.items() if _find_frame(item) == (kind, name))
        if len(keys) == 1 and not is_folded:
            continue  # a frame around a single shape has no meaning
        inner = _list_chains(keys, inside) if kind == "group" else ()
        held = {key for one in inner for key in one.shapes}
        boxes.append(Box(kind, name, tuple(key for key in keys if key not in held), inner))
        taken.update(keys)
    return Box(box.kind, box.title, tuple(k for k in inside if k not in taken), tuple(boxes))


def _find_frame(item: DiagramNode) -> tuple[str, str]:
    if item.group:
        return "group", item.group
    return ("chain", item.chain) if item.chain else ("", "")


def _list_chains(keys: Iterable[str], inside: Mapping[str, DiagramNode]) -> tuple[Box, ...]:
    """Return the boxes of the chains within a group."""
    chains: dict[str, list[str]] = {}
    for key in keys:
        if inside[key].chain:
            chains.setdefault(inside[key].chain, []).append(key)
    return tuple(Box("chain", name, tuple(held)) for name, held in chains.items() if len(held) > 1)


_DOT_HEADER = """\
  graph [rankdir=LR, bgcolor="white", fontname="sans-serif", fontsize=11, fontcolor="#455a64"]
  graph [ranksep=0.45, nodesep=0.22, pad=0.2]
  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=12, fontcolor="#1b1f23"]
  node [penwidth=1.4, margin="0.14,0.07"]
  edge [color="#78909c", arrowsize=0.7]"""
_DOT_BOX_STYLES = {"workflow": "solid", "chain": "rounded,dashed", "group": "rounded,solid"}
_DOT_BOX_TITLES = {"workflow": "workflow", "chain": "calls of", "group": "one pod:"}
_MAX_DOT_LABEL = 44


def format_dot(drawing: Diagram) -> str:
    """Return the drawing in DOT, the language of Graphviz. Equal drawings give equal texts."""
    lines = ["digraph fftasks {", _DOT_HEADER]
    lines += (f"  {line}" for line in _list_dot_box(drawing.box, drawing, "cluster"))
    lines += (f"  {tail} -> {head};" for tail, head in drawing.arrows)
    return "\n".join([*lines, "}", ""])


def _list_dot_box(box: Box, drawing: Diagram, name: str) -> Iterator[str]:
    if box.kind:
        yield f"subgraph {name} {{"
        title = _quote_dot(f"{_DOT_BOX_TITLES[box.kind]} {_shorten_dot_label(box.title)}")
        yield f'label={title}; class={box.kind}; style="{_DOT_BOX_STYLES[box.kind]}"; color="#90a4ae";'
    for number, inner in enumerate(box.boxes):
        yield from _list_dot_box(inner, drawing, f"{name}_{number}")
    yield from (_format_dot_shape(drawing.shapes[key]) for key in box.shapes)
    if box.kind:
        yield "}"


def _format_dot_shape(shape: Shape) -> str:
    state = STATES[shape.state]
    label = _quote_dot(
        f"{state.sign} {_shorten_dot_label(shape.title)}\n{_shorten_dot_label(shape.note)}"
    )
    stack = ", peripheries=2" if len(shape.names) > 1 else ""
    kind = shape.state.replace(" ", "-")
    return (
        f'{shape.key} [id={shape.key}, class="{kind}", label={label}, color="{state.colour}",'
        f' fillcolor="{state.colour}1a"{stack}];'
    )


def _shorten_dot_label(text: str) -> str:
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: 2 * _MAX_DOT_LABEL])
    return text if len(text) <= _MAX_DOT_LABEL else f"{text[: _MAX_DOT_LABEL - 1]}…"


def _quote_dot(text: str) -> str:
    """Return a quoted string of DOT; Graphviz interprets backslash escapes and HTML entities."""
    escaped = html.escape(text.replace("\\", "\\\\"), quote=True).replace("\n", "\\n")
    return f'"{escaped}"'


_MAX_MERMAID_LABEL = 60


def format_mermaid(drawing: Diagram) -> str:
    """Return the drawing in Mermaid. Equal drawings give equal texts."""
    lines = [
        "flowchart LR",
        *(f"  {line}" for line in _list_mermaid_box(drawing.box, drawing, "box")),
    ]
    lines += (f"  {tail} --> {head}" for tail, head in drawing.arrows)
    for word in dict.fromkeys(shape.state for shape in drawing.shapes.values()):
        colour = STATES[word].colour
        lines.append(f"  classDef {_name_class(word)} stroke:{colour},fill:{colour}1a")
    return "\n".join([*lines, ""])


def _list_mermaid_box(box: Box, drawing: Diagram, name: str) -> Iterator[str]:
    if box.kind:
        yield f"subgraph {name}[{_quote_mermaid(box.title)}]"
    for number, inner in enumerate(box.boxes):
        yield from _list_mermaid_box(inner, drawing, f"{name}_{number}")
    yield from (_format_mermaid_shape(drawing.shapes[key]) for key in box.shapes)
    if box.kind:
        yield "end"


def _format_mermaid_shape(shape: Shape) -> str:
    title, note = _shorten_mermaid_label(shape.title), _shorten_mermaid_label(shape.note)
    text = f"{STATES[shape.state].sign} {title}\n{note}"
    return f"{shape.key}[{_quote_mermaid(text)}]:::{_name_class(shape.state)}"


def _name_class(word: str) -> str:
    return word.replace(" ", "_")


def _shorten_mermaid_label(text: str) -> str:
    return text if len(text) <= _MAX_MERMAID_LABEL else f"{text[: _MAX_MERMAID_LABEL - 1]}…"


def _quote_mermaid(text: str) -> str:
    """Return a quoted string of Mermaid; special characters of Mermaid and HTML become entities."""
    shown = (f"#{ord(c)};" if c in '"#&;<>\\`*_[](){}|~' else c for c in text)
    return (
        '"'
        + "".join("<br/>" if c == "\n" else c if c.isprintable() else " " for c in "".join(shown))
        + '"'
    )


_TIMEOUT_S = 120
_EXIT_NO_PYGRAPHVIZ = 9


def render_dot(dot: str, kind: str) -> bytes:
    """Draw DOT with Graphviz.

    Args:
        dot: The drawing.
        kind: "svg" or "png".

    Raises:
        ToolError: pygraphviz is not installed, or Graphviz failed or took longer than 120 s.
    """
    attempted = f"graph: cannot draw {kind}"
    command = [*make_command("fftasks.report.diagram"), kind]
    try:
        done = subprocess.run(
            command, input=dot.encode(), capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        tip = "`--kind dot` prints the graph for another program"
        raise ToolError(
            attempted, found=[f"Graphviz did not finish within {_TIMEOUT_S} s"], tip=tip
        ) from error
    if done.returncode == _EXIT_NO_PYGRAPHVIZ:
        raise ToolError(
            attempted,
            found=["the Python package pygraphviz is not installed or cannot be loaded"],
            tip="pip install pygraphviz, which includes Graphviz; `--kind mermaid` needs neither",
        )
    if done.returncode or not done.stdout:
        lines = done.stderr.decode(errors="replace").splitlines()[-5:]
        raise ToolError(
            attempted, found=[f"Graphviz ended with exit code {done.returncode}", *lines]
        )
    return _normalize_svg(done.stdout.decode()).encode() if kind == "svg" else done.stdout


def _normalize_svg(svg: str) -> str:
    """Remove what differs between versions of Graphviz, and titles, which browsers show as tooltips."""
    return re.sub(r"<!--.*?-->\n?|<title>.*?</title>\n?", "", svg, flags=re.DOTALL)


def run_graphviz(kind: str) -> int:
    """Read DOT from stdin and write a picture to stdout; return the exit code."""
    try:
        from pygraphviz import AGraph
    except ImportError:
        return _EXIT_NO_PYGRAPHVIZ
    graph = AGraph(string=sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(graph.draw(format=kind, prog="dot"))
    return 0


if __name__ == "__main__":
    sys.exit(run_graphviz(sys.argv[1]))
