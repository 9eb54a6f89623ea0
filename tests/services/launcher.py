"""What KFP's launcher does around the command of a task: inputs, placeholders, outputs.

Written from the behaviour of backend/src/v2/component/launcher_v2.go of kubeflow/pipelines, 2.17.0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.services.executor_input import LOGS, format_parameter
from tests.services.object_store import ObjectStore, get_local_path
from tests.services.pod_log import Upload
from tests.services.protojson import format_message

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value


@dataclass(frozen=True)
class Pod:
    """What the container of a task is to run.

    Attributes:
        name: The name of the pod.
        folder: Stands for "/" as far as the launcher fills it (inputs) and reads it (outputs): what lies in
            folder/minio/… is at /minio/… in the pod before the command, and comes back after it.
        resources: The container's, as the pipeline has them.
        kubernetes: The KubernetesExecutorConfig.
        show: Takes what the program has printed so far, while it runs.
        kept: Folders of the container that come back after the command: mounted claims.
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
    kept: tuple[str, ...] = ()
    show: Callable[[str], None] = lambda _: None

    @property
    def deadline_s(self) -> float:
        """How long it may run."""
        return (self.kubernetes and self.kubernetes.active_deadline_seconds) or float("inf")


@dataclass(frozen=True)
class Ending:
    """How a pod ended.

    Attributes:
        exit_code: Of the program, not of the launcher.
        log: What the program printed.
        error: Why the container never started, in Kubernetes' words ("ImagePullBackOff: …"). Such a pod waits
            until the run is terminated; KFP 2.17.0 seen on a real installation shows it as PENDING.
        reason: What the launcher says instead of the exit code, for a program that it cannot start.
        is_killed: Kubernetes killed the pod (deadline, termination): the launcher has no last words.
        is_lost: The pod was deleted or evicted, or its machine was lost: Argo calls that "Error".
        is_out_of_memory: The kernel killed a process of the container because of its memory limit.
    """

    exit_code: int = 0
    log: str = ""
    error: str = ""
    reason: str = ""
    is_killed: bool = False
    is_lost: bool = False
    is_out_of_memory: bool = False


# Runs the pod's command and brings the changes into pod.folder.
Launch = Callable[[Pod], Ending]


class LauncherError(Exception):
    """The launcher fails a task: its outputs cannot be taken."""


def prepare_pod(folder: Path, executor_input: Any, store: ObjectStore) -> None:
    """Put the inputs and the folders of the outputs below folder.

    An input that is not in the bucket is not there, and nothing is said about it: the launcher lists what
    lies below the key and downloads that (objectstore.DownloadBlob, 2.17.0).
    """
    for items in executor_input.inputs.artifacts.values():
        for artifact in items.artifacts:
            store.download(artifact.uri, inside(folder, get_local_path(artifact.uri)))
    for output in executor_input.outputs.parameters.values():
        inside(folder, output.output_file).parent.mkdir(parents=True, exist_ok=True)
    for items in executor_input.outputs.artifacts.values():
        path = get_local_path(items.artifacts[0].uri)
        inside(folder, path).parent.mkdir(parents=True, exist_ok=True)


def fill_placeholders(text: str, executor_input: Any) -> str:
    """Return one argument with its placeholders replaced: the whole ExecutorInput first."""
    text = text.replace("{{$}}", format_message(executor_input))
    for placeholder, value in _list_placeholders(executor_input).items():
        text = text.replace(placeholder, value)
    return text


def read_said(folder: Path, executor_input: Any) -> str | None:
    """Return the text of the file in which the program describes its outputs; None if there is none."""
    path = inside(folder, executor_input.outputs.output_file)
    return path.read_text(errors="replace") if path.exists() else None


def collect_outputs(
    folder: Path, executor_input: Any, component: Any, store: ObjectStore
) -> tuple[dict[str, Value], dict[str, Any], list[Upload]]:
    """Return parameters, artifacts (uploaded) and what was uploaded, of a pod whose command succeeded.

    Raises:
        LauncherError: For an output file that is no ExecutorOutput and a missing parameter.

    A missing artifact is only a warning, and is registered nevertheless; a missing `executor-logs` is not.
    """
    output = _read_executor_output(inside(folder, executor_input.outputs.output_file))
    parameters = dict(output.parameter_values)
    for name, definition in component.output_definitions.parameters.items():
        if name not in parameters:
            path = executor_input.outputs.parameters[name].output_file
            parameters[name] = _read_parameter(inside(folder, path), name, definition)
    artifacts, uploads = {}, []
    for name, items in sorted(executor_input.outputs.artifacts.items()):
        artifact = items.artifacts[0]
        if name != LOGS and name in output.artifacts and output.artifacts[name].artifacts:
            _merge(output.artifacts[name].artifacts[0], artifact)
        upload = _upload(folder, name, artifact, store)
        uploads.append(upload)
        if upload.exists or name != LOGS:
            artifacts[name] = artifact
    return parameters, artifacts, uploads


def collect_logs(
    folder: Path, executor_input: Any, store: ObjectStore
) -> tuple[dict[str, Any], list[Upload]]:
    """Return the artifact `executor-logs` of a pod whose command failed: the only one that is kept then."""
    if LOGS not in executor_input.outputs.artifacts:
        return {}, []
    artifact = executor_input.outputs.artifacts[LOGS].artifacts[0]
    upload = _upload(folder, LOGS, artifact, store)
    return ({LOGS: artifact} if upload.exists else {}), [upload]


def write_logs(folder: Path, executor_input: Any, output: str) -> None:
    """Keep what the program printed where the artifact `executor-logs` is, as the launcher does meanwhile."""
    if LOGS in executor_input.outputs.artifacts:
        uri = executor_input.outputs.artifacts[LOGS].artifacts[0].uri
        inside(folder, get_local_path(uri)).write_text(output)


def _upload(folder: Path, name: str, artifact: Any, store: ObjectStore) -> Upload:
    path = artifact.custom_path or str(get_local_path(artifact.uri))
    exists = store.upload(inside(folder, path), artifact.uri)
    key = artifact.uri.partition("://")[2].partition("/")[2]
    return Upload(name, path, key, exists)


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


def inside(folder: Path, path: str | Path) -> Path:
    """Return a path of the container as a path on this machine."""
    return folder / str(path).lstrip("/")
