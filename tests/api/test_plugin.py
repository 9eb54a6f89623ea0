"""Plugins: what runs before a node's function."""

import random

from fftasks import (
    InitializerPlugin,
    LocalWorkflow,
    PluginCollection,
    RandomStatePlugin,
    Workflow,
    workflow,
)
from fftasks.api.plugin import bind_plugin, initialize

CALLS = []


@workflow
def look(x):
    CALLS.append(f"function {x}")
    return random.random()


def test_a_plugin_runs_before_the_function_also_in_this_process():
    CALLS.clear()
    node = look(1).set_name("a")
    flow = LocalWorkflow(node, workflow_name="w")
    flow.set_plugin("a", InitializerPlugin(lambda: CALLS.append("plugin")))

    flow.run()

    assert CALLS == ["plugin", "function 1"]


def test_a_collection_runs_in_order_and_the_last_plugin_counts():
    CALLS.clear()
    nodes = [look(i).set_name(f"n{i}") for i in range(2)]
    flow = LocalWorkflow(*nodes, workflow_name="w")
    flow.query("n.*").set_plugin(InitializerPlugin(lambda: CALLS.append("never")))
    both = [InitializerPlugin(lambda k=k: CALLS.append(k)) for k in "ab"]
    flow.query("n.*").set_plugin(PluginCollection(both))

    flow.run()

    assert CALLS == ["a", "b", "function 0", "a", "b", "function 1"]


def test_a_seed_is_within_its_bounds_and_made_of_seed_and_name():
    plugin = RandomStatePlugin(5, 9, 1, None)
    seeds = {name: bind_plugin(plugin, name).seed for name in map(str, range(50))}

    assert set(seeds.values()) == {5, 6, 7, 8, 9}
    assert seeds == {name: bind_plugin(plugin, name).seed for name in seeds}
    other = RandomStatePlugin(5, 9, 2, None)
    assert any(bind_plugin(other, name).seed != seed for name, seed in seeds.items())


def test_a_seed_is_given_to_the_function_that_seeds():
    seen = []
    plugin = RandomStatePlugin(0, 9, 1, seen.append)

    initialize(plugin, "n")

    assert seen == [bind_plugin(plugin, "n").seed]


def test_any_object_with_the_two_methods_is_a_plugin():
    class Own:
        def local_initialize(self):
            CALLS.append("local")

        def remote_initialize(self):
            CALLS.append("remote")

    CALLS.clear()
    initialize(Own(), "n")

    assert CALLS == ["local", "remote"]


def test_a_query_for_no_node_is_warned_of_with_the_nearest_name():
    flow = Workflow(look(1).set_name("train"), name="w")
    flow.query("trian").set(cpu=2)

    (warning,) = flow.warnings
    assert warning.startswith("test_plugin.py:")
    assert warning.endswith("no node's name matches 'trian': did you mean 'train'?")
