"""Run the task of a group: read its inputs, reuse old values, run the other nodes, and write its outputs.

One argument of the container lists the nodes of the task, because KFP's cache key contains the arguments:
{"nodes": […], "gives": [[0, "result"], …], "keeps": [1, …]}, as JSON if it is short, and otherwise as "zlib:"
and the compressed JSON in base64.

input                    content
g<digest>                pack of another group
n<digest>                artifact of a node that has a task of its own, see name_input
kept, kept_inner         packs that this task wrote in an earlier run

output                   content
values                   pack of the values that other tasks need, and of leaves
inner                    pack of all other values, for reuse in a later run
metrics, html, …         files that display the results of the nodes, see display_files.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fftasks.api.node import Node, name_inputs
from fftasks.errors import WorkflowError
from fftasks.runner.artifact import (
    ArtifactLocation,
    Pack,
    StoredValue,
    digest_artifact,
    is_pack,
    read_pack,
    write_pack,
)
from fftasks.runner.child_process import SendMessage
from fftasks.runner.display_files import is_display_output, list_values, write_display_files
from fftasks.runner.executor_input import (
    describe_digest,
    describe_value,
    find_local_paths,
    limit_metadata,
    restore_parameter,
    write_output_file,
)
from fftasks.runner.group import NODE_REUSED_LINE, Group, GroupValues, format_duration
from fftasks.runner.job import Report, list_outputs, name_parameters, start_debugger
from fftasks.runner.scheduler import PodResources

_MAX_PLAIN = 1000  # characters; a longer list of nodes is compressed
_MAX_BYTES = 1 << 24  # of a decompressed list of nodes; a workflow of 100,000 nodes needs less
OUTPUT_PACKS = ("values", "inner")
REUSED_PACKS = ("kept", "kept_inner")
# Maximum numbers of inputs whose metadata fit into an argument: with types and previews, with digests only.
MAX_DESCRIBED, MAX_DIGESTED = 100, 200
_MAX_METADATA_BYTES = 8192  # of each of the two texts that describe the nodes of a task

NodeMetadata = Mapping[
    str, Mapping[str, Any]
]  # node -> "seconds", "preview", …; "kept": it was reused


@dataclass(frozen=True)
class TaskNodes:
    """The nodes of a task.

    Attributes:
        nodes: Names of the nodes in topological order.
        gives: Node and output of each value that another task needs or that is a leaf.
        keeps: Nodes whose values are reused from an earlier run of the task.
    """

    nodes: tuple[str, ...]
    gives: tuple[tuple[str, str], ...]
    keeps: tuple[str, ...] = ()


def format_members(members: TaskNodes) -> str:
    """Return the members as an argument of the container."""
    numbers = {node: number for number, node in enumerate(members.nodes)}
    content = {
        "nodes": members.nodes,
        "gives": [(numbers[node], output) for node, output in members.gives],
        **({"keeps": [numbers[node] for node in members.keeps]} if members.keeps else {}),
    }
    text = json.dumps(content, separators=(",", ":"))
    if len(text) <= _MAX_PLAIN:
        return text
    return "zlib:" + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def parse_members(argument: str) -> TaskNodes:
    """Parse the argument that format_members wrote.

    Raises:
        WorkflowError: The argument is invalid, for example because another program has created the run.
    """
    try:
        if argument.startswith("zlib:"):
            decompressor = zlib.decompressobj()
            content = base64.b64decode(argument.removeprefix("zlib:"))
            argument = decompressor.decompress(content, _MAX_BYTES).decode()
            if not decompressor.eof:
                raise ValueError(f"it is truncated, or has more than {_MAX_BYTES} bytes")
        content = json.loads(argument)
        nodes = tuple(map(str, content["nodes"]))
        return TaskNodes(
            nodes=nodes,
            gives=tuple((nodes[number], str(output)) for number, output in content["gives"]),
            keeps=tuple(nodes[number] for number in content.get("keeps", ())),
        )
    except (
        *(ValueError, LookupError, TypeError, AttributeError),
        *(RecursionError, zlib.error),
    ) as error:
        raise WorkflowError("--nodes: invalid list of nodes", found=[str(error)]) from error


@dataclass(frozen=True)
class Task:
    """The task of a container.

    Attributes:
        group: Name of the group.
        members: The nodes.
        key: Fingerprint of the nodes, which is stored with their values.
        kept_key: Fingerprint that reused values must have.
        is_single: Whether the task has a single node that reads values of groups.
    """

    group: str
    members: TaskNodes
    key: str = ""
    reused_key: str = ""
    is_single: bool = False


def name_input(node: str, output: str) -> str:
    """Return the name of a task's input for the artifact of a node that has a task of its own."""
    return (
        "n" + hashlib.sha256(f"{output}\0{node}".encode("utf-8", "surrogatepass")).hexdigest()[:10]
    )


