"""Why a node must run: what in its fingerprint is no longer what it was, in the user's words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fftasks.record import read_record
from fftasks.stages.node import VERSION, list_unstable, name_pieces, show_constants
from fftasks.store import Store

_PLAIN = ("function", "version", "python")  # pieces that are no digests


def list_reasons(
    node: Mapping[str, Any], inputs: Mapping[str, str], store: Store, pieces: Mapping[str, str]
) -> list[str]:
    """Return why a node must run, in the user's words, a sentence each.

    pieces: as list_pieces gives them
    """
    unstable = list_unstable(node)
    if unstable:
        return unstable
    record = read_record(store.spell_node(node["slug"]))
    if record is None or "inputs" not in record:
        return ["never ran"]
    if record.get("version") != VERSION:
        return ["the fingerprint algorithm changed"]
    old = functools.cache(lambda: store.read_code(name_pieces(record["inputs"])))
    reasons = [
        reason
        for name in list_changed(record["inputs"], inputs)
        for reason in explain_input(name, node, record, inputs, pieces, lambda _: old())
    ]
    return reasons or ["its result is gone or damaged"]


def list_changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names of the pieces that two fingerprints do not share, in order."""
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def explain_input(  # noqa: PLR0913, PLR0917 - two states, and where to look
    name: str,
    node: Mapping[str, Any],
    record: Mapping[str, Any],
    inputs: Mapping[str, str],
    pieces: Mapping[str, str],
    read_pieces: Callable[[str], Mapping[str, str] | None],
) -> Iterator[str]:
    """Yield what changed in one piece of a node's fingerprint, in the user's words.

    record: says what it was; inputs: what it is; pieces: of code and data, as list_pieces gives them
    read_pieces: gives what "code" or "data" was, None if nobody knows
    """
    old, new = record["inputs"], inputs
    kind, _, rest = name.partition(" ")
    if name in ("code", "data"):
        before = read_pieces(name)
        said = [] if before is None else list(_compare_pieces(before, pieces, name))
        yield from said or [f"its {name} changed"]
    elif kind == "constant":
        was, now = record.get("shown", {}).get(rest), show_constants(node).get(rest)
        yield _hide(f"{name}: {was} -> {now}") if was != now else f"{name} changed"
    elif kind == "parameter":
        yield _compare_values(rest, record.get("values", {}), node["values"])
    elif kind == "data":
        yield f"{rest} {_compare_files(old.get(name), new.get(name))}"
    elif kind in _PLAIN and name in old and name in new:
        yield _hide(f"{name}: {old[name]} -> {new[name]}")
    elif kind == "input":
        sources = {needed["input"]: needed["node"] for needed in node["inputs"]}
        yield f"result of {sources[rest]} changed" if rest in sources else f"{name} is gone"
    else:
        yield f"{name} changed"


def _hide(text: str) -> str:
    """Return a reason without tokens; the rules are loaded only if a value is shown."""
    from fftasks.stages.secret import hide_tokens

    return hide_tokens(text)


def _compare_values(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    from fftasks.stages.arguments import examine_here

    if name not in old or name not in new:
        return f"parameter {name} is {'new' if name in new else 'gone'}"
    was, now = (examine_here().describe(value, name) for value in (old[name], new[name]))
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
    # what is the same text as before, and counts no more, is the last to be blamed
    yield from (f"{p} changed" for p in pieces if p in old and p in new and old[p] != new[p])
    yield from (f"{p} is {'used now' if _is_code(p) else 'new'}" for p in pieces if p not in old)
    left = "not used any more", "not there any more"
    yield from (f"{p} is {left[not _is_code(p)]}" for p in pieces if p not in new)


def _is_code(piece: str) -> bool:
    """Tell whether a piece is of a project's file, and so may still be there when nothing uses it."""
    return ": " in piece
