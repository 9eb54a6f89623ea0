"""Read the executions and output artifacts of a run from the metadata store of Kubeflow Pipelines.

The store has the state and the pod of each task, and the URIs, previews and metrics of its outputs. The
REST interface does not have them (up to 2.17 at least). Like the web UI, this module accesses the store
through the server of the web UI, in gRPC-Web. The API server alone gives no access to the store.
Source: ml_metadata/proto/metadata_store*.proto, and backend/src/v2/metadata/client.go of
kubeflow/pipelines.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fftasks.errors import ToolError
from fftasks.kfp.connection import KFPConnection, KFPRequest, connect, explain_invalid_answer

if TYPE_CHECKING:
    from fftasks.config.tree import KFPSettings

_SERVICE = "/ml_metadata.MetadataStoreService/"
_FORMAT = "application/grpc-web+proto"
_API_SERVICE, _PAGE_SERVICE = "/services/ml-pipeline:http/", "/services/ml-pipeline-ui:http/"
_RUN = "system.PipelineRun"  # the type of a run's context
_LAST_MOMENT = 10**14  # milliseconds since the epoch; datetime has no times after the year 9999
_OUTPUT = 4  # of the kinds of events
_STATES = ("", "NEW", "RUNNING", "COMPLETE", "FAILED", "CACHED", "CANCELED")  # by number
_PACKAGE = "fftasks.metadata"
# message -> its fields: name, number, type. A map is what it is on the wire: a list of keys with values
_MESSAGES: Mapping[str, tuple[tuple[str, int, str], ...]] = {
    "Value": (
        *(("int_value", 1, "int64"), ("double_value", 2, "double"), ("string_value", 3, "string")),
        *(("struct_value", 4, "google.protobuf.Struct"), ("bool_value", 6, "bool")),
    ),
    "Property": (("key", 1, "string"), ("value", 2, "Value")),
    "Artifact": (("id", 1, "int64"), ("uri", 3, "string"), ("properties", 5, "*Property")),
    "Execution": (
        *(("id", 1, "int64"), ("state", 3, "int64"), ("properties", 5, "*Property")),
        *(("created", 8, "int64"), ("updated", 9, "int64")),  # milliseconds since the epoch
    ),
    "Context": (("id", 1, "int64"),),
    "Step": (("index", 1, "int64"), ("key", 2, "string")),
    "Path": (("steps", 1, "*Step"),),
    "Event": (
        *(("artifact_id", 1, "int64"), ("execution_id", 2, "int64")),
        *(("path", 3, "Path"), ("type", 4, "int64")),
    ),
    "GetContextByTypeAndNameRequest": (("type_name", 1, "string"), ("context_name", 2, "string")),
    "GetContextByTypeAndNameResponse": (("context", 1, "Context"),),
    "GetExecutionsByContextRequest": (("context_id", 1, "int64"),),
    "GetExecutionsByContextResponse": (("executions", 1, "*Execution"),),
    "GetEventsByExecutionIDsRequest": (("execution_ids", 1, "*int64"),),
    "GetEventsByExecutionIDsResponse": (("events", 1, "*Event"),),
    "GetArtifactsByIDRequest": (("artifact_ids", 1, "*int64"),),
    "GetArtifactsByIDResponse": (("artifacts", 1, "*Artifact"),),
}


@dataclass(frozen=True)
class OutputArtifact:
    """An output artifact of a task.

    Attributes:
        uri: URI of the artifact in the object store.
        properties: Metadata of the artifact, such as the preview of a result.
    """

    uri: str
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskExecution:
    """The execution of a task, as its driver and its launcher recorded it.

    Attributes:
        state: RUNNING (from its driver on), COMPLETE, FAILED, CACHED or CANCELED (a condition was false);
            "" if it is unknown. A task whose pod was killed stays RUNNING.
        pod: Name of the last pod whose launcher has started; "" if none has.
        created: When its driver recorded it.
        updated: When it was last changed.
        outputs: Output artifacts by name, also of a cached task.
    """

    state: str = ""
    pod: str = ""
    created: datetime | None = None
    updated: datetime | None = None
    outputs: Mapping[str, OutputArtifact] = field(default_factory=dict)


def read_executions(settings: KFPSettings, run_id: str) -> dict[str, TaskExecution] | None:
    """Return the executions of a run, by the name of the task.

    Returns:
        The executions; None if the server gives no access to the metadata store; {} if no task has started.

    Raises:
        ToolError: The server does not answer.
    """
    with connect(settings) as kfp:
        for base in _list_paths(kfp.access.path):
            store = _Store(kfp, base)
            context = store.ask("GetContextByTypeAndName", type_name=_RUN, context_name=run_id)
            if context is not None:
                return _read(store, context.context.id)
    return None


def _read(store: _Store, context: int) -> dict[str, TaskExecution]:
    if not context:
        return {}  # no task of the run has started
    rows = store.need("GetExecutionsByContext", context_id=context).executions
    tasks = {one.id: str(_read_properties(one).get("task_name", "")) for one in rows}
    outputs = _read_outputs(store, list(tasks)) if tasks else {}
    found: dict[str, TaskExecution] = {}
    for row in sorted(rows, key=lambda row: int(row.id)):  # of a run that was retried, the last one
        if tasks[row.id]:  # else it is the run itself
            found[tasks[row.id]] = TaskExecution(
                state=_STATES[row.state] if 0 <= row.state < len(_STATES) else "",
                pod=str(_read_properties(row).get("pod_name") or ""),
                created=_read_moment(row.created),
                updated=_read_moment(row.updated),
                outputs=outputs.get(row.id, {}),
            )
    return found


def _read_outputs(store: _Store, executions: list[int]) -> dict[int, dict[str, OutputArtifact]]:
    """Return the outputs of executions; of several under one name, such as logs of tries, the last one."""
    events = store.need("GetEventsByExecutionIDs", execution_ids=executions).events
    made = [event for event in events if event.type == _OUTPUT and event.path.steps]
    wanted = sorted({event.artifact_id for event in made})
    artifacts = store.need("GetArtifactsByID", artifact_ids=wanted).artifacts if wanted else ()
    known = {one.id: OutputArtifact(one.uri, _read_properties(one)) for one in artifacts}
    outputs: dict[int, dict[str, OutputArtifact]] = {}
    for event in sorted(made, key=lambda event: int(event.artifact_id)):
        if event.artifact_id in known:
            name = event.path.steps[0].key
            outputs.setdefault(event.execution_id, {})[name] = known[event.artifact_id]
    return outputs


def _read_moment(milliseconds: int) -> datetime | None:
    if not 0 < milliseconds < _LAST_MOMENT:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


class _Store:
    """The metadata store below one path of the host."""

    def __init__(self, kfp: KFPConnection, base: str) -> None:
        self._kfp, self._base = kfp, base

    def need(self, method: str, **fields: Any) -> Any:
        """Return the answer to a call; raise ToolError if there is none."""
        answer = self.ask(method, **fields)
        if answer is None:
            raise ToolError(f"the metadata store of Kubeflow Pipelines does not answer {method}")
        return answer

    def ask(self, method: str, **fields: Any) -> Any | None:
        """Return an answer, None if nobody there knows the service."""
        from google.protobuf.message import DecodeError

        messages = _load_messages()
        body = messages[f"{method}Request"](**fields).SerializeToString()
        question = KFPRequest(
            *("POST", f"{_SERVICE}{method}"),
            content=(_FORMAT, b"\0" + struct.pack(">I", len(body)) + body),
            base=self._base,
        )
        attempted = "cannot ask the metadata store of Kubeflow Pipelines"
        response = self._kfp.send(attempted, question, check=False)
        if "grpc-web" not in response.headers.get("Content-Type", ""):
            return None
        content = _unframe(response.data)
        try:
            return None if content is None else messages[f"{method}Response"].FromString(content)
        except DecodeError as error:
            raise explain_invalid_answer(self._kfp.access, attempted, str(error)) from error


def _unframe(data: bytes) -> bytes | None:
    """Return the message in a gRPC-Web answer; None if it has only trailers, which contain an error."""
    content, at = None, 0
    while len(data) - at > 4:  # noqa: PLR2004 - flags, and four bytes of length
        flags, (length,) = data[at], struct.unpack_from(">I", data, at + 1)
        begin, at = at + 5, at + 5 + length
        if not flags & 0x80:
            content = begin, at
    return None if content is None else data[slice(*content)]


def _read_properties(message: Any) -> dict[str, Any]:
    return {one.key: _read_value(one.value) for one in message.properties}


def _read_value(value: Any) -> Any:
    """Return the value of a property; KFP stores a list or mapping as the only field of a struct."""
    from google.protobuf import json_format

    for descriptor, content in value.ListFields():
        if descriptor.name != "struct_value":
            return content
        try:
            inner = json_format.MessageToDict(content)
        except (json_format.Error, ValueError):  # such as NaN, which JSON cannot express
            return None
        return next(iter(inner.values())) if inner.keys() in ({"list"}, {"struct"}) else inner
    return None


def _list_paths(path: str) -> list[str]:
    """Return the paths of kfp.host below which the store may be, the most likely path first.

    The server of the web UI is a proxy for the store, and Kubeflow serves the store next to its pages. With
    kfp.auth: kubeconfig, the path is that of KFP's API server behind the API server of Kubernetes, and the
    web UI is a service next to it.
    """
    return list(dict.fromkeys((path.replace(_API_SERVICE, _PAGE_SERVICE), "")))


@functools.cache
def _load_messages() -> dict[str, type[Any]]:
    """Return the message classes, with the fields that this module reads."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="fftasks/metadata.proto",
        package=_PACKAGE,
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            _add_field(message, field_name, number, kind)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    label = 3 if kind.startswith("*") else 1  # repeated, optional
    kind = kind.removeprefix("*")
    plain = {"double": 1, "int64": 3, "bool": 8, "string": 9}
    added = message.field.add(name=name, number=number, label=label, type=plain.get(kind, 11))
    if kind not in plain:
        added.type_name = f".{kind}" if "." in kind else f".{_PACKAGE}.{kind}"