def name_group_input(group: str) -> str:
    """Return the name of a task's input for the pack of another group."""
    return "g" + hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def run_task(  # noqa: PLR0913 - the parts of a task's execution
    task: Task,
    nodes: Mapping[str, Node],
    document: Mapping[str, Any],
    resources: PodResources,
    *,
    send: SendMessage,
    debugged: str = "",
) -> None:
    """Run the nodes of a task, and write its outputs.

    The node of a single task runs in this process, the nodes of a group in child processes.

    Args:
        task: The task.
        nodes: All nodes of the workflow, by name.
        document: The ExecutorInput.
        resources: Parallelism, time limit and retries.
        send: Function that is called with DONE and the name of each node that has finished.
        debugged: Name of a node that runs last, in this process, with a debugger at its error; "" for none.

    Raises:
        NodeFailure: A node failed.
        WorkflowError: An input is missing.
    """
    inputs = find_local_paths(document.get("inputs", {}).get("artifacts", {}))
    outputs = find_local_paths(document.get("outputs", {}).get("artifacts", {}))
    members = [nodes[name] for name in task.members.nodes]
    reused, reused_metadata = _read_reused_values(task, nodes, inputs)
    to_run = [node for node in members if (node.name, list_outputs(node)[0]) not in reused]
    given = _find_given_values(to_run, set(task.members.nodes), inputs)
    in_this_process = to_run if task.is_single else [n for n in to_run if n.name == debugged]
    with tempfile.TemporaryDirectory(prefix="fftasks-") as folder:
        parameters = _read_parameters(document, to_run)
        in_children = [node for node in to_run if node not in in_this_process]
        known = {**given, **reused}
        group = Group(in_children, known, Path(folder), resources, parameters, send=send)
        results = group.run()
        for node in in_this_process:
            group.run_in_this_process(node, start_debugger if debugged else None)
        values = {**reused, **results.values, **list_values(results.pages)}
        node_metadata = {**describe_nodes(results.reports), **reused_metadata}
        digests = _write_values(task, values, node_metadata, outputs)
        described = write_display_files(task.members.nodes, values, outputs)
        if len(inputs) <= MAX_DESCRIBED:
            described |= _describe_outputs(task, outputs, results.reports, node_metadata)
    metadata = {
        name: {
            "display_name": f"{task.group} ({name})",
            **described.get(name, {}),
            **describe_digest(digests.get(name, "")),
        }
        for name in outputs
    }
    write_output_file(document, metadata)


def select_required_nodes(members: TaskNodes, only: str, nodes: Mapping[str, Node]) -> TaskNodes:
    """Return the part of a task that is needed to run one of its nodes.

    Args:
        members: The nodes of the task.
        only: Name of the node. It is not reused.
        nodes: All nodes of the workflow, by name.

    Returns:
        The node and the nodes of the task that it depends on.
    """
    needed: set[str] = set()
    waiting, own = [only], set(members.nodes)
    while waiting:
        name = waiting.pop()
        if name in own - needed:
            needed.add(name)
            waiting += [parent.name for parent in nodes[name].parents]
    return TaskNodes(
        nodes=tuple(name for name in members.nodes if name in needed),
        gives=tuple(value for value in members.gives if value[0] in needed),
        keeps=tuple(name for name in members.keeps if name in needed and name != only),
    )


def _describe_outputs(
    task: Task,
    outputs: Mapping[str, str],
    reports: Mapping[str, Report],
    node_metadata: NodeMetadata,
) -> dict[str, dict[str, Any]]:
    """Return metadata of the pack for all nodes, or of each output of a single node."""
    nodes = task.members.nodes
    if "inner" in outputs:
        return {
            "inner": {
                "nodes": format_node_metadata(node_metadata),
                "seconds": format_durations(nodes, node_metadata),
            }
        }
    return {
        output: describe_value(report, output)
        for report in (reports.values() if len(nodes) == 1 else ())
        for output in report.outputs
    }


def describe_nodes(reports: Mapping[str, Report]) -> NodeMetadata:
    """Return the metadata of nodes that share a task: duration, type and preview of each result."""
    return {
        node: {"seconds": round(report.seconds, 3), **describe_value(report, "result")}
        for node, report in reports.items()
    }


def format_node_metadata(node_metadata: NodeMetadata) -> str:
    """Return the metadata of the first nodes as JSON, as many as fit into the limit of 8 KiB.

    The limit exists because an argument of the task that reuses the values contains this text.
    """
    fitting: dict[str, Any] = {}
    left = _MAX_METADATA_BYTES
    for node, metadata in node_metadata.items():
        left -= len(json.dumps({node: metadata}))
        if left < 0:
            break
        fitting[node] = metadata
    return json.dumps(fitting)


