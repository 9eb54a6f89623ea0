"""What the task of a group gives to be shown."""

import pytest

from fftasks.fusion import group_nodes
from fftasks.pipeline.task_specs import list_display_kinds, make_tasks
from tests.pipeline.test_components import Ref, make_graph


def make_showing(**shows):
    graph = make_graph({"a": {"n": 1}, "b": {"x": Ref("a")}, "c": {"x": Ref("b")}})
    for node in graph["nodes"].values():
        node["shows"] = shows.get(node["name"], [])
    (task,) = make_tasks(graph, "sums", group_nodes(graph, "sums", "chains").groups).values()
    return task


def list_outputs(task):
    artifacts = task["component"]["outputDefinitions"]["artifacts"]
    return {name: one["artifactType"]["schemaTitle"] for name, one in artifacts.items()}


def test_a_group_declares_one_output_for_each_kind_that_a_node_may_show():
    task = make_showing(a=["metrics"], b=["metrics", "html"])

    assert list_outputs(task) == {
        "values": "system.Artifact",
        "inner": "system.Artifact",
        "metrics": "system.Metrics",
        "html": "system.HTML",
    }


@pytest.mark.parametrize(
    ("shows", "kinds"),
    [
        ([[], []], []),
        ([["markdown"], ["metrics"]], ["metrics", "markdown"]),
        ([["classification"], []], ["classification"]),
        # Kubeflow Pipelines' page shows one: the others are drawn
        ([["classification"], ["classification"]], ["classification", "html"]),
    ],
)
def test_kinds_that_a_task_shows(shows, kinds):
    assert list_display_kinds([{"shows": one} for one in shows]) == kinds


def test_other_outputs_make_another_component():
    assert make_showing(a=["metrics"])["slug"] != make_showing()["slug"]


def test_which_node_shows_something_makes_no_difference_to_the_component():
    assert make_showing(a=["metrics"])["slug"] == make_showing(b=["metrics"])["slug"]
