"""Translate KFP's ExecutorInput into a job, restore parameter types, and write the output file for KFP.

The ExecutorInput is a JSON argument of the container. KFP's launcher, or kfp.local, fills it in:

    inputs.artifacts.<input>.artifacts[0].uri       location of an upstream result; see name_object
    inputs.parameterValues.<argument>               a constant, or the value that the user set instead
    inputs.parameterValues.<name>                   a run parameter, named by name_parameters
    outputs.artifacts.<output>.artifacts[0].uri     location from which the launcher uploads a result
    outputs.outputFile                              path of the file with the metadata of the outputs

JSON carries every number as a double. The values in the graph tell which type a parameter had.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, UnresolvedValue, name_inputs
from fftasks.api.parameter import PARAMETER_TYPES
from fftasks.errors import ParameterError, ToolError, WorkflowError
from fftasks.runner.artifact import shorten_digest
from fftasks.runner.display_files import DISPLAY_FILES
from fftasks.runner.job import Job, Report, list_outputs, name_parameters

_MAX_EXACT = 2**53  # larger doubles do not represent every integer
_OBJECT = "self"
_MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
_WORKSPACE = "/kfp-workspace/.artifacts"
_MAX_SHOWN = 100  # characters of a text in metadata
_MAX_METRICS = 10  # in the metadata of a result
# Environment variable that limits the metadata of an artifact. Not set: all metadata; "type": no value;
# "name": the name and the digest only; "bare": the name only.
PREVIEW, NO_VALUE, NAME_ONLY, BARE = "FFPREVIEW", "type", "name", "bare"
# Property of the metadata with which `doit result` and `doit replay` verify a downloaded file.
DIGEST_KEY = "digest"
_HINT = (
    "hint: {node} returned a result that Kubeflow Pipelines' page could show, but its component does not"
    ' declare it: write @workflow(shows=["{kind}"])'
)


def restore_type(value: Any, template: Any) -> Any:
    """Convert a parameter that KFP passed as JSON to the types of the constant in the graph.

    value                             template      result
    equal to the template             any           the template itself (-0.0 stays -0.0)
    4.0 (a double on the way)         3             4
    3 (3.0, as Go writes it)          2.5           3.0
    [3, 4.0, 5.0]                     [1, 2]        [3, 4, 5]: added items are like the last one
    {"a": 1.0, "new": 2.0}            {"a": 3}      {"a": 1, "new": 2}
    3.5, "x", True                    3             unchanged: the user chose another type

    A number without a template becomes an int if it is whole.

    Args:
        value: The value from JSON.
        template: The constant in the graph.
    """
    if _is_same(value, template):
        return template
    if isinstance(value, list):
        like = template if isinstance(template, list) else []
        like = [*like, *like[-1:] * len(value)] or [None] * len(value)
        return [restore_type(item, template) for item, template in zip(value, like, strict=False)]
    if isinstance(value, dict):
        known = template if isinstance(template, dict) else {}
        return {key: restore_type(item, known.get(key)) for key, item in value.items()}
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


def restore_parameter(name: str, value: Any, default: Any) -> Any:
    """Convert the value of a run parameter to the type of its default.

    Args:
        name: Name of the parameter, for the message.
        value: The value from JSON.
        default: The default.

    Raises:
        ParameterError: The value has another type.
    """
    restored = restore_type(value, default)
    if type(restored) is type(default):
        return restored
    raise ParameterError(
        f"parameter {name!r} was given {value!r}",
        found=[f"it must be {PARAMETER_TYPES[type(default)]}, as its default {default!r} is"],
    )


def read_executor_input(document: Mapping[str, Any], node: Node) -> Job:
    """Return the job that an ExecutorInput describes, and create the folders of its outputs.

    Args:
        document: The ExecutorInput.
        node: The node that the container runs.

    Returns:
        The job.

    Raises:
        WorkflowError: The ExecutorInput was made for another version of the node.
        ParameterError: A run parameter has another type than its default.
        ToolError: A URI has no path in the container.
    """
    given = document.get("inputs", {})
    inputs = find_local_paths(given.get("artifacts", {}))
    outputs = find_local_paths(document.get("outputs", {}).get("artifacts", {}))
    values = given.get("parameterValues", {})
    given_name = name_object({*name_inputs(node), *node.arguments, *name_parameters(node)})
    if node.after is not None and given_name in inputs:
        inputs[_OBJECT] = inputs.pop(given_name)
    _check_names(node, "inputs", name_inputs(node).keys() - inputs.keys(), "are missing")
    _check_names(node, "outputs", set(list_outputs(node)) - outputs.keys(), "are missing")
    pending = name_parameters(node)
    known = node.arguments.keys() | pending.keys()
    _check_names(node, "parameters", values.keys() - known, "are unknown to it")
    for path in outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    parameters, inside = {}, {}
    for name, value in values.items():
        if name not in pending:
            parameters[name] = restore_type(value, node.arguments[name])
            continue
        parameter = pending[name]
        fitting = restore_parameter(parameter.name, value, parameter.default)
        if isinstance(node.arguments.get(name), UnresolvedValue):
            parameters[name] = fitting
        else:
            inside[parameter.name] = fitting
    return Job("", node.name, inputs, outputs, parameters=parameters, values=inside, foreign=True)


def name_object(taken: Collection[str]) -> str:
    """Return the component's name for the input "self", the object of a method call.

    kfp's SDK calls components with their inputs as keyword arguments, and "self" cannot be one of them.

    Args:
        taken: Names of the node's inputs, arguments and parameters.

    Returns:
        "object", with underscores behind it if the name is taken.
    """
    name = "object"
    while name in taken:
        name += "_"
    return name


def write_executor_output(
    document: Mapping[str, Any], node: Node, report: Report, pages: Path
) -> None:
    """Write the metadata of the outputs to outputs.outputFile, and the outputs that KFP's page displays.

    Args:
        document: The ExecutorInput.
        node: The node.
        report: Its report.
        pages: Folder with the files that display the result.
    """
    outputs = document.get("outputs", {}).get("artifacts", {})
    metadata: dict[str, dict[str, Any]] = {
        output: {
            "display_name": node.name if output == "result" else f"{node.name} ({output})",
            **describe_value(report, output),
            **describe_digest(digest),
        }
        for output, digest in report.outputs.items()
    }
    for kind, file in DISPLAY_FILES.items():
        if kind in outputs:
            metadata[kind] = {
                "display_name": f"{node.name} ({kind})",
                **_move_page(pages / file, Path(find_local_path(outputs[kind]["artifacts"][0]))),
            }
        elif file in report.pages:
            if kind == "metrics":
                metrics = list(json.loads((pages / file).read_bytes()).items())[:_MAX_METRICS]
                metadata["result"] |= {
                    f"metric {name}"[:_MAX_SHOWN]: value for name, value in metrics
                }
            print(_HINT.format(node=node.name, kind=kind))
    write_output_file(document, metadata)


def describe_value(report: Report, output: str) -> dict[str, Any]:
    """Return the metadata of an output: type and shape, and for a result its preview and duration."""
    traits = report.traits.get(output, {})
    metadata: dict[str, Any] = {name: shorten_metadata(text) for name, text in traits.items()}
    if output == "result":
        metadata["preview"] = shorten_metadata(report.previews.get("", ""))
        metadata["seconds"] = round(report.seconds, 3)
    return limit_metadata(metadata)


def describe_digest(digest: str) -> dict[str, str]:
    """Return the metadata with which a download is verified; {} if FFPREVIEW excludes them."""
    is_wanted = digest and os.environ.get(PREVIEW, "") != BARE
    return {DIGEST_KEY: shorten_digest(digest)} if is_wanted else {}


def limit_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a value's metadata that the environment variable FFPREVIEW allows."""
    level = os.environ.get(PREVIEW, "")
    if level in (NAME_ONLY, BARE):
        return {}
    allowed = dict(metadata)
    if level == NO_VALUE:
        allowed.pop("preview", None)
    return allowed


