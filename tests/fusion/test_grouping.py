"""Groups of nodes: convex, within the limits, each node in one; and an edit moves few of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftasks.fusion import MODES, GraphLimits, NodePlacement, PodCosts, group_nodes
from fftasks.fusion.dag import Dag, join_chains
from tests.shapes import SHAPES, make_layers, make_map_reduce, make_record, make_sweep, make_tree

SMALL = GraphLimits(object_bytes=60_000, inputs=4, argument_bytes=6000)


@st.composite
def graphs(draw, *, most=40, keys=3):
    """Give a graph record, and places: random edges, chains of calls, settings that differ."""
    count = draw(st.integers(1, most))
    needs, after, last = [], {}, None
    for node in range(count):
        kind = draw(st.sampled_from(["any", "chain", "call", "wide", "none"]))
        needed = set(draw(st.lists(st.integers(0, node - 1), max_size=4))) if node else set()
        if kind == "chain" and node:
            needed = {node - 1}
        if kind == "wide":
            needed = set(range(node))
        if kind == "none":
            needed = set()
        if kind == "call":
            if last is not None:
                needed.add(last)
                after[node] = last
            last = node
        needs.append(sorted(needed))
    key = st.integers(0, keys - 1)
    seconds = st.one_of(st.none(), st.floats(0, 100))
    place = st.builds(
        NodePlacement,
        key=key,
        cpu=st.just(2),
        fuse=st.sampled_from([True] * 9 + [False]),
        seconds=seconds,
    )
    record = make_record(needs, after)
    return record, {name: draw(place) for name in record["nodes"]}


def list_groups(record, *arguments, **options):
    return {g.name: g for g in group_nodes(record, "w", *arguments, **options).groups}


def check(record, groups):
    """Assert that every node is in one group, and that groups wait for others without a cycle."""
    owner = {node: group.name for group in groups.values() for node in group.nodes}
    assert len(owner) == sum(len(group.nodes) for group in groups.values())
    assert set(owner) == set(record["nodes"])
    seen = set()
    for group in groups.values():
        inside = set()
        for node in group.nodes:
            needed = record["nodes"][node]["upstream"]
            assert {n for n in needed if owner[n] == group.name} <= inside
            inside.add(node)
        outside = {owner[n] for node in group.nodes for n in record["nodes"][node]["upstream"]}
        assert outside - {group.name} == set(group.upstream)
        assert seen.issuperset(group.upstream)  # so there is no way out of a group and back in
        seen.add(group.name)


@settings(max_examples=40, deadline=None)
@given(graphs(), st.sampled_from(MODES), st.sampled_from([GraphLimits(), SMALL]))
def test_each_node_is_in_one_group_and_groups_are_convex(drawn, mode, limits):
    record, places = drawn

    groups = list_groups(record, mode, places=places, pods=PodCosts(3), limits=limits)

    check(record, groups)
    for group in groups.values():
        assert len({places[node].key for node in group.nodes}) == 1
        assert len(group.nodes) == 1 or all(places[node].fuse for node in group.nodes)


@settings(max_examples=30, deadline=None)
@given(graphs(keys=1))
def test_a_graph_of_equal_settings_fits_any_limits(drawn):
    record, places = drawn
    places = {name: NodePlacement(seconds=place.seconds) for name, place in places.items()}

    found = group_nodes(record, "w", "auto", places=places, pods=PodCosts(3), limits=SMALL)

    assert found.expected.fits
    assert len(found.groups) <= SMALL.object_bytes / SMALL.object_task_bytes
    assert max(len(group.upstream) for group in found.groups) <= SMALL.inputs


@settings(max_examples=40, deadline=None)
@given(graphs(keys=1), st.sampled_from(["chains", "auto"]))
def test_the_calls_of_an_object_stay_together(drawn, mode):
    record, _ = drawn

    groups = list_groups(record, mode, pods=PodCosts(3))

    owner = {node: name for name, group in groups.items() for node in group.nodes}
    for name, node in record["nodes"].items():
        assert "after" not in node or owner[name] == owner[node["after"]]


def test_calls_with_a_node_between_that_must_be_elsewhere_are_apart():
    record = make_record([[], [0], [1], [0, 2]], after={1: 0, 3: 1})

    groups = list_groups(record, "auto", places={"node_2": NodePlacement(key="gpu")})

    check(record, groups)
    assert groups["node_2"].nodes == ("node_2",)


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ([[], [0], [1]], [(0, 1, 2)]),
        ([[], [0], [0]], [(0,), (1,), (2,)]),
        ([[], [], [0, 1]], [(0,), (1,), (2,)]),
        ([[], [0], [1], [1], [2, 3], [4]], [(0, 1), (2,), (3,), (4, 5)]),
    ],
)
def test_chains_join_a_single_follower_and_its_single_predecessor_only(needs, expected):
    groups = list_groups(make_record(needs), "chains")

    assert [g.nodes for g in groups.values()] == [
        tuple(f"node_{i}" for i in nodes) for nodes in expected
    ]


def test_a_node_alone_gives_its_own_name_to_its_group_and_others_add_a_plus():
    groups = list_groups(make_record([[], [0], [0], [1, 2]]), "none")
    assert list(groups) == ["node_0", "node_1", "node_2", "node_3"]

    groups = list_groups(make_record([[], [0]], names=["a", "a+"]), "chains")
    assert list(groups) == ["a++"]


def test_the_limit_fuses_only_what_does_not_fit_and_says_so():
    small = group_nodes(make_record(make_sweep(100)), "w", "limit")
    assert (small.mode, small.why, len(small.groups)) == ("none", "", 100)

    large = group_nodes(make_record(make_sweep(1000)), "w", "limit")
    assert large.mode == "auto"
    assert large.why.startswith("1000 tasks take about 6,")
    assert large.why.endswith("which may have 1,048,576 (about 155 such tasks)")

    roomy = GraphLimits(object_bytes=10**9)
    wide = group_nodes(make_record([*([[]] * 250), list(range(250))]), "w", "limit", limits=roomy)
    assert wide.why == "a node with 250 inputs, and a task takes about 230"

    edges = [[], *(list(range(i)) for i in range(1, 100))]
    dense = group_nodes(make_record(edges), "w", "limit", limits=roomy)
    assert "4950 edges" in dense.why


def test_a_fan_in_of_5000_alone_takes_from_few_groups():
    record = make_record([*([[]] * 5000), list(range(5000))])

    groups = list_groups(record, "auto", places={"node_5000": NodePlacement(fuse=False)})

    check(record, groups)
    assert groups["node_5000"].nodes == ("node_5000",)
    assert len(groups["node_5000"].upstream) <= 230


def test_a_fan_in_of_5000_of_different_settings_with_calls_of_objects_between_fits():
    calls = range(0, 4000, 40)  # each the first of four of one object
    needs = [[i - 1] if i % 40 in (1, 2, 3) and i < 4000 else [] for i in range(5000)]
    after = {call + n: call + n - 1 for call in calls for n in (1, 2, 3)}
    record = make_record([*needs, list(range(5000))], after)
    keys = [("cpu", "memory", "gpu")[i // 40 % 3] for i in range(5000)]
    places = {f"node_{i}": NodePlacement(key=key, cpu=2) for i, key in enumerate([*keys, "gpu"])}

    found = group_nodes(record, "w", "auto", places=places, pods=PodCosts(50))

    groups = {group.name: group for group in found.groups}
    check(record, groups)
    owner = {node: name for name, group in groups.items() for node in group.nodes}
    assert found.expected.fits
    assert max(len(group.upstream) for group in found.groups) <= 230
    for group in found.groups:
        assert len({places[node].key for node in group.nodes}) == 1
    for call, before in after.items():
        assert owner[f"node_{call}"] == owner[f"node_{before}"]


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("count", [100, 1500])
def test_usual_shapes_fit_and_are_over_sooner_than_one_pod_after_the_other(shape, count):
    if (shape, count) == ("shuffles", 1500):
        count = 300  # its edges grow with the square
    record = make_record(SHAPES[shape](count))

    found = group_nodes(record, "w", "auto", pods=PodCosts(50))

    check(record, {group.name: group for group in found.groups})
    assert found.expected.fits
    assert found.expected.seconds <= min(20 + len(record["nodes"]), found.unfused.seconds * 2)


def test_known_durations_keep_long_nodes_apart():
    record = make_record([[] for _ in range(20)])
    places = {"node_3": NodePlacement(seconds=500), "node_4": NodePlacement(seconds=400)}

    groups = list_groups(record, "auto", places=places)

    owner = {node: name for name, group in groups.items() for node in group.nodes}
    assert owner["node_3"] != owner["node_4"]


def find_moved(record, edited, seconds):
    """Return the part of the nodes in both that are in a group of others after the edit."""
    common = record["nodes"].keys() & edited["nodes"].keys()
    places = dict.fromkeys({**record["nodes"], **edited["nodes"]}, NodePlacement(seconds=seconds))
    old = group_nodes(record, "w", "auto", places=places)
    new = group_nodes(edited, "w", "auto", places=places, last=old.grain)
    before, after = (
        {node: common.intersection(group.nodes) for group in found.groups for node in group.nodes}
        for found in (old, new)
    )
    return sum(before[node] != after[node] for node in common) / len(common)


def edit(needs, place, *, inserts):
    """Return the record with one more node, or one less, at a place; all others keep their names."""
    names = [f"node_{i}" for i in range(len(needs))]
    if inserts:
        names.insert(place, "new")
        moved = [[k + (k >= place) for k in needed] for needed in needs]
        return make_record([*moved[:place], [], *moved[place:]], names=names)
    del names[place]
    left = [[k - (k > place) for k in needed if k != place] for needed in needs]
    return make_record([*left[:place], *left[place + 1 :]], names=names)


def test_long_chains_that_places_are_not_enough_for_are_cut_where_that_is_over_sooner():
    record = make_record(SHAPES["long chains"](680))  # 68 chains of 10 nodes, and 50 places
    places = dict.fromkeys(record["nodes"], NodePlacement(seconds=60))

    found = group_nodes(record, "w", "auto", places=places, pods=PodCosts(50))

    assert found.expected.seconds < 0.9 * (
        2 * 620 + 80
    )  # two rounds of whole chains, and the last node
    check(record, {group.name: group for group in found.groups})


@pytest.mark.parametrize("cpu", [1, 4])  # a chain runs on one, however many there are
def test_a_chain_is_cut_into_parts_that_take_as_long_as_asked_for(cpu):
    seconds = [60.0] * 6
    chain = Dag(
        needs=[[], *([n] for n in range(5))],
        keys=[0] * 6,
        work=seconds,
        span=seconds,
        cpu=[cpu] * 6,
        marks=range(6),
        firsts=range(6),
    )

    assert join_chains(chain, 130) == [0, 0, 1, 1, 2, 2]


def test_calls_of_an_object_are_not_cut():
    count = 100
    record = make_record(
        [[i - 1] if i else [] for i in range(count)], {i: i - 1 for i in range(1, count)}
    )
    places = dict.fromkeys(record["nodes"], NodePlacement(seconds=60))

    assert len(list_groups(record, "auto", places=places, pods=PodCosts(50))) == 1


@pytest.mark.parametrize("inserts", [True, False])
@pytest.mark.parametrize(
    # at most a stretch of eight groups of fifty; more where neighbours need each other
    ("make", "seconds", "most"),
    [
        (make_sweep, 1, 0.2),
        (make_map_reduce, 1, 0.1),
        (make_tree, 1, 0.1),
        (make_layers, 1, 0.5),
        (make_sweep, 60, 0.15),
        (make_map_reduce, 60, 0.2),
        (make_tree, 60, 0.1),
    ],
)
def test_an_edit_moves_few_nodes_to_other_groups(make, seconds, most, inserts):
    needs = make(1500)
    record = make_record(needs)

    moved = [find_moved(record, edit(needs, p, inserts=inserts), seconds) for p in (7, 801)]

    assert max(moved) <= most, moved


def test_the_time_it_takes_grows_with_the_graph():
    import time

    def take(count):
        record = make_record(make_sweep(count))
        begin = time.process_time()
        group_nodes(record, "w", "auto")
        return time.process_time() - begin

    small = min(take(1000) for _ in range(3))

    assert take(10_000) < 30 * small
