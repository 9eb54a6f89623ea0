"""Bring a graph record up to date after an edit of what nodes do, without importing the user's file.

Most edits are of this kind, and importing may take seconds: the file brings its packages with it. The texts
of the files tell whether an edit may have changed the graph, and what each node's code consists
of now. The result equals a recomputed record, except that inputs which nothing needs any more remain.

A record that can be updated has an import digest, in its field `skeleton`:

    digest    of what importing the file executes
    lines     file -> first lines of its statements, by which lines of nodes are found again
    path      further folders from which modules are imported
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.codehash.dependencies import ImportDigest, find_dependencies, find_import_digest
from fftasks.codehash.source_tree import SourceTree
from fftasks.graph.observed_inputs import list_module_lookups
from fftasks.records import Record, digest_json
from fftasks.runner.source import find_import_root

if TYPE_CHECKING:
    from fftasks.api.workflow_graph import Workflow
    from fftasks.graph.node_code import CodeDigester
    from fftasks.graph.observed_inputs import GraphFile


def describe_import_digest(
    code_digester: CodeDigester, file: str, workflows: Iterable[Workflow], nodes: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the import digest of a graph, or None if any edit may change the graph.

    Args:
        code_digester: Digester that has digested all nodes.
        file: Workflow file, relative to the project.
        workflows: Workflows that the file builds.
        nodes: Nodes as the graph record has them.
    """
    arguments = (argument for node in nodes.values() for argument in node["arguments"])
    if not code_digester.is_source_only or not all(
        argument.get("stable", True) for argument in arguments
    ):
        return None
    sites = {node.site.file for workflow in workflows for node in workflow.nodes}
    sites |= {workflow.site.file for workflow in workflows}
    if {code_digester.relate(Path(site)) for site in sites} != {file}:
        return None  # the record does not say which file a node's line is in
    import_digest = find_import_digest(code_digester.project, file)
    if import_digest is None:
        return None
    return {
        "digest": import_digest.digest,
        "lines": dict(import_digest.lines),
        "path": [str(folder) for folder in code_digester.project.further],
    }


def update_incrementally(
    source: GraphFile, record: Record, inputs: Mapping[str, str | None]
) -> dict[str, Any] | None:
    """Return a record after an edit, or None if that may have changed the graph.

    inputs: what the record's inputs are now
    """
    old = record["skeleton"]
    changed = {name for name, value in inputs.items() if value != record["inputs"][name]}
    if old is None or any(not name.startswith("file:") for name in changed):
        return None
    roots = [find_import_root(source.root, source.file), source.root]
    project = SourceTree(source.root, roots, source.folder / "closures", old["path"])
    new = find_import_digest(project, source.file)
    if new is None or new.digest != old["digest"]:
        return None
    edited = {name.partition(":")[2]: inputs[name] for name in changed}
    # what is not executed was read for something else; and a file may be edited again meanwhile
    if any(new.files.get(file, "") != digest for file, digest in edited.items()):
        return None
    if not all(_compiles(source.root / file) for file in edited):
        return None
    return _IncrementalUpdate(source, record, inputs, project, new).update_incrementally()


class _IncrementalUpdate:
    def __init__(
        self,
        source: GraphFile,
        record: Record,
        inputs: Mapping[str, str | None],
        project: SourceTree,
        import_digest: ImportDigest,
    ) -> None:
        self._source, self._record, self._inputs = source, record, dict(inputs)
        self._project, self._import_digest = project, import_digest
        self._codes: dict[str, dict[str, str]] = {}
        self._notes: dict[str, None] = {}
        self._known: dict[tuple[str, str], str] = {}

    def update_incrementally(self) -> dict[str, Any]:
        nodes = {identity: self._move(node) for identity, node in self._record["nodes"].items()}
        for identity, node in nodes.items():
            # a method can use the whole class
            function = nodes[node.get("object", identity)]["function"]
            node["code"] = self._digest(function["file"], function["qualname"], function["line"])
        workflows = {
            name: {**workflow, "line": self._find_line(self._source.file, workflow["line"])}
            for name, workflow in self._record["workflows"].items()
        }
        self._note_module_lookups()
        lines = dict(self._import_digest.lines)
        return {
            **self._record,
            "inputs": dict(sorted(self._inputs.items())),
            "output": digest_json([workflows, nodes]),
            "workflows": workflows,
            "nodes": nodes,
            "codes": self._codes,
            "notes": list(self._notes),
            "skeleton": {**self._record["skeleton"], "lines": lines},
        }

    def _note_module_lookups(self) -> None:
        from fftasks.graph.observed_inputs import read_graph_inputs

        new = list_module_lookups(self._project) - self._inputs.keys()
        self._inputs |= read_graph_inputs(self._source, sorted(new))

    def _digest(self, file: str, qualname: str, line: int) -> str:
        """Return the digest of a function's code as it is now."""
        if (file, qualname) not in self._known:
            entry = self._source.file
            closure = find_dependencies(self._project, file, qualname, entry=entry, line=line)
            self._known[file, qualname] = closure.digest
            self._codes[closure.digest] = dict(closure.pieces)
            self._notes |= dict.fromkeys(closure.notes)
            self._inputs |= {f"file:{name}": digest for name, digest in closure.files.items()}
        return self._known[file, qualname]

    def _move(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return a node with the lines at which it stands now."""
        function = node["function"]
        line = self._find_line(function["file"], function["line"])
        moved = {**node, "line": self._find_line(self._source.file, node["line"])}
        moved["function"] = {**function, "line": line}
        if "settings" in node:
            moved["settings"] = [self._move_setting(setting) for setting in node["settings"]]
        return moved

    def _move_setting(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        file, _, line = setting["origin"].rpartition(":")
        return {**setting, "origin": f"{file}:{self._find_line(file, int(line))}"}

    def _find_line(self, file: str, line: int) -> int:
        """Return the current number of a line in a statement whose text is unchanged."""
        before = self._record["skeleton"]["lines"].get(file, [])
        number = bisect_right(before, line) - 1
        if number < 0:
            return line
        after: int = self._import_digest.lines[file][number]
        return line - int(before[number]) + after


def _compiles(path: Path) -> bool:
    """Return whether Python compiles a file; some files can be parsed but not compiled."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # an invalid escape is reported when the file is imported
            compile(path.read_bytes(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True
