"""Replay a task of a run on this machine, with its inputs, parameters and command.

in this process   the current code in the project's folder, run by this Python
in its image      the code, the packages and the Python of the run
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.errors import ToolError
from fftasks.kfp.run import ClusterRun, find_container, list_artifact_names
from fftasks.kfp.task_details import ClusterTask
from fftasks.path_validation import join_untrusted
from fftasks.pipeline.download import (
    Verifier,
    download_output,
    list_task_inputs,
    read_task_parameters,
)
from fftasks.project import Project
from fftasks.runner.executor_input import PREVIEW
from fftasks.runner.pod import REPLAY_VARIABLE
from fftasks.runner.scheduler import RESOURCES_VARIABLE
from fftasks.runner.start import RUNNER_MODULE, make_command
from fftasks.state_folder import make_folder, remove

_PLACE = "/tmp/fftasks-replay"  # noqa: S108 - mount point in a container of our own
_WHOLE = "{{$}}"  # KFP's placeholder for the executor input
# Environment variables that tell the entry point of a pod what to run.
_OWN_VARIABLES = ("FFFUNCTION", PREVIEW, RESOURCES_VARIABLE, REPLAY_VARIABLE, "PYTHONHASHSEED")
# Options that task_specs.py, compiler.py and reuse.py write. Other options could name local files.
_OPTIONS = frozenset(
    {"--file", "--workflow", "--node", "--nodes", "--kept", "--fingerprint", "--executor-input"}
)


def replay_here(  # noqa: PLR0913 - one parameter per input of the run
    project: Project,
    run: ClusterRun,
    task: ClusterTask,
    node: str,
    verifier: Verifier,
    *,
    pdb: bool,
) -> tuple[int, Path]:
    """Run the command of a task with this Python.

    Args:
        project: The project, whose code runs.
        run: The run of the task.
        task: The task.
        node: The node to run, after the nodes of its group that it needs.
        verifier: Verifies the inputs before the code of the node reads them.
        pdb: Whether to start Python's debugger where the function raises.

    Returns:
        The exit code, and the folder with the outputs.

    Raises:
        ToolError: An input cannot be found or verified.
    """
    folder = prepare_replay(project, run, task, verifier)
    command = _make_local(_make_command(run, task, folder))
    completed = subprocess.run(
        [*command, *_choose(task, node), *(["--pdb"] if pdb else [])],
        cwd=project.root,
        env={**os.environ, **_choose_environment(project, run, task, node)},
        check=False,
    )
    return completed.returncode, folder / "outputs"


def replay_in_image(  # noqa: PLR0913
    project: Project,
    run: ClusterRun,
    task: ClusterTask,
    node: str,
    verifier: Verifier,
    *,
    pdb: bool,
) -> tuple[int, Path]:
    """Run the command of a task in a container of its image.

    Arguments, return value and errors are those of replay_here.
    """
    from fftasks.image.builders import find_login
    from fftasks.image.container import ContainerRun, run_container

    folder = prepare_replay(project, run, task, verifier)
    command = _make_command(run, task, Path(_PLACE))
    container = ContainerRun(
        image=str(find_container(run.document, task.name)["image"]),
        command=(*command, *_choose(task, node), *(["--pdb"] if pdb else [])),
        env=_make_environment(run, task),
        folder=folder,
        place=_PLACE,
        interactive=pdb,
    )
    return run_container(container, find_login(project)), folder / "outputs"


def prepare_replay(
    project: Project, run: ClusterRun, task: ClusterTask, verifier: Verifier
) -> Path:
    """Return a folder with the verified inputs of a task in inputs/, and an empty folder outputs/.

    Args:
        project: The project.
        run: The run of the task.
        task: The task.
        verifier: Verifies the inputs.

    Raises:
        ToolError: An upstream task has no result, or its result cannot be found or verified.
    """
    folder = join_untrusted(project.folder / "replay", run.run_id, task.name)
    remove(folder)
    make_folder(folder / "outputs")
    make_folder(folder / "inputs")
    tasks = {one.name: one for one in run.tasks}
    for name, source in list_task_inputs(run, task.name).items():
        producer = tasks[source["producerTask"]]
        try:
            path = download_output(project, run, producer, source["outputArtifactKey"], verifier)
        except ToolError as error:
            attempted = f"{task.title} cannot be run here: an input is missing or not verified"
            found = [error.attempted, *error.found]
            raise type(error)(attempted, found=found, tip=error.tip) from error
        _link(path, join_untrusted(folder / "inputs", name))
    return folder


def _make_command(run: ClusterRun, task: ClusterTask, folder: Path) -> list[str]:
    """Return the command of a task, with the executor input for a folder with inputs/ and outputs/."""
    container = find_container(run.document, task.name)
    command = [*container.get("command", ()), *container.get("args", ())]
    if not {_WHOLE, RUNNER_MODULE}.issubset(command):
        raise ToolError(
            f"{task.name} cannot be run here: its command is not one of fftasks",
            found=[" ".join(command)],
        )
    run.find_file(task)  # This raises an error for a file outside of the project.
    text = json.dumps(_make_executor_input(run, task, folder))
    return [text if word == _WHOLE else str(word) for word in command]


def _make_local(command: list[str]) -> list[str]:
    """Return the command for this Python, without the fingerprint, which is compared with an image only."""
    words = command[command.index(RUNNER_MODULE) + 1 :]
    options = dict(zip(words[::2], words[1::2], strict=False))
    if 2 * len(options) != len(words) or not options.keys() <= _OPTIONS:
        attempted = "a task cannot run here: its command has options that fftasks does not write"
        raise ToolError(attempted, found=[" ".join(words)])
    options.pop("--fingerprint", "")
    return [*make_command(RUNNER_MODULE), *(word for pair in options.items() for word in pair)]


def _choose(task: ClusterTask, node: str) -> list[str]:
    """Return the arguments that restrict a group to one node and the nodes of the group that it needs."""
    return ["--only", node] if len(task.nodes) > 1 and node in task.nodes else []


def _make_executor_input(run: ClusterRun, task: ClusterTask, folder: Path) -> dict[str, Any]:
    """Return the executor input of a task, the JSON argument that KFP's launcher would write."""
    values = {k: v for k, v in read_task_parameters(run, task.name).items() if v is not None}
    return {
        "inputs": {
            "artifacts": {
                n: _locate(folder / "inputs" / n) for n in list_task_inputs(run, task.name)
            },
            "parameterValues": values,
        },
        "outputs": {
            "artifacts": {
                name: _locate(join_untrusted(folder / "outputs", name))
                for name in list_artifact_names(run.document, task.name)
            },
            "outputFile": str(folder / "output.json"),
        },
    }


