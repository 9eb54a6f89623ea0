"""Names of pods, which Kubeflow Pipelines does not say."""

import pytest

from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import hash_node_name, name_template


def make_document(task, executor=None):
    document = {
        "root": {"dag": {"tasks": {"t": {"componentRef": {"name": "comp-t"}, **task}}}},
        "components": {"comp-t": {"executorLabel": "exec-t"}},
    }
    return document, {"exec-t": executor or {}}


def test_the_number_of_a_step_is_what_argo_made_of_it_in_a_real_run():
    # pod general-cpu-rnggt-retry-system-container-impl-1467617326 of task workspace-name
    name = "general-cpu-rnggt.root.workspace-name.executor(0)"

    assert hash_node_name(name) == "1467617326"


@pytest.mark.parametrize(
    ("task", "executor", "template"),
    [
        ({}, {}, "system-container-impl"),
        ({"retryPolicy": {"maxRetryCount": 1}}, {}, "retry-system-container-impl"),
        (
            {},
            {"podMetadata": {"labels": {"a": "1", "b": "2"}}},
            "metadata-0-2-system-container-impl",
        ),
        (
            {"retryPolicy": {}},
            {"podMetadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}}},
            "metadata-1-1-retry-system-container-impl",
        ),
    ],
)
def test_the_template_of_a_pod_says_whether_it_is_tried_again_and_has_labels(
    task, executor, template
):
    assert name_template(*make_document(task, executor), "t") == template


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_of_several_tries_the_last_pod_counts(tries):
    steps = [f"flow-x.root.t.executor({n})" for n in range(tries)]
    document, _ = make_document({"retryPolicy": {"maxRetryCount": 2}})
    rows = [
        {"display_name": "t", "child_tasks": [{"pod_name": "flow-x-7"}], "state": "FAILED"},
        {
            "display_name": "executor",
            "child_tasks": [{"pod_name": f"flow-x-{hash_node_name(step)}"} for step in steps],
            "state": "FAILED",
        },
    ]

    run = ClusterRun({"pipeline_spec": document, "run_details": {"task_details": rows}})

    number = hash_node_name(steps[-1]) if steps else "7"
    assert run.tasks[0].pod == f"flow-x-retry-system-container-impl-{number}"
