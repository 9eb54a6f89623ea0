"""Where doit's own process looks for modules: doit puts the project's folder first, for dodo.py.

The labels of nodes: names that are unique in a project, by which doit and the user know them.

A label is the node's name; where two files use a name, "<workflow>/<name>".

The project in the current folder: its settings, its graphs, and where its state is.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.api.names import make_slug
from fftasks.cache.data_files import ProjectDataFiles
from fftasks.cache.fingerprint import (
    accept_result,
    digest_fingerprint,
    find_cached_record,
    list_fingerprint_inputs,
    list_pieces,
    make_job,
    store_result,
)
from fftasks.cache.store import Store, Trace
from fftasks.config.loader import load, make_layer, warn_of_secrets
from fftasks.config.node_settings import Layer, NodeSettings, combine_layers, find_unmatched
from fftasks.config.tree import Settings
from fftasks.errors import StoreError, WorkflowError
from fftasks.graph.observed_inputs import GraphFile
from fftasks.graph.record import load_graph
from fftasks.records import Record, digest_json, read_record
from fftasks.state_folder import STATE_FOLDER, check_folders

if TYPE_CHECKING:
    from fftasks.cache.cluster_fingerprint import ClusterFingerprint
    from fftasks.graph.interpreters import Interpreter
    from fftasks.runner.job import Job, Report


def prefer_standard_library(folder: str) -> None:
    """Let a module of Python's be found before one of the folder that has its name, such as http.py.

    To be called when dodo.py has been imported. Requests and many others are imported where they are
    needed, and would find the project's; its workflows are imported by other processes.

    folder: as os.getcwd() has it; `python -m doit`, --dir and a link bring it in again, or spelled otherwise
    """
    standard = os.path.dirname(os.__file__)  # noqa: PTH120 - each doit that begins calls it
    places = [n for n, path in enumerate(sys.path) if path in (standard, f"{standard}/lib-dynload")]
    front = sys.path[: max(places, default=-1) + 1]
    own = [path for path in front if os.path.realpath(path) == folder]
    sys.path[: len(front)] = [*(path for path in front if path not in own), *own]


ChooseValue = Callable[[str, Any], Any]  # gives a run parameter's value: name, default -> value


@dataclass
class ProjectNode:
    """A node as doit sees it.

    label: unique in the project
    content: as the graph record has it, with its id there, a slug that is unique in the project, and the
        values of its run parameters
    graph: that record
    upstream: labels of the nodes that it needs
    workflow: the name of a workflow that has the node
    items: the items of its result that are leaves
    """

    label: str
    content: Mapping[str, Any]
    graph: Record
    upstream: tuple[str, ...]
    workflow: str
    items: tuple[str, ...]

    @property
    def is_workflow_written(self) -> bool:
        """Whether the workflow's name is a literal in the code, not computed."""
        return bool(self.graph["workflows"][self.workflow]["is_written"])

    @property
    def pieces(self) -> dict[str, str]:
        """What its code consists of: "features.py: function clean()" -> digest."""
        return dict(self.graph["codes"][self.content["code"]])


_SPECIAL_CHARACTERS = re.compile("[%=*]")


def format_task_name(label: str) -> str:
    """Return the label of a node as doit accepts it in the name of a task.

    "=" and "*" are percent-encoded, because they mean a variable and a pattern on doit's command line.
    """
    if not _SPECIAL_CHARACTERS.search(label):
        return label
    return _SPECIAL_CHARACTERS.sub(lambda match: f"%{ord(match[0]):02X}", label)


def label_nodes(graphs: list[Record], choose: ChooseValue) -> list[ProjectNode]:
    """Return the nodes of all graphs, upstream first."""
    holders: dict[str, int] = {}
    for graph in graphs:
        for identity in graph["nodes"]:
            holders[identity] = holders.get(identity, 0) + 1
    return [node for graph in graphs for node in _label_graph(graph, holders, choose)]


