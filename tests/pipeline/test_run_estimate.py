"""What a run is expected to take: of all its nodes, and of those that will be run."""

import pytest

from fftasks.kfp.run import ClusterRun
from fftasks.pipeline import task_specs
from fftasks.pipeline.fuse import estimate_partial_run, estimate_run, find_current_tasks
from fftasks.pipeline.run_index import record_run, record_submission
from fftasks.project import open_project
from fftasks.records import write_record
from tests.sample import Sample

CHAIN = """
from fftasks import Workflow, workflow

@workflow
def step(*before):
    pass

a = step().set_name("a")
b = step(a).set_name("b")
Workflow(step(b).set_name("c"), name="w")
"""


@pytest.fixture
def project(tmp_path):
    """Give a chain of three nodes that took a minute each on the cluster."""
    Sample.make(tmp_path, CHAIN)
    open_project.cache_clear()
    project = open_project(tmp_path)
    spec = {"pipelineInfo": {"name": "w"}, "root": {"dag": {"tasks": {}}}}
    record_submission(project, "w", {}, {}, None)
    record_run(
        project, ClusterRun({"run_id": "r", "pipeline_spec": spec}), dict.fromkeys("abc", 60.0)
    )
    return project


def set_fuse(project, mode):
    (project.root / "config" / "default.yaml").write_text(
        f"workflows: [wf.py]\nkfp: {{fuse: {mode}}}\n"
    )
    open_project.cache_clear()
    return open_project(project.root)


@pytest.mark.parametrize(
    ("mode", "computed", "expected"),
    [
        ("none", {"a": True, "b": True, "c": True}, 3 * (20 + 60)),
        ("none", {"b": True, "c": True}, 10 + 2 * (20 + 60)),
        ("none", {}, 3 * 10),
        ("auto", {"a": True, "b": True, "c": True}, 20 + 3 * 60),
        ("auto", {"a": False, "b": False, "c": True}, 30 + 60),
        ("auto", {}, 10),
    ],
)
def test_only_what_is_computed_takes_its_time(project, mode, computed, expected):
    project = set_fuse(project, mode)
    tasks, grouping = find_current_tasks(project, "w", ())

    seconds = estimate_partial_run(project, "w", tasks, grouping, computed)

    assert seconds == pytest.approx(expected, abs=0.1)


def test_groups_that_are_up_to_date_are_those_that_are_shown(project):
    project = set_fuse(project, "auto")
    parts = task_specs.make_tasks_record(project.workflows["w"], "w")  # as none would have them
    write_record(project.record_path("tasks", "w"), {**parts, "grouping": None})

    current = estimate_run(project, "w", {"tasks:w"})
    stale = estimate_run(project, "w", set())

    assert (current.mode, len(current.groups)) == ("none", 3)
    assert (stale.mode, len(stale.groups)) == ("auto", 1)


def test_it_says_what_it_expects_and_where_that_comes_from(project):
    project = set_fuse(project, "auto")

    assert list(estimate_run(project, "w", ()).describe()) == [
        "w, if all is computed: 1 pod, 3 min 20 s expected, longest path 3 min 20 s, 3 min 20 s of pods",
        "  auto (kfp.fuse)",
        "  unfused: 3 pods, 4 min 0 s expected, longest path 4 min 0 s, 4 min 0 s of pods",
        "  durations: 3 measured on the cluster",
    ]
