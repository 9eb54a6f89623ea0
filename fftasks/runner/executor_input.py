"""Values that were carried as JSON, where every number is a double: given their Python types again.

KFP's ExecutorInput, the one argument of a task in the container: read as a job, answered with a file.

Standard library only. What stands in the JSON is decided by KFP's launcher, or by kfp.local:

    inputs.artifacts.<input>.artifacts[0].uri       where the launcher put an upstream result; see name_object
    inputs.parameterValues.<argument>               a constant, or what somebody set instead
    inputs.parameterValues.<name>                   a run parameter, named as number_parameters names it
    outputs.artifacts.<output>.artifacts[0].uri     where the launcher takes a result from
    outputs.outputFile                              where it looks for what is to be known about them
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, Pending, number_inputs
from fftasks.api.parameter import KINDS
from fftasks.errors import ParameterError, ToolError, WorkflowError
from fftasks.runner.artifact import shorten_digest
from fftasks.runner.display_files import FILES
from fftasks.runner.job import Job, Report, list_outputs, number_parameters

_MAX_EXACT = 2**53


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


def restore_parameter(name: str, value: Any, default: Any) -> Any:
    """Return the value of a run parameter with the types of its default.

    Raises ParameterError if it is of another type.
    """
    restored = restore(value, default)
    if type(restored) is type(default):
        return restored
    raise ParameterError(
        f"parameter {name!r} was given {value!r}",
        found=[f"it must be {KINDS[type(default)]}, as its default {default!r} is"],
    )


_OBJECT = "self"
_MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
_WORKSPACE = "/kfp-workspace/.artifacts"
_MAX_SHOWN = 100
_MAX_NUMBERS = 10
# Environment variable that limits the metadata of an artifact. Not set: all metadata; "type": no value;
# "name": the name and the digest only; "bare": the name only.
PREVIEW, NO_VALUE, NAME_ONLY, BARE = "FFPREVIEW", "type", "name", "bare"
DIGEST = (
    "digest"  # the property that `doit result` and `doit replay` compare with a downloaded file
)
_HINT = (
    "hint: {node} returned what Kubeflow Pipelines' page could show, and its component does not say so: "
    'write @workflow(shows=["{kind}"])'
)


def read_job(document: Mapping[str, Any], node: Node) -> Job:
    """Return the job that an ExecutorInput describes, and make the folders of its outputs.

    Raises WorkflowError if it was made for another version of the node, ParameterError for a run parameter of
    another type, and ToolError for a URI that the launcher puts nowhere.
    """
    given = document.get("inputs", {})
    inputs = locate_all(given.get("artifacts", {}))
    outputs = locate_all(document.get("outputs", {}).get("artifacts", {}))
    values = given.get("parameterValues", {})
    given_name = name_object({*number_inputs(node), *node.arguments, *number_parameters(node)})
    if node.after is not None and given_name in inputs:
        inputs[_OBJECT] = inputs.pop(given_name)
    _check_names(node, "inputs", number_inputs(node).keys() - inputs.keys(), "are missing")
    _check_names(node, "outputs", set(list_outputs(node)) - outputs.keys(), "are missing")
    pending = number_parameters(node)
    known = node.arguments.keys() | pending.keys()
    _check_names(node, "parameters", values.keys() - known, "are unknown to it")
    for path in outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    parameters, inside = {}, {}
    for name, value in values.items():
        if name not in pending:
            parameters[name] = restore(value, node.arguments[name])
            continue
        parameter = pending[name]
        fitting = restore_parameter(parameter.name, value, parameter.default)
        if isinstance(node.arguments.get(name), Pending):
            parameters[name] = fitting
        else:
            inside[parameter.name] = fitting
    return Job("", node.name, inputs, outputs, parameters=parameters, values=inside, foreign=True)


def name_object(taken: Collection[str]) -> str:
    """Return the input of a component under which a method call takes its object, which is "self" elsewhere.

    kfp's SDK cannot be given that one: components are called, and Python takes it for their own.
    taken: the names of the node's inputs, arguments and parameters
    """
    name = "object"
    while name in taken:
        name += "_"
    return name


def write_outputs(document: Mapping[str, Any], node: Node, report: Report, pages: Path) -> None:
    """Write outputs.outputFile, what KFP is to know about the outputs, and the outputs that its page shows.

    pages: the folder with what is shown of the result
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
    for kind, file in FILES.items():
        if kind in outputs:
            metadata[kind] = {
                "display_name": f"{node.name} ({kind})",
                **_move_page(pages / file, Path(locate(outputs[kind]["artifacts"][0]))),
            }
        elif file in report.pages:
            metadata["result"] |= _read_numbers(pages / file)
            print(_HINT.format(node=node.name, kind=kind))
    write_output_file(document, metadata)


