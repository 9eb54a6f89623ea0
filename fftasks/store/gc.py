"""Remove results that nobody needs: the least recently used first, until what is left is small enough."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from fftasks.errors import SettingsError, StoreError
from fftasks.record import read_record
from fftasks.runtime.regular import check_folders, is_folder, read_bytes, remove
from fftasks.store.store import name_pages, remove_leftovers

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Removed:
    """What was removed, and what is left: artifacts, and their size in bytes."""

    count: int
    size_bytes: int
    left_bytes: int

    def __str__(self) -> str:
        return (
            f"removed {self.count} results, {self.size_bytes:,} bytes; "
            f"{self.left_bytes:,} bytes are left"
        )


def parse_size(text: str) -> int:
    """Return the bytes that a size means: "5GB", "300 MB", "1e9" is none.

    Raises SettingsError for what is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise SettingsError(f"{text!r} is no size", tip="write it like 5GB or 300MB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def remove_unused(folder: Path, keep_bytes: int) -> Removed:
    """Remove artifacts until at most keep_bytes are left; what a node's record needs always stays.

    folder: `.fftasks`. Their traces go first, so that none ever names a result that is gone.
    Raises StoreError if there is no such folder.
    """
    if not folder.is_dir():
        raise StoreError(f"gc: there is no {folder}", tip="call it in the project's folder")
    check_folders(folder)
    parts = [folder / part for part in ("artifacts", "codes", "graph", "nodes", "traces")]
    for part in (*parts, *folder.glob("closures/*")):
        remove_leftovers(part)
    sizes = {path.name: path.lstat().st_size for path in (folder / "artifacts").glob("[0-9a-f]*")}
    traces = _read_traces(folder)
    left, removed = sum(sizes.values()), []
    for name in _order_by_use(set(sizes) - _list_needed(folder), traces):
        if left <= keep_bytes:
            break
        for path in (path for path, outputs in traces.items() if name in outputs):
            remove(path)
        remove(folder / "artifacts" / name)
        left -= sizes[name]
        removed.append(sizes[name])
    _remove_pages(folder)
    return Removed(len(removed), sum(removed), left)


def _remove_pages(folder: Path) -> None:
    """Remove what is shown of results that are gone."""
    left = {name_pages(path.name) for path in (folder / "artifacts").glob("[0-9a-f]*")}
    for node in (folder / "shown").glob("*"):
        for pages in node.glob("[0-9a-f]*") if is_folder(node) else ():
            if pages.name not in left:
                remove(pages)


def _list_needed(folder: Path) -> set[str]:
    records = (read_record(path) for path in (folder / "nodes").glob("*.json"))
    return {
        digest.removeprefix("sha256:")
        for record in records
        if record is not None
        for digest in record.get("outputs", {}).values()
    }


def _order_by_use(names: set[str], traces: dict[Path, set[str]]) -> list[str]:
    """Return the artifacts, the least recently used first; a trace is touched when it is used."""
    used = dict.fromkeys(names, 0)
    for path, outputs in traces.items():
        for name in outputs & names:
            used[name] = max(used[name], path.lstat().st_mtime_ns)
    return sorted(used, key=lambda name: (used[name], name))


def _read_traces(folder: Path) -> dict[Path, set[str]]:
    paths = (folder / "traces").glob("*.json")
    return {path: outputs for path in paths if (outputs := _read_outputs(path)) is not None}


def _read_outputs(path: Path) -> set[str] | None:
    """Return the names of the artifacts in a trace; None if it is damaged."""
    try:
        outputs = json.loads(read_bytes(path))["outputs"]
        return {digest.removeprefix("sha256:") for digest in outputs.values()}
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
        return None
