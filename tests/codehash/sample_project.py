"""Tiny projects for closures: written to a folder, looked at, edited, looked at again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fftasks.codehash.dependencies import CodeDependencies, find_dependencies
from fftasks.codehash.source_tree import SourceTree


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files by their path in a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def look(
    folder: Path, qualname: str = "node", file: str = "wf.py", entry: str = "wf.py"
) -> CodeDependencies:
    """Return a closure in the project of a folder, with nothing else on the path."""
    project = SourceTree(folder, [(folder / file).parent, folder], path=())
    return find_dependencies(project, file, qualname, entry=entry)


def find_changed(
    folder: Path, before: Mapping[str, str], after: Mapping[str, str], nodes: tuple[str, ...]
) -> set[str]:
    """Return the functions of wf.py whose closure differs between two states of a project."""
    write(folder, before)
    old = {node: look(folder, node).digest for node in nodes}
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    write(folder, after)
    return {node for node in nodes if look(folder, node).digest != old[node]}
