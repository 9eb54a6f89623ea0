"""Compute the fingerprint of a node, find or store its result, and explain why it must run.

The fingerprint is the digest of these named inputs, which the record of the node also stores:

inputs of its record     value
function                 the name of the function, and the file in which it stands
code                     digest of the code that the function needs
python                   minor version, such as "3.11"
requirements             digest of what requirements.txt asks for
data                     digest of all data files of the project, or
data <path>              digest of a file that the node says it reads
version                  the user's version=, which replaces code, python, requirements and data
constant <argument>      digest of an argument, and of the positions of nodes in it
env <name>               digest of an environment variable that its settings set
parameter <name>         digest of the value of a run parameter in this run
input <name>             digest of the upstream artifact
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fftasks.api.node import OUTPUTS_BY_KIND
from fftasks.cache.store import Store, Trace
from fftasks.config.node_settings import NodeSettings, list_env_inputs
from fftasks.errors import NodeError, StoreError
from fftasks.records import Record, digest_json, read_record
from fftasks.state_folder import is_regular, read_text, remove

if TYPE_CHECKING:
    from fftasks.runner.job import Job, Report

_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_LAST_LINES = 10
_LONGEST_LINE = 500
_SHORTEST_SECRET = 8


class FileSource(Protocol):
    """Source of the digests of all files that nodes may read."""

    def list_all(self) -> dict[str, str]:
        """Return the digest of each file, by path."""


class DataFileSource(FileSource, Protocol):
    """Source of the digests of the project's data files; see ProjectDataFiles."""

    def list_matching(self, reads: Iterable[str], /) -> dict[str, str | None]:
        """Return the digests of the files that match patterns; None for a pattern without files."""

    def digest_requirements(self) -> str:
        """Return the digest of requirements.txt; "" if it is empty or missing."""


def list_fingerprint_inputs(
    node: Mapping[str, Any],
    upstream: Mapping[str, Record],
    data: DataFileSource,
    settings: NodeSettings,
) -> dict[str, str]:
    """Return the named inputs of a node's fingerprint.

    Args:
        node: Node of the graph record, with the `values` of its run parameters by name.
        upstream: Record of each upstream node, by the id of the node.
        data: Source of the digests of data files.
        settings: Settings of the node. Only its environment variables count.

    Returns:
        Values by the names in the table above. All are digests except "function", "version" and "python".
    """
    inputs = {"version": node["version"]} if node["version"] else _list_code_and_data(node, data)
    inputs["function"] = name_function(node)
    inputs |= list_env_inputs(settings)
    for argument in node["arguments"]:
        inputs[f"constant {argument['name']}"] = argument["digest"]
    for name, value in node["values"].items():
        inputs[f"parameter {name}"] = digest_json(value)
    for needed in node["inputs"]:
        inputs[f"input {needed['input']}"] = upstream[needed["node"]]["outputs"][needed["output"]]
    return inputs


def list_pieces(
    node: Mapping[str, Any], code: Mapping[str, str], data: FileSource
) -> dict[str, str]:
    """Return the digests of the pieces of a node's code and data, which explain later changes.

    Args:
        node: Node of the graph record.
        code: Pieces of its code.
        data: Source of the digests of data files.

    Returns:
        Digests by names such as "features.py: function clean()" and "data file data/a.csv".
    """
    if node["version"]:
        return {}
    files = data.list_all() if node["reads"] is None else {}
    return {**code, **{f"data file {path}": digest for path, digest in files.items()}}


def _list_code_and_data(node: Mapping[str, Any], data: DataFileSource) -> dict[str, str]:
    inputs = {"code": node["code"], "python": _PYTHON}
    requirements = data.digest_requirements()
    if requirements:
        inputs["requirements"] = requirements
    if node["reads"] is None:
        files = data.list_all()
        return {**inputs, "data": _digest_files(tuple(files.items()))} if files else inputs
    named = data.list_matching(node["reads"])
    return {**inputs, **{f"data {path}": digest or "missing" for path, digest in named.items()}}


