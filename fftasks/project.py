"""Open the project in a folder: its settings, graphs, labelled nodes, records and state folder.

A label is the unique name of a node in a project: the node's name, or "<workflow>/<name>" where two files use
the same name.
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
from fftasks.config.loader import list_env_secret_warnings, load_settings, parse_override
from fftasks.config.node_settings import (
    NodeSettings,
    SettingOverride,
    combine_overrides,
    find_unmatched_patterns,
)
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
    """Move the project's folder behind the standard library in sys.path.

    doit puts the project's folder first, so that a file such as http.py would replace a standard module for
    packages that are imported later, such as requests. Call this after dodo.py has been imported. Workflow
    files are imported by other processes.

    Args:
        folder: Path of the folder as os.getcwd() returns it. sys.path may contain it several times, and
            spelled differently, because of `python -m doit`, --dir and links.
    """
    standard = os.path.dirname(os.__file__)  # noqa: PTH120 - called by each doit process
    places = [n for n, path in enumerate(sys.path) if path in (standard, f"{standard}/lib-dynload")]
    front = sys.path[: max(places, default=-1) + 1]
    own = [path for path in front if os.path.realpath(path) == folder]
    sys.path[: len(front)] = [*(path for path in front if path not in own), *own]


ChooseValue = Callable[
    [str, Any], Any
]  # returns the value of a run parameter, given its name and default


@dataclass
class ProjectNode:
    """A node with its label.

    Attributes:
        label: Name that is unique in the project.
        content: Node of the graph record, with its id there, a slug that is unique in the project, and the
            values of its run parameters.
        graph: Graph record that contains the node.
        upstream: Labels of the nodes that it needs.
        workflow: Name of a workflow that contains the node.
        items: Paths of the items of its result that are leaves.
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
        """Digests of the pieces of its code, by names such as "features.py: function clean()"."""
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
    """Return the labelled nodes of all graphs, upstream first.

    Args:
        graphs: Graph records.
        choose: Returns the value of a run parameter.
    """
    holders: dict[str, int] = {}
    for graph in graphs:
        for identity in graph["nodes"]:
            holders[identity] = holders.get(identity, 0) + 1
    return [node for graph in graphs for node in _label_graph(graph, holders, choose)]


