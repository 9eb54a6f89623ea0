"""What is said of nodes behind those that a pod keeps from its last run."""

import pytest

from fftasks.pipeline.cache_prediction import CachePredictor, PlannedSubmission
from fftasks.pipeline.reuse import ReusedPacks
from fftasks.pipeline.run_index import RunIndex
from fftasks.project import open_project
from tests.submitted_project import make_project


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((), "first node will run"),
        (("first node",), "the pod of first node will run"),
    ],
)
def test_a_node_that_is_kept_is_not_said_to_be_computed(tmp_path, kfp_server, kept, said):
    sample = make_project(tmp_path, kfp_server, kfp="  caching: true")
    open_project.cache_clear()
    now = PlannedSubmission(open_project(sample.root), "chain", ())
    first, second, _ = now.tasks
    judge = CachePredictor(now, RunIndex(), now.list_keys(RunIndex()), ())
    now.kept[first] = ReusedPacks({}, kept, "")

    judge.predict_nodes(first)
    [outlook] = judge.predict_nodes(second)

    assert said in outlook.reasons
