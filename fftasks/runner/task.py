"""Which nodes a task runs, as one argument of its container: in the arguments, as KFP's cache looks at them.

{"nodes": […], "gives": [[0, "result"], …], "keeps": [1, …]}: JSON while it is short, and beyond
"zlib:" and the same, compressed, in base64.

A task of several nodes: what Kubeflow Pipelines gives it, and what it gives back.

inputs                   what
g<digest>                the pack of another group
n<digest>                the artifact of a node that has a task of its own, see name_input
kept, kept_inner         the packs that this task gave last time

outputs                  what
values                   a pack of what is needed elsewhere, or is a leaf
inner                    a pack of the rest, for the next time
metrics, html, …         what its nodes show, as far as any of them may; see shared_pages.py
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

from fftasks.api.node import Node, number_inputs
from fftasks.errors import WorkflowError
from fftasks.runner.artifact import (
    Pack,
    Place,
    Value,
    digest_artifact,
    is_pack,
    read_pack,
    write_pack,
)
from fftasks.runner.child_process import SendMessage
from fftasks.runner.display_files import is_page, list_values, write_shown
from fftasks.runner.executor_input import (
    describe_digest,
    describe_value,
    restore_parameter,
    limit_metadata,
    locate_all,
    write_output_file,
)
from fftasks.runner.group import SAYS_KEPT, Group, Values, format_duration
from fftasks.runner.job import OnError, Report, list_outputs, number_parameters
from fftasks.runner.scheduler import PodResources

_MAX_PLAIN = 1000
_MAX_BYTES = 1 << 24  # a workflow of 100,000 nodes needs less


@dataclass(frozen=True)
class Members:
    """The nodes of a task.

    nodes: their names, each behind those that it needs
    gives: node and output of each value that is needed elsewhere, or is a leaf
    keeps: nodes whose values are taken from what the task gave last time
    """

    nodes: tuple[str, ...]
    gives: tuple[tuple[str, str], ...]
    keeps: tuple[str, ...] = ()


def format_members(members: Members) -> str:
    """Return the argument."""
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


def parse_members(argument: str) -> Members:
    """Parse the argument that format_members wrote.

    Raises:
        WorkflowError: The argument is invalid, as it can be in the document of another program's run.
    """
    try:
        if argument.startswith("zlib:"):
            argument = _decompress(base64.b64decode(argument.removeprefix("zlib:"))).decode()
        content = json.loads(argument)
        nodes = tuple(map(str, content["nodes"]))
        return Members(
            nodes=nodes,
            gives=tuple((nodes[number], str(output)) for number, output in content["gives"]),
            keeps=tuple(nodes[number] for number in content.get("keeps", ())),
        )
    except (
        *(ValueError, LookupError, TypeError, AttributeError),
        *(RecursionError, zlib.error),
    ) as error:
        raise WorkflowError("--nodes: invalid list of nodes", found=[str(error)]) from error


def _decompress(content: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(content, _MAX_BYTES)
    if not decompressor.eof:
        raise ValueError(f"it is truncated, or has more than {_MAX_BYTES} bytes")
    return text


PACKS = ("values", "inner")
KEPT = ("kept", "kept_inner")
# maximum numbers of inputs for which a task's argument has room: with types and previews, and with digests
MAX_DESCRIBED, MAX_DIGESTED = 100, 200
_MAX_BYTES_TASK = 8192  # of each of the two texts in which the nodes of a task are told of

NodeMetadata = Mapping[str, Mapping[str, Any]]  # node -> "seconds", "preview", …; "kept": it did not run


@dataclass(frozen=True)
class Task:
    """What a container was started for.

    group: its name; key: what its values are made for; kept_key: the same, of the last time
    is_single: whether it is one node, which has a task of its own, and takes something from groups
    """

    group: str
    members: Members
    key: str = ""
    kept_key: str = ""
    is_single: bool = False


def name_input(node: str, output: str) -> str:
    """Return the input under which a task of several nodes takes what a node gives."""
    return (
        "n" + hashlib.sha256(f"{output}\0{node}".encode("utf-8", "surrogatepass")).hexdigest()[:10]
    )


def name_group_input(group: str) -> str:
    """Return the input under which a task takes the pack of another group."""
    return "g" + hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def run_task(  # noqa: PLR0913 - what a task is run with
    task: Task,
    nodes: Mapping[str, Node],
    document: Mapping[str, Any],
    means: PodResources,
    *,
    tell: SendMessage,
    examine: tuple[str, OnError] | None = None,
) -> None:
    """Run the nodes of a task, and write what it gives.

    Args:
        task: What the container was started for. A node alone runs in this process, others in their own.
        nodes: All nodes of the workflow, by name.
        document: The ExecutorInput.
        means: How many nodes run at a time, how long, and how often they are tried.
        tell: Is called with "done" and the name of each node that has finished.
        examine: The last node, which runs in this process, and what is shown what it raises.

    Raises:
        NodeFailure: A node fails.
        WorkflowError: An input is missing.
    """
    inputs = locate_all(document.get("inputs", {}).get("artifacts", {}))
    outputs = locate_all(document.get("outputs", {}).get("artifacts", {}))
    members = [nodes[name] for name in task.members.nodes]
    kept, told = _take_kept(task, nodes, inputs)
    rest = [node for node in members if (node.name, list_outputs(node)[0]) not in kept]
    given = _take_given(rest, set(task.members.nodes), inputs)
    here = rest if task.is_single else [n for n in rest if examine and n.name == examine[0]]
    with tempfile.TemporaryDirectory(prefix="fftasks-") as folder:
        parameters = _read_parameters(document, rest)
        others = [node for node in rest if node not in here]
        group = Group(others, {**given, **kept}, Path(folder), means, parameters, tell=tell)
        made = group.run()
        for node in here:
            group.run_here(node, examine[1] if examine else None)
        values = {**kept, **made.values, **list_values(made.pages)}
        told = {**describe_nodes(made.reports), **told}
        digests = _write(task, values, told, outputs)
        shown = write_shown(task.members.nodes, values, outputs)
        if len(inputs) <= MAX_DESCRIBED:
            shown |= _describe_outputs(task, outputs, made.reports, told)
    metadata = {
        name: {
            "display_name": f"{task.group} ({name})",
            **shown.get(name, {}),
            **describe_digest(digests.get(name, "")),
        }
        for name in outputs
    }
    write_output_file(document, metadata)


def choose_needed(members: Members, only: str, nodes: Mapping[str, Node]) -> Members:
    """Return what a task must run for one of its nodes: it, and what it needs of the others."""
    needed: set[str] = set()
    waiting, own = [only], set(members.nodes)
    while waiting:
        name = waiting.pop()
        if name in own - needed:
            needed.add(name)
            waiting += [parent.name for parent in nodes[name].parents]
    return Members(
        nodes=tuple(name for name in members.nodes if name in needed),
        gives=tuple(one for one in members.gives if one[0] in needed),
        keeps=tuple(name for name in members.keeps if name in needed and name != only),
    )


def _describe_outputs(
    task: Task, outputs: Mapping[str, str], reports: Mapping[str, Report], told: NodeMetadata
) -> dict[str, dict[str, Any]]:
    """Return what metadata have of outputs: of the pack for all nodes, or of each one of a node alone."""
    nodes = task.members.nodes
    if "inner" in outputs:
        return {"inner": {"nodes": format_node_metadata(told), "seconds": format_durations(nodes, told)}}
    return {
        output: describe_value(report, output)
        for report in (reports.values() if len(nodes) == 1 else ())
        for output in report.outputs
    }


def describe_nodes(reports: Mapping[str, Report]) -> NodeMetadata:
    """Return what is told of nodes that share a task: seconds, type and beginning of each result."""
    return {
        node: {"seconds": round(report.seconds, 3), **describe_value(report, "result")}
        for node, report in reports.items()
    }


def format_node_metadata(told: NodeMetadata) -> str:
    """Return what is told of nodes as JSON, of those only that find room.

    It stands in an argument of the task that takes the old values.
    """
    found: dict[str, Any] = {}
    left = _MAX_BYTES_TASK
    for node, one in told.items():
        left -= len(json.dumps({node: one}))
        if left < 0:
            break
        found[node] = one
    return json.dumps(found)


def format_durations(nodes: Sequence[str], told: NodeMetadata) -> str:
    """Return how long each node took, in their order, of the first that find room.

    For the many of which nothing else is told. "-" where it is not known; "=" is before one that is kept.
    """
    words = (_spell(told.get(node, {})) for node in nodes)
    text = " ".join(words)
    return text if len(text) <= _MAX_BYTES_TASK else text[:_MAX_BYTES_TASK].rpartition(" ")[0]


def _spell(told: Mapping[str, Any]) -> str:
    seconds = format_duration(told["seconds"]) if "seconds" in told else "-"
    return f"={seconds}" if told.get("kept") else seconds


def _take_kept(
    task: Task, nodes: Mapping[str, Node], inputs: Mapping[str, str]
) -> tuple[Values, NodeMetadata]:
    """Return the values that are taken from the last time, and what was told of their nodes."""
    packs = [read_pack(inputs[name]) for name in KEPT if name in inputs]
    old: Values = {}
    told: dict[str, Mapping[str, Any]] = {}
    for pack in packs:
        if pack.key == task.kept_key:
            old.update(pack.values)
            told.update(pack.told)
        else:
            print(f"{pack.group} | -- its old values were made for something else: none is kept")
    found: Values = {}
    kept: dict[str, Mapping[str, Any]] = {}
    for name in task.members.keeps:
        wanted = [(name, output) for output in list_outputs(nodes[name])]
        if all(one in old for one in wanted):
            pages = [one for one in old if one[0] == name and is_page(one[1])]
            found |= {one: old[one] for one in (*wanted, *pages)}
            kept[name] = _keep_told(told.get(name, {}))
            print(f"{name} | {SAYS_KEPT}")
    return found, kept


def _keep_told(told: Mapping[str, Any]) -> dict[str, Any]:
    seconds = {key: told[key] for key in ("seconds",) if key in told}  # they give nothing away
    return {**limit_metadata(told), **seconds, "kept": True}


def _take_given(
    nodes: Sequence[Node], members: set[str], inputs: Mapping[str, str]
) -> dict[tuple[str, str], Value]:
    given: Values = {}
    for name, path in inputs.items():
        if name not in KEPT and is_pack(path):
            given.update(read_pack(path).values)
    for node in nodes:
        for needed in number_inputs(node).values():
            one = needed.node.name, needed.output
            if needed.node.name in members or one in given:
                continue
            name = name_input(*one)
            if name not in inputs:
                raise WorkflowError(
                    f"{node.name}: the {needed.output} of {needed.node.name} is missing",
                    found=[
                        "the task was made for another version of the graph than that in the image"
                    ],
                    tip="run `doit submit` again",
                )
            given[one] = Value(Place(inputs[name]), "")
    return given


def _read_parameters(document: Mapping[str, Any], nodes: Sequence[Node]) -> dict[str, Any]:
    """Return the values of run parameters, with the types of their defaults."""
    values = document.get("inputs", {}).get("parameterValues", {})
    known = {p.name: p.default for node in nodes for p in number_parameters(node).values()}
    return {name: restore_parameter(name, value, known[name]) for name, value in values.items() if name in known}


def _write(task: Task, values: Values, told: NodeMetadata, outputs: Mapping[str, str]) -> dict[str, str]:
    """Write the outputs that have values; return the digests of their files."""
    for path in outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    if "values" not in outputs:  # a node alone
        digests = {}
        for (_, output), value in values.items():
            if not is_page(output):
                shutil.copyfile(value.place.path, outputs[output])
                digests[output] = value.digest
        return digests
    gives = set(task.members.gives)
    own = {one: value for one, value in values.items() if one[0] in task.members.nodes}
    given = {one: value for one, value in own.items() if one in gives}
    inner = {one: value for one, value in own.items() if one not in gives}
    write_pack(Path(outputs["values"]), Pack(task.group, task.key, given))
    if "inner" in outputs:
        write_pack(Path(outputs["inner"]), Pack(task.group, task.key, inner, told))
    return {name: digest_artifact(outputs[name]) for name in PACKS if name in outputs}