def format_durations(nodes: Sequence[str], node_metadata: NodeMetadata) -> str:
    """Return the durations of the first nodes in seconds, as many as fit into the limit of 8 KiB.

    A large group has room for more durations than for other metadata. "-" is an unknown duration, and "=" in
    front marks a node that was reused.
    """
    words = []
    for node in nodes:
        metadata = node_metadata.get(node, {})
        seconds = format_duration(metadata["seconds"]) if "seconds" in metadata else "-"
        words.append(f"={seconds}" if metadata.get("kept") else seconds)
    text = " ".join(words)
    if len(text) <= _MAX_METADATA_BYTES:
        return text
    return text[:_MAX_METADATA_BYTES].rpartition(" ")[0]


def _read_reused_values(
    task: Task, nodes: Mapping[str, Node], inputs: Mapping[str, str]
) -> tuple[GroupValues, NodeMetadata]:
    """Return the values that are reused from an earlier run, and the metadata of their nodes."""
    packs = [read_pack(inputs[name]) for name in REUSED_PACKS if name in inputs]
    old: GroupValues = {}
    old_metadata: dict[str, Mapping[str, Any]] = {}
    for pack in packs:
        if pack.key == task.reused_key:
            old.update(pack.values)
            old_metadata.update(pack.told)
        else:
            print(f"{pack.group} | -- no values are reused: they have another fingerprint")
    reused: GroupValues = {}
    reused_metadata: dict[str, Mapping[str, Any]] = {}
    for name in task.members.keeps:
        wanted = [(name, output) for output in list_outputs(nodes[name])]
        if all(value in old for value in wanted):
            pages = [value for value in old if value[0] == name and is_display_output(value[1])]
            reused |= {value: old[value] for value in (*wanted, *pages)}
            metadata = old_metadata.get(name, {})
            # a duration contains no private data, so it is not limited
            seconds = {"seconds": metadata["seconds"]} if "seconds" in metadata else {}
            reused_metadata[name] = {**limit_metadata(metadata), **seconds, "kept": True}
            print(f"{name} | {NODE_REUSED_LINE}")
    return reused, reused_metadata


def _find_given_values(
    nodes: Sequence[Node], members: set[str], inputs: Mapping[str, str]
) -> dict[tuple[str, str], StoredValue]:
    """Return the values of other tasks that the nodes need; raise WorkflowError if one is missing."""
    given: GroupValues = {}
    for name, path in inputs.items():
        if name not in REUSED_PACKS and is_pack(path):
            given.update(read_pack(path).values)
    for node in nodes:
        for needed in name_inputs(node).values():
            value = needed.node.name, needed.output
            if needed.node.name in members or value in given:
                continue
            name = name_input(*value)
            if name not in inputs:
                raise WorkflowError(
                    f"{node.name}: the {needed.output} of {needed.node.name} is missing",
                    found=[
                        "the task was made for another version of the graph than the one in the image"
                    ],
                    tip="run `doit submit` again",
                )
            given[value] = StoredValue(ArtifactLocation(inputs[name]), "")
    return given


def _read_parameters(document: Mapping[str, Any], nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the values of run parameters, with the types of their defaults."""
    values = document.get("inputs", {}).get("parameterValues", {})
    known = {p.name: p.default for node in nodes for p in name_parameters(node).values()}
    return {
        name: restore_parameter(name, value, known[name])
        for name, value in values.items()
        if name in known
    }


def _write_values(
    task: Task, values: GroupValues, node_metadata: NodeMetadata, outputs: Mapping[str, str]
) -> dict[str, str]:
    """Write the packs of a group, or the artifacts of a single node; return the digests of the files."""
    for path in outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if "values" not in outputs:  # a single node
        digests = {}
        for (_, output), value in values.items():
            if not is_display_output(output):
                shutil.copyfile(value.place.path, outputs[output])
                digests[output] = value.digest
        return digests
    gives = set(task.members.gives)
    own = {key: value for key, value in values.items() if key[0] in task.members.nodes}
    given = {key: value for key, value in own.items() if key in gives}
    inner = {key: value for key, value in own.items() if key not in gives}
    write_pack(Path(outputs["values"]), Pack(task.group, task.key, given))
    if "inner" in outputs:
        write_pack(Path(outputs["inner"]), Pack(task.group, task.key, inner, node_metadata))
    return {name: digest_artifact(outputs[name]) for name in OUTPUT_PACKS if name in outputs}
