"""`doit run --groups`: the tasks of the cluster, here."""

import fftasks
from fftasks.runtime.artifact import read_artifact
from fftasks.runtime.pack import is_pack, read_pack
from tests.sample import Sample
from tests.test_fusion import WORKFLOW


def read_all(folder):
    """Return the values that tasks have given, by node and output."""
    found = {}
    for path in folder.glob("*/*"):
        if path.name != "log.txt" and is_pack(path):
            found |= {one: value.place.read() for one, value in read_pack(path).values.items()
                      if one[1] == "result" and not one[0].startswith("Counter")}  # fmt: skip
        elif path.name == "result":
            found[path.parent.name, "result"] = read_artifact(path)
    return found


def test_groups_run_here_as_on_the_cluster(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW.replace("COUNT", "6"))
    sample.doit("run")

    output = sample.doit("run", "--groups", FFTASKS_KFP__FUSE="chains")

    assert ".  draw 3+: 2 nodes in" in output
    found = read_all(tmp_path / ".fftasks" / "groups" / "sweep")
    for node in ("square 1", "two"):
        assert found[node, "result"] == fftasks.load(node, tmp_path)
    assert found["total", "result"] == fftasks.load("total", tmp_path)


def test_a_group_that_fails_here_is_named_with_its_log(tmp_path):
    text = WORKFLOW.replace("COUNT", "2").replace(
        "return [value * value", "print('now'); return [1 / 0"
    )
    sample = Sample.make(tmp_path, text)

    output = sample.doit("run", "--groups", code=1, FFTASKS_KFP__FUSE="chains")

    assert "failed (1)" in output
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
