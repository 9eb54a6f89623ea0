"""What KFP's launcher does around the command of a task: inputs, placeholders, outputs.

Written from the behaviour of backend/src/v2/component/launcher_v2.go of kubeflow/pipelines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.services.executor_input import format_parameter
from tests.services.object_store import ObjectStore, get_local_path
from tests.services.protojson import format_message

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value


@dataclass(frozen=True)
class Pod:
    """What the container of a task is to run.

    folder: stands for "/" as far as the launcher fills it (inputs) and reads it (outputs): what
    lies in folder/minio/… is at /minio/… in the pod before the command, and comes back after it.
    resources: the container's, as the pipeline has them; kubernetes: the KubernetesExecutorConfig
    """

    name: str
    image: str
    command: list[str]
    args: list[str]
    env: dict[str, str]
    folder: Path
    is_terminated: threading.Event = field(default_factory=threading.Event)
    resources: Any = None
    kubernetes: Any = None

    @property
    def deadline_s(self) -> float:
        """How long it may run."""
        return (self.kubernetes and self.kubernetes.active_deadline_seconds) or float("inf")


@dataclass(frozen=True)
class Ending:
    """How a pod ended. error: why it never started, in the cluster's words (ImagePullBackOff: …)."""

    exit_code: int = 0
    log: str = ""
    error: str = ""


# Runs the pod's command and brings the changes into pod.folder.
Launch = Callable[[Pod], Ending]


class LauncherError(Exception):
    """The launcher fails a task: its command failed, or its outputs cannot be taken."""


def prepare_pod(folder: Path, executor_input: Any, store: ObjectStore) -> list[str]:
    """Put the inputs and the folders of the outputs below folder; return the launcher's warnings."""
    warnings = []
    for name, items in executor_input.inputs.artifacts.items():
        for artifact in items.artifacts:
            path = get_local_path(artifact.uri)
            if not store.download(artifact.uri, _inside(folder, path)):
                warnings.append(f"input artifact {name!r}: nothing at {artifact.uri}")
    for output in executor_input.outputs.parameters.values():
        _inside(folder, output.output_file).parent.mkdir(parents=True, exist_ok=True)
    for items in executor_input.outputs.artifacts.values():
        path = get_local_path(items.artifacts[0].uri)
        _inside(folder, path).parent.mkdir(parents=True, exist_ok=True)
    return warnings


def fill_placeholders(text: str, executor_input: Any) -> str:
    """Return one argument with its placeholders replaced: the whole ExecutorInput first."""
    text = text.replace("{{$}}", format_message(executor_input))
    for placeholder, value in _list_placeholders(executor_input).items():
        text = text.replace(placeholder, value)
    return text


def collect_outputs(
    folder: Path, executor_input: Any, component: Any, store: ObjectStore
) -> tuple[dict[str, Value], dict[str, Any], list[str]]:
    """Return parameters, artifacts (uploaded) and warnings of a pod whose command succeeded.

    Raises LauncherError for an output file that is no ExecutorOutput and a missing parameter.
    A missing artifact is only a warning, as on a cluster.
    """
    output = _read_executor_output(_inside(folder, executor_input.outputs.output_file))
    parameters = dict(output.parameter_values)
    for name, definition in component.output_definitions.parameters.items():
        if name not in parameters:
            path = executor_input.outputs.parameters[name].output_file
            parameters[name] = _read_parameter(_inside(folder, path), name, definition)
    artifacts, warnings = {}, []
    for name, items in executor_input.outputs.artifacts.items():
        artifact = items.artifacts[0]
        if name in output.artifacts and output.artifacts[name].artifacts:
            _merge(output.artifacts[name].artifacts[0], artifact)
        path = artifact.custom_path or get_local_path(artifact.uri)
        if not store.upload(_inside(folder, path), artifact.uri):
            warnings.append(f"Local filepath {str(path)!r} does not exist")
        artifacts[name] = artifact
    return parameters, artifacts, warnings


def _list_placeholders(executor_input: Any) -> dict[str, str]:
    found = {}
    for direction in ("inputs", "outputs"):
        for name, items in getattr(executor_input, direction).artifacts.items():
            key = f"$.{direction}.artifacts['{name}']"
            found["{{" + key + ".uri}}"] = items.artifacts[0].uri
            found["{{" + key + ".path}}"] = str(get_local_path(items.artifacts[0].uri))
    for name, value in executor_input.inputs.parameter_values.items():
        found["{{$.inputs.parameters['" + name + "']}}"] = format_parameter(value)
    for name, output in executor_input.outputs.parameters.items():
        found["{{$.outputs.parameters['" + name + "'].output_file}}"] = output.output_file
    return found


def _read_executor_output(path: Path) -> Any:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    if not path.exists():
        return ir.ExecutorOutput()
    try:
        return json_format.Parse(path.read_bytes(), ir.ExecutorOutput())
    except (json_format.ParseError, UnicodeDecodeError) as exc:
        raise LauncherError(
            f"failed to unmarshall ExecutorOutput in file {path.name}: {exc}"
        ) from exc


def _read_parameter(path: Path, name: str, definition: Any) -> Value:
    from google.protobuf import json_format, struct_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    kind = ir.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
    try:
        text = path.read_text()
        if kind == "STRING":
            return struct_pb2.Value(string_value=text)
        value: Value = json_format.Parse(text, struct_pb2.Value())
    except (OSError, ValueError, json_format.ParseError) as exc:
        raise LauncherError(
            f"failed to read output parameter name={name!r} type={kind!r}: {exc}"
        ) from exc
    return value


def _merge(said: Any, artifact: Any) -> None:
    """Take over what the component said about its output."""
    if said.uri:
        artifact.uri = said.uri
    if said.HasField("metadata"):
        for key, value in said.metadata.fields.items():
            artifact.metadata.fields[key].CopyFrom(value)
    if said.custom_path:
        artifact.custom_path = said.custom_path


def _inside(folder: Path, path: str | Path) -> Path:
    return folder / str(path).lstrip("/")
