"""The metadata store of the KFP test server, as the page's server leads to it: gRPC-Web.

Written byte by byte after ml_metadata's .proto files, so that it shares no mistake with those who read it.
What executions, artifacts and events hold is that of backend/src/v2/metadata/client.go of kubeflow/pipelines
2.17.0: the driver makes an execution (CreateExecution), the launcher adds its pod (PrePublishExecution) and
what came out (PublishExecution). A driver that fails leaves no execution.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.services.protojson import to_value

if TYPE_CHECKING:
    from tests.services.kfp_run import Run, Task

PATH = re.compile(r"/ml_metadata\.MetadataStoreService/(\w+)")
KIND = "application/grpc-web+proto"
_OK = b"grpc-status:0\r\n"
_UNKNOWN = b"grpc-status:12\r\ngrpc-message:unknown method\r\n"
_STATES = {"RUNNING": 2, "COMPLETE": 3, "FAILED": 4, "CACHED": 5}
_INPUT, _OUTPUT = 3, 4
_LIVE = 2


@dataclass(frozen=True)
class _Execution:
    """One execution: a run's root DAG (no task), or a task."""

    number: int
    run: Run
    task: Task | None

    def to_bytes(self) -> bytes:
        """Return the message Execution."""
        kind = "system.DAGExecution" if self.task is None else "system.ContainerExecution"
        made, updated = self.run.began, self.run.began
        state = "RUNNING"  # of the root DAG, for ever: UpdateDAGExecutionsState leaves it alone
        if self.task is not None:
            state = self.task.execution_state
            made, updated = self.task.driver.ended or made, self.task.updated
            if self.run.is_importer(self.task.name):
                kind = "system.ImporterExecution"
        return b"".join(
            (
                _number(1, self.number),
                _number(2, 13),
                _number(3, _STATES[state]),
                *(_property(key, value) for key, value in self._list_properties()),
                _wrap(7, kind.encode()),
                _number(8, int(made * 1000)),
                _number(9, int(updated * 1000)),
            )
        )

    def _list_properties(self) -> Iterator[tuple[str, Any]]:
        task, run = self.task, self.run
        if task is None:
            yield from (("display_name", ""), ("task_name", ""))
            return
        yield "display_name", run.pipeline.tasks[task.name].task_info.name
        yield "task_name", task.name
        yield "parent_dag_id", run.root_execution_id
        name, uid = task.pod_in_store
        if task.pods and not name:  # of a run without a cluster, such as a script's
            name, uid = run.find_pod_names(task.name)[-1], task.pods[-1].uid
        is_running = bool(task.pods) and any(
            state != "PENDING" for _, state in task.pods[0].history
        )
        yield "pod_name", name if is_running else ""
        yield "pod_uid", uid if is_running else ""
        yield "namespace", (run.namespace or "kubeflow") if is_running else ""
        yield "image", ""
        if task.cached_execution_id:
            yield "cached_execution_id", str(task.cached_execution_id)
        if task.fingerprint:
            yield "cache_fingerprint", task.fingerprint
        inputs = task.executor_input.get("inputs", {}).get("parameterValues", {})
        yield "inputs", dict(inputs)
        if task.execution_state in ("COMPLETE", "CACHED"):
            parameters = task.outputs.get("parameters", {})
            yield "outputs", {key: to_value(value) for key, value in parameters.items()}


