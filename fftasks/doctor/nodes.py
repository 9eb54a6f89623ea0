"""Checks of the workflows: may they be copied, and does the copy give all nodes, as in a pod."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

from fftasks.doctor.finding import FAIL, OK, WARN, Finding, make_failure
from fftasks.errors import FFTasksError
from fftasks.project import Project
from fftasks.runtime.start import MODULE, make_command
from fftasks.steps.assembly import plan
from fftasks.steps.step import is_current, run_step


def check_graphs(project: Project) -> Iterator[Finding]:
    """Make the graphs, as every command does."""
    count = len(project.nodes)
    for warning in project.list_node_warnings():
        yield Finding("workflows", WARN, warning)
    names = ", ".join(project.workflows)
    yield Finding("workflows", OK, f"{names}: {count} nodes")


def check_nodes(project: Project) -> Iterator[Finding]:
    """Import the files from the copy that goes into the image, by the entry point's own code."""
    step = plan(project, "context")
    if not is_current(step):
        run_step(step)
    for file in project.settings.workflows:
        yield from _check_file(project, file)


def _check_file(project: Project, file: str) -> Iterator[Finding]:
    folder = project.folder / "context"
    completed = subprocess.run(
        [*make_command(MODULE), "--root", str(folder), "--file", file, "--check"],
        cwd=folder,
        capture_output=True,
        # what lies in the project and not in its copy is not in the image either
        env={name: value for name, value in os.environ.items() if name != "FFFUNCTION"},
        check=False,
    )
    if completed.returncode:
        lines = map(str.strip, completed.stderr.decode(errors="replace").strip().splitlines())
        *_, said = ["no message", *(line for line in lines if not line.startswith("tip: "))]
        cure = f"python -m fftasks.runtime --root .fftasks/context --file {file} --check"
        found = f"{file} cannot be imported from the copy in .fftasks/context: {said}"
        yield Finding("nodes", FAIL, found, f"does .dockerignore keep something away? {cure}")
        return
    answer = json.loads(completed.stdout)
    for problem in answer["problems"]:
        cure = "pass plain data, and open files, connections and locks inside the function"
        yield Finding("constants", FAIL, problem, cure)
    yield Finding("nodes", OK, f"{file}: {answer['nodes']} nodes are found in the copy")


def check_pipeline(project: Project) -> Iterator[Finding]:
    """Make the tasks of each workflow, which refuses nodes that no container could run."""
    for workflow in project.workflows:
        yield _make_tasks(project, workflow)


def _make_tasks(project: Project, workflow: str) -> Finding:
    try:
        step = plan(project, "tasks", workflow)
        if not is_current(step):
            run_step(step)
    except FFTasksError as error:
        return make_failure("tasks", error)
    return Finding("tasks", OK, f"{workflow} can run on Kubeflow Pipelines")