@functools.lru_cache(maxsize=1)  # All nodes have the same files.
def _digest_files(files: tuple[tuple[str, str], ...]) -> str:
    return digest_json(dict(files))


def find_cached_record(
    node: Mapping[str, Any], inputs: dict[str, str], store: Store, *, keep: bool = True
) -> Record | None:
    """Return a record with the cached result for a fingerprint.

    The result may be of an earlier run, so that an edit that is undone runs nothing.

    Args:
        node: Node of the graph record.
        inputs: Named inputs of the fingerprint.
        store: Store of the project.
        keep: Whether to write a record that was found by its trace; with False nothing is written.

    Returns:
        The record, or None if no intact result exists, or a constant has no stable digest.
    """
    for argument in node["arguments"]:
        if not argument.get("stable", True):
            return None
    fingerprint = digest_fingerprint(inputs)
    outputs = store.look_up_outputs(node["slug"], fingerprint)
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
    path = store.node_path_text(slug)
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return {}
    record = read_record(path)
    if record is None or record.get("inputs") != inputs:
        return {}
    outputs: dict[str, str] = record.get("outputs", {})
    store.note_outputs(slug, fingerprint, outputs, stat)
    return outputs


def accept_result(
    node: Mapping[str, Any], inputs: dict[str, str], store: Store, pieces: Mapping[str, str]
) -> Record:
    """Record the current result of a node as the result of its current inputs, without running the node.

    Args:
        node: Node of the graph record.
        inputs: Named inputs of the current fingerprint.
        store: Store of the project.
        pieces: Pieces of code and data; see list_pieces.

    Returns:
        The new record.

    Raises:
        StoreError: The node has no result.
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
    """Return a sentence for each constant without a stable digest; such a node always runs."""
    names = [a["name"] for a in node["arguments"] if not a.get("stable", True)]
    return [f"constant {name} looks different each time" for name in names]


def name_pieces(inputs: Mapping[str, str]) -> str:
    """Return the digest under which the store keeps the pieces of a node's code and data."""
    return _digest_pieces(inputs.get("code"), inputs.get("data"))


@functools.lru_cache  # Many nodes share one function.
def _digest_pieces(code: str | None, data: str | None) -> str:
    return digest_json([code, data])


def list_constant_reprs(node: Mapping[str, Any]) -> dict[str, str]:
    """Return the repr of each constant argument of a node, for explanations."""
    return {argument["name"]: argument["repr"] for argument in node["arguments"]}


def make_job(  # noqa: PLR0913 - the last three come from settings and graph
    node: Mapping[str, Any],
    inputs: Mapping[str, str],
    store: Store,
    *,
    workflow: str,
    items: Sequence[str] = (),
    settings: NodeSettings = NodeSettings(),  # noqa: B008 - it cannot be changed
) -> Job:
    """Return the job that runs a node and writes its outputs to temporary files.

    Args:
        node: Node of the graph record.
        inputs: Named inputs of its fingerprint.
        store: Store of the project.
        workflow: Name of a workflow that contains the node.
        items: Paths of the items of the result that get a preview.
        settings: Settings of the node: environment and timeout.
    """
    from fftasks.runner.job import Job

    slug = node["slug"]
    return Job(
        workflow=workflow,
        node=node["name"],
        inputs={
            needed["input"]: store.artifact_path_text(inputs[f"input {needed['input']}"])
            for needed in node["inputs"]
        },
        outputs={output: store.new_path(slug, output) for output in OUTPUTS_BY_KIND[node["kind"]]},
        items=items,
        log=store.new_log(slug),
        env=settings.env,
        timeout_s=settings.timeout_s,
        values=node["values"],
        pages=store.new_pages(slug),
    )