def describe_for_history(
    node: ProjectNode, labels: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """Return what the history keeps of a node; labels: by file and id in the graph record."""
    content, function = node.content, node.content["function"]
    made = node.label if content["kind"] == "object" else ""
    return {
        "function": function["qualname"],
        "is_function_written": content["is_function_written"],
        "place": f"{function['file']}:{function['line']}" if function["file"] else "",
        "line": f"{node.graph['file']}:{content['line']}",
        "slug": content["slug"],
        "workflow": node.workflow,
        "upstream": list(node.upstream),
        "arguments": {a["name"]: a["repr"] for a in content["arguments"]},
        "extra": [a["name"] for a in content["arguments"] if a.get("is_extra")],
        "is_written": content["is_written"]
        and (node.label == content["name"] or node.is_workflow_written),
        "is_workflow_written": node.is_workflow_written,
        "chain": labels.get((node.graph["file"], content.get("object", "")), made),
    }


def _label_graph(
    graph: Record, holders: Mapping[str, int], choose: ChooseValue
) -> list[ProjectNode]:
    owner = {n: name for name, w in reversed(graph["workflows"].items()) for n in w["nodes"]}
    labels = {n: n if holders[n] == 1 else f"{owner[n]}/{n}" for n in graph["nodes"]}
    items: dict[str, set[str]] = {}
    for leaf in (leaf for w in graph["workflows"].values() for leaf in w["leaves"]):
        items.setdefault(leaf["node"], set()).update({leaf["path"]} - {""})
    nodes = []
    # a record's keys are sorted; the order of the nodes is that of the workflows' lists, upstream first
    for identity in dict.fromkeys(n for w in graph["workflows"].values() for n in w["nodes"]):
        content = graph["nodes"][identity]
        values = {
            each["name"]: choose(each["name"], each["default"])
            for each in content["parameters"].values()
        }
        slug = make_slug(labels[identity])
        known = {**content, "id": identity, "slug": slug, "values": values}
        upstream = tuple(labels[other] for other in content["upstream"])
        shown = tuple(sorted(items.get(identity, ())))
        nodes.append(ProjectNode(labels[identity], known, graph, upstream, owner[identity], shown))
    return nodes


PROFILE = "profile"  # `doit profile=prod ...` chooses it
# each stage but the nodes', and those whose records it reads; those below push are made for each workflow
STAGE_NEEDS = {
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
BUILT_TOGETHER = {"submit": ("components",)}
# base: what the base's name stands for, in a record of its own, so that it is looked up once
_PROJECT_STAGES = frozenset({"context", "base", "image", "push"})
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
    fingerprints: dict[tuple[str, ...], Mapping[str, ClusterFingerprint]] = field(
        default_factory=dict
    )
    _records: dict[str, Record] = field(default_factory=dict)
    _node_settings: dict[str, NodeSettings] = field(default_factory=dict)
    _pieces: dict[tuple[object, ...], dict[str, str]] = field(default_factory=dict)
    _is_warned: bool = False

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self.root / STATE_FOLDER

    @functools.cached_property
    def store(self) -> Store:
        """Results, traces and records of nodes."""
        return Store(self.folder)

    @functools.cached_property
    def data(self) -> ProjectDataFiles:
        """The data files that nodes may read."""
        return ProjectDataFiles(
            self.root, self.settings, self.folder, self.store.list_only_written()
        )

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
    def nodes(self) -> dict[str, ProjectNode]:
        """All nodes by their labels, upstream first.

        A label is the node's name; where two files use a name, "<workflow>/<name>".
        """
        _ = self.workflows  # their names are different, and so are labels
        if self.given:
            self._check_given()
        return {node.label: node for node in label_nodes(self.graphs, self._choose)}

    def find_label(self, name: str) -> str | None:
        """Return the label of the node that a user names, or None if there is no such node.

        Args:
            name: The label, or its spelling in the name of a doit task; see format_task_name.
        """
        if name in self.nodes:
            return name
        return next((label for label in self.nodes if name == format_task_name(label)), None)

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
        from fftasks.graph.run_parameters import parse_parameter

        return parse_parameter(name, self.given[name], default)

    def _check_given(self) -> None:
        """Raise ParameterError for a name that neither a parameter nor the project's dodo.py has."""
        from fftasks.graph.run_parameters import check_parameter_names, list_get_var_names

        own = list_get_var_names(self.root / "dodo.py")
        check_parameter_names((name for name in self.given if name not in own), self.parameters)

    def find_node_settings(self, node: Mapping[str, Any]) -> NodeSettings:
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
        return {identity: self.find_node_settings(graph["nodes"][identity]) for identity in ids}

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return self.settings.nodes

    def note_own_file(self, path: Path) -> None:
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
        return {label: describe_for_history(node, labels) for label, node in self.nodes.items()}

    @property
    def may_hold_secrets(self) -> bool:
        """Whether an argument of a node contains a secret, or kfp.allow_tokens permits one."""
        return bool(self.settings.kfp.allow_tokens) or any(
            graph["secrets"] for graph in self.graphs
        )

    def take_warnings(self, list_more: Callable[[Project], list[str]]) -> list[str]:
        """Return the warnings about settings and graphs; an empty list when called again.

        Args:
            list_more: Returns the warnings of a higher layer. It is called once.
        """
        if self._is_warned:
            return []
        self._is_warned = True
        return [*self.settings.warnings, *self.list_node_warnings(), *list_more(self)]

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
        ]

    def record_path(self, stage: str, workflow: str = "") -> Path:
        """Return where the record of a stage is."""
        if stage in _PROJECT_STAGES:
            return self.folder / f"{stage}.json"
        slug = self.workflows[workflow]["workflows"][workflow]["slug"]
        return self.folder / stage / f"{slug}.json"

    def list_needs(self, stage: str, workflow: str = "") -> tuple[Path, ...]:
        """Return the records that a stage reads, in the order of NEEDS."""
        return tuple(self.record_path(needed, workflow) for needed in STAGE_NEEDS[stage])

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
        settings = self.find_node_settings(node.content)
        return list_fingerprint_inputs(node.content, upstream, self.data, settings)

    def list_pieces(self, label: str) -> dict[str, str]:
        """Return what code and data of a node consist of, piece by piece."""
        node = self.nodes[label]
        content = node.content
        key = node.graph["file"], content["code"], content["version"], content["reads"] is None
        if key not in self._pieces:  # a thousand nodes of one function share them
            self._pieces[key] = list_pieces(content, node.pieces, self.data)
        return self._pieces[key]

    def find_node(self, label: str, inputs: dict[str, str]) -> Record | None:
        """Return the record of a node whose result is there, or None; it is on disk afterwards."""
        record = find_cached_record(self.nodes[label].content, inputs, self.store)
        if record is not None:
            self._records[label] = record
        return record

    def prepare_node(self, label: str, inputs: dict[str, str]) -> Job:
        """Return the job that runs a node; see stages/node.py."""
        node = self.nodes[label]
        return make_job(
            node.content,
            inputs,
            self.store,
            workflow=node.workflow,
            items=node.items,
            settings=self.find_node_settings(node.content),
        )

    def finish_node(
        self, label: str, inputs: dict[str, str], report: Report, errors: Sequence[str]
    ) -> Trace:
        """Record what a node gave; raise NodeError if it failed. errors: of all tries that failed."""
        self._records[label], trace = store_result(
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
        self._records[label] = accept_result(content, inputs, self.store, pieces)

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
        return self.store.read_trace(digest_fingerprint(record["inputs"]))

    def list_pages(self, label: str) -> list[Path]:
        """Return the files in which the result of a node's last run is shown; most have none."""
        slug = self.nodes[label].content["slug"]
        record = read_record(self.store.node_path(slug))
        return self.store.list_pages(slug, record["output"]) if record else []

    @functools.cached_property
    def _interpreters(self) -> dict[str, Interpreter]:
        return {graph["file"]: self._make_interpreter(graph) for graph in self.graphs}

    def _make_interpreter(self, graph: Record) -> Interpreter:
        from fftasks.graph.interpreters import Interpreter

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
    check_folders(root / STATE_FOLDER)
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
