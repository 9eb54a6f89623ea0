"""`doit graph`."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from fftasks.errors import ToolError
from fftasks.report import diagram as graphviz
from tests.sample import Sample

CHAIN = """
from fftasks import Workflow, workflow


@workflow
def load():
    return [1, 2]


@workflow
class Counter:
    def __init__(self, start):
        self.n = start

    def add(self, values):
        if len(values) > 2:
            raise ValueError("too many")
        self.n += len(values)
        return self.n


counter = Counter(1).set_name("counter")
Workflow(counter.add(load().set_name("<values>")).set_name("added"), name="w")
"""


@pytest.fixture
def sample(tmp_path):
    return Sample.make(tmp_path, CHAIN)


def read_texts(path):
    texts = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return [text.text for text in texts]


def test_it_draws_what_will_run_and_what_has(sample):
    assert sample.doit("graph") == ".fftasks/graph.svg\n"
    before = read_texts(sample.root / ".fftasks/graph.svg")
    sample.doit()
    sample.doit("graph")

    after = read_texts(sample.root / ".fftasks/graph.svg")
    assert {"▷ <values>", "load() · will run", "calls of counter"} <= set(before)
    assert {"✓ <values>", "load() · up to date"} <= set(after)


def test_a_node_that_failed_is_shown_until_it_runs_again(sample):
    sample.edit("wf.py", "[1, 2]", "[1, 2, 3]")
    sample.doit(code=1)

    assert "✗ added" in sample.doit("graph", "--kind", "mermaid")
    sample.edit("wf.py", "[1, 2, 3]", "[1, 2]")
    sample.doit()
    assert "failed" not in sample.doit("graph", "--kind", "mermaid")
    assert "✓ added" in sample.doit("graph", "--kind", "mermaid")


def test_a_run_is_drawn_as_it_went(sample):
    sample.doit()
    sample.edit("wf.py", "Counter(1)", "Counter(2)")
    sample.doit()

    text = sample.doit("graph", "--run", "last", "--kind", "dot")

    assert "● counter" in text
    assert "✓ &lt;values&gt;" in text


def test_nodes_that_share_a_task_on_the_cluster_are_in_a_box(sample):
    sample.write("config/default.yaml", "workflows: [wf.py]\nkfp:\n  fuse: chains\n")

    sample.doit("graph", "-o", "graph.svg")

    texts = read_texts(sample.root / "graph.svg")
    assert any(text.startswith("one pod: ") for text in texts)
    assert "calls of counter" in texts


def test_a_picture_in_the_project_is_no_data_of_its_nodes(sample):
    sample.doit()

    sample.doit("graph", "-o", "docs/graph.png")

    assert (sample.root / "docs/graph.png").read_bytes().startswith(b"\x89PNG")
    assert sample.ran() == []


def test_wrong_words_are_refused_with_the_right_ones(sample):
    assert "svg, png, dot, mermaid" in sample.doit("graph", "--kind", "gif", code=3)
    assert "workflows: w" in sample.doit("graph", "nothing", code=3)
    assert "there is no run here yet" in sample.doit("graph", "--run", "last", code=1)


def test_without_the_package_it_is_said_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "pygraphviz.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(ToolError, match="pygraphviz is not installed") as found:
        graphviz.render_dot("digraph {}", "svg")

    assert "pip install pygraphviz" in found.value.tip


def test_what_graphviz_says_is_shown():
    with pytest.raises(ToolError, match="Graphviz ended with"):
        graphviz.render_dot("no graph", "svg")


def test_nobody_reading_on_is_no_error(sample):
    command = f"{sys.executable} -m doit graph --kind mermaid | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=sample.root, capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_graph_for_tools_has_nodes_edges_and_states(sample):
    sample.write("config/default.yaml", "workflows: [wf.py]\nkfp:\n  fuse: chains\n")
    before = json.loads(sample.doit("graph", "--json"))
    sample.doit()
    after = json.loads(sample.doit("graph", "w", "--json"))
    run = json.loads(sample.doit("graph", "--run", "last", "--json"))

    assert {node["node"]: node["function"] for node in before["nodes"]} == {
        "counter": "Counter",
        "<values>": "load",
        "added": "Counter.add",
    }
    assert {node["group"] for node in before["nodes"]} != {""}
    assert {"from": "<values>", "to": "added"} in before["edges"]
    assert {"from": "counter", "to": "added"} in before["edges"]
    assert {node["state"] for node in before["nodes"]} == {"will run"}
    assert {node["state"] for node in after["nodes"]} == {"up to date"}
    assert {node["state"] for node in run["nodes"]} == {"ran"}
    assert not (sample.root / ".fftasks/graph.svg").exists()
    assert "--json cannot be combined with --kind" in sample.doit(
        "graph", "--json", "--kind", "dot", code=3
    )
