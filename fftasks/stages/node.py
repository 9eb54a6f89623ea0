"""The stage of a node: from its code, its constants and what is upstream to its result.

inputs of its record     value
function                 the name of the function, and the file in which it stands
code                     digest of the code that the function needs
python                   minor version, such as "3.11"
requirements             digest of what requirements.txt asks for
data                     digest of all data files of the project, or
data <path>              digest of a file that the node says it reads
version                  what the user gave instead of all of these
constant <argument>      digest of an argument, and of the places that nodes have in it
env <name>               digest of a variable that its settings set
parameter <name>         digest of the value that a run parameter has in this run
input <name>             digest of the upstream artifact
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fftasks.errors import NodeError, StoreError
from fftasks.graph import name_function
from fftasks.record import Record, digest_json, read_record
from fftasks.runtime.regular import is_regular, read_text, remove
from fftasks.settings.nodes import NodeSettings, list_env_pieces
from fftasks.store import Store, Trace
from fftasks.workflow.instance import OUTPUTS

if TYPE_CHECKING:
    from fftasks.runtime.job import Job, Report

VERSION = 2
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_LAST_LINES = 10
_LONGEST_LINE = 500
_SHORTEST_SECRET = 8


class ListFiles(Protocol):
    """Whoever knows all files that nodes may read."""

    def list_all(self) -> dict[str, str]: ...


class DataFiles(ListFiles, Protocol):
    """Whoever knows the project's data files; see data.py."""

    def list_matching(self, reads: Iterable[str], /) -> dict[str, str | None]: ...

    def digest_requirements(self) -> str: ...


def list_inputs(
    node: Mapping[str, Any],
    upstream: Mapping[str, Record],
    data: DataFiles,
    settings: NodeSettings,
) -> dict[str, str]:
    """Return the named pieces of a node's fingerprint.

    node: as the graph record has it, with the `values` of its run parameters, name -> value
    upstream: node id -> record
    """
    inputs = {"version": node["version"]} if node["version"] else _list_surroundings(node, data)
    inputs["function"] = name_function(node)
    inputs |= list_env_pieces(settings)
    for argument in node["arguments"]:
        inputs[f"constant {argument['name']}"] = argument["digest"]
    for name, value in node["values"].items():
        inputs[f"parameter {name}"] = digest_json(value)
    for needed in node["inputs"]:
        inputs[f"input {needed['input']}"] = upstream[needed["node"]]["outputs"][needed["output"]]
    return inputs


def list_pieces(
    node: Mapping[str, Any], code: Mapping[str, str], data: ListFiles
) -> dict[str, str]:
    """Return what code and data of a node consist of: "features.py: function clean()" -> digest."""
    if node["version"]:
        return {}
    files = data.list_all() if node["reads"] is None else {}
    return {**code, **{f"data file {path}": digest for path, digest in files.items()}}


def _list_surroundings(node: Mapping[str, Any], data: DataFiles) -> dict[str, str]:
    inputs = {"code": node["code"], "python": _PYTHON}
    requirements = data.digest_requirements()
    if requirements:
        inputs["requirements"] = requirements
    if node["reads"] is None:
        files = data.list_all()
        return {**inputs, "data": _digest_files(tuple(files.items()))} if files else inputs
    named = data.list_matching(node["reads"])
    return {**inputs, **{f"data {path}": digest or "missing" for path, digest in named.items()}}


@functools.lru_cache(maxsize=1)  # they are the same for all nodes
def _digest_files(files: tuple[tuple[str, str], ...]) -> str:
    return digest_json(dict(files))


def find_record(
    node: Mapping[str, Any], inputs: dict[str, str], store: Store, *, keep: bool = True
) -> Record | None:
    """Return the record that says which result belongs to these inputs, if the result is there.

    It may come from an earlier version, so that a change that is taken back runs nothing.
    keep: put it on disk, where it is not; else nothing is written
    """
    for argument in node["arguments"]:
        if not argument.get("stable", True):
            return None
    fingerprint = digest_fingerprint(inputs)
    outputs = store.recall_outputs(node["slug"], fingerprint)
    if outputs is None:
        outputs = _read_outputs(node["slug"], inputs, fingerprint, store)
    if outputs and all(store.has_artifact(digest) for digest in outputs.values()):
        return _make_record(node, inputs, outputs)
    trace = store.read_trace(fingerprint)
    if trace is None:
        return None
    record = _make_record(node, inputs, trace.outputs)
    if keep:
        store.write_node(node["slug"], fingerprint, record)
        store.touch_trace(fingerprint)
    return record


def _read_outputs(
    slug: str, inputs: dict[str, str], fingerprint: str, store: Store
) -> dict[str, str]:
    path = store.spell_node(slug)
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return {}
    record = read_record(path)
    if record is None or record.get("inputs") != inputs or record.get("version") != VERSION:
        return {}
    outputs: dict[str, str] = record.get("outputs", {})
    store.note_outputs(slug, fingerprint, outputs, stat)
    return outputs


def accept(
    node: Mapping[str, Any], inputs: dict[str, str], store: Store, pieces: Mapping[str, str]
) -> Record:
    """Record the result that a node has as the one for what its inputs are now, without running it.

    Raises StoreError if it has none.
    """
    old = read_record(store.node_path(node["slug"]))
    known = store.read_trace(digest_fingerprint(old["inputs"])) if old is not None else None
    if known is None:
        raise StoreError(f"{node['name']} has no result that could be accepted", tip="doit run")
    fingerprint = digest_fingerprint(inputs)
    store.write_trace(fingerprint, known)
    store.write_code(name_pieces(inputs), pieces)
    record = _make_record(node, inputs, known.outputs)
    store.write_node(node["slug"], fingerprint, record)
    return record


