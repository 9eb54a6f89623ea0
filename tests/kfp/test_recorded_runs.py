"""Runs of a real Kubeflow Pipelines 2.17.0 as they are read: recorded/ has its answers, shortened.

What images and components are was taken out, and the document of three runs that were recorded without one
was put together again from the rows. `words-1` is the run that the file of that name has, and so on; a run
with `-2` at its end was often made without Argo's `templateDefaults`, as in 2.14 to 2.16.1.
"""

import collections
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fftasks.kfp.metadata import TaskExecution
from fftasks.kfp.node_status import get_task_state, list_spans
from fftasks.kfp.run import ClusterRun
from fftasks.kfp.task_details import hash_node_name

FOLDER = Path(__file__).parent / "recorded"
STOCK_PODS = "{run}-system-container-impl-{number}"


def read(name, **changes):
    answer = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return {**answer, **changes}


def list_states(name):
    run = ClusterRun(read(name))
    return {task.title: get_task_state(run, task) for task in run.tasks}


WORDS = ("text", "words", "all words", "long words", "most used", "most used long ones")
MODELS = ("logistic regression", "nearest neighbours", "random forest", "support vectors")
DIGITS = (
    *("digits", "parts"),
    *(f"train {model}" for model in MODELS),
    *(f"score of {model}" for model in MODELS),
    *("best", "confusion", "picture"),
)
SETTINGS = (
    *(
        "config map",
        "empty dirs",
        "place",
        "write sub",
        "write whole",
        "secret env",
        "secret files",
    ),
    *("see volumes", "read sub", "read whole"),
)
FLAKY = ("capped", "fraction", "longcap", "plain", "waits")
PARAMS = ("model", "first", "second", "all", "text")
EXITS = ("exit 0", "exit 3", "exit text", "hard 0", "hard 5")
PENDING = ("noclaim", "nocpu", "nofiles", "nomachine", "nosecret")


def all_are(word, nodes):
    return dict.fromkeys(nodes, word)


EXPECTED = {
    "by-version-1": ("SUCCEEDED", all_are("ran", PARAMS)),
    "chain-1": (
        "SUCCEEDED",
        all_are("ran", ("l0 and 3 more in its pod", "r0 and 2 more in its pod", "end")),
    ),
    "chain-2": (
        "SUCCEEDED",
        all_are("ran", ("l0 and 3 more in its pod", "r0 and 2 more in its pod", "end")),
    ),
    "containerized-two-step-pipeline-2": (
        "SUCCEEDED",
        all_are("ran", ("component1", "component2")),
    ),
    "containerized-two-step-pipeline-3": (
        "SUCCEEDED",
        all_are("cached", ("component1", "component2")),
    ),
    "digits-1": (
        "FAILED",
        {**all_are("skipped", DIGITS), "digits": "ran", "parts": "failed"},
    ),
    "digits-2": ("SUCCEEDED", all_are("ran", DIGITS)),
    "digits-3": ("SUCCEEDED", all_are("ran", ("digits and 1 more in its pod", *DIGITS[2:]))),
    "evict-1": ("SUCCEEDED", {"evicted": "ran"}),
    "fftasksflowgzmb5-1-2724356668-1": ("SUCCEEDED", {"w": "cached"}),
    "fftasksflowgzmb5-2-2774689525-1": ("SUCCEEDED", {"w": "cached"}),
    "flow-1": ("SUCCEEDED", {"w": "ran"}),
    "lightweight-two-step-1": ("SUCCEEDED", {"make": "ran", "use": "ran"}),
    "params-1": ("SUCCEEDED", all_are("ran", PARAMS)),
    "pending-1": ("CANCELED", all_are("canceled", PENDING)),
    "retry-1": ("FAILED", all_are("failed", FLAKY)),
    "retry-2": ("FAILED", {**all_are("failed", FLAKY[:2]), **all_are("ran", FLAKY[2:])}),
    "retryfused-1": ("SUCCEEDED", {"a and 1 more in its pod": "ran"}),
    "sdkretry-1": ("FAILED", {"flaky": "failed"}),
    "settings-1": ("SUCCEEDED", all_are("ran", SETTINGS)),
    "theirs-1": ("SUCCEEDED", {"w": "ran", "show": "ran"}),
    "theirs-2": ("SUCCEEDED", {"w": "cached", "show": "cached"}),
    "train-1": ("SUCCEEDED", {"train": "ran"}),
    "twice-1": ("FAILED", {"make": "ran", "use": "failed"}),
    "wexits-1": ("FAILED", {**all_are("failed", EXITS), "hard 0": "ran"}),
    "wexits-2": ("FAILED", {**all_are("failed", EXITS), "hard 0": "cached"}),
    "wexits-3": ("FAILED", {**all_are("failed", EXITS), "hard 0": "cached"}),
    "words-1": ("SUCCEEDED", all_are("ran", WORDS)),
    "words-2": ("SUCCEEDED", all_are("ran", WORDS)),
    "words-3": ("SUCCEEDED", all_are("cached", WORDS)),
    "words-4": ("SUCCEEDED", {**all_are("ran", WORDS), "text": "cached", "words": "cached"}),
    "wtalks-1": ("SUCCEEDED", {"talks": "ran"}),
    **{
        f"w{name}-{number}": ("FAILED", {node: "failed", f"after {node}": "skipped"})
        for name, node in (("eats", "eats"), ("raises", "raises"), ("timeout", "slow"))
        for number in (1, 2, 3)
    },
    **{
        f"wsleeps-{number}": ("CANCELED", {"sleeps": "canceled", "after sleeps": "canceled"})
        for number in (1, 2, 3)
    },
}
TOO_LARGE = ("big-1", "big300-1")