def store_result(  # noqa: PLR0913 - the last two are about what is shown
    node: Mapping[str, Any],
    inputs: dict[str, str],
    store: Store,
    report: Report,
    *,
    pieces: Mapping[str, str],
    errors: Sequence[str] = (),
) -> tuple[Record, Trace]:
    """Store the result of a node, and return its record and its trace.

    Args:
        node: Node of the graph record.
        inputs: Named inputs of its fingerprint.
        store: Store of the project.
        report: Report of the process that ran the node.
        pieces: Pieces of code and data, kept to explain later changes; see list_pieces.
        errors: Errors of all failed attempts, including the last one if it failed.

    Raises:
        NodeError: The node failed. The error has the function's traceback and the end of its log. Only the
            log of a failed node is kept.
    """
    slug = node["slug"]
    if report.error:
        raise _describe_failure(node, errors or [report.error], store)
    for output, digest in report.outputs.items():
        store.adopt_artifact(store.new_path(slug, output), digest)
    if report.pages:
        store.adopt_pages(slug, report.outputs["result"])
    previews = {path: _redact_preview(text) for path, text in report.previews.items()}
    trace = Trace(dict(report.outputs), previews, report.seconds, len(errors) + 1)
    fingerprint = digest_fingerprint(inputs)
    store.write_trace(fingerprint, trace)
    store.note_files(report.read, report.written)
    store.write_code(name_pieces(inputs), pieces)
    record = _make_record(node, inputs, trace.outputs)
    store.write_node(slug, fingerprint, record)
    return record, trace


def find_retry_wait(settings: NodeSettings, failures: int) -> float | None:
    """Return the seconds to wait before the next attempt, or None if no retry is left.

    The wait grows like that of Argo, so that local runs and runs on the cluster behave alike.
    """
    if failures > settings.retries:
        return None
    wait_s = settings.retry_wait_s * settings.retry_factor ** min(failures - 1, 64)
    return float(min(wait_s, settings.retry_max_wait_s))


def remove_partial_results(node: Mapping[str, Any], store: Store) -> None:
    """Remove the temporary outputs of a failed node."""
    for output in OUTPUTS_BY_KIND[node["kind"]]:
        with contextlib.suppress(FileNotFoundError):
            remove(store.new_path(node["slug"], output))
    store.drop_pages(node["slug"])


def digest_fingerprint(inputs: Mapping[str, str]) -> str:
    """Return the fingerprint of a node: the digest of its named inputs."""
    return digest_json(inputs)


