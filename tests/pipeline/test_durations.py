"""Where expected durations come from: the cluster, here, the groups before, or nobody."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fftasks.kfp.run import ClusterRun
from fftasks.pipeline import run_index
from fftasks.pipeline.fuse import NodeDurations, choose_grouping, find_durations
from fftasks.pipeline.run_index import read_node_durations, record_run, record_submission
from fftasks.project import open_project
from tests.sample import Sample

SLEEPY = """
import time
from fftasks import Workflow, workflow

@workflow
def wait(seconds):
    time.sleep(seconds)

Workflow(*[wait(0.05).set_name(f"w{i}") for i in range(4)], name="w")
"""


@pytest.fixture
def project(tmp_path):
    """Give a project of four nodes, two of which have run here."""
    sample = Sample.make(tmp_path, SLEEPY)
    sample.doit("run:w0", "run:w1")
    open_project.cache_clear()
    return open_project(tmp_path)


def answer(day=1):
    """Return what the host tells of a run without tasks."""
    spec = {"pipelineInfo": {"name": "w"}, "root": {"dag": {"tasks": {}}}}
    return {"run_id": "r", "created_at": f"2026-01-0{day}T00:00:00Z", "pipeline_spec": spec}


def note(project, day=1, **seconds):
    """Note that nodes took so long in a run on the cluster."""
    record_submission(project, "w", {}, {}, None)
    record_run(project, ClusterRun(answer(day)), seconds)


def test_the_cluster_comes_first_then_this_machine(project):
    note(project, w1=30.0, w2=40.0, gone=1.0)

    found = find_durations(project, "w", {})

    assert found.count() == {"there": 2, "here": 1, "before": 0, "assumed": 1}
    assert {node: round(s) for node, s in found.seconds.items()} == {"w0": 0, "w1": 30, "w2": 40}
    assert found.describe() == (
        "durations: 2 measured on the cluster, 1 measured here, 1 assumed to be 1 s"
    )


@pytest.mark.parametrize(("old", "expected"), [(16, 16), (59, 59), (14, 30), (61, 30)])
def test_a_duration_counts_as_new_when_it_has_doubled_or_halved(project, old, expected):
    note(project, w1=30.0)

    found = find_durations(project, "w", {"w1": old, "w3": 7, "gone": 7})

    assert found.seconds["w1"] == expected
    assert (found.seconds["w3"], found.before) == (7, 1)
    assert found.describe().endswith("1 measured earlier, 1 assumed to be 1 s")


def test_times_of_the_cluster_decide_the_groups(project):
    note(project, w0=0.01, w1=0.01, w2=0.01, w3=0.01)
    short = choose_grouping(project, "w", mode="auto")
    note(project, w0=600, w1=600, w2=600, w3=600)

    long = choose_grouping(project, "w", mode="auto")

    assert (len(short.groups), len(long.groups)) == (1, 4)


def test_a_look_at_an_older_run_replaces_nothing_newer(project):
    note(project, day=2, w1=30.0)

    record_run(project, ClusterRun(answer(day=1)), {"w1": 5.0, "w2": 6.0})

    assert read_node_durations(project, "w") == {"w1": 30.0, "w2": 6.0}


def test_what_another_process_notes_while_a_run_is_submitted_stays(project, monkeypatch):
    note(project)

    def look_meanwhile(*_):
        record_run(project, ClusterRun(answer()), {"w1": 30.0})
        return ClusterRun(answer())

    monkeypatch.setattr(run_index, "read_cluster_run", look_meanwhile)

    record_submission(project, "w", {"w1": {}}, {}, {"run_id": "r"})

    assert read_node_durations(project, "w") == {"w1": 30.0}


def test_of_many_that_note_at_once_nothing_is_lost(project):
    note(project)
    names = [f"n{number}" for number in range(32)]

    with ThreadPoolExecutor(4) as pool:  # locked out of a file as processes are
        list(pool.map(lambda name: record_run(project, ClusterRun(answer()), {name: 1.0}), names))

    assert read_node_durations(project, "w") == dict.fromkeys(names, 1.0)


def test_nodes_that_are_submitted_no_more_are_forgotten(project):
    note(project, w1=30.0, w2=40.0)

    record_submission(project, "w", {"w2": {}}, {}, None)

    assert find_durations(project, "w", {}).there == 1


def test_nothing_known_is_said():
    assert NodeDurations(assumed=3).describe() == "durations: 3 assumed to be 1 s"
