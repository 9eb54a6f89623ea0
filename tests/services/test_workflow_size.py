"""Runs whose workflow object is large, against two that were recorded."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.services.argo import Argo, list_nodes
from tests.services.cluster import Cluster
from tests.services.kfp_pipeline import read_pipeline
from tests.services.kfp_run import Run
from tests.services.kfp_script import Script, list_steps
from tests.services.launcher import Ending
from tests.services.workflow_size import Size

RECORDED = Path(__file__).with_name("recorded")
IMAGE = f"localhost:5000/ff/big@sha256:{'9d4b7a87' * 8}"
ARTIFACT = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
PARAMETER = {"defaultValue": 1, "isOptional": True, "parameterType": "NUMBER_INTEGER"}
GIVEN = {"parameters": {"x": PARAMETER}}
WIDTH = 120  # tasks that begin at once
BYTES_OF_200 = 1_041_143  # of the recorded run, of 1,048,576


def make_large(count: int) -> dict[str, Any]:
    """Return a pipeline of tasks as large as those of the recorded runs, whose document was not kept."""
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    names = [f"step-{number}-{digest[:12]}" for number, digest in enumerate(digests)]
    components, executors, tasks = {}, {}, {}
    for number, (name, digest) in enumerate(zip(names, digests, strict=True)):
        components[f"comp-{name}"] = {
            "executorLabel": f"exec-{name}",
            "inputDefinitions": {"artifacts": {"x": ARTIFACT}} if number >= WIDTH else GIVEN,
            "outputDefinitions": {"artifacts": {"result": ARTIFACT}},
        }
        args = ["--file", "big.py", "--workflow", "big", "--node", f"step_{number}"]
        args += ["--executor-input", "{{$}}", "--fingerprint", f"sha256:{digest}"]
        container = {
            "image": IMAGE,
            "command": ["python3", "/opt/fftasks/fftasks/runner/start.py", "fftasks.runner"],
            "args": args,
            "env": [{"name": "FFFUNCTION", "value": f"step_{number}"}],
        }
        executors[f"exec-{name}"] = {"container": container}
        task: dict[str, Any] = {
            "cachingOptions": {"cacheKey": digest[:40], "enableCache": True},
            "componentRef": {"name": f"comp-{name}"},
            "taskInfo": {"name": f"step_{number}"},
        }
        if number < WIDTH:
            task["inputs"] = {"parameters": {"x": {"runtimeValue": {"constant": number}}}}
        else:
            producer = names[number - WIDTH]
            source = {"producerTask": producer, "outputArtifactKey": "result"}
            task["inputs"] = {"artifacts": {"x": {"taskOutputArtifact": source}}}
            task["dependentTasks"] = [producer]
        tasks[name] = task
    return {
        "pipelineInfo": {"name": "big"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "fftasks-0.1.0",
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}},
    }


def start(count: int, folder: Path, argo: Argo | None = None) -> Run:
    pipeline = read_pipeline(make_large(count))
    run = Run(pipeline, {}, {"display_name": "big"}, argo=argo or Argo())
    run.move("PENDING")
    run.execute(Cluster(lambda _: Ending(), folder, workers=4))
    return run


def load(name: str) -> Any:
    return json.loads(gzip.decompress((RECORDED / f"{name}.json.gz").read_bytes()))


def list_names(shown: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names without what is random, and states, of the rows that have some."""
    rows = shown["run_details"]["task_details"]
    pairs = [(row["display_name"], row["state"]) for row in rows if "display_name" in row]
    return sorted((re.sub("^big(300)?-.....", "big", name), state) for name, state in pairs)


def count_nameless(shown: dict[str, Any]) -> int:
    return sum("display_name" not in row for row in shown["run_details"]["task_details"])


def test_200_tasks_end_just_below_the_limit_and_have_rows_without_names(tmp_path: Path) -> None:
    recorded = load("big-1")

    run = start(200, tmp_path)

    size = Size(run).measure(list_nodes(run), is_compressed=True)
    assert size == pytest.approx(BYTES_OF_200, rel=0.01)
    shown = run.to_json()
    assert shown["state"] == "SUCCEEDED"
    assert count_nameless(shown) == count_nameless(recorded) == 200
    assert list_names(shown) == list_names(recorded)


def test_299_tasks_are_taken_and_fail_on_the_way(tmp_path: Path) -> None:
    recorded = load("big300-1")

    run = start(299, tmp_path)

    shown = run.to_json()
    assert shown["state"] == recorded["state"] == "FAILED"
    assert list_names(shown) == list_names(recorded)
    # tasks that had succeeded by then: how many depends on the speed of the machine, 84 on the real cluster
    assert count_nameless(recorded) == 84
    assert 0 < count_nameless(shown) < 299


def test_limits_can_be_lowered(tmp_path: Path) -> None:
    run = start(3, tmp_path, Argo(compress_bytes=1, max_bytes=1 << 20))

    assert count_nameless(run.to_json()) == 3
    assert len(list_names(run.to_json())) == 4
    assert start(3, tmp_path, Argo(max_bytes=1, compress_bytes=1)).state == "FAILED"


def test_rows_of_a_run_that_grows_stay_as_they_were(tmp_path: Path) -> None:
    tasks = sorted(make_large(3)["root"]["dag"]["tasks"])
    pipeline = read_pipeline(make_large(3))
    run = Run(pipeline, {}, {"display_name": "big"})
    run.execute(Script(*list_steps(tasks[:1], "RUNNING", "SUCCEEDED")))
    before = run.to_json()["run_details"]["task_details"]

    run.argo = Argo(compress_bytes=1)
    run.get_task(tasks[1]).move("RUNNING")

    assert run.to_json()["run_details"]["task_details"] == before
