"""KFP's own keys of our pipelines: a port of the server's, on generated graphs and both kinds of backend."""

import copy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fftasks.cache.cluster_fingerprint import compute_cluster_fingerprints
from fftasks.pipeline import compiler, pins, task_specs
from tests.cache.test_cluster_fingerprint import SURROUNDINGS, make_contents
from tests.pipeline.sdk_compiler import parse_document
from tests.pipeline.test_components import Ref, make_graph
from tests.programs.test_caching import put_result, run_on_backend
from tests.services.cluster import Cluster


def compile_graph(graph, newest, old):
    """Return the pipeline document of a graph, and the record of its pins."""
    made = task_specs.make_tasks_record(graph, "sums")
    found = compute_cluster_fingerprints(graph, "sums", make_contents(), SURROUNDINGS, {})
    wish = pins.PinRequest(
        {name: found[task["nodes"][0]].digest for name, task in made["tasks"].items()},
        frozenset(),
        f"registry.test/sums@sha256:{newest * 64}",
        "node",
    )
    record = pins.make_pins_record(wish, find_tags=lambda *_: {}, add_tags=lambda *_: None, old=old)
    text = compiler.compile_pipeline(
        made, record, compiler.CompileOptions(caching=True, version="0")
    )[1]
    return parse_document(text), record


@given(st.data())
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_after_an_edit_exactly_what_is_downstream_has_new_keys(tmp_path_factory, data):
    count = data.draw(st.integers(1, 5))
    edges = [data.draw(st.sets(st.integers(0, i - 1))) if i else set() for i in range(count)]
    edited = data.draw(st.integers(0, count - 1))
    nodes = {f"n{i}": {f"x{j}": Ref(f"n{j}") for j in sorted(e)} for i, e in enumerate(edges)}
    before = make_graph(nodes)
    for node in before["nodes"].values():
        node |= {"reads": [], "version": ""}
    after = copy.deepcopy(before)
    after["nodes"][f"n{edited}"]["code"] = "sha256:new"
    first, record = compile_graph(before, "a", None)
    second, _ = compile_graph(after, "b", record)
    downstream = {edited}
    for i, above in enumerate(edges):
        downstream |= {i} if above & downstream else set()

    for honours_cache_key in (False, True):
        cluster = Cluster(
            put_result, tmp_path_factory.mktemp("c"), honours_cache_key=honours_cache_key
        )

        # none takes the result of another one of the same pipeline
        assert run_on_backend(copy.deepcopy(first), cluster) == set(nodes)
        assert run_on_backend(copy.deepcopy(first), cluster) == set()
        assert run_on_backend(copy.deepcopy(second), cluster) == {f"n{i}" for i in downstream}
