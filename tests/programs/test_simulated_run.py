"""`doit run --groups`: the tasks of the cluster, here."""

import fftasks
from fftasks.runner.artifact import read_artifact, read_pack
from tests.programs.test_fusion import WORKFLOW
from tests.sample import Sample


def read_results(folder, wanted):
    """Return the results of some nodes, from packs and from tasks of their own."""
    found = {}
    for path in folder.glob("*/*"):
        if path.name == "result":
            found[path.parent.name.replace("-", "_")] = read_artifact(path)
        elif path.name in ("values", "inner"):
            values = read_pack(path).values
            found |= {
                n: values[n, "result"].place.read() for n in wanted if (n, "result") in values
            }
    return {node: found[node] for node in wanted}


def test_groups_run_here_as_on_the_cluster(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW.replace("COUNT", "4"))
    sample.doit("run")

    output = sample.doit("run", "--groups", FFTASKS_KFP__FUSE="chains")

    assert ".  draw 3+: 2 nodes in" in output
    wanted = ("square 1", "two", "total")
    found = read_results(tmp_path / ".fftasks" / "groups" / "sweep", wanted)
    assert found == {node: fftasks.load(node, tmp_path) for node in wanted}


def test_a_group_that_fails_here_is_named_with_its_log(tmp_path):
    text = WORKFLOW.replace("COUNT", "2").replace(
        "return [value * value", "print('now'); return [1 / 0"
    )
    sample = Sample.make(tmp_path, text)

    output = sample.doit("run", "--groups", code=1, FFTASKS_KFP__FUSE="chains")

    assert "failed with exit code 1" in output
    assert "square 0 | now" in output or "square 1 | now" in output
    assert "ZeroDivisionError" in output


def test_a_group_has_the_memory_of_its_pod(tmp_path):
    text = WORKFLOW.replace("COUNT", "2").replace(
        "return [seed * scale", "bytearray(800_000_000); return [seed"
    )
    sample = Sample.make(tmp_path, text)
    sample.write(
        "config/default.yaml",
        'workflows: [wf.py]\nnodes:\n  __default__:\n    memory_limit: "300M"\n',
    )

    output = sample.doit("run", "--groups", code=1)

    assert "MemoryError" in output


RANDOM = """
import random
from fftasks import Workflow, workflow

@workflow
def step(i, upstream):
    return [i, sum(one[1] for one in upstream) + i]

@workflow
class Sum:
    def __init__(self):
        self.total = 0
    def add(self, one):
        self.total += one[1]
        return [0, self.total]

for seed in range(2):
    numbers, nodes, sums = random.Random(seed), [], Sum()
    some = {"any": lambda: numbers.sample(nodes, min(len(nodes), 3)), "chain": lambda: nodes[-1:]}
    some |= {"wide": lambda: nodes, "none": lambda: [], "call": lambda: []}
    for i in range(20):
        kind = numbers.choice(["any", "chain", "call", "none", "wide"])
        is_call = kind == "call" and nodes
        made = sums.add(numbers.choice(nodes)) if is_call else step(i, some[kind]())
        nodes.append(made.set_name(f"n{seed}_{i}"))
    Workflow(*nodes[-3:], name=f"random{seed}")
"""


def test_groups_of_random_graphs_give_what_single_nodes_give(tmp_path):
    sample = Sample.make(tmp_path, RANDOM)
    sample.write(
        "config/default.yaml",
        "workflows: [wf.py]\nkfp:\n  fuse: auto\n  pod_overhead_s: 0.001\n  parallel_pods: 2\n"
        'nodes:\n  "n._.4":\n    cpu: "2"\n  "n._15":\n    fuse: false\n',
    )
    sample.doit("run")

    sample.doit("run", "--groups")

    for seed in range(2):
        wanted = [f"n{seed}_{i}" for i in (17, 18, 19)]
        found = read_results(tmp_path / ".fftasks" / "groups" / f"random{seed}", wanted)
        assert found == {node: fftasks.load(node, tmp_path) for node in wanted}