def test_every_recorded_run_is_expected_somewhere():
    recorded = {path.stem for path in FOLDER.glob("*.json")}

    assert recorded == {*EXPECTED, *TOO_LARGE, "big-2"}
    assert len(recorded) == 47


@pytest.mark.parametrize("name", EXPECTED)
def test_states_are_those_of_the_real_run(name):
    state, nodes = EXPECTED[name]

    assert ClusterRun(read(name)).state == state
    assert list_states(name) == nodes


@pytest.mark.parametrize("name", EXPECTED)
def test_every_pod_that_ran_has_the_name_that_argo_made_of_its_full_name(name):
    answer = read(name)
    run = ClusterRun(answer)
    ids = [
        child["pod_name"]
        for row in answer["run_details"]["task_details"]
        for child in row.get("child_tasks", ())
    ]
    workflow = ids[0].rpartition("-")[0]
    for task in run.tasks:
        if get_task_state(run, task) in ("cached", "skipped") or task.has_failed_driver:
            assert task.pod == ""
        elif task.state != "CANCELED" or task.began:
            assert task.pod.startswith(f"{workflow}-")
            assert f"{workflow}-{task.pod.rpartition('-')[2]}" in ids


@pytest.mark.parametrize(
    ("name", "node", "pod", "full_name"),
    [
        # stock: each node of the workflow is retried, and has tries
        ("wraises-1", "raises", "wraises-j7p56-system-container-impl-1902875070",
         "wraises-j7p56(0).root(0).raises(0).executor(0)"),
        # the driver's tries do not count for the task, those of the task do
        ("retry-1", "fraction", "retry-ggg22-retry-system-container-impl-2137589064",
         "retry-ggg22(0).root(0).fraction(2).executor(0)"),
        # without the block: no tries
        ("wraises-2", "raises", "wraises-6gwtn-system-container-impl-1331741672",
         "wraises-6gwtn.root.raises.executor"),
        # without the block, but with a retry policy: the last of three
        ("retry-2", "plain", "retry-g64wc-retry-system-container-impl-4082543179",
         "retry-g64wc.root.plain.executor(2)"),
        # labels and annotations have a template of their own
        ("settings-1", "place", "settings-plxbb-metadata-1-1-system-container-impl-2292870609",
         "settings-plxbb(0).root(0).place-ab8ae1ad2c22(0).executor(0)"),
    ],
)  # fmt: skip
def test_a_pod_is_named_by_the_last_try(name, node, pod, full_name):
    task = ClusterRun(read(name)).nodes[node]

    assert task.pod == pod
    assert pod.rpartition("-")[2] == hash_node_name(
        full_name.replace("place-ab8ae1ad2c22", task.name)
    )


@pytest.mark.parametrize(
    ("name", "node", "pod"),
    [
        ("digits-1", "parts", "digits-p5g7p-system-container-driver-3142233449"),
        ("twice-1", "use", "twice-h62dp-system-container-driver-393537209"),
    ],
)
def test_a_failed_driver_is_known_with_its_pod_and_its_times(name, node, pod):
    task = ClusterRun(read(name)).nodes[node]

    assert (task.state, task.has_failed_driver, task.driver_pod, task.pod) == (
        "FAILED",
        True,
        pod,
        "",
    )
    assert task.seconds == 4.0


