"""Submits a KFPWorkflow to Kubeflow Pipelines with the stages of `doit submit`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.api.functionfuse import KFPWorkflow, RunHandle
from fftasks.api.names import make_slug
from fftasks.errors import StoreError, ToolError, WorkflowError
from fftasks.functionfuse.local import choose_values
from fftasks.records import read_record
from fftasks.state_folder import STATE_FOLDER


def run_on_kfp(workflow: KFPWorkflow, parameters: Mapping[str, Any]) -> RunHandle:
    """Submit a workflow in a process of its own; see KFPWorkflow.run for the errors.

    Args:
        workflow: The workflow.
        parameters: Values of run parameters by name.

    Returns:
        The run that was started, or the existing one if nothing has changed.
    """
    values = choose_values(workflow, parameters)
    root = find_root(Path(workflow.site.file))
    file = Path(workflow.site.file).resolve().relative_to(root).as_posix()
    _check_importable(root, file, workflow)

    from fftasks.graph.run_parameters import format_parameters
    from fftasks.project import format_task_name
    from fftasks.runner.start import make_command

    task = f"submit:{format_task_name(workflow.name)}"
    command = [*make_command("fftasks.tasks"), task, *format_parameters(values)]
    environ = {**os.environ, **list_settings(workflow, file)}
    completed = subprocess.run(command, cwd=root, env=environ, check=False)
    if completed.returncode:
        raise ToolError(
            f"{task} failed with exit code {completed.returncode}",
            tip="see the output above for the cause",
        )
    record = read_record(root / STATE_FOLDER / "submit" / f"{make_slug(workflow.name)}.json")
    if record is None:
        raise StoreError(
            f"the record of the run of {workflow.name!r} was removed", tip="run it again"
        )
    return RunHandle(record["run_id"], record["url"])


def list_settings(workflow: KFPWorkflow, file: str) -> dict[str, str]:
    """Return the environment variables that override config/ for a workflow.

    Variables are used because other users of the machine can read an argument list, and thus a password
    in it.

    Args:
        workflow: The workflow.
        file: File that builds it, relative to the project's folder.
    """
    given = {
        "WORKFLOWS": json.dumps([file]),
        "IMAGE__BASE": workflow.baseimage,
        "KFP__HOST": workflow.kfp_host,
        "KFP__WATCH": "false",  # run() returns as soon as the run is started, as in FunctionFuse
        **{f"REGISTRY__{key.upper()}": v for key, v in workflow.registry_credentials.items()},
    }
    return {f"FFTASKS_{name}": value for name, value in given.items() if value is not None}


def find_root(file: Path) -> Path:
    """Return the project folder of a workflow file.

    Args:
        file: The workflow file.

    Returns:
        The nearest folder at or above the file that has a config/default.yaml. Without one, the current
        folder if the file is below it, as in FunctionFuse, else the folder of the file.
    """
    folder = file.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / "config" / "default.yaml").exists():
            return candidate
    current = Path.cwd().resolve()
    return current if folder.is_relative_to(current) else folder


def _check_importable(root: Path, file: str, workflow: KFPWorkflow) -> None:
    """Raise WorkflowError if a container that imports the file would not find the workflow."""
    from fftasks.graph.observed_inputs import GraphFile
    from fftasks.graph.record import load_graph

    try:
        workflows = load_graph(GraphFile(root, file, root / STATE_FOLDER))["workflows"]
        evidence = f"importing {file} builds these workflows: {', '.join(workflows) or 'none'}"
    except WorkflowError as error:
        workflows, evidence = {}, str(error)
    if workflow.name not in workflows or workflows[workflow.name]["line"] != workflow.site.line:
        raise WorkflowError(
            f"{workflow.site}: a container that imports the file does not find workflow {workflow.name!r}",
            found=[evidence],
            tip="build the graph where the file is imported: at module level, or under "
            '`if __name__ == "__main__":`, and not inside a function that is not called there',
        )
