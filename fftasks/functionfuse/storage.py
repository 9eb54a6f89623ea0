"""Storage of results by workflow and node name: the drop-in for FunctionFuse's file storage."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fftasks.api.names import make_slug
from fftasks.errors import SettingsError, StoreError
from fftasks.records import digest_json
from fftasks.runner.artifact import digest_artifact, read_artifact, write_artifact

if TYPE_CHECKING:
    from fftasks.api.node import Input, Node
    from fftasks.api.workflow_graph import Workflow
    from fftasks.graph.node_code import CodeDigester


class Saved(NamedTuple):
    """A result on disk: its file, and the file's digest."""

    path: Path
    digest: str


def storage_factory(options: Mapping[str, Any]) -> FileStorage:
    """Return a storage: {"kind": "file", "options": {"path": folder}}.

    Raises SettingsError for another kind: S3 and Ray of FunctionFuse are not taken over.
    """
    try:
        kind, path = options["kind"], options["options"]["path"]
    except (KeyError, TypeError) as error:
        raise SettingsError(
            f"storage_factory: no {error} in {options!r}",
            tip='storage_factory({"kind": "file", "options": {"path": "storage"}})',
        ) from None
    if kind != "file":
        raise SettingsError(f"storage_factory: no storage of kind {kind!r}", tip='there is "file"')
    return FileStorage(path)


class FileStorage:
    """Results in a folder, for LocalWorkflow, notebooks and scripts.

    A result is taken from here only if code, constants and what is upstream are as they were.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def list_tasks(self, workflow_name: str, pattern: str = "*") -> list[str]:
        """Return the names of the nodes that have a result, filtered by a glob pattern."""
        names = [label["name"] for label in self._read_labels(workflow_name)]
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    def read_task(self, workflow_name: str, task_name: str) -> Any:
        """Return the result of a node.

        Raises:
            FileNotFoundError: The node has no result.
            StoreError: The file has changed since it was saved. Loading it could execute code.
        """
        path = self._artifact(workflow_name, task_name)
        if not path.exists():
            raise FileNotFoundError(f"{self.path}: no result of {task_name!r} in {workflow_name!r}")
        try:
            label = json.loads(self._label(workflow_name, task_name).read_bytes())
        except (FileNotFoundError, ValueError):
            label = {}
        if label.get("digest") != digest_artifact(path):
            raise StoreError(
                f"{path} has changed since it was saved",
                tip="remove it with remove_task(), and compute the result again",
            )
        return read_artifact(path)

    def save(self, workflow_name: str, task_name: str, value: Any) -> None:
        """Store a value under the name of a node; it is never mistaken for the node's own result."""
        path = self._artifact(workflow_name, task_name)
        temporary = path.with_suffix(".new")
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = write_artifact(temporary, value)
        self.keep(workflow_name, task_name, "", Saved(temporary, digest))

    def remove_task(
        self, workflow_name: str, task_name: str | None = None, pattern: str | None = None
    ) -> None:
        """Remove the result of a node, or of all whose names match a glob pattern.

        Raises FileNotFoundError if the named node has none.
        """
        names = [task_name] if pattern is None else self.list_tasks(workflow_name, pattern)
        for name in names:
            if name is None or not self._artifact(workflow_name, name).exists():
                raise FileNotFoundError(f"{self.path}: no result of {name!r} in {workflow_name!r}")
            self._label(workflow_name, name).unlink(missing_ok=True)
            self._artifact(workflow_name, name).unlink()

    def remove_workflow(self, workflow_name: str) -> None:
        """Remove all results of a workflow; nothing happens if there are none."""
        folder = self.path / make_slug(workflow_name)
        if folder.exists():
            shutil.rmtree(folder)

    def find(self, workflow_name: str, task_name: str, key: str) -> Saved | None:
        """Return a node's result if it was kept under this fingerprint and is there."""
        path = self._artifact(workflow_name, task_name)
        try:
            label = json.loads(self._label(workflow_name, task_name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        is_known = (
            key
            and label["key"] == key
            and path.exists()
            and digest_artifact(path) == label["digest"]
        )
        return Saved(path, label["digest"]) if is_known else None

    def keep(self, workflow_name: str, task_name: str, key: str, saved: Saved) -> Saved:
        """Take a result's file under a fingerprint; return where it is now."""
        path = self._artifact(workflow_name, task_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        label = self._label(workflow_name, task_name)
        label.unlink(missing_ok=True)  # first: an old label must not stand beside a new result
        temporary = path.with_suffix(".tmp")
        shutil.move(saved.path, temporary)
        temporary.replace(path)
        content = {
            "name": task_name,
            "key": key,
            "digest": saved.digest,
            "size": path.stat().st_size,
        }
        temporary.write_text(json.dumps(content))
        temporary.replace(label)
        return Saved(path, saved.digest)

    def make_keys(
        self, workflow: Workflow, values: Mapping[str, Any]
    ) -> Callable[[Node, Mapping[Input, Saved]], str]:
        """Return what gives a node's fingerprint, from its code, its constants and what is upstream.

        values: of the workflow's run parameters, by name
        """
        from fftasks.api.node import number_inputs
        from fftasks.cache.fingerprint import name_function
        from fftasks.graph.importer import describe_graph_node

        code_digester = _make_coder(workflow.site.file)
        ids = {node: node.name for node in workflow.nodes}

        def make_key(node: Node, saved: Mapping[Input, Saved]) -> str:
            described = describe_graph_node(node, ids, code_digester)
            if not all(argument.get("stable", True) for argument in described["arguments"]):
                return ""
            constants = [[a["name"], a["digest"]] for a in described["arguments"]]
            upstream = [[name, saved[i].digest] for name, i in number_inputs(node).items()]
            chosen = [[name, values[name]] for name in sorted(_list_names(described))]
            return digest_json(
                [name_function(described), described["code"], constants, upstream, *chosen]
            )

        return make_key

    def _artifact(self, workflow_name: str, task_name: str) -> Path:
        return self.path / make_slug(workflow_name) / f"{make_slug(task_name)}.artifact"

    def _label(self, workflow_name: str, task_name: str) -> Path:
        return self._artifact(workflow_name, task_name).with_suffix(".json")

    def _read_labels(self, workflow_name: str) -> Iterator[dict[str, Any]]:
        for path in (self.path / make_slug(workflow_name)).glob("*.json"):
            label = json.loads(path.read_bytes())
            if self._artifact(workflow_name, label["name"]).exists():
                yield label


def _list_names(described: Mapping[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in described["parameters"].values()}


def _make_coder(file: str) -> CodeDigester:
    from fftasks.graph.node_code import CodeDigester

    # a script that stands beside its modules; a notebook has no file, and its functions no source there
    folder, path = Path.cwd().resolve(), Path(file).resolve()
    if path.is_file() and not path.is_relative_to(folder):
        folder = path.parent
    entry = path.relative_to(folder).as_posix() if path.is_file() else None
    return CodeDigester(folder, entry)
