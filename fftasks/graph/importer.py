"""Import the user's file and write its graph as JSON, in the child process of graph/record.py.

Usage: python -m fftasks.graph.importer ROOT FILE DESCRIPTOR
"""

from __future__ import annotations

import ast
import gc
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from fftasks.api.display import list_node_display_kinds
from fftasks.api.names import make_slug
from fftasks.api.node import (
    CallNode,
    Node,
    NodeInput,
    QuerySetting,
    Result,
    UnresolvedValue,
    find_results,
    format_path,
    is_declared_parameter,
    name_inputs,
    replace_unresolved,
)
from fftasks.api.parameter import Parameter
from fftasks.api.workflow_graph import Workflow
from fftasks.codehash.python_values import describe_constant, digest_constant
from fftasks.errors import FFTasksError, WorkflowError
from fftasks.graph.incremental import describe_import_digest
from fftasks.graph.node_code import CodeDigester
from fftasks.graph.observed_inputs import list_imported_files, list_module_lookups, trace_import
from fftasks.graph.run_parameters import convert_to_kfp, name_kfp_type
from fftasks.runner.job import name_parameters
from fftasks.runner.source import import_workflows, list_same_named_modules, list_shadowed_modules
from fftasks.secrets.value_scanner import make_environment_scanner


class ValueExaminer(Protocol):
    """The secret finder, which searches values for secrets; see secrets/value_scanner.py."""

    def find(self, value: Any, name: str = "", /) -> Sequence[Any]:
        """Return the secrets in a value of this name, each with its `place` and its `kind`."""
        ...

    def describe(self, value: Any, name: str = "", /) -> str:
        """Return a one-line description of a value without its secrets."""
        ...


MakeValueExaminer = Callable[
    [Mapping[str, str]], ValueExaminer
]  # its argument: environment variables


def describe_file(root: Path, file: str, make_examiner: MakeValueExaminer) -> dict[str, Any]:
    """Return the graph of a file as JSON, or {"error": [attempted, found, tip]}.

    Args:
        root: Folder of the project.
        file: File that builds workflows, relative to it.
        make_examiner: Returns the secret finder for the environment variables that the file has read.
    """
    variables: dict[str, str] = {}
    try:
        if list_same_named_modules(
            root, file
        ):  # else it would take theirs for Python's when it is needed
            import_module("importlib.metadata")
        with trace_import(root, variables) as names:
            warnings: list[str] = []
            workflows = import_workflows(root, file, notes=warnings)
        warnings += [warning for workflow in workflows for warning in workflow.warnings]
        warnings += list_shadowed_modules(root, file)
        examiner = make_examiner(variables)
        return describe_graph(root, file, workflows, names, warnings, examiner=examiner)
    except FFTasksError as error:
        return {"error": [error.attempted, error.found, error.tip]}


def describe_graph(  # noqa: PLR0913 - one parameter per kind of fact about a file
    root: Path,
    file: str,
    workflows: list[Workflow],
    names: set[str],
    warnings: Sequence[str] = (),
    *,
    examiner: ValueExaminer,
) -> dict[str, Any]:
    """Return workflows and nodes as the graph record has them, and the names of all inputs.

    A node's `parameters` are the run parameters that reach it directly, not through what is upstream:
    {input of its component: {"name", "type", "default"}}; a workflow's are those of all its nodes, by name.
    `secrets` lists the secrets in arguments and settings: [id of the node, argument, place in it, kind]. The
    record has no `value` for an argument that contains a secret.
    `skeleton` is the import digest, see graph/incremental.py.
    """
    _check_workflows(workflows)
    ids = name_nodes(workflows)
    code_digester = CodeDigester(root, file)
    nodes = {ids[node]: describe_graph_node(node, ids, code_digester) for node in ids}
    secrets = [
        [ids[node], *one]
        for node in ids
        for one in _remove_secrets(node, nodes[ids[node]], examiner)
    ]
    homes = {nodes[identity]["function"]["file"] for identity in ids.values()} - {""}
    sites = {Path(node.site.file) for node in ids}
    written = _list_identifiers([root / file, *sites, *(root / home for home in homes)])
    for node in ids:
        parts = set(node.qualname.split(".")) - {"<locals>", "<lambda>"}
        is_automatic = bool(re.fullmatch(rf"{re.escape(node.qualname)}_\d{{4,}}", node.name))
        nodes[ids[node]]["is_function_written"] = parts <= written
        nodes[ids[node]]["is_written"] = node.name in written or (is_automatic and parts <= written)
    files = {f"file:{path}" for path in code_digester.files} | {f"file:{file}"}
    import_digest = (
        None if warnings else describe_import_digest(code_digester, file, workflows, nodes)
    )
    looks = list_module_lookups(code_digester.project)
    return {
        "workflows": {
            w.name: {**_describe_workflow(w, ids), "is_written": w.name in written}
            for w in workflows
        },
        "nodes": nodes,
        "secrets": secrets,
        "codes": code_digester.pieces,
        "notes": list(code_digester.notes),
        "warnings": list(warnings),
        "skeleton": import_digest,
        "input_names": sorted(
            {"python", "installed"} | names | files | list_imported_files(root) | looks
        ),
    }


