"""The project in the current folder: its settings, its graphs, and where its state is."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.data import Data
from fftasks.doit.path import prefer_standard_library
from fftasks.errors import StoreError, WorkflowError
from fftasks.graph import GraphFile, load_graph
from fftasks.label import Node, describe_node, label_nodes
from fftasks.record import Record, digest_json, read_record
from fftasks.runtime.regular import STATE_FOLDER, check_folders
from fftasks.settings import Layer, NodeSettings, Settings, load
from fftasks.settings.nodes import combine_layers
from fftasks.settings.patterns import make_layer, warn_of_secrets
from fftasks.settings.unmatched import find_unmatched
from fftasks.stages import node as node_stage
from fftasks.store import Store, Trace

if TYPE_CHECKING:
    from fftasks.ports.interpreter import Interpreter
    from fftasks.runtime.job import Job, Report
    from fftasks.stages.fingerprint import Fingerprint

FOLDER = STATE_FOLDER
PROFILE = "profile"  # `doit profile=prod ...` chooses it
# each stage but the nodes', and those whose records it reads; those below push are made for each workflow
NEEDS = {
    "context": (),
    "image": ("context",),
    "push": ("image",),
    "tasks": (),
    "pins": ("tasks", "push"),
    "components": ("push", "pins"),
    "pipeline": ("tasks", "pins"),
    "submit": ("pipeline",),
}
# stages that are made together with another one, which does not read their records
TOGETHER = {"submit": ("components",)}
# base: what the base's name stands for, in a record of its own, so that it is looked up once
_SHARED = frozenset({"context", "base", "image", "push"})
_NO_SETTINGS = NodeSettings()


@dataclass
class Project:
    """All that the tasks of one project need; graphs are read, or made anew, when first asked for.

    given: run parameter -> its value as the command line has it
    fingerprints: those that steps/recipe.py has found already, by what they were found for
    """

    root: Path
    settings: Settings
    given: Mapping[str, str] = field(default_factory=dict)
    fingerprints: dict[tuple[str, ...], Mapping[str, Fingerprint]] = field(default_factory=dict)
    _records: dict[str, Record] = field(default_factory=dict)
    _node_settings: dict[str, NodeSettings] = field(default_factory=dict)
    _pieces: dict[tuple[object, ...], dict[str, str]] = field(default_factory=dict)
    _is_warned: bool = False

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self.root / FOLDER

    @functools.cached_property
    def store(self) -> Store:
        """Results, traces and records of nodes."""
        return Store(self.folder)

    @functools.cached_property
    def data(self) -> Data:
        """The data files that nodes may read."""
        return Data(self.root, self.settings, self.folder, self.store.list_made())

    @functools.cached_property
    def graphs(self) -> list[Record]:
        """The graph record of each workflow file."""
        return [load_graph(GraphFile(self.root, f, self.folder)) for f in self.settings.workflows]

    @functools.cached_property
    def workflows(self) -> dict[str, Record]:
        """The graph record that has a workflow, by the workflow's name; WorkflowError if two share one."""
        found: dict[str, Record] = {}
        for graph in self.graphs:
            for name in graph["workflows"]:
                other = found.setdefault(name, graph)
                if other is not graph:
                    raise WorkflowError(
                        f"two workflows are called {name!r}",
                        found=[
                            f"{g['file']}:{g['workflows'][name]['line']}" for g in (other, graph)
                        ],
                        tip="give one of them another name",
                    )
        return found

    @functools.cached_property
    def nodes(self) -> dict[str, Node]:
        """All nodes by their labels, upstream first.

        A label is the node's name; where two files use a name, "<workflow>/<name>".
        """
        _ = self.workflows  # their names are different, and so are labels
        if self.given:
            self._check_given()
        return {node.label: node for node in label_nodes(self.graphs, self._choose)}

    def list_values(self, workflow: str) -> dict[str, Any]:
        """Return the values of a workflow's run parameters, by name."""
        known = self.workflows[workflow]["workflows"][workflow]["parameters"]
        return {name: self._choose(name, each["default"]) for name, each in known.items()}

    @property
    def parameters(self) -> list[str]:
        """The names of all run parameters."""
        workflows = [w for graph in self.graphs for w in graph["workflows"].values()]
        return sorted({name for workflow in workflows for name in workflow["parameters"]})

    def _choose(self, name: str, default: Any) -> Any:
        if name not in self.given:
            return default
        from fftasks.values import parse_value

        return parse_value(name, self.given[name], default)

    def _check_given(self) -> None:
        """Raise ParameterError for a name that neither a parameter nor the project's dodo.py has."""
        from fftasks.values import check_names, list_own_names

        own = list_own_names(self.root / "dodo.py")
        check_names((name for name in self.given if name not in own), self.parameters)

    def settings_of(self, node: Mapping[str, Any]) -> NodeSettings:
        """Return what a node of a graph record ends up with: config/, and what the code sets, which wins."""
        if not self._layers and "settings" not in node:
            return _NO_SETTINGS
        layers = [index for index, layer in enumerate(self._layers) if layer.matches(node["name"])]
        coded = tuple(map(make_layer, node.get("settings", ())))
        key = digest_json([layers, node.get("settings", ())])
        if key not in self._node_settings:
            self._node_settings[key] = combine_layers([*(self._layers[i] for i in layers), *coded])
        return self._node_settings[key]

    def list_settings(self, workflow: str) -> dict[str, NodeSettings]:
        """Return what the nodes of a workflow end up with, by their ids in the graph record."""
        graph = self.workflows[workflow]
        ids = graph["workflows"][workflow]["nodes"]
        return {identity: self.settings_of(graph["nodes"][identity]) for identity in ids}

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return self.settings.nodes

    def note_made(self, path: Path) -> None:
        """Note that a file is ours to write: else it would be a new data file of all nodes."""
        made = Path(os.path.realpath(path))  # also where a link leads to itself
        if made.is_relative_to(self.root):
            self.store.note_files((), (made.relative_to(self.root).as_posix(),))

    def name_graphs(self) -> str:
        """Return a name for all that the graphs are now: another one when they change."""
        return digest_json([graph["output"] for graph in self.graphs])[7:23]

    def describe_nodes(self) -> dict[str, dict[str, Any]]:
        """Return what the history keeps of each node, by its label; see store/history.py."""
        labels = {(n.graph["file"], n.content["id"]): label for label, n in self.nodes.items()}
        return {label: describe_node(node, labels) for label, node in self.nodes.items()}

    def take_warnings(self) -> list[str]:
        """Return what is worth a warning in settings and graphs; nothing when asked again."""
        if self._is_warned:
            return []
        self._is_warned = True
        return [*self.settings.warnings, *self.list_node_warnings()]

    def list_node_warnings(self) -> list[str]:
        """Return what is worth a warning in graphs, and in the settings of nodes."""
        names = dict.fromkeys(node.content["name"] for node in self.nodes.values())
        coded = {
            digest_json(s): s for n in self.nodes.values() for s in n.content.get("settings", ())
        }
        return [
            *(warning for graph in self.graphs for warning in graph["warnings"]),
            *find_unmatched(self._layers, names),
            *warn_of_secrets(map(make_layer, coded.values())),
            *self._warn_of_arguments(),
            *self._warn_of_patterns(),
        ]

    def _warn_of_arguments(self) -> list[str]:
        if not any(graph["secrets"] for graph in self.graphs):
            return []
        from fftasks.steps.outgoing import warn_of_arguments  # most graphs do not need it

        return warn_of_arguments(self)

    def _warn_of_patterns(self) -> list[str]:
        if not self.settings.kfp.allow_tokens:
            return []
        from fftasks.steps.outgoing import find_unmatched_tokens  # most projects do not need it

        return find_unmatched_tokens(self)

    def record_path(self, stage: str, workflow: str = "") -> Path:
        """Return where the record of a stage is."""
        if stage in _SHARED:
            return self.folder / f"{stage}.json"
        slug = self.workflows[workflow]["workflows"][workflow]["slug"]
        return self.folder / stage / f"{slug}.json"

    def list_needs(self, stage: str, workflow: str = "") -> tuple[Path, ...]:
        """Return the records that a stage reads, in the order of NEEDS."""
        return tuple(self.record_path(needed, workflow) for needed in NEEDS[stage])

    def read_node(self, label: str) -> Record:
        """Return the record of a node that has been made; raise StoreError if it is gone."""
        if label not in self._records:
            path = self.store.node_path(self.nodes[label].content["slug"])
            record = read_record(path)
            if record is None:
                raise StoreError(
                    f"{path} is gone or damaged", tip="it is made again: run once more"
                )
            self._records[label] = record
        return self._records[label]

    def list_inputs(self, label: str) -> dict[str, str]:
        """Return the pieces of a node's fingerprint; what is upstream must have been made."""
        node = self.nodes[label]
        upstream = {
            identity: self.read_node(other)
            for identity, other in zip(node.content["upstream"], node.upstream, strict=True)
        }
        settings = self.settings_of(node.content)
        return node_stage.list_inputs(node.content, upstream, self.data, settings)

    def list_pieces(self, label: str) -> dict[str, str]:
        """Return what code and data of a node consist of, piece by piece."""
        node = self.nodes[label]
        content = node.content
        key = node.graph["file"], content["code"], content["version"], content["reads"] is None
        if key not in self._pieces:  # a thousand nodes of one function share them
            self._pieces[key] = node_stage.list_pieces(content, node.pieces, self.data)
        return self._pieces[key]

    def find_node(self, label: str, inputs: dict[str, str]) -> Record | None:
        """Return the record of a node whose result is there, or None; it is on disk afterwards."""
        record = node_stage.find_record(self.nodes[label].content, inputs, self.store)
        if record is not None:
            self._records[label] = record
        return record

    def prepare_node(self, label: str, inputs: dict[str, str]) -> Job:
        """Return the job that runs a node; see stages/node.py."""
        node = self.nodes[label]
        return node_stage.prepare(
            node.content,
            inputs,
            self.store,
            workflow=node.workflow,
            items=node.items,
            settings=self.settings_of(node.content),
        )

    def finish_node(
        self, label: str, inputs: dict[str, str], report: Report, errors: Sequence[str]
    ) -> Trace:
        """Record what a node gave; raise NodeError if it failed. errors: of all tries that failed."""
        self._records[label], trace = node_stage.finish(
            self.nodes[label].content,
            inputs,
            self.store,
            report,
            pieces=self.list_pieces(label),
            errors=errors,
        )
        return trace

    def find_interpreter(self, label: str) -> Interpreter:
        """Return what runs a node's jobs."""
        return self._interpreters[self.nodes[label].graph["file"]]

    def accept(self, label: str) -> None:
        """Take the result that a node has as the one for what its inputs are now."""
        content = self.nodes[label].content
        inputs, pieces = self.list_inputs(label), self.list_pieces(label)
        self._records[label] = node_stage.accept(content, inputs, self.store, pieces)

    def list_needed(self, labels: set[str]) -> list[str]:
        """Return nodes and all that they need, upstream first."""
        wanted, queue = set(labels), list(labels)
        while queue:
            new = set(self.nodes[queue.pop()].upstream) - wanted
            wanted |= new
            queue.extend(new)
        return [label for label in self.nodes if label in wanted]

    def find_trace(self, label: str) -> Trace | None:
        """Return what the last run of a node gave, if it has one and its artifacts are there."""
        record = read_record(self.store.node_path(self.nodes[label].content["slug"]))
        if record is None:
            return None
        return self.store.read_trace(node_stage.digest_fingerprint(record["inputs"]))

    def list_pages(self, label: str) -> list[Path]:
        """Return the files in which the result of a node's last run is shown; most have none."""
        slug = self.nodes[label].content["slug"]
        record = read_record(self.store.node_path(slug))
        return self.store.list_pages(slug, record["output"]) if record else []

    @functools.cached_property
    def _interpreters(self) -> dict[str, Interpreter]:
        return {graph["file"]: self._make_interpreter(graph) for graph in self.graphs}

    def _make_interpreter(self, graph: Record) -> Interpreter:
        from fftasks.ports.interpreter import Interpreter

        files = {
            name.removeprefix("file:"): digest
            for name, digest in graph["inputs"].items()
            if name.startswith("file:") and digest
        }
        isolation = self.settings.local.isolation
        return Interpreter(self.root, graph["file"], tuple(files.items()), isolation)


@functools.lru_cache(maxsize=8)
def open_project(
    root: Path, profile: str | None = None, given: tuple[tuple[str, str], ...] = ()
) -> Project:
    """Return the project in a folder; raise SettingsError if config/ is not right.

    given: run parameters and their values, as the command line has them
    """
    check_folders(root / FOLDER)
    return Project(root, load(root, profile), dict(given))


def open_current() -> Project:
    """Return the project of this doit run: doit has gone to the folder of dodo.py."""
    from doit import doit_cmd

    # get_var gives one that is asked for, and says nothing of one that was mistyped
    given = doit_cmd._CMDLINE_VARS or {}
    return _open(os.getcwd(), tuple(given.items()))  # noqa: PTH109 - asked for several times by each task


@functools.lru_cache(maxsize=8)
def _open(folder: str, given: tuple[tuple[str, str], ...]) -> Project:
    prefer_standard_library(folder)
    values = tuple(pair for pair in given if pair[0] != PROFILE)
    return open_project(Path(folder), dict(given).get(PROFILE), values)