@pytest.mark.parametrize(
    ("name", "node", "began", "ended"),
    [
        ("wraises-1", "raises", "16:10:15", "16:10:47"),
        ("wraises-2", "raises", "16:30:00", "16:30:20"),
        ("retry-1", "fraction", "16:04:37", "16:05:23"),
        ("evict-1", "evicted", "16:48:26", "16:50:00"),
    ],
)
def test_times_are_those_of_all_tries_together(name, node, began, ended):
    task = ClusterRun(read(name)).nodes[node]

    assert f"{task.began:%H:%M:%S}" == began
    assert f"{task.ended:%H:%M:%S}" == ended


def test_parts_of_a_tasks_time_come_from_its_pod_not_from_argos_nodes_around_it():
    task = ClusterRun(read("wraises-1")).nodes["raises"]

    spans = [
        (
            span.name,
            *(f"{datetime.fromtimestamp(time, timezone.utc):%H:%M:%S}" for time in span[1:]),
        )
        for span in list_spans(task.driver, task.step)
    ]

    assert spans == [
        ("driver", "16:09:44", "16:09:57"),
        ("queue, pull", "16:10:15", "16:10:37"),
        ("run", "16:10:37", "16:10:37"),
    ]


def test_what_several_pods_may_be_is_told_of_none():
    # three pods began in the same second, and have no ids
    task = ClusterRun(read("wexits-2")).nodes["exit 3"]

    assert "state_history" not in task.step
    assert task.step["state"] == "FAILED"


def test_two_hundred_nodes_in_fifty_pods_are_all_told():
    run = ClusterRun(read("big-2"))

    assert not run.details.is_cut
    assert collections.Counter(task.state for task in run.tasks) == {"SUCCEEDED": 51}


class TestTooLarge:
    """Above 1 MiB the named rows are those of the first seconds."""

    def test_a_run_that_succeeded_has_no_node_that_waits(self):
        run = ClusterRun(read("big-1"))

        assert run.details.is_cut
        assert {task.state for task in run.tasks} == {"SUCCEEDED"}

    def test_a_run_that_failed_is_not_known_without_the_metadata_store(self):
        run = ClusterRun(read("big300-1"))

        assert run.details.is_cut
        assert run.details.finished == 84
        assert {task.state for task in run.tasks} == {"UNKNOWN"}

    @pytest.mark.parametrize(
        ("execution", "over", "under_way"),
        [
            (
                TaskExecution("COMPLETE", "big300-sdrfx-system-container-impl-1"),
                "SUCCEEDED",
                "SUCCEEDED",
            ),
            (TaskExecution("CACHED"), "CACHED", "CACHED"),
            (TaskExecution("FAILED", "big300-sdrfx-system-container-impl-1"), "FAILED", "FAILED"),
            (
                TaskExecution("RUNNING", "big300-sdrfx-system-container-impl-1"),
                "UNKNOWN",
                "RUNNING",
            ),
            (TaskExecution("RUNNING"), "UNKNOWN", "PENDING"),
            (None, "", ""),
        ],
    )
    def test_states_come_from_the_metadata_store(self, execution, over, under_way):
        executions = {"n7": execution} if execution else {}
        ended = ClusterRun(read("big300-1"), executions)
        running = ClusterRun(read("big300-1", state="RUNNING", finished_at=None), executions)

        for run, state in ((ended, over), (running, under_way)):
            assert run.nodes["n7"].state == state
            assert run.nodes["n8"].state == ""
            pod = execution.pod if execution else ""
            assert run.nodes["n7"].pod == ("" if state == "CACHED" else pod)

    def test_a_run_under_way_is_noticed_by_tasks_that_finished_after_the_last_update(self):
        answer = read("big300-1", state="RUNNING", finished_at=None)
        named = [row for row in answer["run_details"]["task_details"] if "display_name" in row]
        before = {**answer, "run_details": {"task_details": named}}

        assert ClusterRun(answer).details.is_cut
        assert {task.state for task in ClusterRun(answer).tasks} == {"UNKNOWN"}
        assert not ClusterRun(before).details.is_cut

    def test_a_large_run_without_news_is_worth_asking_the_metadata_store(self):
        answer = read("big300-1", state="RUNNING", finished_at=None)
        named = [row for row in answer["run_details"]["task_details"] if "display_name" in row]
        quiet = {**answer, "run_details": {"task_details": named}}

        assert ClusterRun(quiet).details.is_quiet
        assert ClusterRun(quiet).nodes["n7"].state == ""
        assert ClusterRun(quiet, {"n7": TaskExecution("COMPLETE")}).nodes["n7"].state == "SUCCEEDED"

    @pytest.mark.parametrize("name", [name for name in EXPECTED if name != "by-version-1"])
    def test_no_other_run_is_taken_for_one(self, name):
        assert not ClusterRun(read(name)).details.is_cut


