"""Queries: what is set for nodes in the code, and where."""

from fftasks import Workflow, workflow


@workflow
def train(x):
    return x


def test_what_is_set_is_for_the_nodes_that_are_found_and_knows_its_line():
    nodes = [train(i).set_name(f"train {i}") for i in range(2)]
    flow = Workflow(*nodes, name="w")

    flow.query("train 1").set(cpu=2).set(memory="1Gi")
    flow.query().set(retries=3)

    first, second = ([(s.pattern, s.values) for s in node.settings] for node in nodes)
    assert first == [(".*", {"retries": 3})]
    assert second == [("train 1", {"cpu": 2}), ("train 1", {"memory": "1Gi"}), *first]
    assert {s.site.file for node in nodes for s in node.settings} == {__file__}