class MetadataStore:
    """Contexts are runs by their number, executions their tasks, artifacts what these gave."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs

    def answer(self, method: str, body: bytes) -> bytes:
        """Return the frames of an answer."""
        length = struct.unpack(">I", body[1:5])[0]
        asked = dict(_list_fields(body[5 : 5 + length]))
        perform = getattr(self, f"_{method}", None)
        if perform is None:
            return b"\x80" + struct.pack(">I", len(_UNKNOWN)) + _UNKNOWN
        frames = ((b"\0", perform(asked)), (b"\x80", _OK))
        return b"".join(flag + struct.pack(">I", len(part)) + part for flag, part in frames)

    def _GetContextByTypeAndName(self, asked: dict[int, Any]) -> bytes:  # noqa: N802 - as it is called
        assert asked[1][0] == b"system.PipelineRun"
        for number, run in enumerate(self._runs, 1):
            # the root driver makes it
            if run.run_id.encode() == asked[2][0] and run.driver.state == "SUCCEEDED":
                return _wrap(1, _number(1, number) + _wrap(3, asked[2][0]))
        return b""

    def _GetExecutionsByContext(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        run = self._runs[asked[1][0] - 1]
        return b"".join(
            _wrap(1, one.to_bytes()) for one in self._list_executions() if one.run is run
        )

    def _GetExecutionsByID(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        wanted = set(_unpack(asked[1]))
        return b"".join(
            _wrap(1, one.to_bytes()) for one in self._list_executions() if one.number in wanted
        )

    def _GetEventsByExecutionIDs(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        wanted = set(_unpack(asked[1]))
        return b"".join(
            _wrap(1, event)
            for one in self._list_executions()
            if one.number in wanted and one.task is not None
            for event in _list_events(one.number, one.task)
        )

    def _GetArtifactsByID(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        artifacts = {
            int(artifact.name): artifact
            for one in self._list_executions()
            if one.task is not None
            for _, artifact in one.task.published
        }
        return b"".join(
            _wrap(1, _format_artifact(number, artifacts[number]))
            for number in _unpack(asked[1])
            if number in artifacts
        )

    def _GetArtifactsByContext(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        run = self._runs[asked[1][0] - 1]
        artifacts = {
            int(artifact.name): artifact
            for task in list(run.tasks.values())
            for _, artifact in task.published
        }
        return b"".join(_wrap(1, _format_artifact(*pair)) for pair in sorted(artifacts.items()))

    def _list_executions(self) -> Iterator[_Execution]:
        for run in self._runs:
            if run.driver.state == "SUCCEEDED":
                yield _Execution(run.root_execution_id, run, None)
            for task in list(run.tasks.values()):
                if task.execution_id:
                    yield _Execution(task.execution_id, run, task)


def _list_events(execution: int, task: Task) -> Iterator[bytes]:
    """Yield the events of an execution; the table is unique in artifact, execution and kind."""
    for name, numbers in task.inputs.items():
        for number in numbers:
            yield _format_event(number, execution, name, _INPUT)
    seen = set()
    for name, artifact in task.published:
        if artifact.name not in seen:
            yield _format_event(int(artifact.name), execution, name, _OUTPUT)
        seen.add(artifact.name)


def _format_event(artifact: int, execution: int, name: str, kind: int) -> bytes:
    path = _wrap(3, _wrap(1, _wrap(2, name.encode())))
    return _number(1, artifact) + _number(2, execution) + path + _number(4, kind)


def _format_artifact(number: int, artifact: Any) -> bytes:
    properties = b"".join(_property(k, v) for k, v in to_value(artifact.metadata).items())
    kind = artifact.type.schema_title or "system.Artifact"
    head = _number(1, number) + _number(2, 7) + _wrap(3, artifact.uri.encode())
    return head + properties + _number(6, _LIVE) + _wrap(8, kind.encode())


def _property(key: str, value: Any) -> bytes:
    """Return an entry of custom_properties, field 5 of an execution and of an artifact."""
    if isinstance(value, dict):
        from google.protobuf import json_format, struct_pb2

        content = _wrap(4, json_format.ParseDict(value, struct_pb2.Struct()).SerializeToString())
    elif isinstance(value, str):
        content = _wrap(3, value.encode())
    elif isinstance(value, int):
        content = _number(1, value)
    else:
        content = b"\x11" + struct.pack("<d", value)
    return _wrap(5, _wrap(1, key.encode()) + _wrap(2, content))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _wrap(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _list_fields(message: bytes) -> Iterator[tuple[int, list[Any]]]:
    """Yield the fields of a message of numbers and texts: number -> all its values."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    yield from found.items()


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _unpack(values: list[Any]) -> Iterator[int]:
    """Yield numbers of a field that may be packed."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _read_varint(value, at)
            yield number