class TestCanceled:
    def test_a_task_that_had_failed_before_stays_failed(self):
        answer = read("wsleeps-2")
        for row in answer["run_details"]["task_details"]:
            if row["display_name"] in ("sleeps", "executor"):
                row["end_time"] = "2026-11-30T16:30:40Z"  # canceled at 16:31:00

        assert ClusterRun(answer).nodes["sleeps"].state == "FAILED"

    @pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING", "CANCELING"])
    def test_only_a_run_that_ended_badly_counts_as_canceled(self, state):
        assert ClusterRun(read("wsleeps-2", state=state)).state == state

    def test_tasks_that_had_succeeded_stay_so(self):
        history = [
            *read("wraises-1")["state_history"][:2],
            {"update_time": "2026-11-30T16:10:00Z", "state": "CANCELING"},
        ]
        run = ClusterRun(read("digits-1", state_history=history))

        assert run.state == "CANCELED"
        assert run.nodes["digits"].state == "SUCCEEDED"
        assert {run.nodes[node].state for node in DIGITS[1:]} == {"FAILED", "CANCELED"}


class TestUnderWay:
    """Moments of runs, made from their last answers."""

    def take(self, name, moment):
        """Return a run as its rows were at a time of day."""
        answer = read(name, state="RUNNING", finished_at=None)
        time = f"2026-11-30T{moment}Z"
        rows = []
        for row in answer["run_details"]["task_details"]:
            history = [one for one in row.get("state_history", ()) if one["update_time"] <= time]
            if history:
                state = {"state": history[-1]["state"]} if "state" in history[-1] else {}
                is_open = history[-1].get("state") in ("PENDING", "RUNNING")
                end = "0001-01-01T00:00:00Z" if is_open else row["end_time"]
                rest = {key: value for key, value in row.items() if key != "state"}
                rows.append({**rest, **state, "state_history": history, "end_time": end})
        return ClusterRun({**answer, "run_details": {"task_details": rows}})

    @pytest.mark.parametrize(
        ("name", "moment", "states"),
        [
            ("wsleeps-1", "16:09:50", ["", ""]),  # its driver runs
            ("wsleeps-1", "16:10:30", ["PENDING", ""]),  # its pod waits
            ("wsleeps-1", "16:11:00", ["RUNNING", ""]),
            ("wsleeps-2", "16:30:10", ["PENDING", ""]),
            ("wsleeps-2", "16:30:30", ["RUNNING", ""]),
            ("pending-1", "16:46:00", ["PENDING"] * 5),
        ],
    )
    def test_a_pod_that_waits_is_not_a_task_that_runs(self, name, moment, states):
        run = self.take(name, moment)

        assert [task.state for task in run.tasks] == states

    def test_the_metadata_store_tells_pods_apart_whose_rows_are_alike(self):
        plain = self.take("wexits-1", "16:10:40")  # some wait and some run, since the same second
        pod = plain.nodes["exit 3"].pod
        known = {
            plain.nodes["exit 3"].name: TaskExecution("RUNNING", pod),
            plain.nodes["hard 5"].name: TaskExecution("RUNNING"),
        }
        run = ClusterRun(plain.answer, known)

        assert run.nodes["exit 3"].state == "RUNNING"
        assert run.nodes["hard 5"].state == "PENDING"


def test_the_metadata_store_decides_whether_a_task_was_cached():
    # without tries, a cached task and a short one look alike
    answer = read("wexits-2")
    run = ClusterRun(answer)
    name = run.nodes["hard 0"].name

    assert run.nodes["hard 0"].state == "CACHED"
    assert (
        ClusterRun(answer, {name: TaskExecution("COMPLETE")}).nodes["hard 0"].state == "SUCCEEDED"
    )


def test_the_metadata_store_knows_the_template_of_a_pod_and_argo_the_last_try():
    answer = read("retry-1")
    first = f"retry-ggg22-new-template-{hash_node_name('retry-ggg22(0).root(0).fraction(0).executor(0)')}"

    task = ClusterRun(answer, {"fraction": TaskExecution("FAILED", first)}).nodes["fraction"]

    assert task.pod == "retry-ggg22-new-template-2137589064"
