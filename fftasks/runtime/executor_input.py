"""KFP's ExecutorInput, the one argument of a task in the container: read as a job, answered with a file.

Standard library only. What stands in the JSON is decided by KFP's launcher, or by kfp.local:

    inputs.artifacts.<input>.artifacts[0].uri       where the launcher put an upstream result
    inputs.parameterValues.<argument>               a constant, or what somebody set instead
    outputs.artifacts.<output>.artifacts[0].uri     where the launcher takes a result from
    outputs.outputFile                              where it looks for what is to be known about them
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.errors import ToolError, WorkflowError
from fftasks.runtime.call import list_outputs, number_inputs
from fftasks.runtime.job import Job, Report
from fftasks.workflow.node import Node

_MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
_WORKSPACE = "/kfp-workspace/.artifacts"
_MAX_EXACT = 2**53
_MAX_SHOWN = 100


def read_job(document: Mapping[str, Any], node: Node) -> Job:
    """Return the job that an ExecutorInput describes, and make the folders of its outputs.

    Raises WorkflowError if it was made for another version of the node, and ToolError for a URI that the
    launcher puts nowhere.
    """
    given = document.get("inputs", {})
    inputs = _locate_all(given.get("artifacts", {}))
    outputs = _locate_all(document.get("outputs", {}).get("artifacts", {}))
    values = given.get("parameterValues", {})
    _check_names(node, "inputs", number_inputs(node).keys() - inputs.keys(), "are missing")
    _check_names(node, "outputs", set(list_outputs(node)) - outputs.keys(), "are missing")
    _check_names(node, "parameters", values.keys() - node.arguments.keys(), "are unknown to it")
    for path in outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    parameters = {name: restore(value, node.arguments[name]) for name, value in values.items()}
    return Job(workflow="", node=node.name, inputs=inputs, outputs=outputs, parameters=parameters)


def write_outputs(document: Mapping[str, Any], node: Node, report: Report) -> None:
    """Write outputs.outputFile: what KFP is to know about the outputs; nothing if it is not asked for."""
    outputs = document.get("outputs", {})
    if not outputs.get("outputFile"):
        return
    artifacts = {
        name: {"artifacts": [_describe(node, name, listed["artifacts"][0])]}
        for name, listed in outputs.get("artifacts", {}).items()
        if name in report.outputs
    }
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"artifacts": artifacts}, sort_keys=True), encoding="utf-8")
    temporary.replace(path)


def locate(artifact: Mapping[str, Any]) -> str:
    """Return the path at which KFP's launcher has an artifact, input or output.

    artifact                        path
    customPath /any/where           /any/where
    minio://bucket/key              /minio/bucket/key
    s3://bucket/key                 /s3/bucket/key
    gs://bucket/key                 /gcs/bucket/key
    oci://registry/name:tag         /oci/registry_name:tag/models
    s3://bucket/key in a workspace  /kfp-workspace/.artifacts/s3/bucket/key
    /any/where                      /any/where (kfp.local)

    Raises ToolError for any other URI. Source: LocalPathForURI in kubeflow/pipelines, launcher_v2.go.
    """
    uri = str(artifact.get("uri", ""))
    if artifact.get("customPath"):
        return str(artifact["customPath"])
    if uri.startswith("/"):
        return uri
    if uri.startswith("oci://"):
        return f"/oci/{uri.removeprefix('oci://').replace('/', '_')}/models"
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            path = mount + uri.removeprefix(scheme)
            in_workspace = artifact.get("metadata", {}).get("_kfp_workspace") is True
            return _WORKSPACE + path if in_workspace else path
    raise ToolError(
        f"Kubeflow Pipelines gave an artifact at {uri!r}, which is no path in a container",
        found=[f"known: {', '.join([*_MOUNTS, 'oci://'])} and absolute paths"],
        tip="look at the pipeline root that the run was started with",
    )


def restore(value: Any, template: Any) -> Any:
    """Return a parameter that KFP carried as JSON with the types of the constant in the graph.

    value                             template      result
    equal to the template             any           the template itself (-0.0 stays -0.0)
    4.0 (a double on the way)         3             4
    3 (3.0, as Go writes it)          2.5           3.0
    [3, 4.0, 5.0]                     [1, 2]        [3, 4, 5]: what was added is like the last item
    {"a": 1.0, "new": 2.0}            {"a": 3}      {"a": 1, "new": 2}
    3.5, "x", True                    3             as it is: somebody chose another type

    A number that no template speaks for is an int if it is whole.
    """
    if _is_same(value, template):
        return template
    if isinstance(value, list):
        like = template if isinstance(template, list) else []
        like = [*like, *like[-1:] * len(value)] or [None] * len(value)
        return [restore(item, template) for item, template in zip(value, like, strict=False)]
    if isinstance(value, dict):
        known = template if isinstance(template, dict) else {}
        return {key: restore(item, known.get(key)) for key, item in value.items()}
    return _restore_number(value, template)


def _restore_number(value: Any, template: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(template, float):
        return float(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT
    return int(value) if whole else value


def _is_same(value: Any, template: Any) -> bool:
    # not ==, for which True is 1
    if isinstance(value, list) and isinstance(template, list):
        return len(value) == len(template) and all(map(_is_same, value, template))
    if isinstance(value, dict) and isinstance(template, dict):
        same_keys = value.keys() == template.keys()
        return same_keys and all(_is_same(value[key], template[key]) for key in value)
    if isinstance(value, bool) or isinstance(template, bool):
        return value is template
    if isinstance(value, (int, float)) and isinstance(template, (int, float)):
        return value == template
    return isinstance(value, str) and isinstance(template, str) and value == template


def _locate_all(artifacts: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: locate(listed["artifacts"][0])
        for name, listed in artifacts.items()
        if listed.get("artifacts")
    }


def _check_names(node: Node, what: str, names: set[str], problem: str) -> None:
    if names:
        raise WorkflowError(
            f"{node.name}: its {what} {', '.join(sorted(names))} {problem}",
            found=[
                "the component was made for another version of the node than the one in the image"
            ],
            tip="run `doit submit` again, or `doit components` and copy the component's file anew",
        )


def _describe(node: Node, output: str, artifact: Mapping[str, Any]) -> dict[str, Any]:
    shown = node.name if output == "result" else f"{node.name} ({output})"
    return {
        "name": artifact.get("name", output),
        "uri": artifact.get("uri", ""),
        # what the artifact is called in KFP's page. Little stands here, and no "{{": the metadata of all
        # inputs come back in one argument of the task that takes them, and placeholders are replaced there
        "metadata": {"display_name": shown[:_MAX_SHOWN]},
    }
