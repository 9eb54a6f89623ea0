"""Graphs by their shapes, as graph records: for tests of groups, and for their benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Needs = list[list[int]]  # for each node, which of those before it it needs


def make_record(needs: Sequence[Sequence[int]], after: Mapping[int, int] | None = None, names=None):
    """Return a graph record of one workflow, "w", with nodes node_0, node_1, …

    after: call of an object -> the call before it
    """
    names = names or [f"node_{i}" for i in range(len(needs))]
    nodes = {
        names[i]: {"name": names[i], "upstream": [names[k] for k in needed]}
        for i, needed in enumerate(needs)
    }
    for call, before in (after or {}).items():
        nodes[names[call]]["after"] = names[before]
    return {"workflows": {"w": {"nodes": list(nodes)}}, "nodes": nodes}


def make_sweep(count: int) -> Needs:
    """Return chains of three, one per set of parameters, and a node that takes all of their ends."""
    chains = [[i - 1] if i % 3 else [] for i in range((count - 1) // 3 * 3)]
    return [*chains, list(range(2, len(chains), 3))]


def make_map_reduce(count: int) -> Needs:
    """Return maps, a reduce for about as many of them as there are reduces, and one over all of these."""
    size = max(int(count**0.5), 1)
    needs: Needs = []
    ends = []
    while len(needs) + size + 2 <= count or not ends:
        begin = len(needs)
        needs += [[] for _ in range(size)]
        needs.append(list(range(begin, begin + size)))
        ends.append(len(needs) - 1)
    return [*needs, ends]


def make_layers(count: int) -> Needs:
    """Return ten layers; each node needs the one at its place in the layer before, and its two neighbours."""
    width = max(count // 10, 1)
    needs: Needs = [[] for _ in range(width)]
    for layer in range(9):
        for place in range(width):
            near = range(max(place - 1, 0), min(place + 2, width))
            needs.append([layer * width + other for other in near])
    return needs


def make_shuffles(count: int) -> Needs:
    """Return ten layers; each node needs all of the layer before."""
    width = max(count // 10, 1)
    return [
        list(range((i // width - 1) * width, i // width * width)) if i >= width else []
        for i in range(width * 10)
    ]


def make_chains(count: int) -> Needs:
    """Return long chains, a hundredth of the nodes each, but ten at least, and one node over their ends."""
    length = max(count // 100, 10)
    chains = [[i - 1] if i % length else [] for i in range((count - 1) // length * length)]
    return [*chains, list(range(length - 1, len(chains), length))]


def make_tree(count: int) -> Needs:
    """Return a tree: half of the nodes need nothing, each other one needs two, the last one all."""
    mirrored = [[k for k in (2 * i + 1, 2 * i + 2) if k < count] for i in range(count)]
    return [[count - 1 - k for k in needs] for needs in reversed(mirrored)]


SHAPES: dict[str, Callable[[int], Needs]] = {
    "sweep": make_sweep,
    "map-reduce": make_map_reduce,
    "layers": make_layers,
    "shuffles": make_shuffles,
    "long chains": make_chains,
    "tree": make_tree,
}
