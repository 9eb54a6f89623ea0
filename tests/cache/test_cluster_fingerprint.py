"""The cluster fingerprint: what changes it, and what must not."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftasks.cache.cluster_fingerprint import compute_cluster_fingerprints
from fftasks.config import NodeSettings
from fftasks.image.project_recipe import ImageFiles
from fftasks.records import digest_json
from fftasks.runner.image_check import combine_fingerprints

FILES = [
    ["flows/sums.py", 10, "sha256:1", False],
    ["config/default.yaml", 10, "sha256:2", False],
    ["data/a.csv", 10, "sha256:3", False],
    ["data/b.csv", 10, "sha256:4", False],
]
CONTEXT = {"files": FILES, "links": [], "folders": []}
SURROUNDINGS = "sha256:base"


def make_node(name, *upstream, code="sha256:code", **changes):
    arguments = [{"name": "k", "digest": "sha256:k", "repr": "1", "nodes": []}]
    inputs = [{"input": f"x_{i}", "node": n, "output": "result"} for i, n in enumerate(upstream)]
    return {
        "name": name,
        "kind": "function",
        "function": {"file": "flows/sums.py", "module": "sums", "qualname": name},
        "code": code,
        "inputs": inputs,
        "upstream": list(upstream),
        "parameters": {},
        "arguments": arguments,
        "reads": None,
        "version": "",
    } | changes


def make_graph(*nodes, workflow="sums", file="flows/sums.py"):
    """Return what counts of a graph record; the nodes are given upstream first."""
    found = {node["name"]: node for node in nodes}
    return {"file": file, "workflows": {workflow: {"nodes": list(found)}}, "nodes": found}


def make_contents(files=FILES, **changes):
    context = CONTEXT | {"files": files} | changes
    names = [path for path, *_ in files]
    return ImageFiles(
        context,
        lambda path: path.startswith("data/"),
        lambda pattern: [n for n in names if pattern in (n, "data/*")],
    )


def find(graph, contents=None, surroundings=SURROUNDINGS, workflow="sums", settings=None):
    contents = contents or make_contents()
    found = compute_cluster_fingerprints(graph, workflow, contents, surroundings, settings or {})
    return {name: one.digest for name, one in found.items()}


GRAPH = make_graph(
    make_node("load", reads=("data/a.csv",)),
    make_node("clean", "load"),
    make_node("pinned", version="2"),
    make_node("train", "clean", "pinned"),
    make_node("other"),
)


def change(node, **changes):
    graph = copy.deepcopy(GRAPH)
    graph["nodes"][node] |= changes
    return graph


def edit_file(path, digest="sha256:new", *, executable=False):
    return make_contents([[p, 1, digest, executable] if p == path else [p, *r] for p, *r in FILES])


ALL = {"load", "clean", "pinned", "train", "other"}
ARGUMENT = GRAPH["nodes"]["load"]["arguments"][0]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ({"graph": change("load", code="sha256:new")}, {"load", "clean", "train"}),
        ({"graph": change("other", code="sha256:new")}, {"other"}),
        ({"graph": change("other", arguments=[])}, {"other"}),
        ({"graph": change("other", arguments=[ARGUMENT | {"digest": "sha256:2"}])}, {"other"}),
        ({"graph": change("other", arguments=[ARGUMENT | {"name": "j"}])}, {"other"}),
        ({"graph": change("other", kind="call")}, {"other"}),
        ({"graph": change("other", name="another")}, {"other"}),
        ({"graph": change("pinned", code="sha256:new")}, set()),
        ({"graph": change("pinned", version="3")}, {"pinned", "train"}),
        ({"graph": change("other", upstream=["load"])}, {"other"}),
        ({"graph": GRAPH | {"file": "flows/moved.py"}}, ALL),
        ({"surroundings": "sha256:newer"}, ALL - {"pinned"}),
        ({"contents": edit_file("data/a.csv")}, ALL - {"pinned"}),
        ({"contents": edit_file("data/b.csv")}, ALL - {"pinned", "load"}),
        ({"contents": edit_file("data/b.csv", "sha256:4", executable=True)}, ALL - {"pinned", "load"}),
        ({"contents": edit_file("config/default.yaml")}, set()),
        ({"contents": make_contents(FILES[:2])}, ALL - {"pinned"}),
        ({"contents": make_contents(links=[["latest", "data"]])}, ALL - {"pinned", "load"}),
        ({"contents": make_contents(folders=["out"])}, ALL - {"pinned", "load"}),
        ({"settings": {"other": NodeSettings(env={"A": "1"})}}, {"other"}),
        ({"settings": {"pinned": NodeSettings(env={"A": "1"})}}, {"pinned", "train"}),
        ({"settings": {"other": NodeSettings(cpu="2", retries=1, cache=False)}}, set()),
        ({"settings": {"other": NodeSettings(retry_wait_s=9, timeout_s=5, pod_retries=2)}}, set()),
        ({"graph": change("load", line=99, slug="l", reads=["data/a.csv"])}, set()),
    ],
)  # fmt: skip
def test_what_changes_which_fingerprints(arguments, changed):
    before = find(GRAPH)

    after = find(**{"graph": GRAPH} | arguments)

    # what is downstream of a changed one changes as well: clean needs load, train needs clean and pinned
    downstream = {"load": {"clean", "train"}, "clean": {"train"}, "pinned": {"train"}}
    expected = changed.union(*(downstream.get(name, set()) for name in changed))
    assert {name for name in before if before[name] != after[name]} == expected


def test_another_workflow_has_other_fingerprints_of_the_same_nodes():
    graph = GRAPH | {"workflows": {w: {"nodes": list(GRAPH["nodes"])} for w in ("sums", "more")}}

    assert not set(find(graph).values()) & set(find(graph, workflow="more").values())


def test_an_unstable_constant_and_what_is_downstream_of_it_have_none():
    graph = change("clean", arguments=[ARGUMENT | {"stable": False}])

    assert {name for name, digest in find(graph).items() if not digest} == {"clean", "train"}


def test_run_parameters_reach_what_is_downstream():
    graph = change("load", parameters={"rate": {"name": "alpha"}})

    found = compute_cluster_fingerprints(graph, "sums", make_contents(), SURROUNDINGS, {})

    assert {n: set(f.parameters) for n, f in found.items() if f.parameters} == {
        "load": {"alpha"},
        "clean": {"alpha"},
        "train": {"alpha"},
    }


def test_which_output_is_taken_counts():
    one, other = (
        make_node("b", "a", inputs=[{"input": "self", "node": "a", "output": output}])
        for output in ("state", "result")
    )

    found = [find(make_graph(make_node("a"), node))["b"] for node in (one, other)]

    assert found[0] != found[1]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_after_an_edit_of_one_node_exactly_what_is_downstream_changes(data):
    count = data.draw(st.integers(1, 12))
    edges = [data.draw(st.sets(st.integers(0, i - 1))) if i else set() for i in range(count)]
    edited = data.draw(st.integers(0, count - 1))

    def build(code):
        nodes = (
            make_node(f"n{i}", *(f"n{j}" for j in sorted(above)), code=code if i == edited else "c")
            for i, above in enumerate(edges)
        )
        return find(make_graph(*nodes))

    before, after = build("c"), build("new")

    downstream = {edited}
    for i, above in enumerate(edges):
        if above & downstream:
            downstream.add(i)
    assert {n for n in before if before[n] != after[n]} == {f"n{i}" for i in downstream}
    assert len(set(before.values())) == count  # no two nodes share one


def test_a_task_of_one_node_has_its_fingerprint_and_order_counts():
    assert combine_fingerprints(["sha256:a"]) == "sha256:a"
    assert combine_fingerprints(["sha256:a", "sha256:b"]) == digest_json(["sha256:a", "sha256:b"])
    assert combine_fingerprints(["sha256:a", "sha256:b"]) != combine_fingerprints(
        ["sha256:b", "sha256:a"]
    )
    assert combine_fingerprints(["sha256:a", ""]) == ""
