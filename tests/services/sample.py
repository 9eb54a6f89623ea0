"""A small pipeline written by hand, and the program that its containers run; for tests of the services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# reads its ExecutorInput as any language could: no kfp, nothing but the standard library
PROGRAM = """
import json, os, pathlib, sys

name, executor_input = sys.argv[1], json.loads(sys.argv[2])
inputs, outputs = executor_input["inputs"], executor_input["outputs"]
local = lambda uri: pathlib.Path("/" + uri.replace("://", "/").replace("gs/", "gcs/", 1))
upstream = {
    key: json.loads(local(items["artifacts"][0]["uri"]).read_text())
    for key, items in inputs.get("artifacts", {}).items()
}
print("node", name, "in", os.environ["FFFUNCTION"], "attempt", os.environ.get("KFP_RETRY_INDEX", "none"))
if name == "fail":
    print("this goes wrong", file=sys.stderr)
    sys.exit(3)
result = {"parameters": inputs.get("parameterValues", {}), "upstream": upstream}
if name != "silent":
    path = local(outputs["artifacts"]["result"]["artifacts"][0]["uri"])
    path.write_text(json.dumps(result))
file = pathlib.Path(outputs["outputFile"])
file.parent.mkdir(parents=True, exist_ok=True)
said = {"artifacts": {"result": {"artifacts": [{"metadata": {"display_name": name}}]}}}
file.write_text(json.dumps(said))
"""
TYPES = {bool: "BOOLEAN", float: "NUMBER_DOUBLE", int: "NUMBER_INTEGER", str: "STRING"}
TYPES |= {list: "LIST", dict: "STRUCT"}


def make_pipeline(
    image: str, tasks: dict[str, dict[str, Any]], *, is_caching: bool = False
) -> dict[str, Any]:
    """Return the IR of a pipeline named "sample".

    tasks: name -> its constants, {"after": [names of upstream tasks]} among them.
    """
    spec: dict[str, Any] = {
        "pipelineInfo": {"name": "sample"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {},
        "deploymentSpec": {"executors": {}},
        "root": {"dag": {"tasks": {}}},
    }
    for name, given in tasks.items():
        constants = dict(given)
        upstream = constants.pop("after", [])
        spec["components"][f"comp-{name}"] = _make_component(name, constants, upstream)
        spec["deploymentSpec"]["executors"][f"exec-{name}"] = {
            "container": _make_container(image, name)
        }
        task = _make_task(name, constants, upstream)
        task["cachingOptions"] = {"enableCache": is_caching}
        spec["root"]["dag"]["tasks"][name] = task
    return spec


def write_pipeline(folder: Path, spec: dict[str, Any]) -> str:
    """Write a pipeline as a package of kfp's; return its path. JSON is YAML."""
    path = folder / "sample.yaml"
    path.write_text(json.dumps(spec))
    return str(path)


def add_kubernetes(spec: dict[str, Any], **executors: Any) -> dict[str, Any]:
    """Return a pipeline with what Kubernetes is to do, by name of the task."""
    labels = {f"exec-{task}": config for task, config in executors.items()}
    kubernetes = {"deploymentSpec": {"executors": labels}}
    return {"pipeline_spec": spec, "platform_spec": {"platforms": {"kubernetes": kubernetes}}}


def name_object(name: str) -> dict[str, Any]:
    """Return how a pipeline names an object of Kubernetes, as releases from 2.5 on read it."""
    return {"runtimeValue": {"constant": name}}


def _make_component(name: str, constants: dict[str, Any], upstream: list[str]) -> dict[str, Any]:
    artifact = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
    component: dict[str, Any] = {
        "executorLabel": f"exec-{name}",
        "outputDefinitions": {"artifacts": {"result": artifact}},
    }
    parameters = {key: {"parameterType": TYPES[type(value)]} for key, value in constants.items()}
    inputs = {"parameters": parameters, "artifacts": dict.fromkeys(upstream, artifact)}
    inputs = {kind: rows for kind, rows in inputs.items() if rows}
    return component | ({"inputDefinitions": inputs} if inputs else {})


def _make_container(image: str, name: str) -> dict[str, Any]:
    return {
        "image": image,
        "command": ["python3", "/program.py"],
        "args": [name, "{{$}}"],
        "env": [{"name": "FFFUNCTION", "value": name}],
    }


def _make_task(name: str, constants: dict[str, Any], upstream: list[str]) -> dict[str, Any]:
    artifacts = {
        key: {"taskOutputArtifact": {"producerTask": key, "outputArtifactKey": "result"}}
        for key in upstream
    }
    parameters = {key: {"runtimeValue": {"constant": value}} for key, value in constants.items()}
    inputs = {"parameters": parameters, "artifacts": artifacts}
    return {
        "taskInfo": {"name": name},
        "componentRef": {"name": f"comp-{name}"},
        "inputs": {kind: rows for kind, rows in inputs.items() if rows},
        "dependentTasks": upstream,
    }