def _locate(path: Path) -> dict[str, Any]:
    return {"artifacts": [{"name": path.name, "uri": str(path)}]}


def _choose_environment(
    project: Project, run: ClusterRun, task: ClusterTask, node: str
) -> Mapping[str, str]:
    """Return the environment variables for a node on this machine.

    They come from the project's own settings. The document of the run is not trusted here: LD_PRELOAD or
    PYTHONPATH would execute other code.
    """
    found = {}
    graph = project.workflows.get(
        run.workflow, {"nodes": {}, "workflows": {run.workflow: {"nodes": ()}}}
    )
    for identity in graph["workflows"][run.workflow]["nodes"]:
        if graph["nodes"][identity]["name"] == node:
            found = project.find_node_settings(graph["nodes"][identity]).env
    given = _make_environment(run, task)
    return {**found, **{name: given[name] for name in _OWN_VARIABLES if name in given}}


def _make_environment(run: ClusterRun, task: ClusterTask) -> Mapping[str, str]:
    """Return the environment variables of a task's container, and those of a replay."""
    variables = find_container(run.document, task.name).get("env", ())
    own = {variable["name"]: variable["value"] for variable in variables}
    return {**own, "PYTHONHASHSEED": "0", REPLAY_VARIABLE: "1"}


def _link(source: Path, target: Path) -> None:
    """Create a hard link to a file; copy it if that is not possible, and copy a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
        return
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
