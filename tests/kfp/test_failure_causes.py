"""Why tasks failed or wait, in the words of the log or of Kubernetes."""

import pytest

from fftasks.kfp.pod_log import explain_exit, explain_log, explain_pod
from fftasks.runner.pod import PodFailure, format_failure
from tests.kfp.test_pod_log import BEFORE, end_badly


def make_pod(main=None, **status):
    """Return a pod; main: the state of its main container."""
    statuses = [{"name": "wait", "state": {"running": {}}}, {"name": "main", "state": main or {}}]
    return {"status": {"containerStatuses": statuses, **status}}


def warn(reason, message, time="2026-11-30T16:00:00Z", kind="Warning"):
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": time}


NOT_PLACED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}


@pytest.mark.parametrize(
    ("pod", "events", "cause"),
    [
        (
            make_pod(
                {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}}
            ),
            [],
            'ImagePullBackOff: Back-off pulling image "x"',
        ),
        (
            make_pod(
                {
                    "waiting": {
                        "reason": "CreateContainerConfigError",
                        "message": 'secret "s" not found',
                    }
                }
            ),
            [],
            'CreateContainerConfigError: secret "s" not found',
        ),
        (
            make_pod({"waiting": {"reason": "InvalidImageName", "message": "bad"}}),
            [],
            "InvalidImageName: bad",
        ),
        (
            make_pod(conditions=[NOT_PLACED]),
            [],
            "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            make_pod({"waiting": {"reason": "PodInitializing"}}),
            [
                warn("FailedMount", 'secret "files" not found'),
                warn("Scheduled", "fine", kind="Normal"),
            ],
            'FailedMount: secret "files" not found',
        ),
        (
            {},
            [warn("FailedScheduling", 'persistentvolumeclaim "c" not found')],
            'FailedScheduling: persistentvolumeclaim "c" not found',
        ),
        (
            make_pod({"waiting": {"reason": "ContainerCreating"}}),
            [
                warn("FailedMount", "new", "2026-11-30T16:02:00Z"),
                warn("FailedMount", "old", "2026-11-30T16:01:00Z"),
            ],
            "FailedMount: new",
        ),
        (
            make_pod(reason="Evicted", message="The node was low on resource: memory."),
            [],
            "Evicted: The node was low on resource: memory.",
        ),
        (
            make_pod(
                reason="DeadlineExceeded",
                message="Pod was active on the node longer than the deadline",
            ),
            [],
            "DeadlineExceeded: Pod was active on the node longer than the deadline",
        ),
        (
            make_pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            [],
            "OOMKilled: it ran out of memory (memory limit 300Mi)",
        ),
        (
            make_pod(
                {
                    "terminated": {
                        "reason": "StartError",
                        "message": "no such\n file",
                        "exitCode": 128,
                    }
                }
            ),
            [],
            "StartError: no such file",
        ),
        (make_pod({"terminated": {"reason": "Error", "exitCode": 1}}), [], ""),
        (
            make_pod({"running": {"startedAt": "x"}}),
            [warn("FailedScheduling", "no machine yet")],
            "",
        ),
        (
            make_pod({"terminated": {"reason": "Error"}}),
            [warn("FailedScheduling", "no machine yet")],
            "",
        ),
        (make_pod({"waiting": {"reason": "PodInitializing"}}), [], ""),
        ({}, [], ""),
        (
            {
                "status": {
                    "initContainerStatuses": [
                        {
                            "name": "kfp-launcher",
                            "state": {"waiting": {"reason": "ErrImagePull", "message": "denied"}},
                        }
                    ]
                }
            },
            [],
            "ErrImagePull: denied",
        ),
    ],
)
def test_kubernetes_words_are_found(pod, events, cause):
    assert explain_pod(pod, events, "300Mi") == cause


def test_the_failure_line_gives_the_reason_as_it_is():
    log = (
        BEFORE
        + format_failure(PodFailure("n", "took longer than timeout_s: 30"))
        + "\n"
        + end_badly("exit status 1")
    )

    assert explain_log(log, "300Mi") == "took longer than timeout_s: 30"


@pytest.mark.parametrize(
    ("limit", "words"), [("300Mi", "its memory limit is 300Mi"), ("", "it has no memory limit")]
)
def test_a_command_that_was_killed_from_outside_probably_had_too_little_memory(limit, words):
    reason = explain_log(BEFORE + end_badly("signal: killed"), limit)

    assert "killed by SIGKILL from outside" in reason
    assert words in reason


def test_an_exit_status_is_said_only_where_nothing_better_is_known():
    log = BEFORE + end_badly("exit status 3")

    assert explain_log(log) == ""
    assert explain_exit(log) == "its command ended with exit status 3"
    assert explain_exit("") == ""
