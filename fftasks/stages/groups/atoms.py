"""Atoms: nodes that stay together whatever else is done: chains, and all calls of one object."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fftasks.stages.groups.dag import Dag, Parts, contract, find_cycles


def keep_objects(dag: Dag, ties: Sequence[tuple[int, int]]) -> list[int]:
    """Return the parts in which the calls of each object are together.

    ties: pairs of calls of one object

    What lies on a way between two of its calls comes with them. Where it may not, since its key is another,
    the object's calls stay apart.
    """
    while True:
        parts = Parts(len(dag))
        for one, other in ties:
            if dag.keys[one] == dag.keys[other]:
                parts.unite(one, other)
        numbers = parts.number()
        whole = contract(dag, numbers)
        broken: set[int] = set()
        members: list[list[int]] = [[] for _ in range(len(whole))]
        for node, number in enumerate(numbers):
            members[number].append(node)
        for cycle in find_cycles(whole):
            nodes = [node for number in cycle for node in members[number]]
            if len({dag.keys[node] for node in nodes}) > 1:
                broken.update(nodes)
            for node in nodes:
                parts.unite(nodes[0], node)
        if not broken:
            return parts.number()
        ties = [tie for tie in ties if tie[0] not in broken]


def join_chains(dag: Dag, most_s: float = math.inf) -> list[int]:
    """Return the parts in which a single follower is together with its single predecessor.

    most_s: what a part takes at most; a chain that takes more becomes several
    """
    parts, taken = Parts(len(dag)), [dag.seconds(thing) for thing in range(len(dag))]
    for thing in dag.order:
        needed = dag.needs[thing]
        if len(needed) == 1:
            (other,) = needed
            if len(dag.followers[other]) == 1 and dag.keys[thing] == dag.keys[other]:
                both = taken[parts.find(other)] + taken[thing]
                if both <= most_s:
                    taken[parts.unite(thing, other)] = both
    return parts.number()