def _move_page(file: Path, target: Path) -> dict[str, Any]:
    """Move a display file to the path of its output; return the metadata from which KFP displays it."""
    if not file.exists():
        target.write_text("The function returned nothing to be shown here.\n", "utf-8")
        return {}
    shutil.move(file, target)
    if file.suffix != ".json":
        return {}
    content: dict[str, Any] = json.loads(target.read_bytes())
    return content


def shorten_metadata(text: str) -> str:
    """Shorten a text for metadata, and break up placeholders that Argo or Kubernetes would replace."""
    for found, harmless in (("{{", "{ {"), ("$(", "$ ("), ("$$", "$ $")):
        while found in text:
            text = text.replace(found, harmless)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def write_output_file(
    document: Mapping[str, Any], metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the metadata of outputs to outputs.outputFile, if the ExecutorInput has one.

    Args:
        document: The ExecutorInput.
        metadata: Output -> its metadata.
    """
    outputs = document.get("outputs", {})
    if not outputs.get("outputFile"):
        return
    artifacts = {
        name: {"artifacts": [_describe_artifact(name, metadata[name], listed["artifacts"][0])]}
        for name, listed in outputs.get("artifacts", {}).items()
        if name in metadata
    }
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"artifacts": artifacts}, sort_keys=True), encoding="utf-8")
    temporary.replace(path)


def find_local_path(artifact: Mapping[str, Any]) -> str:
    """Return the path in the container of an artifact, input or output.

    artifact                        path
    customPath /any/where           /any/where
    minio://bucket/key              /minio/bucket/key
    s3://bucket/key                 /s3/bucket/key
    gs://bucket/key                 /gcs/bucket/key
    oci://registry/name:tag         /oci/registry_name:tag/models
    s3://bucket/key in a workspace  /kfp-workspace/.artifacts/s3/bucket/key
    /any/where                      /any/where (kfp.local)

    Args:
        artifact: The artifact in the ExecutorInput.

    Raises:
        ToolError: The artifact has any other URI.

    Source: LocalPathForURI in kubeflow/pipelines, launcher_v2.go.
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
        f"Kubeflow Pipelines gave an artifact at {uri!r}, which has no path in a container",
        found=[f"known: {', '.join([*_MOUNTS, 'oci://'])} and absolute paths"],
        tip="check the pipeline root with which the run was started",
    )


def find_local_paths(artifacts: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of an ExecutorInput's input or output artifacts, by name."""
    return {
        name: find_local_path(listed["artifacts"][0])
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
            tip="run `doit submit` again, or `doit components` and copy the component file again",
        )


def _describe_artifact(
    output: str, metadata: Mapping[str, Any], artifact: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": artifact.get("name", output),
        "uri": artifact.get("uri", ""),
        # KFP's page shows display_name. Metadata must be short and without "{{": one argument of a downstream
        # task contains the metadata of all its inputs, and placeholders are replaced there.
        "metadata": {**metadata, "display_name": shorten_metadata(metadata["display_name"])},
    }
