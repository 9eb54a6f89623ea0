"""What is drawn of a graph: shapes, arrows and boxes; families of nodes are folded into one shape.

It knows nothing of projects and runs: its input are items, its output is plain data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LIMIT = 40  # more shapes than this are not read, but looked at
# of a family, the first that one of its members is in
_WORST = (
    "failed", "canceled", "unknown", "running", "will run", "waiting", "skipped", "ran", "cached",
    "up to date",
)  # fmt: skip

Family = tuple[str, str, frozenset[str], str, str]


@dataclass(frozen=True)
class Item:
    """A node, as far as a picture shows it.

    function: what it calls; upstream: names of the items that it needs; state: a word of state.py
    chain: the name of the object whose methods are called in order, "" for none
    group: the name of the task that it shares with others, "" for none
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

    key: "n0", "n1", …; names: of its members; note: how many of them are in which state
    """

    key: str
    title: str
    note: str
    state: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """A frame around shapes and smaller boxes; kind: "workflow", "chain" or "group"."""

    kind: str
    title: str
    shapes: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """All that is drawn; box holds everything, and is no frame itself.

    arrows: (key of a shape, key of one that needs it)
    """

    shapes: Mapping[str, Shape]
    arrows: tuple[tuple[str, str], ...]
    box: Box


def draw(items: Sequence[Item], limit: int = LIMIT) -> Drawing:
    """Return the drawing of items; if there are more than limit, their largest families are folded."""
    by_name = {item.name: item for item in items}
    families = _fold(items, by_name, limit)
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
    return Drawing(shapes, tuple(arrows), _make_boxes(first, len(families) < len(items)))


def _fold(items: Sequence[Item], by_name: Mapping[str, Item], limit: int) -> list[tuple[Item, ...]]:
    """Return groups of items that are one shape each, in the order of their first members."""
    families: dict[Family, list[Item]] = {}
    for item in items:
        families.setdefault(_find_family(item, by_name), []).append(item)
    over = len(items) - limit
    folded: set[Family] = set()
    for family in sorted(families, key=lambda family: -len(families[family])):
        if over <= 0 or len(families[family]) == 1:
            break
        folded.add(family)
        over -= len(families[family]) - 1
    shapes: dict[object, list[Item]] = {}
    for item in items:
        family = _find_family(item, by_name)
        shapes.setdefault(family if family in folded else item.name, []).append(item)
    return [tuple(members) for members in shapes.values()]


def _find_family(item: Item, by_name: Mapping[str, Item]) -> Family:
    """Return what members of a family have in common: their function, and those of what they need."""
    needs = frozenset(by_name[other].function for other in item.upstream if other in by_name)
    chain = by_name[item.chain].function if item.chain in by_name else item.chain
    return item.workflow, item.function, needs, chain, item.group


def _make_shape(key: str, members: Sequence[Item]) -> Shape:
    names = tuple(item.name for item in members)
    counts = Counter(item.state for item in members)
    state = min(counts, key=_WORST.index)
    function = members[0].function
    if len(members) == 1:
        return Shape(key, names[0], f"{function}() · {state}", state, names)
    ordered = sorted(counts, key=_WORST.index)
    note = ", ".join(f"{counts[word]:,} {word}" for word in ordered)
    return Shape(key, f"{function}() \N{MULTIPLICATION SIGN} {len(members):,}", note, state, names)


def _make_boxes(first: Mapping[str, Item], is_folded: bool) -> Box:  # noqa: FBT001
    """Return the box of all shapes, given the first member of each."""
    workflows = dict.fromkeys(item.workflow for item in first.values())
    if len(workflows) == 1:
        return _fill(Box("", "", ()), first, is_folded)
    boxes = []
    for name in workflows:
        inside = {key: item for key, item in first.items() if item.workflow == name}
        boxes.append(_fill(Box("workflow", name, ()), inside, is_folded))
    return Box("", "", (), tuple(boxes))


def _fill(box: Box, inside: Mapping[str, Item], is_folded: bool) -> Box:  # noqa: FBT001
    """Return a workflow's box with the boxes of its groups and chains, and the shapes beside them."""
    boxes: list[Box] = []
    taken: set[str] = set()
    for kind, name in dict.fromkeys(_find_frame(item) for item in inside.values()):
        if not kind:
            continue
        keys = tuple(key for key, item in inside.items() if _find_frame(item) == (kind, name))
        if len(keys) == 1 and not is_folded:
            continue  # a frame around one shape says nothing
        inner = _list_chains(keys, inside) if kind == "group" else ()
        held = {key for one in inner for key in one.shapes}
        boxes.append(Box(kind, name, tuple(key for key in keys if key not in held), inner))
        taken.update(keys)
    return Box(box.kind, box.title, tuple(k for k in inside if k not in taken), tuple(boxes))


def _find_frame(item: Item) -> tuple[str, str]:
    if item.group:
        return "group", item.group
    return ("chain", item.chain) if item.chain else ("", "")


def _list_chains(keys: Iterable[str], inside: Mapping[str, Item]) -> tuple[Box, ...]:
    """Return the boxes of the chains within a group."""
    chains: dict[str, list[str]] = {}
    for key in keys:
        if inside[key].chain:
            chains.setdefault(inside[key].chain, []).append(key)
    return tuple(Box("chain", name, tuple(held)) for name, held in chains.items() if len(held) > 1)
