"""`doit status [RUN]`: the nodes of a run on the cluster, and how they are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fftasks.cluster.choose import find_run
from fftasks.cluster.details import Task
from fftasks.cluster.memory import note_run
from fftasks.cluster.run import ClusterRun
from fftasks.cluster.show import COLUMNS, make_row, name_state, tell_head, to_json
from fftasks.commands.command import JSON, ClusterCommand
from fftasks.project import Project
from fftasks.table import print_json, print_table


class Status(ClusterCommand):
    """Print a run's nodes with states and times."""

    doc_purpose = "show how a run on Kubeflow Pipelines is"
    doc_usage = "[RUN]"
    name = "status"
    cmd_options = (JSON,)

    def act(self, project: Project, names: list[str], options: Mapping[str, Any]) -> int:
        """Print the run; the exit code says only whether it could be read."""
        run = find_run(project, *names)
        note_run(project, run)
        if options["as_json"]:
            print_json(to_json(run))
            return 0
        print(tell_head(run))
        rows = [(task, node) for task in run.tasks for node in task.nodes]
        print_table(
            COLUMNS, [make_row(run, task, node, sys.stdout) for task, node in rows], indent=2
        )
        for line in _list_problems(run):
            print(line)
        return 0


def _list_problems(run: ClusterRun) -> list[str]:
    failed = [task for task in run.tasks if name_state(task.state) == "failed"]
    lines = [_tell(task) for task in failed if task.error]
    if run.error and not lines:
        lines = [run.error]
    if failed:
        node = (failed[0].nodes or (failed[0].name,))[0]
        lines.append(f"tip: `doit logs {node!r} {run.run_id[:8]}` shows its log")
    return lines


def _tell(task: Task) -> str:
    return f"{', '.join(task.nodes)}: {task.error}"
