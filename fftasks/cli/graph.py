"""`doit graph [WORKFLOW]`: draw the nodes of workflows as SVG, PNG, DOT or Mermaid."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from fftasks.cli.command import CLUSTER_OPTION, JSON_OPTION, OUTPUT_HINT, ProjectCommand, make_flag
from fftasks.errors import StoreError
from fftasks.project import Project
from fftasks.report.diagram import (
    MAX_SHAPES,
    Diagram,
    DiagramNode,
    format_dot,
    format_mermaid,
    make_diagram,
)
from fftasks.report.run_report import (
    convert_diagram_to_json,
    find_current_node_states,
    find_node_groups,
    list_run_diagram_nodes,
    make_diagram_nodes,
)
from fftasks.report.table import print_json
from fftasks.secrets.scanner import hide_tokens
from fftasks.state_folder import STATE_FOLDER, write_output

_KINDS = ("svg", "png", "dot", "mermaid")
_EXTENSIONS = {".svg": "svg", ".png": "png", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid"}
_KIND = {
    "name": "kind", "short": "", "long": "kind", "type": str, "default": "",
    "choices": [(kind, "") for kind in _KINDS], "metavar": "KIND",
    "help": "format of the drawing (default: inferred from the file extension, else svg)",
}  # fmt: skip
_OUTPUT = {
    "name": "output", "short": "o", "long": "output", "type": str, "default": "",
    "metavar": "FILE",
    "help": "output file, - for standard output (default: .fftasks/graph.KIND; standard output for dot and"
    " mermaid)",
}  # fmt: skip
_RUN = {
    "name": "run", "short": "r", "long": "run", "type": str, "default": "",
    "metavar": "RUN",
    "help": "show the states of the nodes in a run: prefix of its name or ID, or `last`",
}  # fmt: skip
_ALL = make_flag("all", "draw every node separately, even if there are more than 40", short="a")


class GraphCommand(ProjectCommand):
    """Draw the nodes, their dependencies and their states; nothing is run."""

    doc_purpose = "draw the workflow"
    doc_usage = "[WORKFLOW...]"
    doc_description = "Nodes of the same function are drawn as one if there are more than 40."
    name = "graph"
    cmd_options = (_KIND, _OUTPUT, _RUN, CLUSTER_OPTION, _ALL, JSON_OPTION)
    most = 1000

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Write the drawing and print its path; with --json, print the graph instead."""
        if options["as_json"] and (options["kind"] or options["output"]):
            raise InvalidCommand("--json cannot be combined with --kind or --output")
        kind = options["kind"] or _EXTENSIONS.get(Path(options["output"]).suffix, "svg")
        unknown = next((name for name in names if name not in project.workflows), None)
        if unknown is not None:
            known = ", ".join(project.workflows)
            raise InvalidCommand(f"there is no workflow {unknown!r}; workflows: {known}")
        items = [
            item
            for item in _find_diagram_nodes(project, options)
            if not names or item.workflow in names
        ]
        if options["as_json"]:
            print_json(convert_diagram_to_json(items))
            return 0
        drawing = make_diagram(items, len(items)) if options["all"] else make_diagram(items)
        content = _render(drawing, kind)
        output = options["output"] or (
            "-" if kind in ("dot", "mermaid") else f"{STATE_FOLDER}/graph.{kind}"
        )
        if output == "-":
            if sys.stdout.isatty() and kind in ("dot", "mermaid"):
                sys.stdout.write(content.decode())
            else:
                sys.stdout.buffer.write(content)
        else:
            _write(project, Path(output), content)
            print(output)
        return 0


def _find_diagram_nodes(project: Project, options: Mapping[str, Any]) -> list[DiagramNode]:
    """Return the nodes with their current states, or with their states in the selected run."""
    run, cluster = options["run"], options["cluster"]
    if run or cluster:
        return list_run_diagram_nodes(project, "" if run == "last" else run, cluster=cluster)
    hides = (
        len(project.nodes) > MAX_SHAPES and not options["as_json"]
    )  # groups would hide the families of nodes
    groups = {} if hides else find_node_groups(project)
    return make_diagram_nodes(project.describe_nodes(), find_current_node_states(project), groups)


def _render(drawing: Diagram, kind: str) -> bytes:
    if kind == "mermaid":
        return hide_tokens(format_mermaid(drawing)).encode()
    text = hide_tokens(format_dot(drawing))
    if kind == "dot":
        return text.encode()
    from fftasks.report.diagram import render_dot

    return render_dot(text, kind)


def _write(project: Project, path: Path, content: bytes) -> None:
    project.note_own_file(path)
    try:
        write_output(path, content)
    except OSError as error:
        found = [error.strerror or str(error)]
        raise StoreError(
            f"graph: {path} cannot be written", found=found, tip=OUTPUT_HINT
        ) from error
