"""Run a task of the cluster here once more: with its inputs, its parameters, its command.

in the process   the code as it is here now, by this Python
in its image     the code, the packages and the Python of the run
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fftasks.cluster.bring import bring_output, list_inputs, read_parameters
from fftasks.cluster.details import Task
from fftasks.cluster.run import ClusterRun, find_container, list_outputs
from fftasks.errors import ToolError
from fftasks.project import Project
from fftasks.runtime.pod import REPLAY
from fftasks.runtime.regular import make_folder, remove
from fftasks.runtime.start import MODULE, make_command

_PLACE = "/tmp/fftasks-replay"  # noqa: S108 - in a container of our own
_WHOLE = "{{$}}"


def replay_here(
    project: Project, run: ClusterRun, task: Task, node: str, *, pdb: bool
) -> tuple[int, Path]:
    """Run a task's command by this Python; return its exit code, and the folder of its outputs.

    node: of a group, it and what it needs of the others is run
    pdb: stop in Python's debugger where it raises
    """
    folder = prepare(project, run, task)
    command = _make_local(_make_command(run, task, folder))
    completed = subprocess.run(
        [*command, *_choose(task, node), *(["--pdb"] if pdb else [])],
        cwd=project.root,
        env={**os.environ, **_make_environment(run, task)},
        check=False,
    )
    return completed.returncode, folder / "outputs"


def replay_in_image(
    project: Project, run: ClusterRun, task: Task, node: str, *, pdb: bool
) -> tuple[int, Path]:
    """Run a task's command in a container of its image; as replay_here."""
    from fftasks.ports.container import Container, run_container
    from fftasks.steps.connect import find_login

    folder = prepare(project, run, task)
    command = _make_command(run, task, Path(_PLACE))
    container = Container(
        image=str(find_container(run.document, task.name)["image"]),
        command=(*command, *_choose(task, node), *(["--pdb"] if pdb else [])),
        env=_make_environment(run, task),
        folder=folder,
        place=_PLACE,
        interactive=pdb,
    )
    return run_container(container, find_login(project)), folder / "outputs"


def prepare(project: Project, run: ClusterRun, task: Task) -> Path:
    """Return a folder with a task's inputs, in inputs/, and an empty one for its outputs, outputs/.

    Raises ToolError if something upstream gave no result, or it cannot be found.
    """
    folder = project.folder / "replay" / run.run_id / task.name
    remove(folder)
    make_folder(folder / "outputs")
    make_folder(folder / "inputs")
    tasks = {one.name: one for one in run.tasks}
    for name, source in list_inputs(run, task.name).items():
        producer = tasks[source["producerTask"]]
        try:
            path = bring_output(project, run, producer, source["outputArtifactKey"])
        except ToolError as error:
            attempted = f"{task.title} cannot be run here: what it needs is not there"
            found = [error.attempted, *error.found]
            raise type(error)(attempted, found=found, tip=error.tip) from error
        _link(path, folder / "inputs" / name)
    return folder


def _make_command(run: ClusterRun, task: Task, folder: Path) -> list[str]:
    container = find_container(run.document, task.name)
    command = [*container.get("command", ()), *container.get("args", ())]
    if not {_WHOLE, MODULE}.issubset(command):
        raise ToolError(
            f"{task.name} cannot be run here: its command is not one of fftasks",
            found=[" ".join(command)],
        )
    text = json.dumps(_make_executor_input(run, task, folder))
    return [text if word == _WHOLE else str(word) for word in command]


def _make_local(command: list[str]) -> list[str]:
    """Return a command for this Python; the code is not an image's, so nothing is asked about that."""
    words = command[command.index(MODULE) + 1 :]
    if "--fingerprint" in words:
        at = words.index("--fingerprint")
        del words[at : at + 2]
    return [*make_command(MODULE), *words]


def _choose(task: Task, node: str) -> list[str]:
    """Return the arguments that run one node of a group, and what it needs of the others."""
    return ["--only", node] if len(task.nodes) > 1 and node in task.nodes else []


def _make_executor_input(run: ClusterRun, task: Task, folder: Path) -> dict[str, Any]:
    values = {k: v for k, v in read_parameters(run, task.name).items() if v is not None}
    return {
        "inputs": {
            "artifacts": {n: _locate(folder / "inputs" / n) for n in list_inputs(run, task.name)},
            "parameterValues": values,
        },
        "outputs": {
            "artifacts": {
                name: _locate(folder / "outputs" / name)
                for name in list_outputs(run.document, task.name)
            },
            "outputFile": str(folder / "output.json"),
        },
    }


def _locate(path: Path) -> dict[str, Any]:
    return {"artifacts": [{"name": path.name, "uri": str(path)}]}


def _make_environment(run: ClusterRun, task: Task) -> Mapping[str, str]:
    variables = find_container(run.document, task.name).get("env", ())
    own = {variable["name"]: variable["value"] for variable in variables}
    return {**own, "PYTHONHASHSEED": "0", REPLAY: "1"}


def _link(source: Path, target: Path) -> None:
    """Let target be what source is, without a copy where the disk allows it."""
    if source.is_dir():
        shutil.copytree(source, target)
        return
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
