"""No task takes one artifact in two inputs, however often its nodes use a result: KFP's driver would fail."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fftasks.fusion import group_nodes
from fftasks.graph.observed_inputs import GraphFile
from fftasks.graph.record import load_graph
from fftasks.kfp.limits import check_sources
from fftasks.pipeline import compiler, task_specs
from fftasks.pipeline.ir_yaml import parse_documents
from fftasks.pipeline.reuse import ReusedPacks
from tests.pipeline.test_compiler import REFERENCE
from tests.pipeline.test_components import Ref, make_graph, make_pins

HEAD = """
from fftasks import Workflow, workflow

@workflow
def step(*values, a=None, b=None, **more):
    return [[1, 2, 3]] * 3

@workflow
class Shelf:
    def __init__(self, *books):
        self.books = list(books)
    def put(self, *books, **named):
        return self.books
"""
_folders = itertools.count()


@st.composite
def programs(draw):
    """Draw a file of calls whose arguments use earlier results once or several times, whole or by items."""
    lines, nodes, shelves = [HEAD], [], []
    for number in range(draw(st.integers(2, 7))):
        kind = draw(
            st.sampled_from(["step", "step", "Shelf", "put"] if shelves else ["step", "Shelf"])
        )
        target = f"v{number}"
        text = ", ".join(
            draw(
                st.lists(arguments(nodes), max_size=4, unique_by=lambda a: a[0]).map(
                    lambda given: [a for _, a in sorted(given)]
                )
            )
        )
        if kind == "put":
            lines.append(f"{target} = {draw(st.sampled_from(shelves))}.put({text})")
            nodes.append(target)
        elif kind == "Shelf":
            positional = ", ".join(draw(st.lists(values(nodes), max_size=2)))
            lines.append(f"{target} = Shelf({positional})")
            shelves.append(target)
        else:
            lines.append(f"{target} = step({text})")
            nodes.append(target)
    lines += [f"{shelf}_last = {shelf}.put()" for shelf in shelves]
    last = [*nodes, *(f"{shelf}_last" for shelf in shelves)]
    return "\n".join([*lines, f"Workflow({', '.join(last)}, name='w')", ""])


def arguments(nodes):
    """Draw an argument: where it stands among the others, and its text."""
    names = st.sampled_from(["", "a=", "b=", "c=", "d="])
    return st.tuples(names, values(nodes)).map(lambda one: (one[0], "".join(one)))


def values(nodes):
    """Draw the text of a value with uses of nodes in it."""
    constants = st.sampled_from(["1", "'x'", "None"])
    if not nodes:
        return constants
    uses = st.sampled_from(nodes)
    items = st.tuples(uses, st.sampled_from(["[0]", "[1:]", "[0][1]"])).map("".join)
    leaves = st.one_of(uses, items, constants)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"),
            st.lists(inner, max_size=2).map(lambda v: f"({''.join(f'{one}, ' for one in v)})"),
            st.lists(leaves, max_size=2).map(lambda v: f"{{{', '.join(v)}}}" if v else "set()"),
            st.tuples(leaves, inner).map(lambda v: f"{{{v[0]}: {v[1]}}}"),
        ),
        max_leaves=5,
    )


@given(programs(), st.sampled_from(["none", "chains", "auto"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_graph_gives_tasks_with_one_input_for_each_artifact(
    tmp_path_factory, text, mode, is_kept
):
    root = tmp_path_factory.mktemp(f"graph{next(_folders)}")
    (root / "wf.py").write_text(text)
    graph = load_graph(GraphFile(root, "wf.py", root / ".fftasks"))

    document = compile_graph(graph, mode, is_kept=is_kept)

    check_sources(document)
    for task in document["root"]["dag"]["tasks"].values():
        sources = task.get("inputs", {}).get("artifacts", {}).values()
        assert len({json.dumps(source) for source in sources}) == len(sources)


def compile_graph(graph, mode, *, is_kept):
    """Return the document of the graph's workflow; is_kept: groups take packs of their last run."""
    made = task_specs.make_tasks_record(graph, "w", group_nodes(graph, "w", mode))
    pins = make_pins(made, REFERENCE)
    names = {i: node["name"] for i, node in graph["nodes"].items()}
    kept = {
        pins["tasks"][task]["fingerprint"]: ReusedPacks(
            {"kept": f"minio://b/{task}/values", "kept_inner": f"minio://b/{task}/inner"},
            tuple(names[node] for node in content["nodes"][:1]),
            "sha256:0",
        )
        for task, content in made["tasks"].items()
        if len(content["nodes"]) > 1 and is_kept
    }
    _, text = compiler.compile_pipeline(
        made, pins, compiler.CompileOptions(caching=True, version="0"), kept
    )
    return parse_documents(text)[0]


def break_sources(document):
    artifacts = document["root"]["dag"]["tasks"]["train"]["inputs"]["artifacts"]
    artifacts["again"] = artifacts["data"]


def break_imports(document):
    tasks, executors = document["root"]["dag"]["tasks"], document["deploymentSpec"]["executors"]
    executors["exec-load"] = {"importer": {"artifactUri": {"constant": "minio://b/x"}}}
    document["components"]["comp-more"] = {"executorLabel": "exec-load"}
    tasks["more"] = {"componentRef": {"name": "comp-more"}}
    taken = {"producerTask": "more", "outputArtifactKey": "result"}
    tasks["train"]["inputs"]["artifacts"]["again"] = {"taskOutputArtifact": taken}


@pytest.mark.parametrize("damage", [break_sources, break_imports])
def test_a_document_in_which_a_task_has_two_is_a_bug(damage):
    made = task_specs.make_tasks_record(
        make_graph({"load": {}, "train": {"data": Ref("load")}}), "sums"
    )
    pins = make_pins(made, REFERENCE)
    _, text = compiler.compile_pipeline(
        made, pins, compiler.CompileOptions(caching=True, version="0")
    )
    document = parse_documents(text)[0]
    check_sources(document)

    damage(document)

    with pytest.raises(RuntimeError, match=r"task 'train' takes .* in two inputs: data, again"):
        check_sources(document)
