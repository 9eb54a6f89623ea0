"""Entry point `python -m fftasks.runner`, for local runs and in the container; start.py starts it.

FFFUNCTION=<node>         run this node
FFFUNCTION=<group>        run the nodes of --nodes
  --executor-input JSON   inputs and outputs as Kubeflow Pipelines' launcher passes them
  --job                   inputs and outputs from a JSON line on standard input
--check                   check the nodes of a file without running them
--try                     import all workflow files and find all nodes, as a pod would
--show PATH               print the repr of an artifact
  --json                  print its type, shape and value too, as JSON
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from pathlib import Path

from fftasks.api.node import Node, name_inputs
from fftasks.api.workflow_graph import Workflow, collecting_workflows
from fftasks.errors import FFTasksError, WorkflowError, escape_controls
from fftasks.runner.artifact import read_artifact
from fftasks.runner.child_process import SendMessage
from fftasks.runner.executor_input import read_executor_input, write_executor_output
from fftasks.runner.group import NodeFailure
from fftasks.runner.image_check import check_manifest
from fftasks.runner.job import Job, Report, describe_error, describe_result, run_job, start_debugger
from fftasks.runner.pod import FAILED, IMPORTED, PodFailure, PodUnit, print_failure, run_pod
from fftasks.runner.scheduler import PodResources, read_pod_resources
from fftasks.runner.source import CheckedModules, add_import_paths, find_node, import_workflows
from fftasks.runner.task import parse_members
from fftasks.runner.worker import redirect_output, take_stdout


def main(argv: list[str] | None = None) -> int:
    """Run the command that the arguments and FFFUNCTION describe; return the exit code.

    Args:
        argv: The arguments; None for those of this process.
    """
    arguments = _parse_arguments(argv)
    try:
        with (
            collecting_workflows()
        ):  # reading a result may import a file of the user's that starts a workflow
            return _run_command(arguments)
    except FFTasksError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fftasks.runner", description=__doc__)
    parser.add_argument("--root", default=".", help="the project's folder")
    parser.add_argument("--file", default="", help="the file that builds the workflow")
    parser.add_argument("--workflow", default="", help="the workflow's name")
    parser.add_argument("--node", default="", help="the node's name; the same as FFFUNCTION")
    parser.add_argument("--nodes", default="", help="the nodes of a group, see task.py")
    parser.add_argument("--only", default="", help="a node of the group: run it and what it needs")
    parser.add_argument("--kept", default="", help="fingerprint of the reused values")
    parser.add_argument("--fingerprint", default="", help="expected fingerprint of the image")
    parser.add_argument("--executor-input", default="", help="Kubeflow Pipelines' ExecutorInput")
    parser.add_argument("--pdb", action="store_true", help="debug an error of the node's function")
    parser.add_argument("--job", action="store_true", help="read a job from standard input")
    parser.add_argument("--check", action="store_true", help="check the nodes of a file")
    parser.add_argument(
        "--try", dest="checks_imports", action="store_true", help="import all workflow files"
    )
    parser.add_argument("--show", default="", help="print the repr of an artifact")
    parser.add_argument("--json", action="store_true", help="print its description as JSON")
    return parser.parse_args(argv)


def _run_command(arguments: argparse.Namespace) -> int:
    root = Path(arguments.root).resolve()
    if arguments.show:
        return _show_artifact(root, arguments)
    if arguments.checks_imports:
        return _check_imports(root)
    if arguments.check:
        return _check_file(root, arguments)
    if arguments.job:
        return _run_local_job(root, arguments)
    try:
        return _run_pod(root, arguments)
    except FFTasksError as error:  # from a check before the child process was started
        if arguments.pdb:
            raise
        name = arguments.node or os.environ.get("FFFUNCTION", "")
        report = describe_error(name, error)
        print_failure(PodFailure(name, report.reason), report.error)
        return error.exit_code


def _run_pod(root: Path, arguments: argparse.Namespace) -> int:
    """Run the task of a container in a child process, or in this process if it is to be debugged."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # so that the pod's log has each line as soon as it is printed, in the right order among errors
        sys.stdout.reconfigure(line_buffering=True)
    name = _get_function(arguments.node)
    members = parse_members(arguments.nodes).nodes if arguments.nodes else (name,)
    if arguments.fingerprint:  # before any code of the user is imported
        check_manifest(root, arguments.workflow, members, arguments.fingerprint)
    run = _run_task if arguments.nodes else _run_node
    if arguments.pdb:
        report = run(root, arguments, lambda *_: None, PodResources())
        if report.error:
            print(report.error, file=sys.stderr)
        return 1 if report.error else 0
    resources = read_pod_resources()

    def run_in_child(send: SendMessage) -> Report:
        return run(root, arguments, send, resources)

    is_group = len(members) > 1
    shown = name if is_group else members[0]
    unit = PodUnit(shown, run_in_child, arguments.file, is_group=is_group)
    return run_pod(unit, resources)