def name_nodes(workflows: list[Workflow]) -> dict[Node, str]:
    """Return an id for each node, upstream first: its name, or "<workflow>/<name>" if others have it."""
    owner = {node: w.name for w in reversed(workflows) for node in w.nodes}
    ordered = dict.fromkeys(node for w in workflows for node in w.nodes)
    holders: dict[str, int] = {}
    for node in ordered:
        holders[node.name] = holders.get(node.name, 0) + 1
    return {n: n.name if holders[n.name] == 1 else f"{owner[n]}/{n.name}" for n in ordered}


def describe_graph_node(
    node: Node, ids: dict[Node, str], code_digester: CodeDigester
) -> dict[str, Any]:
    """Return one node as the graph record has it."""
    inputs = name_inputs(node)
    described = {
        "name": node.name,
        "slug": make_slug(ids[node]),
        "line": node.site.line,
        "kind": node.kind,
        "function": code_digester.locate(node),
        "code": code_digester.digest(node),
        "inputs": [
            {"input": name, "node": ids[needed.node], "output": needed.output}
            for name, needed in inputs.items()
        ],
        "parameters": {
            name: {"name": parameter.name, **_describe_parameter(parameter)}
            for name, parameter in name_parameters(node).items()
        },
        "upstream": [ids[parent] for parent in node.parents],
        "reads": None if node.options.reads is None else list(node.options.reads),
        "version": node.options.version,
        "shows": list_node_display_kinds(node),
    }
    names = {needed: name for name, needed in inputs.items()}
    arguments = [
        _describe_argument(name, value, names, ids, code_digester)
        for name, value in node.arguments.items()
    ]
    for argument in arguments:
        if not is_declared_parameter(node.callee, argument["name"]):
            argument["is_extra"] = True
    described["arguments"] = arguments
    if isinstance(node, CallNode) and node.after is not None:
        described |= {"object": ids[node.object], "after": ids[node.after], "method": node.method}
    if node.settings:
        described["settings"] = [
            _describe_setting(setting, code_digester) for setting in node.settings
        ]
    return described


def _describe_setting(setting: QuerySetting, code_digester: CodeDigester) -> dict[str, Any]:
    """Return what query(...).set(...) was given, checked, with its line."""
    from fftasks.config.loader import check_override  # yaml with it, which most graphs do not need

    file = Path(setting.site.file)
    origin = f"{code_digester.relate(file) or file.name}:{setting.site.line}"
    layer = check_override(setting.pattern, setting.values, origin)
    values = {key: value.value for key, value in layer.values.items()}
    return {"pattern": setting.pattern, "values": values, "origin": origin}


def _describe_argument(
    name: str,
    value: Any,
    inputs: Mapping[NodeInput, str],
    ids: dict[Node, str],
    code_digester: CodeDigester,
) -> dict[str, Any]:
    results = find_results(value)

    unstable: list[Result] = []

    # what counts of an argument with nodes: which input stands where in it, by its name, since [x, y, x] and
    # [x, y, y] have the same inputs; and which item is taken, as a digest, since a slice cannot be in a set
    def mark(pending: UnresolvedValue) -> tuple[str, ...]:
        if isinstance(pending, Parameter):
            return "fftasks.parameter", pending.name
        result = cast("Result", pending)
        item, is_stable = digest_constant(
            result.path, code_of=code_digester.digest_function_in_value
        )
        if not is_stable:
            unstable.append(result)
        return "fftasks.input", inputs[NodeInput(result.node, "result")], item

    template = replace_unresolved(value, mark)
    digest, stable = digest_constant(template, code_of=code_digester.digest_function_in_value)
    described: dict[str, Any] = {
        "name": name,
        "digest": digest,
        "repr": repr(value) if isinstance(value, UnresolvedValue) else describe_constant(value),
        "nodes": [
            {"input": inputs[NodeInput(result.node, "result")], "node": ids[result.node]}
            for result in results
        ],
    }
    if not stable or unstable:
        described["stable"] = False
    carried = None if results else convert_to_kfp(value)
    if carried is not None:
        described["type"], described["value"] = carried
    return described


