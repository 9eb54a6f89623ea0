"""Results that one node uses several times: equal here, in groups and in pods, and cached correctly."""

import pytest

import fftasks
from tests.programs.test_fusion import find_value
from tests.programs.test_submit import connect, find_run_id
from tests.sample import Sample

WORKFLOW = """
from fftasks import Workflow, workflow

@workflow
def load():
    return [[1, 2], [3, 4]]

@workflow
def look(*values, **named):
    found = [*values, *named.values()]
    return [[one is other for other in found] for one in found], found

@workflow
def look_inside(parts, whole):
    return [parts[0] is whole, parts[1] is whole[0], parts[2]["k"] is whole[1]]

@workflow
def change(first, second):
    first.append("changed")
    return second

@workflow
class Shelf:
    def __init__(self, books):
        self.books = books
    def put(self, *books, **named):
        found = [*books, *named.values()]
        return [[one is other for other in found] for one in found]

x, twin = load().set_name("x"), load().set_name("twin")
shelf = Shelf(x)
before = shelf.put(x, x[0], x[0], twin)
results = [
    look(x[0], x[1]).set_name("items"),
    look(x, x, twin, last=x).set_name("same"),
    look(x, [x, x[0]], {"k": x[0]}, x[0], x[0], last=x[1]).set_name("deep"),
    look_inside([x, x[0], {"k": x[1]}], x).set_name("inside"),
    change(x[0], x).set_name("changed"),
    change(x, twin).set_name("unchanged"),
    before.set_name("put once"),
    shelf.put(before, before[0], x, last=before).set_name("put twice"),
]
Workflow(look(*results, *results).set_name("all"), *results, name="uses")
"""
NAMES = ("items", "same", "deep", "inside", "changed", "unchanged", "put once", "put twice", "all")


def test_a_node_sees_what_plain_python_would_show(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW)

    sample.doit("run")

    found = {name: fftasks.load(name, tmp_path) for name in NAMES}
    whole = [[1, 2], [3, 4]]
    assert found["items"] == ([[True, False], [False, True]], [[1, 2], [3, 4]])
    # x, x, twin, last=x
    same, other = [True, True, False, True], [False, False, True, False]
    assert found["same"] == ([same, same, other, same], [whole] * 4)
    flags, _ = found["deep"]
    assert flags[3][4]
    assert sum(map(sum, flags)) == len(flags) + 2  # x[0] and x[0] alone are one object
    assert found["inside"] == [True, True, True]
    assert found["changed"] == [[1, 2, "changed"], [3, 4]]
    assert found["unchanged"] == whole
    assert found["put once"][1][2]
    assert not found["put once"][0][3]
    assert found["put twice"][0][3]


@pytest.mark.parametrize("mode", ["none", "chains", "auto"])
def test_pods_and_groups_give_what_the_run_here_gives(
    mode, tmp_path, registry, kfp_cluster, cluster, base_image, monkeypatch
):
    sample = Sample.make(tmp_path, WORKFLOW)
    connect(sample, registry, kfp_cluster, base_image, monkeypatch)
    sample.doit("run")

    run = kfp_cluster.wait(find_run_id(sample.doit("submit", FFTASKS_KFP__FUSE=mode)))

    assert run.state == "SUCCEEDED", run.error
    for name in NAMES:
        assert find_value(cluster, sample, run, name) == fftasks.load(name, tmp_path)


USES = """
from fftasks import Workflow, workflow

@workflow
def load(value):
    return [value, value + 1]

@workflow
def join(*parts, **named):
    return parts, named

x, y = load(1).set_name("x"), load(1).set_name("y")
Workflow(join(CALL).set_name("join"), name="w")
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[x, y, x]", "[x, y, y]"),
        ("x, y, x", "x, y, y"),
        ("x, x", "x, y"),
        ("x[0], x[1]", "x[1], x[0]"),
        ("x[0], x[1]", "x[0], x[0]"),
        ("x, last=x", "x, last=x[0]"),
        ("[x, x]", "[x]"),
        ("{'a': x, 'b': y, 'c': x}", "{'a': x, 'b': y, 'c': y}"),
        ("x[0:1]", "x[0:2]"),
    ],
)
def test_another_use_of_the_same_results_runs_the_node_and_the_same_use_does_not(
    before, after, tmp_path
):
    sample = Sample.make(tmp_path, USES.replace("CALL", before))
    sample.doit("run")
    sample.edit("wf.py", f"join({before})", f"join( {before} )")
    assert sample.ran("run") == []

    sample.write("wf.py", USES.replace("CALL", after))

    assert sample.ran("run") == ["join"]
    x = y = [1, 2]
    assert fftasks.load("join", tmp_path) == eval(
        f"(lambda *parts, **named: (parts, named))({after})", {"x": x, "y": y}
    )
    sample.write("wf.py", USES.replace("CALL", before))
    assert sample.ran("run") == []