def list_unstable(node: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each constant of a node that keeps it from ever having a known result."""
    names = [a["name"] for a in node["arguments"] if not a.get("stable", True)]
    return [f"constant {name} looks different each time" for name in names]


def name_pieces(inputs: Mapping[str, str]) -> str:
    """Return the name under which the store keeps what code and data of a node consisted of."""
    return _digest_pieces(inputs.get("code"), inputs.get("data"))


@functools.lru_cache  # many nodes have one function
def _digest_pieces(code: str | None, data: str | None) -> str:
    return digest_json([code, data])


def show_constants(node: Mapping[str, Any]) -> dict[str, str]:
    """Return how a node's constants look, for explanations."""
    return {argument["name"]: argument["repr"] for argument in node["arguments"]}


def prepare(  # noqa: PLR0913 - the last three are the user's wishes
    node: Mapping[str, Any],
    inputs: Mapping[str, str],
    store: Store,
    *,
    workflow: str,
    items: Sequence[str] = (),
    settings: NodeSettings = NodeSettings(),  # noqa: B008 - it cannot be changed
) -> Job:
    """Return the job that runs a node; its outputs go to temporary names.

    workflow: one that has the node; items: paths of items that its users want to see
    """
    from fftasks.runtime.job import Job

    slug = node["slug"]
    return Job(
        workflow=workflow,
        node=node["name"],
        inputs={
            needed["input"]: store.spell_artifact(inputs[f"input {needed['input']}"])
            for needed in node["inputs"]
        },
        outputs={output: store.new_path(slug, output) for output in OUTPUTS[node["kind"]]},
        items=items,
        log=store.new_log(slug),
        env=settings.env,
        timeout_s=settings.timeout_s,
        values=node["values"],
        pages=store.new_pages(slug),
    )


def finish(  # noqa: PLR0913 - the last two are about what is shown
    node: Mapping[str, Any],
    inputs: dict[str, str],
    store: Store,
    report: Report,
    *,
    pieces: Mapping[str, str],
    errors: Sequence[str] = (),
) -> tuple[Record, Trace]:
    """Store what a node gave, and return its record and its trace.

    pieces: as list_pieces gives them, kept to be able to say what has changed
    errors: of all tries that failed, the last one too if it did

    Raises NodeError with the function's traceback and the end of its log if it failed. Nothing of a failed
    node is kept but its log.
    """
    slug = node["slug"]
    if report.error:
        raise _describe_failure(node, errors or [report.error], store)
    for output, digest in report.outputs.items():
        store.adopt_artifact(store.new_path(slug, output), digest)
    if report.pages:
        store.adopt_pages(slug, report.outputs["result"])
    previews = {path: _hide(text) for path, text in report.previews.items()}
    trace = Trace(dict(report.outputs), previews, report.seconds, len(errors) + 1)
    fingerprint = digest_fingerprint(inputs)
    store.write_trace(fingerprint, trace)
    store.note_files(report.read, report.written)
    store.write_code(name_pieces(inputs), pieces)
    record = _make_record(node, inputs, trace.outputs)
    store.write_node(slug, fingerprint, record)
    return record, trace


def plan_wait(settings: NodeSettings, failures: int) -> float | None:
    """Return the seconds before the next try, as Argo counts them on a cluster; None: there is none."""
    if failures > settings.retries:
        return None
    wait_s = settings.retry_wait_s * settings.retry_factor ** min(failures - 1, 64)
    return float(min(wait_s, settings.retry_max_wait_s))


def clear(node: Mapping[str, Any], store: Store) -> None:
    """Remove what a node that failed has left."""
    for output in OUTPUTS[node["kind"]]:
        with contextlib.suppress(FileNotFoundError):
            remove(store.new_path(node["slug"], output))
    store.drop_pages(node["slug"])


def digest_fingerprint(inputs: Mapping[str, str]) -> str:
    """Return the fingerprint: the digest of all that decides a node's result."""
    return digest_json([VERSION, inputs])


def _make_record(
    node: Mapping[str, Any], inputs: dict[str, str], outputs: Mapping[str, str]
) -> Record:
    return {
        "stage": "node",
        "version": VERSION,
        "inputs": inputs,
        "output": outputs["result"],
        "outputs": dict(outputs),
        "shown": show_constants(node),
        **({"values": show_values(node["values"])} if node["values"] else {}),
    }


def show_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of run parameters for the record, without secrets; they explain later runs."""
    from fftasks.stages.arguments import hide_value  # few nodes have run parameters

    return {name: hide_value(value, name) for name, value in values.items()}


def _hide(text: str) -> str:
    """Return a preview of a result without its secrets."""
    if len(text) < _SHORTEST_SECRET:
        return text
    from fftasks.stages.arguments import examine_here

    return examine_here().hide(text)


def _describe_failure(node: Mapping[str, Any], errors: Sequence[str], store: Store) -> NodeError:
    headline, _, rest = errors[-1].partition("\n")
    if len(errors) > 1:
        headline += f", at the last of {len(errors)} tries"
    path = store.log_path(node["slug"])
    lines = read_text(path).splitlines() if is_regular(path) else []
    found = [rest] if rest else []
    if lines:
        found += [
            "last lines of its log:",
            *(f"  {line[:_LONGEST_LINE]}" for line in lines[-_LAST_LINES:]),
        ]
    if is_regular(path):
        found.append(f"whole log: {os.path.relpath(path)}")
    return NodeError(f"run: {headline}", found=found)