def describe_value(report: Report, output: str) -> dict[str, Any]:
    """Return what metadata have of an output: its type and shape; of a result, its beginning and its time."""
    told: dict[str, Any] = {k: shorten_metadata(v) for k, v in report.traits.get(output, {}).items()}
    if output == "result":
        told["preview"] = shorten_metadata(report.previews.get("", ""))
        told["seconds"] = round(report.seconds, 3)
    return limit_metadata(told)


def describe_digest(digest: str) -> dict[str, str]:
    """Return the metadata that verify a download of an artifact; {} if there is no room for them."""
    is_wanted = digest and os.environ.get(PREVIEW, "") != BARE
    return {DIGEST: shorten_digest(digest)} if is_wanted else {}


def limit_metadata(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return as much of what is told of a value as the environment lets be told."""
    level = os.environ.get(PREVIEW, "")
    if level in (NAME_ONLY, BARE):
        return {}
    return {name: one for name, one in told.items() if name != "preview" or level != NO_VALUE}


def _move_page(file: Path, target: Path) -> dict[str, Any]:
    """Put a file where the launcher takes it from; return the metadata in which KFP looks for it."""
    if not file.exists():
        target.write_text("The function returned nothing to be shown here.\n", "utf-8")
        return {}
    shutil.move(file, target)
    if file.suffix != ".json":
        return {}
    content: dict[str, Any] = json.loads(target.read_bytes())
    return content


def _read_numbers(file: Path) -> dict[str, Any]:
    if file.name != FILES["metrics"]:
        return {}
    numbers = list(json.loads(file.read_bytes()).items())[:_MAX_NUMBERS]
    return {f"metric {name}"[:_MAX_SHOWN]: value for name, value in numbers}


def shorten_metadata(text: str) -> str:
    """Return a text for metadata: short, and without what is replaced on its way through arguments."""
    for found, harmless in (("{{", "{ {"), ("$(", "$ ("), ("$$", "$ $")):
        while found in text:
            text = text.replace(found, harmless)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def write_output_file(document: Mapping[str, Any], metadata: Mapping[str, Mapping[str, Any]]) -> None:
    """Write outputs.outputFile, if it is asked for; metadata: of each output that there is."""
    outputs = document.get("outputs", {})
    if not outputs.get("outputFile"):
        return
    artifacts = {
        name: {"artifacts": [_describe(name, metadata[name], listed["artifacts"][0])]}
        for name, listed in outputs.get("artifacts", {}).items()
        if name in metadata
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


def locate_all(artifacts: Mapping[str, Any]) -> dict[str, str]:
    """Return the path of each artifact of an ExecutorInput's inputs or outputs, by its name."""
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
            tip="run `doit submit` again, or `doit components` and copy the component file again",
        )


def _describe(
    output: str, metadata: Mapping[str, Any], artifact: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": artifact.get("name", output),
        "uri": artifact.get("uri", ""),
        # display_name: what the artifact is called in KFP's page. Little stands here, and no "{{": the
        # metadata of all inputs come back in one argument of the task that takes them, and placeholders are
        # replaced there
        "metadata": {**metadata, "display_name": shorten_metadata(metadata["display_name"])},
    }