def _describe_workflow(workflow: Workflow, ids: dict[Node, str]) -> dict[str, Any]:
    return {
        "slug": make_slug(workflow.name),
        "kind": workflow.kind,
        "line": workflow.site.line,
        "nodes": [ids[node] for node in workflow.nodes],
        "parameters": {
            name: {**_describe_parameter(parameter), "help": parameter.help}
            for name, parameter in workflow.parameters.items()
        },
        "leaves": [
            {"node": ids[leaf.node], "path": format_path(leaf.path)} for leaf in workflow.leaves
        ],
    }


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    kind = name_kfp_type(parameter.default)
    if kind is None:
        raise WorkflowError(
            f"{parameter.site}: Kubeflow Pipelines could not carry the default of {parameter!r}",
            tip="it takes finite numbers (integers to 2**53), text, True, False, and lists and dicts of them",
        )
    return {"type": kind, "default": parameter.default}


def _remove_secrets(
    node: Node, described: dict[str, Any], examiner: ValueExaminer
) -> list[list[str]]:
    """Remove the values of arguments that contain secrets from a described node.

    Returns:
        For each secret, the argument or setting, the place in it, and the kind.
    """
    found: dict[tuple[str, ...], None] = {}
    for argument in described["arguments"]:
        value = node.arguments[argument["name"]]
        secrets = examiner.find(value, argument["name"])
        if secrets:
            argument["repr"] = examiner.describe(value, argument["name"])
            for name in argument.keys() & {"type", "value"}:
                del argument[name]
        found |= dict.fromkeys((argument["name"], one.place, one.kind) for one in secrets)
    for setting in node.settings:
        for key, value in setting.values.items():
            if key.startswith("secret_") and isinstance(value, dict):
                value = list(value.items())  # noqa: PLW2901 - names of places, not of literals
            found |= dict.fromkeys((key, one.place, one.kind) for one in examiner.find(value))
    return list(map(list, found))


def _list_identifiers(files: Sequence[Path]) -> set[str]:
    """Return the identifiers and the string literals in files of code.

    A name that is not among them was computed, perhaps from a value.
    """
    found: set[str] = set()
    for file in dict.fromkeys(files):
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        parts = {id(p) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for p in n.values}
        for n in ast.walk(tree):
            match n:
                case ast.Constant(value=str(text)) if id(n) not in parts:
                    found.add(text)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    found.add(n.name)
                case ast.Name():
                    found.add(n.id)
                case ast.Attribute():
                    found.add(n.attr)
                case ast.alias():
                    found |= {*n.name.split("."), n.asname or n.name}
    return found


def _check_workflows(workflows: list[Workflow]) -> None:
    by_name: dict[str, Workflow] = {}
    for workflow in workflows:
        other = by_name.setdefault(workflow.name, workflow)
        if set(other.nodes) != set(workflow.nodes):
            raise WorkflowError(
                f"two workflows are called {workflow.name!r}",
                found=[str(other.site), str(workflow.site)],
                tip="give one of them another name",
            )


def write_graph(arguments: Sequence[str], make_examiner: MakeValueExaminer) -> int:
    """Write the graph to a descriptor, and return the exit code of the process.

    Args:
        arguments: Folder of the project, file that builds workflows, number of the descriptor.
        make_examiner: See main.
    """
    gc.disable()  # every object that is created here is needed until the process ends
    root, file, descriptor = arguments
    answer = describe_file(Path(root), file, make_examiner)
    with os.fdopen(int(descriptor), "w") as pipe:
        pipe.write(
            json.dumps(answer)
        )  # not dump, which encodes in Python and takes ten times as long
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(write_graph(sys.argv[1:], make_environment_scanner))
