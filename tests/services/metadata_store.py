"""The metadata store of the KFP test server, as the page's server leads to it: gRPC-Web, four methods.

Written byte by byte after ml_metadata's .proto files, so that it shares no mistake with those who read it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.services.protojson import to_value

if TYPE_CHECKING:
    from tests.services.kfp_run import Run, Task

PATH = re.compile(r"/ml_metadata\.MetadataStoreService/(\w+)")
KIND = "application/grpc-web+proto"
_OK = b"grpc-status:0\r\n"


class MetadataStore:
    """Contexts are runs by their number, executions their tasks, artifacts what these gave."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs

    def answer(self, method: str, body: bytes) -> bytes:
        """Return the frames of an answer."""
        length = struct.unpack(">I", body[1:5])[0]
        asked = dict(_list_fields(body[5 : 5 + length]))
        message = getattr(self, f"_{method}")(asked)
        frames = ((b"\0", message), (b"\x80", _OK))
        return b"".join(flag + struct.pack(">I", len(part)) + part for flag, part in frames)

    def _GetContextByTypeAndName(self, asked: dict[int, Any]) -> bytes:  # noqa: N802 - as it is called
        assert asked[1][0] == b"system.PipelineRun"
        for number, run in enumerate(self._runs, 1):
            if run.run_id.encode() == asked[2][0]:
                return _wrap(1, _number(1, number) + _wrap(3, asked[2][0]))
        return b""

    def _GetExecutionsByContext(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        run = self._runs[asked[1][0] - 1]
        return b"".join(
            _wrap(
                1, _number(1, identity) + _property("task_name", task.name) + _property("pod", "")
            )
            for identity, other, task in self._list_executions()
            if other is run
        )

    def _GetEventsByExecutionIDs(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        wanted = set(_unpack(asked[1]))
        return b"".join(
            _wrap(1, _number(1, int(artifact.name)) + _number(2, identity) + path + _number(4, 4))
            for identity, _, task in self._list_executions()
            if identity in wanted
            for name, artifact in task.outputs.get("artifacts", {}).items()
            for path in [_wrap(3, _wrap(1, _wrap(2, name.encode())))]
        )

    def _GetArtifactsByID(self, asked: dict[int, Any]) -> bytes:  # noqa: N802
        artifacts = {
            int(artifact.name): artifact
            for *_, task in self._list_executions()
            for artifact in task.outputs.get("artifacts", {}).values()
        }
        return b"".join(
            _wrap(
                1, _number(1, number) + _number(2, 7) + _wrap(3, artifact.uri.encode()) + properties
            )
            for number in _unpack(asked[1])
            for artifact in [artifacts[number]]
            for properties in [
                b"".join(_property(k, v) for k, v in to_value(artifact.metadata).items())
            ]
        )

    def _list_executions(self) -> Iterator[tuple[int, Run, Task]]:
        for number, run in enumerate(self._runs, 1):
            for place, task in enumerate(list(run.tasks.values())):
                yield number * 10_000 + place, run, task


def _property(key: str, value: Any) -> bytes:
    """Return an entry of custom_properties, field 5 of an execution and of an artifact."""
    if isinstance(value, dict):
        from google.protobuf import json_format, struct_pb2

        content = _wrap(4, json_format.ParseDict(value, struct_pb2.Struct()).SerializeToString())
    elif isinstance(value, str):
        content = _wrap(3, value.encode())
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
