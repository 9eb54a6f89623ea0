"""The ExecutorInput of a task, as the driver of KFP's backend makes it from pipeline and run."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.object_store import get_local_path
from tests.services.protojson import format_plain, format_value, to_value

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Value

    from tests.services.kfp_run import Run

LOGS = "executor-logs"  # the output that the driver adds, for what the program prints
LEGACY_OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"  # of backends before release 2.15
_TYPES = {
    "STRING": "string_value",
    "NUMBER_DOUBLE": "number_value",
    "NUMBER_INTEGER": "number_value",
    "BOOLEAN": "bool_value",
    "LIST": "list_value",
    "STRUCT": "struct_value",
}


class DriverError(Exception):
    """The driver cannot start a task; the task fails without a pod of its own."""


@dataclass(frozen=True)
class Paths:
    """Where a backend keeps the results of a run.

    root     where the buckets of the installation begin
    is_legacy  a fixed output file and no salt in the uri, as old backends have it
    """

    root: str = "minio://mlpipeline/v2/artifacts"
    is_legacy: bool = False

    def get_task_root(self, run: Run, task: str) -> str:
        """Return the uri below which a task's outputs lie; a new one at every call."""
        root = f"{(run.pipeline_root or self.root).rstrip('/')}/{run.pipeline.name}/{run.run_id}/{task}"
        return root if self.is_legacy else f"{root}/{uuid.uuid4()}"

    def get_output_file(self, task_root: str) -> str:
        """Return the path in the pod at which the launcher looks for the ExecutorOutput."""
        if self.is_legacy:
            return LEGACY_OUTPUT_FILE
        return str(get_local_path(task_root) / "output_metadata.json")


def make_executor_input(run: Run, task: str, paths: Paths) -> Message:
    """Return the ExecutorInput message of a task whose upstream tasks are done.

    Raises DriverError where a value is missing or of a wrong type.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    message = ir.ExecutorInput()
    # the driver always makes both: they are printed, even if empty
    message.inputs.SetInParent()
    message.outputs.SetInParent()
    for name, value in _resolve_parameters(run, task).items():
        message.inputs.parameter_values[name].CopyFrom(value)
    for name, source in run.pipeline.tasks[task].inputs.artifacts.items():
        output = source.task_output_artifact
        artifact = _get_output(run, output.producer_task, "artifacts", output.output_artifact_key)
        message.inputs.artifacts[name].artifacts.add().CopyFrom(artifact)
    _provide_outputs(message, run, task, paths)
    return message


def list_input_ids(message: Any) -> dict[str, list[int]]:
    """Return the ids of the input artifacts, by name of the input."""
    return {
        name: [int(artifact.name) for artifact in items.artifacts]
        for name, items in message.inputs.artifacts.items()
    }


def check_inputs_are_distinct(ids: dict[str, list[int]]) -> None:
    """Raise DriverError for an artifact that feeds two inputs.

    KFP 2.17.0 seen on a real installation: ML Metadata's table Event is unique in artifact, execution and
    type, so that creating the execution fails with "already exists"; the driver takes that for a second try
    (driver/container.go), looks for an execution without a name, and finds none.
    """
    every = [number for numbers in ids.values() for number in numbers]
    if len(set(every)) < len(every):
        problem = 'no execution found for type="system.ContainerExecution", name=""'
        raise DriverError(f"failed to lookup existing execution: {problem}")


def number_logs(message: Any, index: int) -> Any:
    """Return the ExecutorInput of one try: the place of `executor-logs` ends with the number of the try.

    From release 2.16.1 on (launcher_v2.go, qualifyExecutorLogsForRetry).
    """
    copy = type(message)()
    copy.CopyFrom(message)
    if LOGS in copy.outputs.artifacts:
        artifact = copy.outputs.artifacts[LOGS].artifacts[0]
        artifact.uri = f"{artifact.uri}-{index}"
    return copy


def _resolve_parameters(run: Run, task: str) -> dict[str, Value]:
    definitions = run.pipeline.get_component(task).input_definitions.parameters
    values = {}
    for name, source in run.pipeline.tasks[task].inputs.parameters.items():
        value = _resolve_parameter(run, source)
        if (
            value is not None
        ):  # an optional pipeline parameter without a value: left to the component
            values[name] = _fit(name, value, definitions[name])
    return values


def _resolve_parameter(run: Run, source: Any) -> Value | None:
    kind = source.WhichOneof("kind")
    if kind == "component_input_parameter":
        return run.parameters.get(source.component_input_parameter)
    if kind == "task_output_parameter":
        output = source.task_output_parameter
        return _get_output(run, output.producer_task, "parameters", output.output_parameter_key)
    if kind == "runtime_value" and source.runtime_value.WhichOneof("value") == "constant":
        return source.runtime_value.constant
    raise DriverError(f"parameter spec of type {kind} not implemented yet")


def _get_output(run: Run, producer: str, kind: str, key: str) -> Any:
    try:
        return run.tasks[producer].outputs[kind][key]
    except KeyError:
        raise DriverError(f"cannot find output {kind} {key!r} of task {producer!r}") from None


def _fit(name: str, value: Value, definition: Any) -> Value:
    """Return the value as its type wants it: anything becomes a STRING, nothing else is converted."""
    from google.protobuf import struct_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2 as ir

    wanted = ir.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
    kind = value.WhichOneof("kind")
    if kind == _TYPES.get(wanted):
        return value
    if wanted == "STRING":
        return struct_pb2.Value(string_value=format_parameter(value))
    raise DriverError(f"input parameter {name!r} type mismatch: expect {wanted}, got {kind}")


def _provide_outputs(message: Any, run: Run, task: str, paths: Paths) -> None:
    definitions = run.pipeline.get_component(task).output_definitions
    task_root = paths.get_task_root(run, task)
    for name, definition in definitions.artifacts.items():
        artifact = message.outputs.artifacts[name].artifacts.add()
        artifact.name = name
        artifact.uri = f"{task_root}/{name}"
        artifact.type.CopyFrom(definition.artifact_type)
        if definition.HasField("metadata"):
            artifact.metadata.CopyFrom(definition.metadata)
    if run.argo.has_logs_artifact:
        # driver.go, provisionOutputs: also for components that declare no such output
        artifact = message.outputs.artifacts[LOGS].artifacts.add()
        artifact.name, artifact.uri = LOGS, f"{task_root}/{LOGS}"
        artifact.type.schema_title = "system.Artifact"
    for name in definitions.parameters:
        message.outputs.parameters[name].output_file = f"/tmp/kfp/outputs/{name}"
    message.outputs.output_file = paths.get_output_file(task_root)


def format_parameter(value: Value) -> str:
    """Return a parameter as text, as it replaces a placeholder of its own."""
    plain = to_value(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, float):
        return format_plain(plain)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else format_value(plain)
