"""What is said of nodes behind those that a pod keeps from its last run."""

import pytest

from fftasks.cluster.ingredients import Now
from fftasks.cluster.judge import Judge
from fftasks.cluster.memory import Memory
from fftasks.project import open_project
from fftasks.stages.kept import Kept
from tests.cluster.submitted import make_project


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((), "upstream first node will be computed"),
        (("first node",), "the pod of upstream first node will run"),
    ],
)
def test_a_node_that_is_kept_is_not_said_to_be_computed(tmp_path, kfp_server, kept, said):
    sample = make_project(tmp_path, kfp_server, kfp="  caching: true")
    open_project.cache_clear()
    now = Now(open_project(sample.root), "chain", ())
    first, second, _ = now.tasks
    judge = Judge(now, Memory(), now.list_keys(Memory()), ())
    now.kept[first] = Kept({}, kept, "")

    judge.list_outlooks(first)
    [outlook] = judge.list_outlooks(second)

    assert said in outlook.reasons