def _make_record(
    node: Mapping[str, Any], inputs: dict[str, str], outputs: Mapping[str, str]
) -> Record:
    return {
        "stage": "node",
        "inputs": inputs,
        "output": outputs["result"],
        "outputs": dict(outputs),
        "shown": list_constant_reprs(node),
        **({"values": redact_values(node["values"])} if node["values"] else {}),
    }


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of run parameters for the record, without secrets."""
    from fftasks.secrets.value_scanner import redact_value  # few nodes have run parameters

    return {name: redact_value(value, name) for name, value in values.items()}


def _redact_preview(text: str) -> str:
    """Return a preview of a result without its secrets."""
    if len(text) < _SHORTEST_SECRET:
        return text
    from fftasks.secrets.value_scanner import get_environment_scanner

    return get_environment_scanner().hide(text)


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


_PLAIN = ("function", "version", "python")  # inputs that are not digests


def list_node_reasons(
    node: Mapping[str, Any], inputs: Mapping[str, str], store: Store, pieces: Mapping[str, str]
) -> list[str]:
    """Return the reasons why a node must run, one sentence each.

    Args:
        node: Node of the graph record.
        inputs: Named inputs of its current fingerprint.
        store: Store of the project.
        pieces: Pieces of the current code and data; see list_pieces.
    """
    unstable = list_unstable(node)
    if unstable:
        return unstable
    record = read_record(store.node_path_text(node["slug"]))
    if record is None or "inputs" not in record:
        return ["never ran"]
    old = functools.cache(lambda: store.read_code(name_pieces(record["inputs"])))
    reasons = [
        reason
        for name in list_changed_inputs(record["inputs"], inputs)
        for reason in explain_input(name, node, record, inputs, pieces, lambda _: old())
    ]
    return reasons or ["its result is gone or damaged"]


def list_changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the sorted names of the inputs that differ between two fingerprints."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def explain_input(  # noqa: PLR0913, PLR0917 - two states, and where to look
    name: str,
    node: Mapping[str, Any],
    record: Mapping[str, Any],
    inputs: Mapping[str, str],
    pieces: Mapping[str, str],
    read_pieces: Callable[[str], Mapping[str, str] | None],
) -> Iterator[str]:
    """Yield sentences that explain the change of one input of a fingerprint.

    Args:
        name: Name of the input.
        node: Node of the graph record.
        record: Record of the earlier run.
        inputs: Named inputs of the current fingerprint.
        pieces: Pieces of the current code and data; see list_pieces.
        read_pieces: Function that returns the earlier pieces of "code" or "data"; None if they are unknown.
    """
    old, new = record["inputs"], inputs
    kind, _, rest = name.partition(" ")
    if name in ("code", "data"):
        before = read_pieces(name)
        said = [] if before is None else list(_compare_pieces(before, pieces, name))
        yield from said or [f"its {name} changed"]
    elif kind == "constant":
        was, now = record.get("shown", {}).get(rest), list_constant_reprs(node).get(rest)
        yield _redact_reason(f"{name}: {was} -> {now}") if was != now else f"{name} changed"
    elif kind == "parameter":
        yield _compare_values(rest, record.get("values", {}), node["values"])
    elif kind == "data":
        yield f"{rest} {_compare_files(old.get(name), new.get(name))}"
    elif kind in _PLAIN and name in old and name in new:
        yield _redact_reason(f"{name}: {old[name]} -> {new[name]}")
    elif kind == "input":
        sources = {needed["input"]: needed["node"] for needed in node["inputs"]}
        yield f"result of {sources[rest]} changed" if rest in sources else f"{name} is gone"
    else:
        yield f"{name} changed"


def _redact_reason(text: str) -> str:
    """Return a reason without tokens; the rules are loaded only if a value is shown."""
    from fftasks.secrets.scanner import hide_tokens

    return hide_tokens(text)


def _compare_values(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    from fftasks.secrets.value_scanner import get_environment_scanner

    if name not in old or name not in new:
        return f"parameter {name} is {'new' if name in new else 'gone'}"
    was, now = (get_environment_scanner().describe(value, name) for value in (old[name], new[name]))
    return f"parameter {name}: {was} -> {now}" if was != now else f"parameter {name} changed"


def _compare_files(old: str | None, new: str | None) -> str:
    if _is_missing(old) or _is_missing(new):
        return "is not there any more" if _is_missing(new) else "is new"
    return "changed"


def _is_missing(digest: str | None) -> bool:
    return digest in (None, "missing")


def _compare_pieces(old: Mapping[str, str], new: Mapping[str, str], kind: str) -> Iterator[str]:
    pieces = sorted(
        p for p in old.keys() | new.keys() if p.startswith("data file ") == (kind == "data")
    )
    # A piece that is only not used any more is the least likely cause, so it comes last.
    yield from (f"{p} changed" for p in pieces if p in old and p in new and old[p] != new[p])
    yield from (f"{p} is {'used now' if _is_code(p) else 'new'}" for p in pieces if p not in old)
    left = "not used any more", "not there any more"
    yield from (f"{p} is {left[not _is_code(p)]}" for p in pieces if p not in new)


def _is_code(piece: str) -> bool:
    """Return whether a piece is code of a file, which may still exist when nothing uses it."""
    return ": " in piece


def name_function(node: Mapping[str, Any]) -> str:
    """Return the file and the name of a node's function: "features.py: clean()".

    The name is part of the fingerprint beside the code, because two methods of a class have the same code,
    and so have two functions of a file whose code counts as a whole.
    """
    function = node["function"]
    return f"{function['file'] or function['module']}: {function['qualname']}()"
