"""Where the time of a task went."""

import pytest

from fftasks.kfp.node_status import list_spans

DRIVER = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:03Z"}
ENDED = {
    "start_time": "2026-01-01T00:00:03Z",
    "end_time": "2026-01-01T00:00:20Z",
    "state": "SUCCEEDED",
}


def seen(**states):
    return [{"state": s, "update_time": f"2026-01-01T00:00:{t:02}Z"} for s, t in states.items()]


def pod(placed=None, ran=None, name="main"):
    condition = {"type": "PodScheduled", "status": "True"}
    at = "2026-01-01T00:00:{:02}Z"
    conditions = [{**condition, "lastTransitionTime": at.format(placed)}] if placed else []
    state = {"running": {"startedAt": at.format(ran)}} if ran else {"waiting": {}}
    statuses = [{"name": "wait", "state": {}}, {"name": name, "state": state}]
    return {"status": {"conditions": conditions, "containerStatuses": statuses}}


def measure(spans):
    return [(name, end and end - begin) for name, begin, end in spans]


@pytest.mark.parametrize(
    ("step", "pod", "spans"),
    [
        ({}, None, []),
        (
            {**ENDED, "state_history": seen(PENDING=3, RUNNING=13, SUCCEEDED=20)},
            None,
            [("queue, pull", 10), ("run", 7)],
        ),
        ({**ENDED, "state_history": seen(SUCCEEDED=20)}, None, [("queue, pull, run", 17)]),
        (ENDED, pod(placed=5, ran=12), [("queue", 2), ("pull", 7), ("run", 8)]),
        # of the pod's own clock, and of whole seconds: nothing is negative
        (ENDED, pod(placed=1, ran=30), [("queue", 0), ("pull", 17), ("run", 0)]),
        (
            {**ENDED, "end_time": "1970-01-01T00:00:00Z", "state": "PENDING"},
            pod(placed=5),
            [("queue", 2), ("pull", None)],
        ),
        (
            {**ENDED, "end_time": None, "state": "RUNNING", "state_history": seen(RUNNING=9)},
            {},
            [("queue, pull", 6), ("run", None)],
        ),
        ({**ENDED, "state": "SKIPPED"}, None, []),
        (ENDED, pod(ran=12, name="other"), [("queue, pull, run", 17)]),
    ],
)
def test_parts_of_a_pods_time(step, pod, spans):
    assert measure(list_spans({}, step, pod)) == spans


def test_a_driver_comes_first():
    assert measure(list_spans(DRIVER, ENDED, pod(5, 12)))[0] == ("driver", 3)