def _show_artifact(root: Path, arguments: argparse.Namespace) -> int:
    add_import_paths(root, arguments.file)
    with take_stdout() as answers, open(os.devnull, "wb") as devnull:  # noqa: PTH123
        os.dup2(devnull.fileno(), 1)  # for output of the user's modules when they are imported
        result = read_artifact(Path(arguments.show))
        text = json.dumps(describe_result(result)) if arguments.json else repr(result)
        if answers.isatty():
            text = escape_controls(text)
        answers.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return 0


def _check_imports(root: Path) -> int:
    from fftasks.runner.image_check import find_import_errors

    with take_stdout() as answers:  # output of the user's modules goes to stderr
        problems = find_import_errors(root, os.environ.get("FFWORKFLOWS", "").split(":"))
        answers.write(json.dumps(problems).encode())
    return 0


def _run_task(
    root: Path, arguments: argparse.Namespace, send: SendMessage, resources: PodResources
) -> Report:
    """Run the nodes of --nodes in the child process of a pod."""
    from fftasks.runner.task import Task, run_task, select_required_nodes

    members = parse_members(arguments.nodes)
    workflows = _import_workflows(root, arguments)
    send(IMPORTED)
    chosen = [w for w in workflows if arguments.workflow in ("", w.name)]
    nodes = {node.name: node for workflow in chosen for node in workflow.nodes}
    for name in members.nodes:
        if name not in nodes:  # raises an error that lists the existing names
            find_node(workflows, arguments.workflow or None, name)
    is_single = len(members.nodes) == 1
    if arguments.only:
        members = select_required_nodes(members, arguments.only, nodes)
    group = _get_function(arguments.node)
    task = Task(group, members, arguments.fingerprint, arguments.kept, is_single)
    debugged = (arguments.only or members.nodes[-1]) if arguments.pdb else ""
    try:
        document = json.loads(arguments.executor_input)
        run_task(task, nodes, document, resources, send=send, debugged=debugged)
    except NodeFailure as failure:
        send(FAILED, failure.node)
        return describe_error(group, failure)
    return Report({})


def _check_file(root: Path, arguments: argparse.Namespace) -> int:
    from fftasks.runner.image_check import check_file  # deferred, because no node needs it

    with take_stdout() as answers, open(os.devnull, "wb") as devnull:  # noqa: PTH123
        os.dup2(devnull.fileno(), 1)
        answers.write(json.dumps(check_file(root, arguments.file)).encode())
    return 0


def _find_node(root: Path, arguments: argparse.Namespace) -> Node:
    name = _get_function(arguments.node)
    return find_node(_import_workflows(root, arguments), arguments.workflow or None, name)


def _import_workflows(root: Path, arguments: argparse.Namespace) -> list[Workflow]:
    # the environment of an image lists its workflow files, so that FFFUNCTION alone is enough
    files = [arguments.file] if arguments.file else os.environ.get("FFWORKFLOWS", "").split(":")
    if files == [""]:
        raise WorkflowError(
            "the file that builds the workflow is not given", tip="--file FILE, or set FFWORKFLOWS"
        )
    workflow = arguments.workflow or None
    return [found for file in files for found in import_workflows(root, file, workflow)]


def _get_function(node: str) -> str:
    name = os.environ.get("FFFUNCTION", "")
    if name and node and name != node:
        raise WorkflowError(f"FFFUNCTION is {name!r} and --node is {node!r}: they must be the same")
    if not (name or node):
        raise WorkflowError("FFFUNCTION is not set", tip="FFFUNCTION=<name of a node>")
    return name or node


def _run_local_job(root: Path, arguments: argparse.Namespace) -> int:
    """Run a job from standard input in this process, and write the report to standard output."""
    request = json.loads(sys.stdin.buffer.readline())
    job = Job(**request["job"])
    checked = CheckedModules(root, request["files"])
    with take_stdout() as answers:
        if job.log:
            redirect_output(job.log, is_new=not job.is_retry)
        node = _find_node(root, arguments)
        answers.write(json.dumps(run_job(node, job, checked)._asdict()).encode())
    return 0


def _run_node(
    root: Path, arguments: argparse.Namespace, send: SendMessage, _resources: PodResources
) -> Report:
    """Run the node of FFFUNCTION in the child process of a pod."""
    node = _find_node(root, arguments)
    send(IMPORTED)
    if not arguments.executor_input:
        inputs = ", ".join(name_inputs(node)) or "none"
        raise WorkflowError(
            f"{node.name}: --executor-input is missing", found=[f"inputs of the node: {inputs}"]
        )
    document = json.loads(arguments.executor_input)
    with tempfile.TemporaryDirectory(prefix="fftasks-") as folder:
        job = read_executor_input(document, node)._replace(pages=folder)
        report = run_job(node, job, on_error=start_debugger if arguments.pdb else None)
        if report.error:  # the debugger has shown the traceback already
            error = report.error.partition("\n")[0] if arguments.pdb else report.error
            return Report({}, error=error, reason=report.reason)
        write_executor_output(document, node, report, Path(folder))
    return Report({})


if __name__ == "__main__":
    sys.exit(main())