def describe_for_history(
    node: ProjectNode, labels: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    """Return the description of a node for the history.

    Args:
        node: The node.
        labels: Labels of all nodes, by file and id in the graph record.
    """
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
    # The keys of a record are sorted; the lists of the workflows have the order, upstream first.
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


PROFILE = "profile"  # name of the doit variable: `doit profile=prod ...`
# Each stage, and the stages whose records it reads. The stages after push run once per workflow.
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
# Stages that run together with another one, which does not read their records.
BUILT_TOGETHER = {"submit": ("components",)}
# base: the digest of the base image in a record of its own, so that its tag is resolved once.
_PROJECT_STAGES = frozenset({"context", "base", "image", "push"})
_NO_SETTINGS = NodeSettings()


@dataclass
class Project:
    """One project. Its graphs are loaded, or rebuilt, at first use.

    Attributes:
        root: Folder of the project.
        settings: Settings of the project.
        given: Values of run parameters from the command line, by name.
        fingerprints: Cache of cluster fingerprints, by their arguments.
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
        """The graph record of each workflow, by name; WorkflowError if two workflows have the same name."""
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
        _ = self.workflows  # raises if two workflows have the same name, so labels are unique
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
        """Raise ParameterError for a name that neither a run parameter nor dodo.py uses."""
        from fftasks.graph.run_parameters import check_parameter_names, list_get_var_names

        own = list_get_var_names(self.root / "dodo.py")
        check_parameter_names((name for name in self.given if name not in own), self.parameters)

    def find_node_settings(self, node: Mapping[str, Any]) -> NodeSettings:
        """Return the settings of a node of a graph record: config/, overridden by those in the code."""
        if not self._layers and "settings" not in node:
            return _NO_SETTINGS
        layers = [index for index, layer in enumerate(self._layers) if layer.matches(node["name"])]
        coded = tuple(map(parse_override, node.get("settings", ())))
        key = digest_json([layers, node.get("settings", ())])
        if key not in self._node_settings:
            self._node_settings[key] = combine_overrides(
                [*(self._layers[i] for i in layers), *coded]
            )
        return self._node_settings[key]

    def list_settings(self, workflow: str) -> dict[str, NodeSettings]:
        """Return the settings of the nodes of a workflow, by their ids in the graph record."""
        graph = self.workflows[workflow]
        ids = graph["workflows"][workflow]["nodes"]
        return {identity: self.find_node_settings(graph["nodes"][identity]) for identity in ids}

    @property
    def _layers(self) -> tuple[SettingOverride, ...]:
        return self.settings.nodes

    def note_own_file(self, path: Path) -> None:
        """Note that fftasks writes a file, so that it does not count as a data file of nodes."""
        made = Path(os.path.realpath(path))  # does not raise for a link to itself
        if made.is_relative_to(self.root):
            self.store.note_files((), (made.relative_to(self.root).as_posix(),))

    def name_graphs(self) -> str:
        """Return a name for the current graphs, 16 hex digits of their digest."""
        return digest_json([graph["output"] for graph in self.graphs])[7:23]

    def describe_nodes(self) -> dict[str, dict[str, Any]]:
        """Return the descriptions of all nodes for the history, by label."""
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
        """Return the warnings about graphs and about the settings of nodes."""
        names = dict.fromkeys(node.content["name"] for node in self.nodes.values())
        coded = {
            digest_json(s): s for n in self.nodes.values() for s in n.content.get("settings", ())
        }
        return [
            *(warning for graph in self.graphs for warning in graph["warnings"]),
            *find_unmatched_patterns(self._layers, names),
            *list_env_secret_warnings(map(parse_override, coded.values())),
        ]

    def record_path(self, stage: str, workflow: str = "") -> Path:
        """Return the path of the record of a stage.

        Args:
            stage: Name of the stage.
            workflow: Name of the workflow, for a stage that runs once per workflow.
        """
        if stage in _PROJECT_STAGES:
            return self.folder / f"{stage}.json"
        slug = self.workflows[workflow]["workflows"][workflow]["slug"]
        return self.folder / stage / f"{slug}.json"

    def list_needs(self, stage: str, workflow: str = "") -> tuple[Path, ...]:
        """Return the paths of the records that a stage reads, in the order of STAGE_NEEDS."""
        return tuple(self.record_path(needed, workflow) for needed in STAGE_NEEDS[stage])

    def read_node(self, label: str) -> Record:
        """Return the record of a node that was computed; raise StoreError if it is missing."""
        if label not in self._records:
            path = self.store.node_path(self.nodes[label].content["slug"])
            record = read_record(path)
            if record is None:
                raise StoreError(
                    f"{path} is missing or damaged", tip="run the command again to recreate it"
                )
            self._records[label] = record
        return self._records[label]

    def list_inputs(self, label: str) -> dict[str, str]:
        """Return the named inputs of a node's fingerprint; upstream nodes must have been computed."""
        node = self.nodes[label]
        upstream = {
            identity: self.read_node(other)
            for identity, other in zip(node.content["upstream"], node.upstream, strict=True)
        }
        settings = self.find_node_settings(node.content)
        return list_fingerprint_inputs(node.content, upstream, self.data, settings)

    def list_pieces(self, label: str) -> dict[str, str]:
        """Return the digests of the pieces of a node's code and data; see fingerprint.list_pieces."""
        node = self.nodes[label]
        content = node.content
        key = node.graph["file"], content["code"], content["version"], content["reads"] is None
        if key not in self._pieces:  # shared by a thousand nodes of one function
            self._pieces[key] = list_pieces(content, node.pieces, self.data)
        return self._pieces[key]

    def find_node(self, label: str, inputs: dict[str, str]) -> Record | None:
        """Return the record of a node with a cached result and write it to disk; None if there is none."""
        record = find_cached_record(self.nodes[label].content, inputs, self.store)
        if record is not None:
            self._records[label] = record
        return record

    def prepare_node(self, label: str, inputs: dict[str, str]) -> Job:
        """Return the job that runs a node; see fingerprint.make_job."""
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
        """Store the result of a node.

        Args:
            label: Label of the node.
            inputs: Named inputs of its fingerprint.
            report: Report of the process that ran the node.
            errors: Errors of all failed attempts.

        Raises:
            NodeError: The node failed.
        """
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
        """Return the interpreter that runs a node's jobs."""
        return self._interpreters[self.nodes[label].graph["file"]]

    def accept(self, label: str) -> None:
        """Record the current result of a node as the result of its current inputs."""
        content = self.nodes[label].content
        inputs, pieces = self.list_inputs(label), self.list_pieces(label)
        self._records[label] = accept_result(content, inputs, self.store, pieces)

    def list_needed(self, labels: set[str]) -> list[str]:
        """Return the labels of nodes and of all nodes upstream of them, upstream first."""
        wanted, queue = set(labels), list(labels)
        while queue:
            new = set(self.nodes[queue.pop()].upstream) - wanted
            wanted |= new
            queue.extend(new)
        return [label for label in self.nodes if label in wanted]

    def find_trace(self, label: str) -> Trace | None:
        """Return the trace of the last run of a node, or None if a result is missing."""
        record = read_record(self.store.node_path(self.nodes[label].content["slug"]))
        if record is None:
            return None
        return self.store.read_trace(digest_fingerprint(record["inputs"]))

    def list_pages(self, label: str) -> list[Path]:
        """Return the files that display the result of a node's last run; most nodes have none."""
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
    """Open the project in a folder.

    Args:
        root: Folder of the project.
        profile: Name of the profile, or None.
        given: Pairs of run parameters and their values from the command line.

    Raises:
        SettingsError: A setting is invalid.
        StoreError: The state folder is not usable.
    """
    check_folders(root / STATE_FOLDER)
    return Project(root, load_settings(root, profile), dict(given))


def open_current() -> Project:
    """Return the project of this doit process, in the folder of dodo.py, which is the current folder."""
    from doit import doit_cmd

    # get_var() returns one variable by name, but mistyped variables have to be detected as well.
    given = doit_cmd._CMDLINE_VARS or {}
    return _open(os.getcwd(), tuple(given.items()))  # noqa: PTH109 - called several times by each task


@functools.lru_cache(maxsize=8)
def _open(folder: str, given: tuple[tuple[str, str], ...]) -> Project:
    prefer_standard_library(folder)
    values = tuple(pair for pair in given if pair[0] != PROFILE)
    return open_project(Path(folder), dict(given).get(PROFILE), values)
